"""Composed documents: captioned photos as frames, and unrelated texts as their speech, on-screen text and metadata.

What a joint encoder has to learn is to let the query pick the modality; for that the other modalities must be there
and be about something else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clamr_cli.train.mini.words import fragment, keywords
from clamr_cli.types import Modality

if TYPE_CHECKING:
    import random

    from clamr_cli.train.mini.photos import Photo
    from clamr_cli.train.mini.texts import Entry

_SIZES: Final = {
    Modality.SPEECH: (0, 0, 2, 3, 5),
    Modality.OCR: (0, 0, 1, 2, 4),
    Modality.METADATA: (0, 1, 1, 2, 4),
}
_CHANNELS: Final = 10


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
