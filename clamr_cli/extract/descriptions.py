"""What is noted about a video, from each place that notes something, gathered without repetition."""

from __future__ import annotations

import datetime
import html
import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.dates import (
    date_in_folders,
    date_in_name,
    date_words,
    is_recording_date,
    local_date,
    moment_in_name,
    moment_of,
    refined,
    stated_date,
    year_in_name,
)
from clamr_cli.extract import nfo
from clamr_cli.extract.clean import clean, fingerprint, without_urls
from clamr_cli.extract.words import split_words
from clamr_cli.languages import short_code
from clamr_cli.types import Segment, Span, VideoFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clamr_cli.types import MediaInfo

_LIMITS: Final[Mapping[str, int]] = {"description": 3_000, "tags": 800, "title": 300, "cast": 500}
_LIMIT: Final = 300
_MOST_CHAPTERS: Final = 500

# Container tags worth finding a video by, without the prefixes and languages of keys; the rest is the encoder's.
_TAGS: Final[Mapping[str, str]] = {
    "title": "title",
    "displayname": "title",
    "subtitle": "title",
    "artist": "artist",
    "album_artist": "artist",
    "albumartist": "artist",
    "author": "artist",
    "performer": "artist",
    "director": "director",
    "actor": "cast",
    "lead_performer": "cast",
    "album": "album",
    "show": "show",
    "collection": "show",
    "episode_id": "episode",
    "network": "network",
    "genre": "genre",
    "category": "genre",
    "grouping": "genre",
    "subject": "tags",
    "keywords": "tags",
    "keyword": "tags",
    "ikey": "tags",
    "summary": "description",
    "description": "description",
    "isbj": "description",
    "subtitledescription": "description",
    "synopsis": "description",
    "comment": "comment",
    "information": "comment",
    "location_name": "location",
    "location.name": "location",
}
_NO_TITLE: Final = re.compile(
    r"(?:core media|mainconcept|title|movie|video|audio|sound|media)(?: (?:media )?handler| video| audio)?"
    r"|handbrake|(?:my )?(?:new )?(?:video )?(?:movie|project|sequence|recording|clip|composition|timeline|output)"
    r"|untitled(?: project)?|no title|unknown|unbenannt|ohne titel|sans titre|sin titulo|senza titolo|без названия"
    r"|(?:dvd|bd)[ _]?(?:video|rom)?|iso media file.*|(?:lavf|x26[45])\b.*"
    r"|(?:gopro|dji|insta360|sony|canon|nikon|panasonic|garmin|imovie|capcut|inshot|vlc)(?:[ .](?:avc|hevc))?"
)
_CAMERAS_NAME: Final = re.compile(r"(?:img|vid|video|mvi|dsc[fn]?|mov|pxl|gopr|g[hxlps]|dji|clip)[ _-]?[ed]?\d[\d _-]*")

# Names of properties, whatever their namespace, in the order in which they are noted.
_XMP: Final[Mapping[str, str]] = {
    "title": "title",
    "Headline": "title",
    "DateTimeOriginal": "date",
    "DateCreated": "date",
    "shotDate": "date",
    "CreateDate": "date",
    "description": "description",
    "UserComment": "comment",
    "logComment": "comment",
    "subject": "tags",
    "TagsList": "tags",
    "hierarchicalSubject": "tags",
    "LastKeywordXMP": "tags",
    "creator": "artist",
    "PersonInImage": "cast",
    "PersonDisplayName": "cast",
    "Location": "location",
    "Sublocation": "location",
    "City": "location",
    "State": "location",
    "Country": "location",
    "CountryName": "location",
}
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DATE_TAGS: Final = ("creationdate", "date_recorded", "date", "day", "date_released", "year")
"""Container tags that hold a date as their owner writes it, the surest first."""

_LONGITUDE: Final = re.compile(r"[+-]\d+(?:\.\d+)?([+-]\d{3}(?:\.\d+)?)(?![\d.])")
_KEY: Final = re.compile(
    r"(?:com\.(?:apple\.)?\w+\.|wm/|©)?(?:(?P<level>\w+)/)?(?P<name>.+?)(?:-[a-z]{3}(?:-[a-z]{2})?)?"
)
"""A container's key: Apple's and Android's prefix, Matroska's level, name, language."""


