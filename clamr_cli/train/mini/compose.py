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
    Modality.SPEECH: (0, 0, 2, 3, 5),
    Modality.OCR: (0, 0, 1, 2, 4),
    Modality.METADATA: (0, 1, 1, 2, 4),
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
_PER_CLASS: Final = 12
_FORMS: Final = ("{}", "a {}", "a photo of a {}", "close-up of a {}", "picture showing a {}")
_THINGS: Final = {"Faces": "face of a person", "Faces_easy": "face of a person", "car_side": "car from the side"}
_CHANNELS: Final = 10
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


@dataclass(frozen=True, slots=True)
class Said:
    """A text of a document: of an entry (its index), or a caption of a photo; when, in seconds (None: always)."""

    time: float | None
    entry: int = -1
    caption: str = ""


@dataclass(slots=True)
class Composed:
    """One document: photos (index and time), texts by modality, and queries with the modality they aim at.

    A query that asks for two things at once aims at none.
    """

    photos: list[tuple[int, float]] = field(default_factory=list)
    texts: dict[Modality, list[Said]] = field(default_factory=lambda: defaultdict(list))
    queries: list[tuple[str, Modality | None]] = field(default_factory=list)


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


def labelled_photos(data: Path) -> list[Photo]:
    """Photos of single things, with what they are: other pictures than people take, described in other ways."""
    found = []
    for folder in sorted((data / "train/caltech101").iterdir()):
        name = _THINGS.get(folder.name, folder.name.replace("_", " ").lower())
        captions = tuple(form.format(name) for form in _FORMS)
        found += [Photo(path.relative_to(data).as_posix(), captions, (name,)) for path in _first(folder)]
    return found


def _first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))[:_PER_CLASS]


def one_of_each(all_photos: list[Photo], ids: list[int], chance: random.Random) -> list[int]:
    """One photo of each thing: two would answer the same query."""
    by_thing: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in ids:
        by_thing[all_photos[index].captions].append(index)
    return [chance.choice(indices) for indices in by_thing.values()]


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


@dataclass(frozen=True, slots=True)
class Habits:
    """How documents are composed; each is a probability.

    Attributes:
        related: that a photo is also spoken of, in the words of another caption.
        channel: that a document has a line of metadata that others of the batch have too.
        both: that a document gets a query which asks for things of two modalities at once.
    """

    related: float = 0.25
    channel: float = 0.4
    both: float = 0.6


ALONE: Final = Habits(0.0, 0.0, 0.0)
"""Nothing has to do with anything else: each query aims at one modality."""


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
    habits: Habits = ALONE
    _photos_left: list[int] = field(default_factory=list)
    _texts_left: dict[Modality, list[int]] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _channels: list[int] = field(default_factory=list)

    def shuffle(self) -> None:
        """Put everything back."""
        self._photos_left = self.chance.sample(self.photo_ids, len(self.photo_ids))
        self._used = set()
        for modality in _SIZES:
            fitting = [index for index in self.entry_ids if modality in self.entries[index].modalities]
            self._texts_left[modality] = self.chance.sample(fitting, len(fitting))
        self._channels = [index for _ in range(_CHANNELS) if (index := self._take(Modality.METADATA)) is not None]

    def draw(self, most_photos: int = 3) -> Composed:
        """The next document. With all photos used it has none, and so with texts."""
        document, length = Composed(), self.chance.uniform(5.0, 60.0)
        count = min(most_photos, self.chance.choice((1, 1, 2, 3)), len(self._photos_left))
        for number in range(count):
            self._add_photo(document, length * (number + 0.5) / count)
        for modality, sizes in _SIZES.items():
            size = self.chance.choice(sizes)
            for number in range(size):
                self._add_text(document, modality, length * (number + 0.5) / size)
        self._add_channel(document)
        self._ask_for_both(document)
        return document

    def _add_photo(self, document: Composed, time: float) -> None:
        index = self._photos_left.pop()
        document.photos.append((index, time))
        photo = self.photos[index]
        spoken = self.chance.choice(photo.captions) if self.chance.random() < self.habits.related else ""
        if spoken:
            document.texts[Modality.SPEECH].append(Said(time, caption=spoken))
        asked = photo.captions if self.chance.random() < 0.7 else photo.pieces
        others = [query for query in asked if query != spoken and not (spoken and query in spoken)]
        document.queries.append((self.chance.choice(others or asked), Modality.VIDEO))

    def _add_text(self, document: Composed, modality: Modality, time: float) -> None:
        index = self._take(modality)
        if index is None:
            return
        when = None if modality is Modality.METADATA else time
        document.texts[modality].append(Said(when, entry=index))
        document.queries.append((self.chance.choice(self.entries[index].queries), modality))

    def _take(self, modality: Modality) -> int | None:
        left = self._texts_left[modality]
        while left:
            index = left.pop()
            if index not in self._used:
                self._used.add(index)
                return index
        return None

    def _add_channel(self, document: Composed) -> None:
        """A line that other videos have too: it finds this one only together with something else."""
        if not self._channels or not document.queries or self.chance.random() >= self.habits.channel:
            return
        index = self.chance.choice(self._channels)
        document.texts[Modality.METADATA].append(Said(None, entry=index))
        asked, _ = self.chance.choice(document.queries)
        document.queries.append((_together(self.chance, asked, keywords(self.chance, self.entries[index].text)), None))

    def _ask_for_both(self, document: Composed) -> None:
        aims = {aim for _, aim in document.queries if aim is not None}
        if len(aims) < 2 or self.chance.random() >= self.habits.both:
            return
        first, second = self.chance.sample(sorted(aims), 2)
        parts = [
            self.chance.choice([query for query, aim in document.queries if aim is one]) for one in (first, second)
        ]
        document.queries.append((_together(self.chance, *parts), None))


def _together(chance: random.Random, first: str, second: str) -> str:
    """Two things asked for at once."""
    parts = [part if len(part.split()) <= 6 else fragment(chance, part, 3, 6) for part in (first, second)]
    return " ".join(chance.sample(parts, 2))


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


def misheard(chance: random.Random, text: str) -> str:
    """The text as speech recognition may give it: no capitals, no marks, a word missing here and there."""
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    return " ".join(word for word in words if word and chance.random() > 0.06)


def _asked(chance: random.Random, text: str, *more: str) -> tuple[str, ...]:
    """Queries for a text: pieces of it, and what else is known to ask for it."""
    return (fragment(chance, text, 2, 7), keywords(chance, text), fragment(chance, text, 2, 4), *more)


def _clips(data: Path, chance: random.Random) -> Iterator[Entry]:
    """Captions of one clip say the same in other words."""
    clips = json.loads((data / "text/msvd_captions.json").read_text())
    for captions in sorted(clips.values())[:600]:
        if len(captions) >= 4:
            text, *asked = chance.sample(captions, 4)
            if chance.random() < 0.4:
                yield Entry(misheard(chance, text), (Modality.SPEECH,), tuple(asked))
            else:
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
            if chance.random() < 0.4:
                yield Entry(misheard(chance, text), (Modality.SPEECH,), _asked(chance, text, *event))
            else:
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
        for text in chance.sample(texts[1:], min(count, len(texts) - 1)):
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
