"""Selections: stretches of videos, named by ranks of the last search, by its JSON lines, or by file and times."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from clamr_cli import locations
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.files import absent_file
from clamr_cli.index.documents import spoken_segments
from clamr_cli.search import video_named
from clamr_cli.store import LastHit, Store
from clamr_cli.terms import split_place
from clamr_cli.text import shorten
from clamr_cli.types import FileState, Hit, MediaInfo, Modality, MomentRecord, Segment, Span

Bounds = Literal["moment", "line"]
"""Whether a hit stands for its whole moment or for the line that answers."""

FileReader = Callable[[str], MediaInfo]
"""Reads the facts of a file that the index does not know."""

_RANKS: Final = re.compile(r"#?(\d{1,9})(?:-#?(\d{1,9}))?")
_MOST_RANKS: Final = 100_000
_LISTS: Final = (".json", ".jsonl", ".ndjson")
_SHORTEST: Final = 1.0
"""Seconds of a line or a frame at least."""
_EXAMPLE: Final = "give ranks of the last search (1 3-5), FILE@1:02-1:30, or a file of 'clamr search --json'"


@dataclass(frozen=True, slots=True)
class Selection:
    """A stretch of a video that was chosen.

    Attributes:
        path: of a file that is there.
        media: its facts.
        span: that was asked for.
        title: of the video.
        video_id: of the index; empty for files that it does not know.
        rank: of the hit; 0 for stretches that were named by their times.
        text: that answers there; empty for a frame.
        shown: the words of the query that a frame shows, with commas between.
        speech: all that is said in the video, where the index knows it.
    """

    path: str
    media: MediaInfo
    span: Span
    title: str = ""
    video_id: str = ""
    rank: int = 0
    text: str = ""
    shown: str = ""
    speech: tuple[Segment, ...] = ()

    @property
    def label(self) -> str:
        """The title, or the file's name."""
        return self.title or os.path.splitext(os.path.basename(self.path))[0]


@dataclass(frozen=True, slots=True)
class _Named:
    """A stretch before its video is looked up."""

    video: str
    span: Span
    rank: int = 0
    text: str = ""
    shown: str = ""


class _Library:
    """The videos that selections are of; each is looked up once. ``store`` is None without an index."""

    def __init__(self, store: Store | None, probe: FileReader) -> None:
        self._store, self._probe = store, probe
        self._media: dict[str, MediaInfo] = {}
        self._known: dict[str, Selection] = {}

    def selection(self, named: _Named) -> Selection:
        """The selection of a named stretch.

        Raises:
            UsageError: no video is called so, no file of it is there, or the stretch lies outside.
            MediaError: the file cannot be read.
        """
        if named.video not in self._known:
            self._known[named.video] = self._find(named.video)
        video = self._known[named.video]
        length = video.media.duration
        if named.span.start >= length > 0:
            raise UsageError(f"{video.label} is over before {named.span.start:g} s", f"it lasts {length:.1f} s")
        end = min(named.span.end, length) if length else named.span.end
        return replace(video, span=Span(named.span.start, end), rank=named.rank, text=named.text, shown=named.shown)

    def _find(self, name: str) -> Selection:
        if self._store is not None:
            try:
                video_id = video_named(self._store, name)
            except UsageError:
                if not locations.is_file(name):
                    raise absent_file(name) or UsageError(*_unknown(self._store, name)) from None
            else:
                return self._indexed(video_id)
        if not locations.is_file(name):
            raise absent_file(name) or UsageError(f"there is no video {name}", "give the path of a file")
        path = locations.absolute(name)
        return Selection(path, self._probe(path), Span(0.0, 0.0))

    def _indexed(self, video_id: str) -> Selection:
        assert self._store is not None
        video = self._store.video(video_id)
        paths = [file.path for file in self._store.files([video_id]) if file.state is FileState.INDEXED]
        there = next((path for path in paths if locations.is_file(path)), None)
        if there is None:
            where = f"it was at {paths[0]}" if paths else "the index knows no file of it"
            raise UsageError(f"no file of {video.fields.title or video_id} is there now ({where})", "connect its disk")
        media = video.media if video.media.time_base is not None else self._probe(there)
        speech = spoken_segments(self._store, video_id)
        return Selection(there, media, Span(0.0, 0.0), video.fields.title, video_id, speech=speech)