class Notes:
    """Gathers what is said of one video; the first to say something wins, who repeats it is left out."""

    def __init__(self, duration: float) -> None:
        self._whole = Span(0.0, max(0.0, duration))
        self._segments: list[Segment] = []
        self._seen: set[str] = set()
        self._fields: dict[str, str] = {}
        self._date_place = 0
        self.part: tuple[int, int, str] | None = None
        """Note the number of this part, the number of parts and the name of the recording."""

        self.taken: datetime.datetime | str = ""
        """When the video was taken, of a sidecar that a machine wrote: a moment in UTC, or a local date."""

    def add(self, source: str, text: object, span: Span | None = None) -> None:
        """Note a text of a field, unless nothing is left of it without addresses, or it was noted before."""
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            return
        line = clean(without_urls(_meant(str(text)[:100_000])), _LIMITS.get(source, _LIMIT))
        key = fingerprint(line)
        if not key or (span is None and key in self._seen):
            return
        self._seen.add(key)
        self._segments.append(Segment(span or self._whole, line, source))

    def add_all(self, source: str, texts: object) -> None:
        """Note a list of short texts as one line."""
        if isinstance(texts, list | tuple):
            parts = dict.fromkeys(clean(str(text), _LIMIT) for text in texts[:200] if isinstance(text, str | int))
            self.add(source, ", ".join(part for part in parts if part))
        else:
            self.add(source, texts)

    def set(self, field: str, value: object) -> None:
        """Set a filterable field, unless it is set."""
        if isinstance(value, str) and (text := clean(_meant(value[:100_000]), _LIMIT)):
            self._fields.setdefault(field, text)

    def set_date(self, date: str | datetime.datetime) -> None:
        """Set the date, unless it is set; a date that lacks its day or month is completed by one that agrees.

        Args:
            date: as the owner has it, empty where there is none; or a moment in UTC, whose day is the owner's or next
                to it.
        """
        known = self._fields.get("date", "")
        if not known and date:
            self._date_place = len(self._segments)
            self._fields["date"] = date if isinstance(date, str) else date.date().isoformat()
        elif known:
            self._fields["date"] = refined(known, date)

    def segments(self) -> tuple[Segment, ...]:
        """Everything noted: the whole video's first, with the date in words, then the chapters in time order."""
        segments = list(self._segments)
        words = date_words(self._fields["date"]) if "date" in self._fields else ""
        if words and fingerprint(words) not in self._seen:
            segments.insert(self._date_place, Segment(self._whole, words, "date"))
        return tuple(sorted(segments, key=lambda segment: (segment.source == "chapter", segment.span.start)))

    def fields(self) -> VideoFields:
        """The filterable fields."""
        part, of, group = self.part or (0, 0, "")
        return VideoFields(**self._fields, part=part, of=of, group=group)


def from_info_json(text: str, notes: Notes) -> None:
    """Notes of yt-dlp's ``info.json``.

    Raises:
        ValueError: no JSON object.
        RecursionError: nested without end.
    """
    info = json.loads(text)
    if not isinstance(info, dict):
        raise ValueError("no JSON object")
    for key in ("title", "fulltitle", "alt_title", "track"):
        notes.set("title", info.get(key))
        notes.add("title", info.get(key))
    for key in ("uploader", "channel", "creator", "artist"):
        notes.set("uploader", info.get(key))
        notes.add("uploader", info.get(key))
    for key in ("series", "season", "episode", "album", "genre", "location"):
        notes.add(key, info.get(key))
    for key in ("upload_date", "release_date", "release_year"):
        notes.set_date(stated_date(str(info.get(key) or "")))
    notes.add_all("tags", info.get("tags"))
    notes.add_all("categories", info.get("categories"))
    notes.add("description", info.get("description"))
    notes.set("language", short_code(str(info.get("language") or "")))
    chapters = info.get("chapters")
    _chapters(notes, ((c.get("start_time"), c.get("end_time"), c.get("title")) for c in _objects(chapters)))


def from_nfo(text: str, notes: Notes) -> None:
    """Notes of a Kodi ``.nfo`` (XML) or of a plain text one.

    Raises:
        ValueError: XML that is malformed or declares entities.
    """
    try:
        found = nfo.read_nfo(text)
    except nfo.ReadInPart as part:
        _from_nfo(part.read, notes)
        raise
    _from_nfo(found, notes)


