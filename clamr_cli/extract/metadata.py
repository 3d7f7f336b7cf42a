"""The metadata of a video: what sidecars, the container, file and folder names say of it, without repetition."""

from __future__ import annotations

import datetime
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from clamr_cli.dates import (
    date_in_folders,
    date_in_name,
    is_recording_date,
    local_date,
    moment_in_name,
    moment_of,
    stated_date,
    year_in_name,
)
from clamr_cli.extract.clean import decode, split_words
from clamr_cli.extract.notes import READERS, Notes, ReadInPart
from clamr_cli.extract.sidecars import find_sidecars, recording_part
from clamr_cli.languages import short_code
from clamr_cli.types import MediaInfo, Segment, VideoFields

_LARGEST: Final = 64 << 20
_LARGEST_TEXT: Final = 1 << 20

# Container tags worth finding a video by, without the prefixes and languages of keys; the rest is the encoder's.
_TAGS: Final[Mapping[str, str]] = {
    "title": "title", "displayname": "title", "subtitle": "title", "artist": "artist", "album_artist": "artist",
    "albumartist": "artist", "author": "artist", "performer": "artist", "director": "director", "actor": "cast",
    "lead_performer": "cast", "album": "album", "show": "show", "collection": "show", "episode_id": "episode",
    "network": "network", "genre": "genre", "category": "genre", "grouping": "genre", "subject": "tags",
    "keywords": "tags", "keyword": "tags", "ikey": "tags", "summary": "description", "description": "description",
    "isbj": "description", "subtitledescription": "description", "synopsis": "description", "comment": "comment",
    "information": "comment", "location_name": "location", "location.name": "location",
}  # fmt: skip
_NO_TITLE: Final = re.compile(
    r"(?:core media|mainconcept|title|movie|video|audio|sound|media)(?: (?:media )?handler| video| audio)?"
    r"|handbrake|(?:my )?(?:new )?(?:video )?(?:movie|project|sequence|recording|clip|composition|timeline|output)"
    r"|untitled(?: project)?|no title|unknown|unbenannt|ohne titel|sans titre|sin titulo|senza titolo|без названия"
    r"|(?:dvd|bd)[ _]?(?:video|rom)?|iso media file.*|(?:lavf|x26[45])\b.*"
    r"|(?:gopro|dji|insta360|sony|canon|nikon|panasonic|garmin|imovie|capcut|inshot|vlc)(?:[ .](?:avc|hevc))?"
)
_CAMERAS_NAME: Final = re.compile(r"(?:img|vid|video|mvi|dsc[fn]?|mov|pxl|gopr|g[hxlps]|dji|clip)[ _-]?[ed]?\d[\d _-]*")

_DATE_TAGS: Final = ("creationdate", "date_recorded", "date", "day", "date_released", "year")
"""Container tags that hold a date as their owner writes it, the surest first."""

_LONGITUDE: Final = re.compile(r"[+-]\d+(?:\.\d+)?([+-]\d{3}(?:\.\d+)?)(?![\d.])")
_KEY: Final = re.compile(
    r"(?:com\.(?:apple\.)?\w+\.|wm/|©)?(?:(?P<level>\w+)/)?(?P<name>.+?)(?:-[a-z]{3}(?:-[a-z]{2})?)?"
)
"""A container's key: Apple's and Android's prefix, Matroska's level, name, language."""


