"""Composed documents: captioned photos as frames, and unrelated texts as their speech, on-screen text and metadata.

What a joint encoder has to learn is to let the query pick the modality; for that the other modalities must be there
and be about something else. Texts and queries come from the data folder's caption, news and query collections;
everything is cut into a training and a held-out part: photos by place, texts by a stable hash.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HELD_OUT: Final = 5
"""One in so many photos and texts is held out."""

_SIZES: Final = {
    Modality.SPEECH: (0, 0, 2, 4, 8),
    Modality.OCR: (0, 0, 1, 3, 5),
    Modality.METADATA: (0, 1, 2, 3, 4),
}
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
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Entry:
    """A text that can stand in a document, the modalities it may be, and queries it answers."""

    text: str
    modalities: tuple[Modality, ...]
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file, its captions, and pieces of them: people ask in a few words."""

    name: str
    captions: tuple[str, ...]
    pieces: tuple[str, ...]


@dataclass(slots=True)
class Composed:
    """One document: indices of photos, and indices of entries by modality; queries with the modality they aim at."""

    photos: list[int] = field(default_factory=list)
    texts: dict[Modality, list[int]] = field(default_factory=lambda: defaultdict(list))
    queries: list[tuple[str, Modality]] = field(default_factory=list)


def held_out(name: str) -> bool:
    """Whether a photo or text belongs to the held-out part."""
    return hashlib.blake2b(name.encode(), digest_size=4).digest()[0] % HELD_OUT == 0


def photos(data: Path) -> list[Photo]:
    """The captioned photos in order of their names."""
    captions: dict[str, list[str]] = defaultdict(list)
    with (data / "train/flickr8k_1k/captions.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"].removesuffix(" .").strip())
    chance = random.Random(5)
    return [
        Photo(name, tuple(captions[name]), tuple(fragment(chance, caption, 3, 6) for caption in captions[name]))
        for name in sorted(captions)
    ]


def split_photos(all_photos: list[Photo]) -> tuple[list[int], list[int]]:
    """Indices of the training photos and of the held-out ones (every fifth)."""
    last = HELD_OUT - 1
    train = [index for index in range(len(all_photos)) if index % HELD_OUT != last]
    return train, [index for index in range(len(all_photos)) if index % HELD_OUT == last]


def entries(data: Path, seed: int = 0) -> list[Entry]:
    """All texts with their queries, the same for the same seed."""
    chance = random.Random(seed)
    found = [*_clips(data, chance), *_news(data, chance), *_scenes(data, chance), *_titles(data, chance)]
    found += [*_short(data, chance), *_codes(chance)]
    return [entry for entry in found if entry.text.strip() and entry.queries]


@dataclass(slots=True)
class Composer:
    """Draws documents; no text and no photo stands in two of them until :meth:`shuffle`, so each query has one answer.

    Sizes are those of short home and web videos: most have little text, some have much.
    """

    photos: list[Photo]
    photo_ids: list[int]
    entries: list[Entry]
    entry_ids: list[int]
    chance: random.Random
    _photos_left: list[int] = field(default_factory=list)
    _texts_left: dict[Modality, list[int]] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)

    def shuffle(self) -> None:
        """Put everything back."""
        self._photos_left = self.chance.sample(self.photo_ids, len(self.photo_ids))
        self._used = set()
        for modality in _SIZES:
            fitting = [index for index in self.entry_ids if modality in self.entries[index].modalities]
            self._texts_left[modality] = self.chance.sample(fitting, len(fitting))

    def draw(self, most_photos: int = 3) -> Composed:
        """The next document. With all photos used it has none, and so with texts."""
        document = Composed()
        for _ in range(min(most_photos, self.chance.choice((1, 1, 2, 3)), len(self._photos_left))):
            index = self._photos_left.pop()
            document.photos.append(index)
            asked = self.photos[index].captions if self.chance.random() < 0.7 else self.photos[index].pieces
            document.queries.append((self.chance.choice(asked), Modality.VIDEO))
        for modality, sizes in _SIZES.items():
            for _ in range(self.chance.choice(sizes)):
                self._add_text(document, modality)
        return document

    def _add_text(self, document: Composed, modality: Modality) -> None:
        left = self._texts_left[modality]
        while left and left[-1] in self._used:
            left.pop()
        if left:
            index = left.pop()
            self._used.add(index)
            document.texts[modality].append(index)
            document.queries.append((self.chance.choice(self.entries[index].queries), modality))


