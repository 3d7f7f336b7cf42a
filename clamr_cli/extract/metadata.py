"""The metadata of a video: what sidecars, the container, file and folder names say of it, without repetition."""

from __future__ import annotations

import datetime
import html
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from clamr_cli import locations
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
from clamr_cli.extract.clean import clean, decode, fingerprint, refuse_entities, split_words, without_urls
from clamr_cli.extract.sidecars import find_sidecars, recording_part
from clamr_cli.languages import short_code
from clamr_cli.types import MediaInfo, Segment, Span, VideoFields

_LARGEST: Final = 64 << 20  # bytes of JSON that are read
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

# Container tags that hold a date as their owner writes it, the surest first.
_DATE_TAGS: Final = ("creationdate", "date_recorded", "date", "day", "date_released", "year")
_LONGITUDE: Final = re.compile(r"[+-]\d+(?:\.\d+)?([+-]\d{3}(?:\.\d+)?)(?![\d.])")
# A container's key: Apple's and Android's prefix, Matroska's level, name, language.
_KEY: Final = re.compile(
    r"(?:com\.(?:apple\.)?\w+\.|wm/|©)?(?:(?P<level>\w+)/)?(?P<name>.+?)(?:-[a-z]{3}(?:-[a-z]{2})?)?"
)


_LIMITS: Final[Mapping[str, int]] = {"description": 3_000, "tags": 800, "title": 300, "cast": 500}
_LIMIT: Final = 300
_MOST_CHAPTERS: Final = 500
_MOST_LINES: Final = 200

# Elements of Kodi's .nfo files (https://kodi.wiki/view/NFO_files) -> fields, in the order in which they are noted.
_NFO: Final[Mapping[str, str]] = {
    "title": "title", "originaltitle": "title", "showtitle": "show", "set": "show", "set/name": "show",
    "artist": "artist", "album": "album", "tagline": "tagline", "season": "season", "episode": "episode",
    "premiered": "date", "aired": "date", "releasedate": "date", "year": "date", "genre": "genre", "tag": "tags",
    "studio": "studio", "director": "director", "country": "country", "actor/name": "cast", "plot": "description",
    "outline": "description",
}  # fmt: skip

# Names of XMP properties, whatever their namespace -> fields, in the order in which they are noted.
_XMP: Final[Mapping[str, str]] = {
    "title": "title", "Headline": "title", "DateTimeOriginal": "date", "DateCreated": "date", "shotDate": "date",
    "CreateDate": "date", "description": "description", "UserComment": "comment", "logComment": "comment",
    "subject": "tags", "TagsList": "tags", "hierarchicalSubject": "tags", "LastKeywordXMP": "tags",
    "creator": "artist", "PersonInImage": "cast", "PersonDisplayName": "cast", "Location": "location",
    "Sublocation": "location", "City": "location", "State": "location", "Country": "location",
    "CountryName": "location",
}  # fmt: skip
_LISTS: Final = frozenset(("tags", "categories", "genre", "cast", "location"))  # fields whose texts make one line
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