def read_metadata(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    info: MediaInfo,
    *,
    without: Collection[str] = (),
    progress: Callable[[str], None] | None = None,
) -> tuple[tuple[Segment, ...], VideoFields, list[str]]:
    """The metadata modality of a video: one segment per field, and the fields that can be filtered by.

    From the yt-dlp ``info.json``, the ``.nfo``, the XMP file, the ``.description``, Google Takeout's JSON, the
    container's tags, chapters and recording date, and the words of the file's name and folders below ``root``. What one
    source repeats of another is left out. What the owner says goes before what a machine noted: the date of a sidecar,
    name or folder before a header's.

    Args:
        path: the video.
        root: the folder that was asked for.
        info: of the video.
        without: paths of sidecars that are left out.
        progress: called with the path of each sidecar before it is read.

    Returns:
        segments (whole video, chapters their own span), fields, and a line for each sidecar that could not be read.
    """
    notes, notices, video = Notes(info.duration), [], Path(path)
    for kind, sidecar in find_sidecars(path, root=root).notes.items():
        if os.fspath(sidecar) in without:
            continue
        if progress is not None:
            progress(os.fspath(sidecar))
        is_json = kind in ("info_json", "takeout")
        try:
            if sidecar.stat().st_size > (_LARGEST if is_json else _LARGEST_TEXT):
                raise ValueError("too large")
            READERS[kind](decode(sidecar.read_bytes()), notes)
        except (OSError, ValueError, ArithmeticError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            result = "read in part" if isinstance(error, ReadInPart) else "left out"
            notices.append(f"{sidecar.name} was {result}: {reason or type(error).__name__}")
    try:
        folders = video.parent.relative_to(root).parts
    except ValueError:
        folders = ()
    tags = _plain_tags(info.tags)
    _add_dates(notes, video.stem, folders, info, tags)
    _add_container(notes, video.name, info, tags)
    notes.add("filename", split_words(video.stem))
    for folder in reversed(folders):
        notes.add("folder", split_words(folder))
    part = recording_part(video)
    if part is not None:
        number, of, group = part
        notes.add("part", f"part {number} of {of} of {group}")
        notes.set("title", f"{video.stem} (part {number} of {of})")
    notes.set("title", video.stem)
    return notes.segments(), notes.fields(part), notices


def spoken_language(path: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> str:
    """The short code of the language that the video's ``info.json`` names; empty where none does."""
    file = find_sidecars(path, root=root).notes.get("info_json")
    try:
        if file is None or file.stat().st_size > _LARGEST:
            return ""
        info = json.loads(decode(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return ""  # reading the notes tells of it
    return short_code(str(info.get("language") or "")) if isinstance(info, dict) else ""


def _plain_tags(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """Container tags by plain names such as ``title``, where the plain key goes before keys with prefixes."""
    plain: dict[str, list[str]] = {}
    for key, value in sorted(tags.items(), key=lambda tag: len(tag[0])):
        match = _KEY.fullmatch(key)
        if match is None or match["level"] in ("track", "song", "chapter", "subtrack", "part", "shot", "scene"):
            continue
        is_show = match["name"] == "title" and match["level"] in ("collection", "season", "volume", "edition")
        plain.setdefault("show" if is_show else match["name"], []).append(value)
    return plain


def _add_dates(
    notes: Notes, stem: str, folders: tuple[str, ...], info: MediaInfo, tags: Mapping[str, list[str]]
) -> None:
    """The date, where no sidecar states it: the owner's (name, folders) before those of cameras and programs.

    Phones write local time into names and UTC into headers: of one moment, the local date is the owner's.
    """
    notes.set_date(date_in_name(stem))
    notes.set_date(date_in_folders(folders))
    values = [value for tag in _DATE_TAGS for value in tags.get(tag, ())]
    dates = [date for value in values if is_recording_date(date := stated_date(value))]
    taken = notes.taken
    notes.set_date(local_date(taken, dates) if isinstance(taken, datetime.datetime) else taken)
    for date in dates:
        notes.set_date(date)
    day = stated_date(info.created)
    header = (moment_of(info.created) or day) if is_recording_date(day) else ""
    if (year := year_in_name(stem)) and (not header or year <= day):
        notes.set_date(year)
    for moment in (header, moment_in_name(stem) or ""):
        if isinstance(moment, datetime.datetime) and "com.android.version" in info.tags:
            longitude = _LONGITUDE.match(info.location)
            # A phone's time at the place where it was, to about an hour: as far from UTC as the sun is.
            moment += datetime.timedelta(hours=round(float(longitude[1]) / 15) if longitude else 0)
        notes.set_date(moment)


def _add_container(notes: Notes, name: str, info: MediaInfo, tags: Mapping[str, list[str]]) -> None:
    """Tags and chapters.

    Titles that programs and cameras give every video are no titles, nor is the file's name with its ending.
    """
    for tag, source in _TAGS.items():
        for value in tags.get(tag, ()):
            if source == "title":
                title = unicodedata.normalize("NFC", value).strip().casefold()
                unnumbered = re.sub(r"[\s_]*\(?\d{0,3}\)?$", "", title)
                if _NO_TITLE.fullmatch(unnumbered) or _CAMERAS_NAME.fullmatch(title):
                    continue
                if title == unicodedata.normalize("NFC", name).casefold():
                    continue
                notes.set("title", value)
            notes.add(source, value)
    for tag, source in (("season_number", "season"), ("episode_sort", "episode")):
        for number in tags.get(tag, ()):
            if number.isdecimal() and int(number):
                notes.add(source, f"{source} {int(number)}")
    for tag in ("artist", "album_artist", "author"):
        notes.set("uploader", next(iter(tags.get(tag, ())), None))
    notes.add_chapters((chapter.span.start, chapter.span.end, chapter.title) for chapter in info.chapters)