def fragment(chance: random.Random, text: str, least: int, most: int) -> str:
    """Some consecutive words."""
    words = text.split()
    size = min(len(words), chance.randint(least, most))
    start = chance.randint(0, len(words) - size)
    return " ".join(words[start : start + size])


def keywords(chance: random.Random, text: str) -> str:
    """The longest few words in their order, as people type them."""
    words = text.split()
    longest = sorted(range(len(words)), key=lambda place: -len(words[place]))[: chance.randint(2, 4)]
    return " ".join(words[place] for place in sorted(longest))


def misread(chance: random.Random, text: str) -> str:
    """The text with a few wrong letters, as recognition gives it."""
    return "".join(
        chance.choice(_LETTERS) if letter.isalnum() and chance.random() < 0.03 else letter for letter in text
    )


def _asked(chance: random.Random, text: str, *more: str) -> tuple[str, ...]:
    """Queries for a text: pieces of it, and what else is known to ask for it."""
    return (fragment(chance, text, 2, 7), keywords(chance, text), fragment(chance, text, 2, 4), *more)


def _clips(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Captions of one clip say the same in other words."""
    clips = json.loads((data / "text/msvd_captions.json").read_text())
    for captions in sorted(clips.values())[:600]:
        if len(captions) >= 4:
            text, *asked = chance.sample(captions, 4)
            yield Entry(text, (Modality.SPEECH, Modality.METADATA), tuple(asked))


def _news(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Descriptions of news videos in five languages, and what their events are called."""
    with (data / "text/multivent1_base.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        english = row["language"] == "english"
        if not english and chance.random() > 0.2:
            continue
        words = row["video_description"].split()
        text = " ".join(words[: chance.randint(8, 60)])[:400]
        if len(words) >= 4:
            event = (row["event_name"].replace("_", " "),) if english else ()
            yield Entry(text, (Modality.SPEECH, Modality.METADATA), _asked(chance, text, *event))
    for name, text in sorted({(row["event_name"], row["en_article_excerpt"]) for row in rows}):
        if text:
            cut = text[:400]
            yield Entry(cut, (Modality.SPEECH, Modality.METADATA), _asked(chance, cut, name.replace("_", " ")))


def _scenes(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Sentences that describe other pictures, in three languages: the hardest company for a photo."""
    for language, count in (("en", 250), ("de", 150), ("fr", 150)):
        with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
            texts = [line.strip() for line in lines if line.strip().count(" ") > 3]
        for text in chance.sample(texts[1:], count):
            yield Entry(text, (Modality.SPEECH, Modality.METADATA, Modality.OCR), _asked(chance, text))


def _titles(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Several human queries of one video: any may stand in it, the others ask for it."""
    with (data / "text/multivent2_q.csv").open(newline="") as lines:
        asked = {row["Query_id"]: row["query"] for row in csv.DictReader(lines)}
    groups: dict[str, list[str]] = defaultdict(list)
    for line in (data / "text/multivent2_qrels.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["query_id"] in asked and row["relevance"]:
            groups[row["doc_id"]].append(asked[row["query_id"]])
    for queries in groups.values():
        if 2 <= len(set(queries)) <= 5:
            text, *rest = chance.sample(sorted(set(queries)), len(set(queries)))
            yield Entry(text, (Modality.OCR, Modality.METADATA), (*_asked(chance, text)[:1], *rest[:2]))


def _short(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Short lines, misread here and there."""
    rows = json.loads((data / "text/clamr_val_queries.json").read_text())
    for row in list(rows.values())[:700]:
        text = row["query"]
        modality = chance.choice((Modality.OCR, Modality.METADATA))
        shown = misread(chance, text) if modality is Modality.OCR else text
        yield Entry(shown, (modality,), _asked(chance, text))


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
