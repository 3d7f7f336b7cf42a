"""Clips of selections, one file each, or one file of all."""

from __future__ import annotations

import asyncio
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clamr_cli.edit.selections import Selection
from clamr_cli.errors import ClamrError, MediaError, UsageError
from clamr_cli.extract.subtitles import as_srt
from clamr_cli.frames.export import STALL_TIMEOUT, Folder, writing
from clamr_cli.frames.sheet import Tile, write_sheet
from clamr_cli.index import tasks
from clamr_cli.index.executors.local import Worker
from clamr_cli.media.clips import MUXERS, Joined, Piece, copied_suffix
from clamr_cli.text import escape_terminal, file_time, plural
from clamr_cli.types import MediaInfo, Segment, Span

_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]+')
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
_LONGEST_NAME: Final = 80
"""Bytes of a title in a file name: file systems allow 255 for all of it."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that was written, or not.

    Attributes:
        selection: what was asked for.
        asked: the stretch that was to be cut, with the seconds added on both sides.
        span: the stretch of the source that the clip holds; None where it could not be written.
        file: its path.
        error: why it was not written; empty otherwise.
    """

    selection: Selection
    asked: Span
    span: Span | None
    file: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Cutting:
    """Progress: seconds that are done, of all that are to be done."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Supercut:
    """A joined video that was written: its files, its parts, and why it was encoded; empty where it was copied."""

    file: str
    srt: str
    sheet: str
    joined: Joined


class Probe:
    """Reads the facts of files in a process of its own. Stop it in the end."""

    def __init__(self) -> None:
        self._worker = Worker("reading", confined=True)

    def __call__(self, path: str) -> MediaInfo:
        return asyncio.run(self._worker.run(tasks.probe_file, path, stall_timeout=STALL_TIMEOUT))

    def stop(self) -> None:
        self._worker.stop()


def file_name(title: str, span: Span, suffix: str) -> str:
    """A readable file name that every file system takes: the title and the time.

    >>> file_name("What? A/B: test", Span(62.0, 90.5), ".mp4")
    'What A B test 00-01-02.000.mp4'
    """
    text = " ".join(_UNSAFE.sub(" ", escape_terminal(unicodedata.normalize("NFC", title))).split()).strip(" .-")
    text = text.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore").strip(" .")
    if not text or _RESERVED.match(text):
        text = f"clip {text}".strip()
    return f"{text} {file_time(span.start)}{suffix}"


def cut(
    selections: Sequence[Selection], spans: Sequence[Span], folder: Path, *, exact: bool, force: bool
) -> Iterator[Clip | Cutting]:
    """Cut a clip of each selection, one after another; what cannot be cut is told and the others go on.

    Args:
        selections: the videos.
        spans: the stretch of each that is to be cut.
        folder: is made where it is missing.
        exact: encode to the frame; else packets are copied from the keyframe before on.
        force: replace files of the same names.

    Raises:
        UsageError: the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    place, worker = Folder(folder), Worker("cutting", confined=True)
    total, done = sum(span.duration for span in spans), 0.0
    taken: set[str] = set()
    try:
        for selection, span in zip(selections, spans, strict=True):
            suffix = ".mp4" if exact else copied_suffix(selection.media)
            name = file_name(selection.label, span, suffix)
            number = 2
            while name.casefold() in taken:
                name = file_name(f"{selection.label} ({number})", span, suffix)
                number += 1
            taken.add(name.casefold())
            clip = Clip(selection, span, None, os.fspath(folder / name))
            if os.path.lexists(folder / name) and not force:
                yield replace(clip, error="it is there already; --force replaces it")
            else:
                try:
                    with place.draft(name) as draft:
                        arguments = (selection.path, selection.media, os.fspath(draft), span, exact)
                        result: Any = None
                        for each in _run(worker, tasks.cut_clip, *arguments):
                            if isinstance(each, tuple):
                                yield Cutting(done + each[0], total)
                            else:
                                result = each
                    clip = replace(clip, span=result)
                except MediaError as error:
                    clip = replace(clip, error=str(error))
                yield clip
            done += span.duration
            yield Cutting(done, total)
    finally:
        worker.stop()