def from_show_nfo(text: str, notes: Notes) -> None:
    """Notes of the ``tvshow.nfo`` of an episode's show: what holds for each episode.

    Raises:
        ValueError: as :func:`from_nfo`.
    """
    found = nfo.read_nfo(text)
    for line in found.get("title", ()):
        notes.add("show", line)
    for source in ("tags", "genre"):
        notes.add_all(source, found.get(source))


def _from_nfo(found: Mapping[str, Sequence[str]], notes: Notes) -> None:
    for source, lines in found.items():
        if source == "date":
            for line in lines:
                notes.set_date(stated_date(line))
        elif source in ("tags", "genre", "cast"):
            notes.add_all(source, lines)
        else:
            for line in lines:
                notes.add(source, line)
    notes.set("title", next(iter(found.get("title", ())), None))
    notes.set("uploader", next(iter(found.get("studio", found.get("director", ()))), None))


def from_xmp(text: str, notes: Notes) -> None:
    """Notes of an XMP sidecar, which programs for photos and videos write.

    Raises:
        ValueError: as :func:`from_nfo`.
    """
    root, problem = nfo.parse_xml(text.strip("\ufeff\0 \t\r\n"))
    fields: dict[str, list[str]] = {}
    waiting = [(root, str(root.tag))]
    while waiting:
        element, key = waiting.pop()
        for name, value in ((key, element.text), *element.attrib.items()):
            if (source := _xmp_field(name)) and value and value.strip():
                separator = "/" if name.endswith(("}TagsList", "}LastKeywordXMP")) else "|"
                fields.setdefault(source, []).extend(value.split(separator) if source == "tags" else [value])
        # Lists and their entries stand for the property that holds them.
        children = ((child, key if str(child.tag).startswith(_RDF) else str(child.tag)) for child in element)
        waiting.extend(reversed(list(children)))
    notes.set("title", next(iter(fields.get("title", ())), None))
    for field in dict.fromkeys(_XMP.values()):
        if field == "date":
            for line in fields.get(field, ()):
                moment = moment_of(line)
                notes.taken = notes.taken or moment or ""
                notes.set_date("" if moment else stated_date(line))
        elif field in ("tags", "cast", "location"):
            notes.add_all(field, fields.get(field))
        else:
            for line in fields.get(field, ()):
                notes.add(field, line)
    if problem:
        raise nfo.ReadInPart(problem, fields) if fields else ValueError(problem)


def _xmp_field(key: str) -> str | None:
    name = key.rpartition("}")[2]
    # A face is named in the region of the picture that shows it.
    return "cast" if name == "Name" and "/regions/" in key else _XMP.get(name)


def from_takeout(text: str, notes: Notes) -> None:
    """Notes of the JSON that Google Takeout lays beside photos and videos; other JSON is left alone.

    Raises:
        ValueError, RecursionError: as :func:`from_info_json`.
    """
    info = json.loads(text)
    if not isinstance(info, dict) or not isinstance(info.get("photoTakenTime"), dict):
        return
    notes.add("filename", split_words(Path(str(info.get("title") or "")).stem))
    notes.add("description", info.get("description"))
    notes.add_all("cast", [person.get("name") for person in _objects(info.get("people"))])
    taken = str(info["photoTakenTime"].get("timestamp") or "")
    if re.fullmatch(r"\d{1,11}", taken):
        moment = datetime.datetime.fromtimestamp(int(taken), datetime.UTC)
        if is_recording_date(moment.date().isoformat()):
            notes.taken = notes.taken or moment


def from_sony(text: str, notes: Notes) -> None:
    """Notes of the XML that cameras of Sony write beside each clip; other XML is left alone.

    Raises:
        ValueError: as :func:`from_nfo`.
    """
    root, _ = nfo.parse_xml(text.strip("\ufeff\0 \t\r\n"))
    if not str(root.tag).endswith("NonRealTimeMeta"):
        return
    for element in root.iter():
        name = str(element.tag).rpartition("}")[2]
        if name == "CreationDate":
            stamp = element.get("value", "")
            day = stated_date(stamp)
            notes.taken = notes.taken or moment_of(stamp) or (day if is_recording_date(day) else "")
        elif name in ("Title", "Description"):
            notes.add(name.lower(), element.text)