def _unknown(store: Store, name: str) -> tuple[str, str]:
    try:
        video_named(store, name)
    except UsageError as error:
        return error.what, error.hint
    return f"there is no video {name}", "list them with: clamr ls"


def read_selections(
    store: Store | None,
    words: Sequence[str],
    probe: FileReader,
    *,
    bounds: Bounds = "moment",
) -> tuple[list[Selection], list[str]]:
    """The selections that words name, and a line for each word that names none.

    Args:
        store: the index; None without one.
        words: ranks (``1``, ``3-5``), JSON lines of a search or a file of them, or ``VIDEO@START-END``. Without any it
            is all hits of the last search that are not weak.
        probe: a function that reads the facts of a file that the index does not know.
        bounds: of hits.

    Raises:
        UsageError: a word is none of that, or there was no search.
    """
    named: list[_Named] = []
    if not words:
        hits = [hit for hit in _last_hits(store) if not hit.weak]
        if not hits:
            raise UsageError("the last search had only weak hits", "name their ranks, or search for something else")
        named += [_of_last(store, hit, bounds) for hit in hits]
    for word in words:
        named += _read_word(store, word, bounds)
    library, selections, failures = _Library(store, probe), [], []
    for one in named:
        try:
            selections.append(library.selection(one))
        except (UsageError, MediaError) as error:
            failures.append(f"{shorten(one.video, 60)}: {error}")
    return selections, failures


def of_hits(
    store: Store, hits: Iterable[Hit], probe: FileReader, *, bounds: Bounds = "moment"
) -> tuple[list[Selection], list[str]]:
    """The selections of hits that are not weak, and a line for each video that is not there."""
    library, selections, failures = _Library(store, probe), [], []
    for hit in hits:
        if hit.weak:
            continue
        try:
            selections.append(library.selection(_of_last(store, LastHit.of(hit), bounds)))
        except (UsageError, MediaError) as error:
            failures.append(str(error))
    return selections, failures


def _read_word(store: Store | None, word: str, bounds: Bounds) -> Iterator[_Named]:
    if word.lstrip().startswith("{"):
        yield _of_record(store, _record(word), bounds)
    elif (ranks := _RANKS.fullmatch(word)) and not os.path.lexists(word):
        first, last = int(ranks[1]), int(ranks[2] or ranks[1])
        hits = {hit.rank: hit for hit in _last_hits(store)}
        if first > last or last - first > _MOST_RANKS:
            raise UsageError(f"invalid ranks: {word}", "write them like 3-5")
        for rank in range(first, last + 1):
            if rank not in hits:
                had = f"it had the ranks {min(hits)} to {max(hits)}" if hits else "it had none"
                raise UsageError(f"the last search had no rank {rank}", had)
            yield _of_last(store, hits[rank], bounds)
    elif word.lower().endswith(_LISTS) and os.path.isfile(word):
        try:
            lines = Path(word).read_text("utf-8-sig", "surrogateescape").splitlines()
        except OSError as error:
            raise UsageError(f"{word} cannot be read ({error.strerror})", "check who may read it") from error
        for line in filter(str.strip, lines):
            yield _of_record(store, _record(line), bounds)
    else:
        video, span = split_place(word)
        if span is None or span.start == span.end:
            raise UsageError(f"{shorten(word, 80)} names no stretch of a video", _EXAMPLE)
        yield _Named(video, span)


