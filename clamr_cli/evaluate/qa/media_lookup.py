"""Looks up the videos and subtitles of a collection: in folders, or in the index.

A collection keeps its subtitles in a folder of their own, in formats of its own, sometimes on the clock of a longer
video. They are written once more, in SubRip, and go before whatever else is known of what is said in the video.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pysubs2

from clamr_cli.errors import MediaError, UsageError
from clamr_cli.evaluate.ids import resolve
from clamr_cli.evaluate.qa.questions import LabelledQuestion
from clamr_cli.extract.subtitles import from_events, read_subtitle_file
from clamr_cli.files import write_atomically
from clamr_cli.types import FileRecord, Segment, Span

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


def find_media(
    questions: Sequence[LabelledQuestion],
    files: Sequence[FileRecord],
    videos: Iterable[Path],
    subtitles: Iterable[Path],
) -> tuple[dict[str, Media], list[str]]:
    """Find the videos of questions: as paths, in the folders and those that collections have inside, in the index.

    Returns:
        The media by their name in the collection, and the names without any.
    """
    video_folders = [*_with_inner(videos, _VIDEO_FOLDERS), Path()]
    subtitle_folders = _with_inner(subtitles, _SUBTITLE_FOLDERS)
    first: dict[str, LabelledQuestion] = {}
    for question in questions:
        first.setdefault(question.video, question)
    paths = {name: _first_file(video_folders, [name + suffix for suffix in _SUFFIXES]) for name in first}
    indexed = resolve([name for name, path in paths.items() if path is None], files).videos
    media: dict[str, Media] = {}
    for name, question in first.items():
        video = str(paths[name] or indexed.get(name, ""))
        if video:
            own = _first_file(subtitle_folders, [question.subtitles]) if question.subtitles else None
            media[name] = Media(video, own, question.late)
    return media, [name for name in first if name not in media]


def _with_inner(folders: Iterable[Path], names: Sequence[str]) -> list[Path]:
    return [inner for folder in folders for name in names if (inner := folder / name).is_dir()]


def _first_file(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    for path in (folder / name for folder in folders for name in names):
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            if path.is_file():
                return path
    return None


def cached_subtitles(media: Media, cache: Path) -> str:
    """The path of the collection's subtitles of a video, in SubRip and on its clock; empty without any.

    An empty file says that nobody speaks.

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
            for line in read_subtitles(media.subtitles, media.late):
                start, end = line.span.start, max(line.span.end, line.span.start + 0.1)
                event = pysubs2.SSAEvent(start=pysubs2.make_time(s=start), end=pysubs2.make_time(s=end), text=line.text)
                srt.append(event)
            write_atomically(path, srt.to_string("srt").encode(), sync=False)
    except OSError as error:
        raise UsageError(f"cannot write {cache} ({error.strerror})", "choose another cache folder") from error
    return os.fspath(path)


def read_subtitles(path: Path, late: float = 0.0) -> list[Segment]:
    """The lines of a subtitle file: SubRip and its kin, or LongVideoBench's JSON, ``late`` seconds earlier.

    LongVideoBench has lists of ``{"start": "00:00:01.000", "end": ..., "line": ...}`` and of ``{"timestamp": [1.0,
    2.0], "text": ...}``, in which an end may be null: then the line lasts until the next one.

    Raises:
        MediaError: it cannot be read.
    """
    if path.suffix.lower() == ".json":
        try:
            cues = [_cue(value) for value in json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MediaError(f"the subtitles {path.name} cannot be read", "replace the file, or remove it") from error
        following = [start for start, _, _ in cues[1:]] + [start + 2.0 for start, _, _ in cues[-1:]]
        events = [
            (start, then if end is None else end, text)
            for (start, end, text), then in zip(cues, following, strict=True)
        ]
        segments = from_events(events)
    else:
        segments = read_subtitle_file(path)
    return [
        Segment(Span(max(0.0, line.span.start - late), line.span.end - late), line.text, line.source, line.language)
        for line in segments
        if line.span.end - late > 0
    ]


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
