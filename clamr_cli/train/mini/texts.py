"""The texts that stand in composed documents, with the queries they answer: captions, news, titles, short lines, codes.

Texts are cut into a training and a held-out part by a stable hash.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clamr_cli.train.mini.words import asked, misheard, misread
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HELD_OUT: Final = 5
"""One in so many texts is held out."""

CLIPS_AS_TEXTS: Final = 600
"""So many clips' captions stand in documents as texts; those of the other clips stand for scenes."""

_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """A text that can stand in a document, the modalities it may be, and queries it answers."""

    text: str
    modalities: tuple[Modality, ...]
    queries: tuple[str, ...]


def held_out(name: str) -> bool:
    """Whether a photo or text belongs to the held-out part."""
    return hashlib.blake2b(name.encode(), digest_size=4).digest()[0] % HELD_OUT == 0


def entries(data: Path, seed: int = 0) -> list[Entry]:
    """All texts with their queries, the same for the same seed."""
    chance = random.Random(seed)
    found = [*_clips(data, chance), *_news(data, chance), *_scenes(data, chance), *_titles(data, chance)]
    found += [*_short(data, chance), *_codes(chance)]
    return [entry for entry in found if entry.text.strip() and entry.queries]


def clip_captions(data: Path) -> list[list[str]]:
    """What was said of each video clip, in a fixed order."""
    clips: dict[str, list[str]] = json.loads((data / "text/msvd_captions.json").read_text("utf-8"))
    return sorted(clips.values())


def _clips(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Captions of one clip say the same in other words."""
    for captions in clip_captions(data)[:CLIPS_AS_TEXTS]:
        if len(captions) >= 4:
            text, *asked = chance.sample(captions, 4)
            if chance.random() < 0.4:
                yield Entry(misheard(chance, text), (Modality.SPEECH,), tuple(asked))
            else:
                yield Entry(text, (Modality.SPEECH, Modality.METADATA), tuple(asked))


def _news(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Descriptions of news videos in five languages, and what their events are called."""
    with (data / "text/multivent1_base.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        english = row["language"] == "english"
        if not english and chance.random() > 0.2:
            continue
        words = row["video_description"].split()
        text = " ".join(words[: chance.randint(8, 60)])[:400]
        if len(words) >= 4:
            event = (row["event_name"].replace("_", " "),) if english else ()
            if chance.random() < 0.4:
                yield Entry(misheard(chance, text), (Modality.SPEECH,), asked(chance, text, *event))
            else:
                yield Entry(text, (Modality.SPEECH, Modality.METADATA), asked(chance, text, *event))
    for name, text in sorted({(row["event_name"], row["en_article_excerpt"]) for row in rows}):
        if text:
            cut = text[:400]
            yield Entry(cut, (Modality.SPEECH, Modality.METADATA), asked(chance, cut, name.replace("_", " ")))


def _scenes(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Sentences that describe other pictures, in three languages: the hardest company for a photo."""
    for language, count in (("en", 250), ("de", 150), ("fr", 150)):
        with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
            texts = [line.strip() for line in lines if line.strip().count(" ") > 3]
        for text in chance.sample(texts[1:], min(count, len(texts) - 1)):
            yield Entry(text, (Modality.SPEECH, Modality.METADATA, Modality.OCR), asked(chance, text))


def _titles(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Several human queries of one video: any may stand in it, the others ask for it."""
    with (data / "text/multivent2_q.csv").open(newline="", encoding="utf-8") as lines:
        by_id = {row["Query_id"]: row["query"] for row in csv.DictReader(lines)}
    groups: dict[str, list[str]] = defaultdict(list)
    for line in (data / "text/multivent2_qrels.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["query_id"] in by_id and row["relevance"]:
            groups[row["doc_id"]].append(by_id[row["query_id"]])
    for queries in groups.values():
        if 2 <= len(set(queries)) <= 5:
            text, *rest = chance.sample(sorted(set(queries)), len(set(queries)))
            yield Entry(text, (Modality.OCR, Modality.METADATA), (*asked(chance, text)[:1], *rest[:2]))


def _short(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Short lines, misread here and there."""
    rows = json.loads((data / "text/clamr_val_queries.json").read_text("utf-8"))
    for row in list(rows.values())[:700]:
        text = row["query"]
        modality = chance.choice((Modality.OCR, Modality.METADATA))
        shown = misread(chance, text) if modality is Modality.OCR else text
        yield Entry(shown, (modality,), asked(chance, text))


def _codes(chance: random.Random, count: int = 150) -> Iterator[Entry]:
    """File names, times and dates."""
    for _ in range(count):
        year, month, day, number = (
            chance.randint(1995, 2025),
            chance.randint(1, 12),
            chance.randint(1, 28),
            chance.randint(10, 99999),
        )
        name = chance.choice(("IMG", "clip", "DSC", "video", "scene", "take", "asset", "episode"))
        clock = f"{chance.randint(0, 3):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"
        spoken = f"{_MONTHS[month - 1]} {year}"
        dates = (spoken, f"{day} {spoken}", str(year), f"{year}-{month:02}-{day:02}")
        yield Entry(f"{year}-{month:02}-{day:02}", (Modality.METADATA,), dates)
        yield Entry(f"{day} {spoken}", (Modality.METADATA,), dates)
        yield Entry(f"{name} {number}", (Modality.METADATA, Modality.OCR), (f"{name} {number}", str(number)))
        yield Entry(clock, (Modality.OCR,), (clock,))


def split_entries(pool: Iterable[Entry]) -> tuple[list[int], list[int]]:
    """Indices of the training texts and of the held-out ones."""
    parts: tuple[list[int], list[int]] = ([], [])
    for index, entry in enumerate(pool):
        parts[held_out(entry.text)].append(index)
    return parts