def from_container(info: MediaInfo, name: str, notes: Notes) -> None:
    """Notes of the container: tags, chapters.

    Titles that programs and cameras give every video are no titles, nor is the file's name with its ending.
    """
    tags = _plain_tags(info.tags)
    for tag, source in _TAGS.items():
        for value in tags.get(tag, ()):
            if source != "title":
                notes.add(source, value)
            elif _is_title(value, name):
                notes.add(source, value)
                notes.set(source, value)
    for tag, name in (("season_number", "season"), ("episode_sort", "episode")):
        for number in tags.get(tag, ()):
            if number.isdecimal() and int(number):
                notes.add(name, f"{name} {int(number)}")
    for tag in ("artist", "album_artist", "author"):
        notes.set("uploader", next(iter(tags.get(tag, ())), None))
    _chapters(notes, ((chapter.span.start, chapter.span.end, chapter.title) for chapter in info.chapters))


def from_dates(path: Path, root: Path, info: MediaInfo, notes: Notes) -> None:
    """The date, where no sidecar states it: the owner's (name, folders) before those of cameras and programs.

    Phones write local time into names and UTC into headers: of one moment, the local date is the owner's.
    """
    notes.set_date(date_in_name(path.stem))
    notes.set_date(date_in_folders(_folders(path, root)))
    tags = _plain_tags(info.tags)
    values = [value for tag in _DATE_TAGS for value in tags.get(tag, ())]
    written = [date for value in values if is_recording_date(date := stated_date(value))]
    notes.set_date(local_date(notes.taken, written) if isinstance(notes.taken, datetime.datetime) else notes.taken)
    for date in written:
        notes.set_date(date)
    day = stated_date(info.created)
    header = (moment_of(info.created) or day) if is_recording_date(day) else ""
    if (year := year_in_name(path.stem)) and (not header or year <= day):
        notes.set_date(year)
    for moment in (header, moment_in_name(path.stem) or ""):
        if isinstance(moment, datetime.datetime) and "com.android.version" in info.tags:
            moment = _local(moment, info.location)
        notes.set_date(moment)


def from_path(path: Path, root: Path, notes: Notes) -> None:
    """Notes of where the file lies: the words of its name and of its folders below ``root``."""
    notes.add("filename", split_words(path.stem))
    for folder in reversed(_folders(path, root)):
        notes.add("folder", split_words(folder))
    if notes.part is not None:
        number, of, group = notes.part
        notes.add("part", f"part {number} of {of} of {group}")
        notes.set("title", f"{path.stem} (part {number} of {of})")
    notes.set("title", path.stem)


def _meant(text: str) -> str:
    """Text with the characters that references of HTML stand for, as websites leave them in titles: ``&amp;``."""
    return html.unescape(text) if "&" in text and ";" in text else text


def _is_title(text: str, name: str) -> bool:
    title = unicodedata.normalize("NFC", text).strip().casefold()
    unnumbered = re.sub(r"[\s_]*\(?\d{0,3}\)?$", "", title)
    return not (
        _NO_TITLE.fullmatch(unnumbered)
        or _CAMERAS_NAME.fullmatch(title)
        or title == unicodedata.normalize("NFC", name).casefold()
    )


def _local(moment: datetime.datetime, location: str) -> datetime.datetime:
    """A phone's time at the place where it was, to about an hour: as far from UTC as the sun is."""
    match = _LONGITUDE.match(location)
    return moment + datetime.timedelta(hours=round(float(match[1]) / 15)) if match else moment


def _plain_tags(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """Container tags by plain names such as ``title``, where the plain key goes before keys with prefixes."""
    plain: dict[str, list[str]] = {}
    for key, value in sorted(tags.items(), key=lambda tag: len(tag[0])):
        match = _KEY.fullmatch(key)
        if match is None or match["level"] in ("track", "song", "chapter", "subtrack", "part", "shot", "scene"):
            continue
        above = match["name"] == "title" and match["level"] in ("collection", "season", "volume", "edition")
        plain.setdefault("show" if above else match["name"], []).append(value)
    return plain


def _folders(path: Path, root: Path) -> tuple[str, ...]:
    try:
        return path.parent.relative_to(root).parts
    except ValueError:
        return ()


def _chapters(notes: Notes, chapters: Iterable[tuple[Any, Any, Any]]) -> None:
    whole = notes._whole
    for number, (start, end, title) in enumerate(chapters):
        if number >= _MOST_CHAPTERS or not isinstance(start, int | float) or not isinstance(title, str):
            continue
        begin = min(max(0.0, float(start)), whole.end)
        finish = float(end) if isinstance(end, int | float) else whole.end
        notes.add("chapter", title, Span(begin, min(max(begin, finish), whole.end)))


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