def _record(line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UsageError(f"no JSON line: {shorten(line.strip(), 60)}", _EXAMPLE) from error
    if not isinstance(record, dict) or not isinstance(record.get("video_id") or record.get("path"), str):
        raise UsageError(f"no line of 'clamr search --json': {shorten(line.strip(), 60)}", _EXAMPLE)
    return record


def _of_record(store: Store | None, record: Mapping[str, Any], bounds: Bounds) -> _Named:
    """The stretch of a JSON object of a search."""
    lines = [line for line in record.get("lines") or () if isinstance(line, dict) and line.get("start") is not None]
    line = lines[0] if lines else {}
    try:
        span = Span(float(record["start"]), float(record["end"]))
        at = float(line.get("start", record.get("at", span.start)))
        modality = Modality(line.get("modality") or record.get("modality") or Modality.VIDEO)
        rank = int(record.get("rank") or 0)
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError("a JSON line has no start and end in seconds", _EXAMPLE) from error
    if not 0 <= span.start < span.end < 1e7:
        raise UsageError(f"a JSON line goes from {span.start:g} to {span.end:g} s", _EXAMPLE)
    text, words = str(line.get("text") or ""), tuple(map(str, line.get("words") or ()))
    hit = LastHit(rank, str(record.get("video_id") or ""), at, span, modality, text, words=() if text else words)
    named = _of_last(store, hit, bounds)
    return named if named.video else replace(named, video=str(record["path"]))


def _last_hits(store: Store | None) -> tuple[LastHit, ...]:
    search = None if store is None else store.last_search()
    if search is None or not search.hits:
        raise UsageError("there was no search whose ranks could be meant", _EXAMPLE)
    if any(hit.span is None for hit in search.hits):
        raise UsageError("the last search was one of an earlier version of clamr", "search again")
    return search.hits


def _of_last(store: Store | None, hit: LastHit, bounds: Bounds) -> _Named:
    span = hit.span or Span(hit.at, hit.at + _SHORTEST)
    if bounds == "line" and store is not None:
        span = _line_span(store, hit, span)
    return _Named(hit.video_id, span, hit.rank, hit.line, ", ".join(hit.words))


def _line_span(store: Store, hit: LastHit, moment: Span) -> Span:
    """The stretch of the line that answers, or of the frame; the moment where neither has a time of its own."""

    def distance(span: Span) -> float:
        return max(span.start - hit.at, hit.at - span.end, 0.0)

    records: list[MomentRecord] = [one for one in store.moments([hit.video_id]) if one.span.overlaps(moment)]
    if hit.modality is Modality.VIDEO or not hit.line:
        spans = [span for record in records for span in record.frame_spans]
    else:
        segments = [segment for record in records for segment in record.segments(hit.modality or Modality.SPEECH)]
        spans = [segment.span for segment in segments if segment.text == hit.line] or [one.span for one in segments]
    if not spans:
        return moment
    span = min(spans, key=distance)
    return span if span.duration >= _SHORTEST else Span(span.start, span.start + _SHORTEST)


def snapped(selection: Selection, pad: float = 0.0, *, as_given: bool = False) -> Span:
    """The stretch to cut: with so many seconds more on both sides, and with no bound inside a word.

    Where the times of words are unknown, a bound inside a line goes to the nearer end of it, never into what was asked
    for.
    """
    asked, length = selection.span, selection.media.duration
    start, end = max(0.0, asked.start - pad), asked.end + pad
    if not as_given:
        start = _outside(start, selection.speech, asked, before=True)
        end = _outside(end, selection.speech, asked, before=False)
    return Span(max(0.0, start), min(end, length) if length else end)


def _outside(bound: float, speech: Sequence[Segment], asked: Span, *, before: bool) -> float:
    for segment in speech:
        if not segment.span.start < bound < segment.span.end:
            continue
        if segment.words:
            word = next((word.span for word in segment.words if word.span.start < bound < word.span.end), None)
            return bound if word is None else word.start if before else word.end
        ends = [segment.span.start, segment.span.end]
        fitting = [end for end in ends if (end <= asked.start if before else end >= asked.end)]
        return min(fitting, key=lambda end: abs(end - bound), default=ends[0] if before else ends[1])
    return bound
