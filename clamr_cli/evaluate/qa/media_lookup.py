"""Looks up the videos and subtitles of a collection: in folders, or in the index.

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

    from clamr_cli.evaluate.qa.questions import LabelledQuestion
    from clamr_cli.types import FileRecord

_VIDEO_FOLDERS: Final = ("", "videos", "video", "data", "data/videos", "clips")
_SUBTITLE_FOLDERS: Final = ("", "subtitles", "subtitle")
_LATEST: Final = 1e6
"""Seconds; no video is as long as that."""

_SUFFIXES: Final = ("", ".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts")


@dataclass(frozen=True, slots=True)
class Media:
    """A video (a path, or an id of the index), and its subtitles if the collection has them.

    ``late`` are seconds by which the subtitles are late: they belong to a longer video.
    """

    video: str
    subtitles: Path | None = None
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Media by their name in the collection, and the names without any."""

    media: dict[str, Media]
    missing: tuple[str, ...]


def find(
    questions: Sequence[LabelledQuestion],
    files: Sequence[FileRecord],
    videos: Iterable[Path],
    subtitles: Iterable[Path],
) -> Lookup:
    """Find the videos of questions: as paths, in the folders, then in the index.

    Args:
        questions: each names its video.
        files: of the index.
        videos: folders to look in, and in those that collections have inside.
        subtitles: the same for subtitle files.
    """
    video_folders = [*_with_inner(videos, _VIDEO_FOLDERS), Path()]
    subtitle_folders = _with_inner(subtitles, _SUBTITLE_FOLDERS)
    first = {question.video: question for question in reversed(questions)}
    names = list(dict.fromkeys(question.video for question in questions))
    paths = {name: _first_file(video_folders, [f"{name}{suffix}" for suffix in _SUFFIXES]) for name in names}
    indexed = resolve([name for name, path in paths.items() if path is None], files).videos
    media: dict[str, Media] = {}
    for name, path in paths.items():
        video = str(path) if path is not None else indexed.get(name)
        if video is not None:
            own = first[name].subtitles
            media[name] = Media(video, _first_file(subtitle_folders, [own]) if own else None, first[name].late)
    return Lookup(media, tuple(name for name in names if name not in media))


def _with_inner(folders: Iterable[Path], names: Sequence[str]) -> list[Path]:
    return [inner for folder in folders for name in names if (inner := folder / name).is_dir()]


def _first_file(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    for path in (folder / name for folder in folders for name in names):
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            if path.is_file():
                return path
    return None


def subtitles(media: Media, cache: Path) -> str:
    """The path of the collection's subtitles of a video, in SubRip and on its clock; empty without any.

    An empty file says that nobody speaks.

    Args:
        media: the video.
        cache: a folder for what is written.

    Raises:
        MediaError: the subtitles cannot be read.
        UsageError: the cache cannot be written.
    """
    if media.subtitles is None:
        return ""
    try:
        status = media.subtitles.stat()
        key = f"{os.path.abspath(media.subtitles)}\0{status.st_mtime_ns}\0{status.st_size}\0{media.late}"
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        path = cache / f"{digest}.srt"
        if not path.exists():
            srt = pysubs2.SSAFile()
            for line in read(media.subtitles, media.late):
                start, end = line.span.start, max(line.span.end, line.span.start + 0.1)
                event = pysubs2.SSAEvent(start=pysubs2.make_time(s=start), end=pysubs2.make_time(s=end), text=line.text)
                srt.append(event)
            cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(srt.to_string("srt"), encoding="utf-8")
            temporary.replace(path)
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
        raise ValueError(f"invalid time {value!r}")
    return total


def _earlier(segments: Sequence[Segment], late: float) -> list[Segment]:
    return [
        Segment(Span(max(0.0, line.span.start - late), line.span.end - late), line.text, line.source, line.language)
        for line in segments
        if line.span.end - late > 0
    ]
