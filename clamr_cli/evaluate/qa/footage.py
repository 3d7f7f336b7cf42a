"""Where a collection's videos and subtitles are: in a folder, or in the index.

A collection keeps its subtitles in a folder of their own, in formats of its own, sometimes on the clock of a longer
video. They are written once more, in SubRip, and go before whatever else is known of what is said in the video.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pysubs2

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.evaluate.ids import resolve
from clamr_cli.extract.subtitles import from_events, read_subtitle_file
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clamr_cli.evaluate.qa.items import Item
    from clamr_cli.types import FileRecord

_VIDEOS: Final = ("", "videos", "video", "data", "data/videos", "clips")
_SUBTITLES: Final = ("", "subtitles", "subtitle")
_LATEST: Final = 1e6
"""Seconds; no video is as long as that."""

_SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts")


@dataclass(frozen=True, slots=True)
class Place:
    """A video: what to open (a path or an id of the index), and its subtitles where the collection has them."""

    video: str
    subtitles: Path | None = None
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """The places of the videos that were found, by their name in the collection, and the names that were not."""

    places: dict[str, Place]
    missing: tuple[str, ...]


def find(
    items: Sequence[Item], files: Sequence[FileRecord], videos: Iterable[Path], subtitles: Iterable[Path]
) -> Found:
    """Find the videos of questions: as paths, in the folders, then in the index.

    Args:
        items: the questions.
        files: of the index.
        videos: folders to look in, and in those that collections have inside.
        subtitles: the same for subtitle files.
    """
    video_folders = _inside(videos, _VIDEOS)
    subtitle_folders = _inside(subtitles, _SUBTITLES)
    first = {item.video: item for item in reversed(items)}
    paths = {name: _file(name, video_folders) for name in dict.fromkeys(item.video for item in items)}
    indexed = resolve([name for name, path in paths.items() if path is None], files).videos
    places: dict[str, Place] = {}
    for name, path in paths.items():
        opened = str(path) if path is not None else indexed.get(name)
        if opened is not None:
            own = _beside(first[name].subtitles, subtitle_folders)
            places[name] = Place(opened, own, first[name].late)
    return Found(places, tuple(name for name in paths if name not in places))


def _inside(folders: Iterable[Path], names: Sequence[str]) -> list[Path]:
    return [inner for folder in folders for name in names if (inner := folder / name).is_dir()]


def _file(name: str, folders: Sequence[Path]) -> Path | None:
    for folder in [*folders, Path()]:
        for suffix in ("", *_SUFFIXES):
            with contextlib.suppress(OSError, ValueError):  # a name no file can have
                path = folder / f"{name}{suffix}"
                if path.is_file():
                    return path
    return None


def _beside(name: str, folders: Sequence[Path]) -> Path | None:
    if not name:
        return None
    with contextlib.suppress(OSError, ValueError):
        return next((path for folder in folders if (path := folder / name).is_file()), None)
    return None


def subtitles(place: Place, cache: Path) -> str:
    """The subtitles that the collection has of a video, in SubRip and on the clock of the video; empty without any.

    An empty file says that nothing is said.

    Args:
        place: of the video.
        cache: a folder for what is written.

    Raises:
        MediaError: the subtitles cannot be read.
        UsageError: the cache cannot be written.
    """
    if place.subtitles is None:
        return ""
    try:
        now = place.subtitles.stat()
        key = f"{os.path.abspath(place.subtitles)}\0{now.st_mtime_ns}\0{now.st_size}\0{place.late}"
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        path = cache / f"{digest}.srt"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            _write(path, read(place.subtitles, place.late))
    except OSError as error:
        raise UsageError(f"cannot write {cache} ({error.strerror})", "choose another cache folder") from error
    return os.fspath(path)


def read(path: Path, late: float = 0.0) -> list[Segment]:
    """The lines of a subtitle file: SubRip and its kin, or LongVideoBench's JSON, ``late`` seconds earlier.

    LongVideoBench has lists of ``{"start": "00:00:01.000", "end": ..., "line": ...}`` and of ``{"timestamp": [1.0,
    2.0], "text": ...}``, in which an end may be null: then the line lasts until the next one.

    Raises:
        MediaError: it cannot be read.
    """
    if path.suffix.lower() != ".json":
        return _earlier(read_subtitle_file(path), late)
    try:
        cues = [_cue(value) for value in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MediaError(f"the subtitles {path.name} cannot be read", "replace the file, or remove it") from error
    following = [start for start, _, _ in cues[1:]] + [start + 2.0 for start, _, _ in cues[-1:]]
    events = [
        (start, end if end is not None else then, text)
        for (start, end, text), then in zip(cues, following, strict=True)
    ]
    return _earlier(from_events(events), late)


def _cue(value: Any) -> tuple[float, float | None, str]:  # noqa: ANN401 -- from JSON
    if "timestamp" in value:
        start, end = value["timestamp"]
        text = value["text"]
    else:
        start, end, text = value["start"], value["end"], value["line"]
    return _clock(start), None if end is None else _clock(end), str(text or "")


def _clock(value: object) -> float:
    """Seconds, from a number or from hours, minutes and seconds."""
    total = 0.0
    for part in str(value).replace(",", ".").split(":"):
        total = total * 60 + float(part)
    if not abs(total) < _LATEST:
        raise ValueError(f"{value!r} is no time")
    return total


def _earlier(segments: Sequence[Segment], late: float) -> list[Segment]:
    moved = [(max(0.0, one.span.start - late), one.span.end - late, one) for one in segments]
    return [Segment(Span(start, end), one.text, one.source, one.language) for start, end, one in moved if end > 0]


def _write(path: Path, segments: Sequence[Segment]) -> None:
    subtitles = pysubs2.SSAFile()
    for one in segments:
        start, end = pysubs2.make_time(s=one.span.start), pysubs2.make_time(s=max(one.span.end, one.span.start + 0.1))
        subtitles.append(pysubs2.SSAEvent(start=start, end=end, text=one.text))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(subtitles.to_string("srt"), encoding="utf-8")
    temporary.replace(path)