_ROOT: Final = re.compile(r"<(movie|episodedetails|tvshow|musicvideo|video)\b", re.IGNORECASE)
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE: Final = re.compile(r"&(#\d{1,7};|#x[0-9a-fA-F]{1,6};|\w{1,31};)?", re.ASCII)
_BARE_BRACKET: Final = re.compile(r"<(?![/!?A-Za-z_])")
_EDGES: Final = "\ufeff\0 \t\r\n"
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")


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
        try:
            if locations.stat(sidecar).st_size > (_LARGEST if kind.endswith(".json") else _LARGEST_TEXT):
                raise ValueError("too large")
            _READERS[kind](decode(locations.read_bytes(sidecar)), notes)
        except (OSError, ValueError, ArithmeticError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            result = "read in part" if isinstance(error, ReadInPart) else "left out"
            notices.append(f"{sidecar.name} was {result}: {reason or type(error).__name__}")
    try:
        folders = video.parent.relative_to(root).parts
    except ValueError:
        folders = ()
    # Container tags by plain names such as "title"; the plain key goes before keys with prefixes.
    tags: dict[str, list[str]] = {}
    for key, value in sorted(info.tags.items(), key=lambda tag: len(tag[0])):
        match = _KEY.fullmatch(key)
        if match is None or match["level"] in ("track", "song", "chapter", "subtrack", "part", "shot", "scene"):
            continue
        is_show = match["name"] == "title" and match["level"] in ("collection", "season", "volume", "edition")
        tags.setdefault("show" if is_show else match["name"], []).append(value)
    _add_dates(notes, video.stem, folders, info, tags)
    _add_container(notes, video.name, info, tags)
    notes.add("filename", split_words(video.stem))
    for folder in reversed(folders):
        notes.add("folder", split_words(folder))
    part = recording_part(video)
    if part is not None:
        notes.add("part", f"part {part[0]} of {part[1]} of {part[2]}")
        notes.set("title", f"{video.stem} (part {part[0]} of {part[1]})")
    notes.set("title", video.stem)
    return *notes.result(part or (0, 0, "")), notices


def spoken_language(path: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> str:
    """The short code of the language that the video's ``info.json`` names; empty where none does."""
    file = find_sidecars(path, root=root).notes.get(".info.json")
    try:
        if file is None or locations.stat(file).st_size > _LARGEST:
            return ""
        info = json.loads(decode(locations.read_bytes(file)))
    except (OSError, ValueError, RecursionError):
        return ""  # reading the notes tells of it
    return short_code(str(info.get("language") or "")) if isinstance(info, dict) else ""


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
    """Tags and chapters; titles that programs and cameras give every video are no titles, nor is the file's name."""
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


class ReadInPart(ValueError):
    """A file of which only the beginning could be read; what was in it is noted."""


class Notes:
    """Metadata of one video; the first source of a field wins, repetitions are left out."""

    def __init__(self, duration: float) -> None:
        # By a sidecar that a machine wrote: a moment in UTC, or a local date.
        self.taken: datetime.datetime | str = ""
        self._whole = Span(0.0, max(0.0, duration))
        self._segments: list[Segment] = []
        self._fingerprints: set[str] = set()
        self._fields: dict[str, str] = {}
        self._date_position = 0

    def add(self, source: str, text: object, span: Span | None = None) -> None:
        """Note a text of a field, unless nothing is left of it without addresses, or it was noted before."""
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            return
        line = clean(without_urls(_unescaped(str(text)[:100_000])), _LIMITS.get(source, _LIMIT))
        key = fingerprint(line)
        if not key or (span is None and key in self._fingerprints):
            return
        self._fingerprints.add(key)
        self._segments.append(Segment(span or self._whole, line, source))

    def add_all(self, source: str, texts: object) -> None:
        """Note the texts of a field: some fields' as one line, others each for itself."""
        if not isinstance(texts, list | tuple):
            texts = [texts]
        elif source in _LISTS:
            parts = dict.fromkeys(clean(str(text), _LIMIT) for text in texts[:200] if isinstance(text, str | int))
            texts = [", ".join(filter(None, parts))]
        for text in texts:
            self.add(source, text)

    def add_chapters(self, chapters: Iterable[tuple[object, object, object]]) -> None:
        """Note titles of chapters by their starts and ends in seconds."""
        last = self._whole.end
        for number, (start, end, title) in enumerate(chapters):
            if number >= _MOST_CHAPTERS or not isinstance(start, int | float) or not isinstance(title, str):
                continue
            begin = min(max(0.0, float(start)), last)
            finish = float(end) if isinstance(end, int | float) else last
            self.add("chapter", title, Span(begin, min(max(begin, finish), last)))

    def set(self, field: str, value: object) -> None:
        """Set a filterable field, unless it is set."""
        if isinstance(value, str) and (text := clean(_unescaped(value[:100_000]), _LIMIT)):
            self._fields.setdefault(field, text)

    def set_date(self, date: str | datetime.datetime) -> None:
        """Set the date, unless it is set; a date that lacks its day or month is completed by one that agrees.

        It is as the owner has it, or empty; or a moment in UTC, whose day is the owner's or next to it.
        """
        if earlier := self._fields.get("date", ""):
            self._fields["date"] = refined(earlier, date)
        elif date:
            self._date_position = len(self._segments)
            self._fields["date"] = date if isinstance(date, str) else date.date().isoformat()

    def result(self, part: tuple[int, int, str]) -> tuple[tuple[Segment, ...], VideoFields]:
        """Everything noted: the whole video first, with the date in words, then the chapters; and the fields."""
        segments = list(self._segments)
        words = date_words(self._fields["date"]) if "date" in self._fields else ""
        if words and fingerprint(words) not in self._fingerprints:
            segments.insert(self._date_position, Segment(self._whole, words, "date"))
        segments.sort(key=lambda segment: (segment.source == "chapter", segment.span.start))
        return tuple(segments), VideoFields(**self._fields, part=part[0], of=part[1], group=part[2])


def _unescaped(text: str) -> str:
    # Websites leave references of HTML in titles.
    return html.unescape(text) if "&" in text and ";" in text else text


# --- readers: a file's text, and the notes to add to; ValueError or RecursionError where it cannot be read ------------


def _read_info_json(text: str, notes: Notes) -> None:
    """yt-dlp's ``info.json``."""
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
    for key in ("tags", "categories"):
        notes.add_all(key, info.get(key))
    notes.add("description", info.get("description"))
    notes.set("language", short_code(str(info.get("language") or "")))
    chapters = _objects(info.get("chapters"))
    notes.add_chapters((each.get("start_time"), each.get("end_time"), each.get("title")) for each in chapters)


def _read_takeout(text: str, notes: Notes) -> None:
    """The JSON that Google Takeout lays beside photos and videos; other JSON is left alone."""
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


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _read_nfo(content: str, notes: Notes) -> None:
    """A Kodi ``.nfo`` (XML) or a plain text one."""
    fields, problem = _nfo_fields(content)
    for source, texts in fields.items():
        if source == "date":
            for text in texts:
                notes.set_date(stated_date(text))
        else:
            notes.add_all(source, texts)
    notes.set("title", next(iter(fields.get("title", ())), None))
    notes.set("uploader", next(iter(fields.get("studio", fields.get("director", ()))), None))
    if problem:
        raise ReadInPart(problem)


def _read_show_nfo(text: str, notes: Notes) -> None:
    """The ``tvshow.nfo`` of an episode's show: what holds for each episode."""
    fields, problem = _nfo_fields(text)
    if problem:
        raise ReadInPart(problem)
    notes.add_all("show", fields.get("title"))
    for source in ("tags", "genre"):
        notes.add_all(source, fields.get(source))


def _nfo_fields(text: str) -> tuple[dict[str, list[str]], str]:
    """Field -> its texts, in the order that they should be noted; and what is wrong from some place on."""
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        # A text file with drawings around the words: the lines that have words.
        lines = [line.strip() for line in text.splitlines() if len(_LETTERS.findall(line)) > 1]
        return {"description": [" ".join(lines[:_MOST_LINES])]} if lines else {}, ""
    # Kodi allows an address after the document, and several episodes in a row; the first is the file's own.
    refuse_entities(text)
    start = _ROOT.search(text)
    end = re.compile(rf"</{start[1]}\s*>", re.IGNORECASE).search(text, start.end()) if start else None
    root, problem = _parse_xml(text[start.start() : end.end()] if start and end else text)
    fields: dict[str, list[str]] = {}
    for path, field in _NFO.items():
        texts = [content for element in root.findall(path) if (content := (element.text or "").strip())]
        if texts:
            fields.setdefault(field, []).extend(texts[:_MOST_LINES])
    for field in ("season", "episode"):
        if field in fields and fields[field][0].isdecimal():
            fields[field] = [f"{field} {int(fields[field][0])}"]
    if problem and not fields:
        raise ValueError(problem)
    return fields, problem


def _read_xmp(content: str, notes: Notes) -> None:
    """An XMP sidecar, which programs for photos and videos write."""
    root, problem = _parse_xml(content.strip(_EDGES))
    fields: dict[str, list[str]] = {}
    waiting = [(root, str(root.tag))]
    while waiting:
        element, key = waiting.pop()
        for name, value in ((key, element.text), *element.attrib.items()):
            local = name.rpartition("}")[2]
            # A face is named in the region of the picture that shows it.
            source = "cast" if local == "Name" and "/regions/" in name else _XMP.get(local)
            if source and value and value.strip():
                separator = "/" if name.endswith(("}TagsList", "}LastKeywordXMP")) else "|"
                fields.setdefault(source, []).extend(value.split(separator) if source == "tags" else [value])
        # Lists and their entries stand for the property that holds them.
        children = [(child, key if str(child.tag).startswith(_RDF) else str(child.tag)) for child in element]
        waiting.extend(reversed(children))
    notes.set("title", next(iter(fields.get("title", ())), None))
    for source in dict.fromkeys(_XMP.values()):
        if source == "date":
            for text in fields.get("date", ()):
                moment = moment_of(text)
                notes.taken = notes.taken or moment or ""
                notes.set_date("" if moment else stated_date(text))
        else:
            notes.add_all(source, fields.get(source, ()))
    if problem:
        raise ReadInPart(problem) if fields else ValueError(problem)


def _read_sony(text: str, notes: Notes) -> None:
    """The XML that cameras of Sony write beside each clip; other XML is left alone."""
    root, _ = _parse_xml(text.strip(_EDGES))
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


def _parse_xml(text: str) -> tuple[ElementTree.Element, str]:
    """The first element of a document, and what is wrong from some place on, empty for a whole document.

    Characters that XML forbids are left out; bare ``&`` and ``<``, and names of HTML such as ``&nbsp;``, are read as
    people mean them.

    Raises:
        ValueError: nothing can be read, or it declares a document type or entities.
    """
    refuse_entities(text)
    try:
        return ElementTree.fromstring(text), ""  # noqa: S314  (entities are refused)
    except ElementTree.ParseError:
        pass
    before, *sections = _NO_XML.sub("", text).split("<![CDATA[")
    parts = [("", before)]
    for section in sections:
        raw, end, rest = section.partition("]]>")
        parts.append((f"<![CDATA[{raw}{end}", rest))
    repaired = "".join(raw + _BARE_BRACKET.sub("&lt;", _REFERENCE.sub(_repaired, rest)) for raw, rest in parts)
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("start",))
    root: ElementTree.Element | None = None
    problem = ""
    try:
        parser.feed(repaired)
        events: Iterator[Any] = parser.read_events()
        for _, element in events:
            root = element if root is None else root
        parser.close()
    except ElementTree.ParseError as error:
        problem = f"malformed XML ({error})"
    if root is None:
        raise ValueError(problem or "malformed XML")
    return root, problem


def _repaired(match: re.Match[str]) -> str:
    """A reference of XML as it is, one of HTML as its character, and anything else as a bare ``&``."""
    if match[1] in ("amp;", "lt;", "gt;", "quot;", "apos;"):
        return match[0]
    character = html.unescape(match[0]) if match[1] else match[0]
    is_known = character != match[0] and not _NO_XML.search(character)
    return html.escape(character if is_known else match[0])


_READERS: Final[Mapping[str, Callable[[str, Notes], None]]] = {
    ".info.json": _read_info_json,
    ".nfo": _read_nfo,
    "movie.nfo": _read_nfo,
    ".xmp": _read_xmp,
    ".description": lambda text, notes: notes.add("description", text),
    ".supplemental-metadata.json": _read_takeout,
    "m01.xml": _read_sony,
    "tvshow.nfo": _read_show_nfo,
}
