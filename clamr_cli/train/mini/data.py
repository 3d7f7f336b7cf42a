"""The data folder of the recipe: texts with the queries they answer, and photos with captions.

Photos and texts are split into a training and a held-out part, always in the same way.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clamr_cli.types import Modality

_HELD_OUT: Final = 5
"""One text of this many is held out, and one photo."""

_CLIPS_AS_TEXTS: Final = 600
"""The captions of this many clips are texts of documents; those of the others describe scenes."""

_PER_CLASS: Final = 12
"""Photos of one class of things, at most."""

_SPOKEN: Final = (Modality.SPEECH, Modality.METADATA)
_FORMS: Final = ("{}", "a {}", "a photo of a {}", "close-up of a {}", "picture showing a {}")
_THINGS: Final = {"Faces": "face of a person", "Faces_easy": "face of a person", "car_side": "car from the side"}
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Entry:
    """A text for a document, the modalities that it fits, and queries that it answers."""

    text: str
    modalities: tuple[Modality, ...]
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """The name of an image, its captions, and pieces of them: people search with a few words."""

    name: str
    captions: tuple[str, ...]
    pieces: tuple[str, ...]


def held_out(text: str) -> bool:
    """Whether a text is held out, by a stable hash."""
    return hashlib.blake2b(text.encode(), digest_size=4).digest()[0] % _HELD_OUT == 0


def entries(data: Path, seed: int = 0) -> list[Entry]:
    """All texts with their queries, the same for the same seed."""
    rng = random.Random(seed)
    texts = [*_clips(data, rng), *_news(data, rng), *_scenes(data, rng), *_titles(data, rng)]
    texts += [*_short(data, rng), *_codes(rng)]
    return [entry for entry in texts if entry.text.strip() and entry.queries]


def clip_captions(data: Path) -> list[list[str]]:
    """The captions of each video clip, in a fixed order."""
    clips: dict[str, list[str]] = json.loads((data / "text/msvd_captions.json").read_text("utf-8"))
    return sorted(clips.values())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _clips(data: Path, rng: random.Random) -> Iterator[Entry]:
    """Captions of one clip: they have the same meaning in other words."""
    for captions in clip_captions(data)[:_CLIPS_AS_TEXTS]:
        if len(captions) >= 4:
            text, *queries = rng.sample(captions, 4)
            if rng.random() < 0.4:
                yield Entry(misheard(rng, text), (Modality.SPEECH,), tuple(queries))
            else:
                yield Entry(text, _SPOKEN, tuple(queries))


def _news(data: Path, rng: random.Random) -> Iterator[Entry]:
    """Descriptions of news videos in five languages, and the names of their events."""
    rows = _rows(data / "text/multivent1_base.csv")
    for row in rows:
        english = row["language"] == "english"
        if not english and rng.random() > 0.2:
            continue
        words = row["video_description"].split()
        text = " ".join(words[: rng.randint(8, 60)])[:400]
        if len(words) >= 4:
            event = (row["event_name"].replace("_", " "),) if english else ()
            if rng.random() < 0.4:
                yield Entry(misheard(rng, text), (Modality.SPEECH,), queries_for(rng, text, *event))
            else:
                yield Entry(text, _SPOKEN, queries_for(rng, text, *event))
    for name, excerpt in sorted({(row["event_name"], row["en_article_excerpt"]) for row in rows}):
        if excerpt:
            text = excerpt[:400]
            yield Entry(text, _SPOKEN, queries_for(rng, text, name.replace("_", " ")))


def news(data: Path) -> dict[bool, list[str]]:
    """The first words of descriptions of news videos: English ones, and those in four other languages."""
    texts: dict[bool, list[str]] = {True: [], False: []}
    for row in _rows(data / "text/multivent1_base.csv"):
        if text := " ".join(row["video_description"].split()[:20])[:200]:
            texts[row["language"] == "english"].append(text)
    return texts


def _scenes(data: Path, rng: random.Random) -> Iterator[Entry]:
    """Sentences that describe other images, in three languages: hard to tell from the photo of their document."""
    for language, count in (("en", 250), ("de", 150), ("fr", 150)):
        with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
            texts = [line.strip() for line in lines if line.strip().count(" ") > 3]
        for text in rng.sample(texts[1:], min(count, len(texts) - 1)):
            yield Entry(text, (*_SPOKEN, Modality.OCR), queries_for(rng, text))


def _titles(data: Path, rng: random.Random) -> Iterator[Entry]:
    """Several human queries of one video: one is the text, the others are queries for it."""
    by_id = {row["Query_id"]: row["query"] for row in _rows(data / "text/multivent2_q.csv")}
    groups: dict[str, list[str]] = defaultdict(list)
    for line in (data / "text/multivent2_qrels.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["query_id"] in by_id and row["relevance"]:
            groups[row["doc_id"]].append(by_id[row["query_id"]])
    for queries in groups.values():
        if 2 <= len(set(queries)) <= 5:
            text, *rest = rng.sample(sorted(set(queries)), len(set(queries)))
            yield Entry(text, (Modality.OCR, Modality.METADATA), (*queries_for(rng, text)[:1], *rest[:2]))


def _short(data: Path, rng: random.Random) -> Iterator[Entry]:
    """Short lines; those on screen have a few wrong letters, like recognised text."""
    rows = json.loads((data / "text/clamr_val_queries.json").read_text("utf-8"))
    for row in list(rows.values())[:700]:
        text = shown = row["query"]
        modality = rng.choice((Modality.OCR, Modality.METADATA))
        if modality is Modality.OCR:
            shown = "".join(
                rng.choice(_LETTERS) if letter.isalnum() and rng.random() < 0.03 else letter for letter in text
            )
        yield Entry(shown, (modality,), queries_for(rng, text))


def _codes(rng: random.Random, count: int = 150) -> Iterator[Entry]:
    """File names, times and dates."""
    for _ in range(count):
        year, month, day = rng.randint(1995, 2025), rng.randint(1, 12), rng.randint(1, 28)
        number = rng.randint(10, 99999)
        name = rng.choice(("IMG", "clip", "DSC", "video", "scene", "take", "asset", "episode"))
        clock = f"{rng.randint(0, 3):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
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


def photos(data: Path) -> list[CaptionedImage]:
    """The captioned photos in order of their names."""
    captions, rng = _captions(data / "train/flickr8k_1k/captions.csv"), random.Random(5)
    return [with_pieces(name, captions[name], rng) for name in sorted(captions)]


def more_images(data: Path, name: str) -> list[CaptionedImage]:
    """The captioned images of a folder of further ones; none where it is absent."""
    folder, rng = f"train/more/{name}", random.Random(11)
    if not (data / folder).is_dir():
        return []
    captions = _captions(data / folder / "captions.csv")
    return [with_pieces(f"{folder}/{image}", captions[image], rng) for image in sorted(captions)]


def _captions(path: Path) -> dict[str, list[str]]:
    """The captions of each image."""
    captions: dict[str, list[str]] = defaultdict(list)
    for row in _rows(path):
        captions[row["image"]].append(row["caption"].removesuffix(" .").strip())
    return captions


def photos_of_things(data: Path) -> list[CaptionedImage]:
    """Photos of single things, captioned with the names of their classes."""
    things = []
    for folder in sorted((data / "train/caltech101").iterdir()):
        name = _THINGS.get(folder.name, folder.name.replace("_", " ").lower())
        captions = tuple(form.format(name) for form in _FORMS)
        files = sorted(folder.glob("*.jpg"))[:_PER_CLASS]
        things += [CaptionedImage(path.relative_to(data).as_posix(), captions, (name,)) for path in files]
    return things


def distinct(images: Sequence[CaptionedImage], ids: Sequence[int], most: int, rng: random.Random) -> list[int]:
    """At most ``most`` random images that share neither file nor caption, so that each query has one answer."""
    choice: list[int] = []
    names: set[str] = set()
    for index in rng.sample(ids, len(ids)):
        if len(choice) == most:
            break
        own = {images[index].name, *images[index].captions}
        if names.isdisjoint(own):
            names |= own
            choice.append(index)
    return choice


def split_photos(all_photos: list[CaptionedImage]) -> tuple[list[int], list[int]]:
    """Indices of the training photos and of the held-out ones (every fifth)."""
    parts: tuple[list[int], list[int]] = ([], [])
    for index in range(len(all_photos)):
        parts[index % _HELD_OUT == _HELD_OUT - 1].append(index)
    return parts


def scenes(data: Path) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Captions of scenes without an image: five that describe each, and five that are queries for it."""
    rng = random.Random(3)
    described = []
    for captions in clip_captions(data)[_CLIPS_AS_TEXTS:]:
        usable = sorted({caption.strip() for caption in captions if 3 <= len(caption.split()) <= 16})
        if len(usable) >= 10:
            sample = rng.sample(usable, 10)
            described.append((tuple(sample[:5]), tuple(sample[5:])))
    return described


def with_pieces(name: str, captions: Sequence[str], rng: random.Random) -> CaptionedImage:
    """An image with these captions and random pieces of them."""
    return CaptionedImage(name, tuple(captions), tuple(fragment(rng, caption, 3, 6) for caption in captions))


def fragment(rng: random.Random, text: str, least: int, most: int) -> str:
    """Some consecutive words."""
    words = text.split()
    size = min(len(words), rng.randint(least, most))
    start = rng.randint(0, len(words) - size)
    return " ".join(words[start : start + size])


def keywords(rng: random.Random, text: str) -> str:
    """The two to four longest words, in their order."""
    words = text.split()
    longest = sorted(range(len(words)), key=lambda index: -len(words[index]))[: rng.randint(2, 4)]
    return " ".join(words[index] for index in sorted(longest))


def misheard(rng: random.Random, text: str) -> str:
    """The text like recognised speech: no capitals, no punctuation, some words missing."""
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    return " ".join(word for word in words if word and rng.random() > 0.06)


def queries_for(rng: random.Random, text: str, *more: str) -> tuple[str, ...]:
    """Queries for a text: parts of it, and any others that are known."""
    return (fragment(rng, text, 2, 7), keywords(rng, text), fragment(rng, text, 2, 4), *more)
