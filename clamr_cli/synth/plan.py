"""Which queries are to be written of a video, each from what: its title, or one moment's text or frames."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, TypeAlias

from clamr_cli.types import SHOWN_MODALITIES, Modality, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clamr_cli.types import Document, FileRecord, Segment, VideoRecord

Target: TypeAlias = Modality | None
"""What a query aims at; None is a base query, about the video as a whole."""

BASE: Final = "base"
"""The name of the target None in ids and on the command line, as in the query ids of MultiVENT 2."""

TARGETS: Final[tuple[Target, ...]] = (None, *SHOWN_MODALITIES)
TEXT_BUDGET: Final = 1000
"""Tokens of a moment's text in a prompt, about."""

NOWHERE: Final = Span(0.0, 0.0)

_OF_THE_NAME: Final = frozenset(("title", "filename", "folder"))
_GOOD_WORDS: Final = 8
_LEAST_LETTERS: Final = 3
_TOKEN: Final = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]|\s+")
_LAST_WORD: Final = re.compile(r"\S+\Z")
_NAME_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write of each video.

    Attributes:
        targets: kinds of queries, in order.
        each: queries of each kind.
        seed: of every draw.
        frames: pictures in one prompt at most.
    """

    targets: tuple[Target, ...] = TARGETS
    each: int = 1
    seed: int = 0
    frames: int = 10


@dataclass(frozen=True, slots=True)
class Job:
    """One query to write.

    Attributes:
        id: ``<video-id>_<target>_<number>``.
        path: of a file that holds the video.
        number: from 1, among the queries of this target.
        span: the moment it is written from, the whole video for a base query; seconds.
        text: what it is written from; empty for frames.
        frames: JPEG pictures it is written from.
    """

    id: str
    video_id: str
    path: str
    target: Target
    number: int
    span: Span = NOWHERE
    text: str = ""
    frames: tuple[bytes, ...] = field(default=(), repr=False)


def target_name(target: Target) -> str:
    """``base``, or the modality's name."""
    return BASE if target is None else target.value


def job_id(video_id: str, target: Target, number: int) -> str:
    """The id of a query: the same in every run, so that a run knows what is done."""
    return f"{video_id}_{target_name(target)}_{number}"


def all_ids(video_id: str, wanted: Wanted) -> list[str]:
    """The ids of all queries a video could get."""
    return [job_id(video_id, target, number) for target in wanted.targets for number in range(1, wanted.each + 1)]


def jobs_of(record: FileRecord, video: VideoRecord, documents: Sequence[Document], wanted: Wanted) -> Iterator[Job]:
    """The queries to write of one video, target after target; none for a modality the video does not have.

    Several queries of a modality are written from different moments while there are any, in an order that only the
    seed, the video and the modality decide; moments with little text come last.
    """
    for target in wanted.targets:
        for number, (span, text, frames) in enumerate(_sources(record, video, documents, target, wanted), 1):
            identity = job_id(record.video_id, target, number)
            yield Job(identity, record.video_id, record.path, target, number, span, text, frames)


_Source: TypeAlias = tuple[Span, str, tuple[bytes, ...]]


def _sources(
    record: FileRecord, video: VideoRecord, documents: Sequence[Document], target: Target, wanted: Wanted
) -> list[_Source]:
    if target is None:
        title = title_of(record, video, documents)
        whole = Span(0.0, max(0.0, video.media.duration))
        return [(whole, title, ())] * wanted.each if title else []
    found = [source for document in documents if (source := _source(document, target, wanted.frames))]
    if not found:
        return []
    random.Random(f"{wanted.seed}/{record.video_id}/{target}").shuffle(found)  # noqa: S311 -- no secret
    found.sort(key=lambda source: not source[2] and len(source[1].split()) < _GOOD_WORDS)
    return [found[number % len(found)] for number in range(wanted.each)]


def _source(document: Document, target: Modality, frames: int) -> _Source | None:
    """What a moment has of a modality; None where that is nothing."""
    if target is Modality.VIDEO:
        pictures = spread([frame.jpeg for frame in document.frames], frames)
        return (document.span, "", tuple(pictures)) if pictures else None
    text = cut(text_of(document, target))
    enough = sum(character.isalnum() for character in text) >= _LEAST_LETTERS
    return (document.span, text, ()) if enough else None


def title_of(record: FileRecord, video: VideoRecord, documents: Sequence[Document]) -> str:
    """The video's title; empty where it has none but a file name that does not read like one (three words or more)."""
    title = cut(" ".join(video.fields.title.split()))
    noted = any(segment.source == "title" for document in documents for segment in document.metadata)
    if noted or title != PurePath(record.path).stem:
        return title
    words = next((s.text for d in documents for s in d.metadata if s.source == "filename"), "")
    return words if len(_NAME_WORD.findall(words)) >= 3 else ""


def text_of(document: Document, target: Modality) -> str:
    """A moment's text of a modality, a line per segment; metadata without the title, each line after its source."""
    segments = document.segments(target)
    if target is not Modality.METADATA:
        return "\n".join(_each_once(segment.text for segment in segments))
    return "\n".join(_each_once(_noted(segment) for segment in segments if segment.source not in _OF_THE_NAME))


def _noted(segment: Segment) -> str:
    return f"{segment.source}: {segment.text}" if segment.source else segment.text


def _each_once(lines: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for line in lines:
        told = " ".join(line.split())
        first.setdefault(told.casefold(), told)
    return [line for line in first.values() if line]


def cut(text: str, budget: int = TEXT_BUDGET) -> str:
    """The beginning of a text that is about ``budget`` tokens long, cut at a word's end where it has words.

    The estimate (four letters of Latin script, one digit, one character of any other) is the same for all models, so
    that a prompt does not depend on who is asked. Control characters and broken bytes are left out.
    """
    text = "".join(" " if unicodedata.category(one) in ("Cc", "Cs") and one != "\n" else one for one in text)
    spent = 0.0
    for piece in _TOKEN.finditer(text):
        token = piece[0]
        spent += 0.0 if token.isspace() else max(1.0, len(token) / 4)
        if spent > budget:
            kept = text[: piece.start()]
            whole = kept if kept[-1:].isspace() else _LAST_WORD.sub("", kept)
            return (whole if whole.strip() else kept).strip()
    return text.strip()


def spread(items: Sequence[bytes], limit: int) -> list[bytes]:
    """At most ``limit`` of the items, evenly spread, the first among them."""
    if len(items) <= limit:
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]
