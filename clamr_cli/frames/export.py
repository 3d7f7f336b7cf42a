"""Chosen frames as files: a folder that an interrupted export goes on with, frames, clips and contact sheets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.frames.prepare import stills
from clamr_cli.frames.values import FrameHit, Prepared
from clamr_cli.index import tasks
from clamr_cli.index.executors.local import Worker
from clamr_cli.store import Store
from clamr_cli.types import Span

LIST: Final = "frames.json"
"""The list of an export, written first."""

STALL_TIMEOUT: Final = 120.0
"""Seconds that one frame or clip may take; a file that needs longer hangs the decoder."""

_OWN: Final = re.compile(r"\d{2,}-\d\d-\d\d\.\d{3}(\.jpg|\.mp4|\.mkv|\.webm)")
"""Names of files that an export writes; no other file is ever removed."""

_DRAFT: Final = ".part-"
_AT_ONCE: Final = 16
"""Frames that are decoded before the first of them is given."""


class Folder:
    """The folder of an export."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, listing: bytes, names: Sequence[str], *, force: bool) -> Folder:
        """Make the folder and write its list, ``frames.json``; ``names`` are those of all files that will be beside it.

        A folder with the same list is an export that was interrupted, or is repeated: what is there stays. With
        ``force`` an earlier export in the folder is replaced.

        Raises:
            UsageError: the folder holds something else, or cannot be written.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            present = {file.name for file in path.iterdir() if not file.name.startswith(_DRAFT)}
            if present and not (LIST in present and (path / LIST).read_bytes() == listing):
                _make_room(path, present, names, force=force)
            folder = cls(path)
            folder.write(LIST, listing)
            return folder

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all, or raise UsageError."""
        with self.draft(name) as draft, writing(self.path):
            draft.write_bytes(content)

    @contextlib.contextmanager
    def draft(self, name: str) -> Iterator[Path]:
        """A path to write a file to; it gets its name when the block ends without an error."""
        draft = self.path / f"{_DRAFT}{secrets.token_hex(4)}-{name}"
        try:
            yield draft
            with writing(self.path):
                draft.replace(self.path / name)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a UsageError of one clear line."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write to {os.fspath(path)}: {error.strerror or error}", "choose another place, or make room"
        ) from error


def _make_room(path: Path, present: set[str], names: Sequence[str], *, force: bool) -> None:
    """Remove an earlier export. Nothing that is not its own is touched, and nothing is removed without leave."""
    try:
        content = json.loads((path / LIST).read_bytes())
        listed = [str(frame[key]) for frame in content["frames"] for key in ("file", "clip") if key in frame]
        is_export = content["format"] == "clamr-frames"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        is_export, listed = False, []
    if not is_export:
        raise UsageError(f"the folder {os.fspath(path)} is not empty", "name another one")
    if not force:
        hint = "name another one, or replace that with --force"
        raise UsageError(f"the folder {os.fspath(path)} holds an export of something else", hint)
    own = {name for name in listed if _OWN.fullmatch(name)}
    if foreign := (present - own - {LIST}) & set(names):
        raise UsageError(f"{os.fspath(path / min(foreign))} is not part of an earlier export", "name another folder")
    # The list goes last: an interruption leaves an export that can still be recognised and replaced.
    for name in (*sorted(own), LIST):
        (path / name).unlink(missing_ok=True)


def full_size(
    store: Store, prepared: Prepared, hits: Sequence[FrameHit], *, side: int
) -> Iterator[tuple[FrameHit, bytes, bool]]:
    """The JPEGs of frames in time order, one at a time, and whether each is the small one that is stored.

    They are decoded from the file in a process of its own, at most ``side`` pixels on the longer side and never
    enlarged. Where that gives nothing, or not what was seen when the video was prepared, the stored one (at most 448
    pixels) is given.
    """
    ordered = sorted(hits, key=lambda hit: hit.frame.time)
    numbers = [hit.number for hit in ordered]
    small = dict(zip(numbers, stills(store, prepared, numbers), strict=True))
    worker = Worker("decoding", confined=True)
    is_readable = bool(prepared.target.path)
    jpegs: list[bytes | None] = []

    def collect(_done: float, _total: float, jpeg: bytes | None = None, /) -> None:
        jpegs.append(jpeg)

    try:
        for some in (ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE)):
            jpegs.clear()
            if is_readable:
                times = [hit.frame.time for hit in some]
                thumbs = [prepared.thumbs[hit.number].tobytes() for hit in some]
                arguments = (prepared.target.path, prepared.media, times, thumbs, side)
                try:
                    asyncio.run(
                        worker.run(tasks.take_frames, *arguments, stall_timeout=STALL_TIMEOUT, on_report=collect)
                    )
                except MediaError:
                    is_readable = False  # whatever is wrong with the file, there are the stored ones
            for hit, jpeg in itertools.zip_longest(some, jpegs):
                yield hit, jpeg or small[hit.number], jpeg is None
    finally:
        worker.stop()


def clip_suffix(prepared: Prepared, *, exact: bool) -> str:
    """The file ending of a video's clips."""
    from clamr_cli.media.clips import copied_suffix

    return ".mp4" if exact else copied_suffix(prepared.media)


def cut_clips(
    prepared: Prepared, hits: Sequence[FrameHit], folder: Folder, seconds: float, *, exact: bool
) -> Iterator[tuple[FrameHit, MediaError | None]]:
    """Cut the clips that the folder lacks, one at a time; each with why it could not be cut, or None.

    A clip lasts from some seconds before its frame to as many after it. With ``exact`` it is encoded anew, else packets
    are copied from the keyframe before it on.

    Raises:
        UsageError: the folder cannot be written.
    """
    worker = Worker("cutting", confined=True)
    path, media = prepared.target.path, prepared.media
    try:
        for hit in sorted(hits, key=lambda hit: hit.frame.time):
            if folder.has(hit.clip):
                continue
            time, error = hit.frame.time, None
            span = Span(max(0.0, time - seconds), max(time, min(time + seconds, media.duration)))
            try:
                with folder.draft(hit.clip) as draft:
                    arguments = (path, media, os.fspath(draft), span, exact)
                    asyncio.run(worker.run(tasks.cut_clip, *arguments, stall_timeout=STALL_TIMEOUT))
            except MediaError as problem:
                error = problem
            yield hit, error
    finally:
        worker.stop()
