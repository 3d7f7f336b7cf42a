"""The queries to write of each video, and the source of each: its title, or one moment's text or frames."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, Literal, TypeAlias

from clamr_cli.types import SHOWN_MODALITIES, Document, FileRecord, Modality, Segment, Span, VideoRecord

Target: TypeAlias = Modality | None
"""The modality that a query aims at; None for a base query, about the video as a whole."""

TARGETS: Final[tuple[Target, ...]] = (None, *SHOWN_MODALITIES)
TEXT_BUDGET: Final = 1000
"""Tokens of a moment's text in a prompt, about."""

NO_SPAN: Final = Span(0.0, 0.0)
_Source: TypeAlias = tuple[Span, str, tuple[bytes, ...]]
_NAME_SOURCES: Final = frozenset(("title", "filename", "folder"))
_ENOUGH_WORDS: Final = 8
_LEAST_LETTERS: Final = 3
_TOKEN: Final = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]|\s+")
_LAST_WORD: Final = re.compile(r"\S+\Z")
_NAME_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class SynthOptions:
    """The queries to write, and how to ask for them.

    Attributes:
        targets: kinds of queries, in order.
        each: queries of each kind per video.
        seed: of every draw and of the answers' sampling.
        frames: pictures in one prompt at most.
        shots: examples in a prompt at most.
        temperature: of the first try.
        vision: show frames: ``auto`` as long as the model takes them.
    """

    targets: tuple[Target, ...] = TARGETS
    each: int = 1
    seed: int = 0
    frames: int = 10
    shots: int = 10
    temperature: float = 0.0
    vision: Literal["auto", "yes", "no"] = "auto"


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """One query to write.

    Attributes:
        video_id: of the video that answers.
        path: of a file that holds it.
        number: from 1, among the queries of this target.
        span: the moment it is written from, the whole video for a base query; seconds.
        text: what it is written from; empty for frames.
        frames: JPEG pictures it is written from.
        problem: why it cannot be asked for; empty if it can.
    """

    video_id: str
    path: str
    target: Target
    number: int
    span: Span = NO_SPAN
    text: str = ""
    frames: tuple[bytes, ...] = field(default=(), repr=False)
    problem: str = ""

    @property
    def id(self) -> str:
        """The same in every run, so that a run knows what is done."""
        return query_id(self.video_id, self.target, self.number)


def target_name(target: Target) -> str:
    """``base``, or the modality's name."""
    return "base" if target is None else target.value


def query_id(video_id: str, target: Target, number: int) -> str:
    """``<video-id>_<target>_<number>``, as in MultiVENT 2."""
    return f"{video_id}_{target_name(target)}_{number}"


def plan_queries(
    record: FileRecord, video: VideoRecord, documents: Sequence[Document], options: SynthOptions
) -> Iterator[PlannedQuery]:
    """The queries to write of one video, target after target; none for a modality the video does not have.

    Several queries of a modality are written from different moments while there are any, in an order that only the
    seed, the video and the modality decide; moments with little text come last.
    """
    for target in options.targets:
        if target is None:
            title = title_of(record, video, documents)
            sources: list[_Source] = [(Span(0.0, max(0.0, video.media.duration)), title, ())] if title else []
        else:
            sources = list(_sources(documents, target, options.frames))
            random.Random(f"{options.seed}/{record.video_id}/{target}").shuffle(sources)  # noqa: S311 -- not a secret
            sources.sort(key=lambda source: not source[2] and len(source[1].split()) < _ENOUGH_WORDS)
        for number in range(1, options.each + 1 if sources else 1):
            span, text, frames = sources[(number - 1) % len(sources)]
            yield PlannedQuery(record.video_id, record.path, target, number, span, text, frames)


def _sources(documents: Sequence[Document], target: Modality, limit: int) -> Iterator[_Source]:
    """The moments that have something of a modality: its text, or its frames."""
    for document in documents:
        if target is Modality.VIDEO:
            if document.frames:
                yield document.span, "", tuple(spread([frame.jpeg for frame in document.frames], limit))
            continue
        text = cut_text(_text_of(document, target))
        if sum(map(str.isalnum, text)) >= _LEAST_LETTERS:
            yield document.span, text, ()


def title_of(record: FileRecord, video: VideoRecord, documents: Sequence[Document]) -> str:
    """The video's title; empty where it has none but a file name that does not read like one (three words or more)."""
    title = cut_text(" ".join(video.fields.title.split()))
    metadata = [segment for document in documents for segment in document.metadata]
    if title != PurePath(record.path).stem or any(segment.source == "title" for segment in metadata):
        return title
    words = next((segment.text for segment in metadata if segment.source == "filename"), "")
    return words if len(_NAME_WORD.findall(words)) >= 3 else ""


def _text_of(document: Document, target: Modality) -> str:
    """A moment's text of a modality, each line once; metadata without the title, each line after its source."""
    segments: Iterable[Segment] = document.segments(target)
    if target is Modality.METADATA:
        segments = [segment for segment in segments if segment.source not in _NAME_SOURCES]
    lines: dict[str, str] = {}
    for segment in segments:
        label = f"{segment.source}: " if target is Modality.METADATA and segment.source else ""
        line = " ".join((label + segment.text).split())
        lines.setdefault(line.casefold(), line)
    return "\n".join(filter(None, lines.values()))


def cut_text(text: str, budget: int = TEXT_BUDGET) -> str:
    """The beginning of a text that is about ``budget`` tokens long, cut at a word's end where it has words.

    The estimate (four letters of Latin script, one digit, one character of any other) is the same for all models, so
    that a prompt does not depend on the model. Control characters and broken bytes are left out.
    """
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") and c != "\n" else c for c in text)
    spent = 0.0
    for token in _TOKEN.finditer(text):
        spent += 0.0 if token[0].isspace() else max(1.0, len(token[0]) / 4)
        if spent > budget:
            beginning = text[: token.start()]
            words = beginning if beginning[-1:].isspace() else _LAST_WORD.sub("", beginning)
            return (words if words.strip() else beginning).strip()
    return text.strip()


def spread(items: Sequence[bytes], limit: int) -> list[bytes]:
    """At most ``limit`` of the items, evenly spread, the first among them."""
    if len(items) <= limit:
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]