def _run(worker: Worker, task: Any, *arguments: object) -> Iterator[Any]:  # noqa: ANN401
    """The reports of a task as pairs of numbers while it goes on, and its result in the end."""
    from clamr_cli.index.run import iterate

    async def follow() -> Any:  # noqa: ANN401
        reports: asyncio.Queue[Any] = asyncio.Queue()

        def report(done: float, total: float, _part: Any = None, /) -> None:  # noqa: ANN401
            reports.put_nowait((done, total))

        running = asyncio.create_task(worker.run(task, *arguments, stall_timeout=STALL_TIMEOUT, on_report=report))
        running.add_done_callback(lambda _: reports.put_nowait(None))
        try:
            while (each := await reports.get()) is not None:
                yield each
            yield await running
        finally:
            running.cancel()

    yield from iterate(follow())


def join(
    selections: Sequence[Selection], spans: Sequence[Span], target: Path, *, exact: bool, force: bool
) -> Iterator[Supercut | Cutting]:
    """Join the stretches of selections in one file, with its subtitles and a contact sheet beside it.

    Raises:
        UsageError: the file cannot be written, or is there already.
        MediaError: a video cannot be read.
    """
    check_target(target, force=force)
    srt, sheet = _beside(target)
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    pieces = [Piece(one.path, one.media, span) for one, span in zip(selections, spans, strict=True)]
    worker, place = Worker("joining", confined=True), Folder(target.parent)
    total = sum(span.duration for span in spans)
    result: Any = None
    try:
        with place.draft(target.name) as draft:
            for each in _run(worker, tasks.join_clips, pieces, os.fspath(draft), exact):
                if isinstance(each[0], float):
                    yield Cutting(each[0], total)
                else:
                    result = each
    except ClamrError as error:
        raise type(error)(f"nothing was joined: {error.what}", error.hint) from error
    finally:
        worker.stop()
    joined, jpegs = result
    lines = [line for one, part in zip(selections, joined.parts, strict=True) for line in _said(one, part)]
    if lines:
        place.write(srt.name, as_srt(lines).encode())
    tiles = [
        Tile(
            jpeg,
            part.target.start,
            one.rank or number,
            title=one.label,
            path=os.fspath(target),
            text=one.text or one.shown,
        )
        for number, (one, part, jpeg) in enumerate(zip(selections, joined.parts, jpegs, strict=True), 1)
    ]
    write_sheet(sheet, f"{target.name}: {plural(len(tiles), 'part')}", tiles)
    yield Supercut(os.fspath(target), os.fspath(srt) if lines else "", os.fspath(sheet), joined)


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a joined video whose format is unknown, or that is there already, or a file beside it."""
    if target.suffix.lower() not in MUXERS:
        raise UsageError(f"invalid --join: {target.name}", f"let it end in {', '.join(MUXERS)}")
    for path in (target, *_beside(target)):
        if os.path.lexists(path) and not force:
            raise UsageError(f"{path} is there already", "name another file, or replace it with --force")


def _beside(target: Path) -> tuple[Path, Path]:
    """The subtitles and the contact sheet of a joined video."""
    return target.with_suffix(".srt"), target.with_suffix(".jpg")


def _said(selection: Selection, part: Any) -> Iterator[Segment]:  # noqa: ANN401
    """The lines that are said in a part, at their times in the joined video."""
    shift = part.target.start - part.source.start
    for segment in selection.speech:
        start, end = max(segment.span.start, part.source.start), min(segment.span.end, part.source.end)
        if end - start > min(0.2, segment.span.duration / 2):
            yield replace(segment, span=Span(start + shift, end + shift), words=())
