"""What is noted about a video, from each place that notes something, gathered without repetition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.extract import nfo
from clamr_cli.extract.clean import clean, fingerprint, without_urls
from clamr_cli.extract.words import date_in_name, date_of, date_words, split_words
from clamr_cli.languages import short_code
from clamr_cli.types import Segment, Span, VideoFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clamr_cli.types import MediaInfo

_LIMITS: Final[Mapping[str, int]] = {"description": 3_000, "tags": 800, "title": 300, "cast": 500}
_LIMIT: Final = 300
_MOST_CHAPTERS: Final = 500

# Container tags worth finding a video by; the rest is the encoder's.
_TAGS: Final[Mapping[str, str]] = {
    "title": "title",
    "artist": "artist",
    "album_artist": "artist",
    "author": "artist",
    "album": "album",
    "show": "show",
    "episode_id": "episode",
    "network": "network",
    "genre": "genre",
    "keywords": "tags",
    "description": "description",
    "synopsis": "description",
    "comment": "comment",
    "location_name": "location",
}
_CONTAINER_EPOCHS: Final = ("1904-01-01", "1970-01-01")


class Notes:
    """Gathers what is said of one video; the first to say something wins, who repeats it is left out."""

    def __init__(self, duration: float) -> None:
        self._whole = Span(0.0, max(0.0, duration))
        self._segments: list[Segment] = []
        self._seen: set[str] = set()
        self._fields: dict[str, str] = {}

    def add(self, source: str, text: object, span: Span | None = None) -> None:
        """Note a text of a field, unless nothing is left of it without addresses, or it was noted before."""
        if not isinstance(text, str | int | float) or isinstance(text, bool):
            return
        line = clean(without_urls(str(text)[:100_000]), _LIMITS.get(source, _LIMIT))
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
        if isinstance(value, str) and (text := clean(value, _LIMIT)):
            self._fields.setdefault(field, text)

    def set_date(self, iso: str) -> None:
        """Set the date and note it in words."""
        if iso and "date" not in self._fields:
            self._fields["date"] = iso
            self.add("date", date_words(iso))

    def segments(self) -> tuple[Segment, ...]:
        """Everything noted: the whole video's first, then the chapters in time order."""
        return tuple(sorted(self._segments, key=lambda segment: (segment.source == "chapter", segment.span.start)))

    def fields(self) -> VideoFields:
        """The filterable fields."""
        return VideoFields(**self._fields)


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
    for key in ("upload_date", "release_date"):
        notes.set_date(date_of(str(info.get(key) or "")))
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
    found = nfo.read_nfo(text)
    for source, lines in found.items():
        if source == "date":
            notes.set_date(date_of(lines[0]))
        elif source in ("tags", "genre", "cast"):
            notes.add_all(source, lines)
        else:
            for line in lines:
                notes.add(source, line)
    notes.set("title", next(iter(found.get("title", ())), None))
    notes.set("uploader", next(iter(found.get("studio", found.get("director", ()))), None))


def from_container(info: MediaInfo, notes: Notes) -> None:
    """Notes of the container: tags, recording date, chapters, language of the default audio track."""
    for tag, source in _TAGS.items():
        notes.add(source, info.tags.get(tag))
    notes.set("title", info.tags.get("title"))
    for tag in ("artist", "album_artist", "author"):
        notes.set("uploader", info.tags.get(tag))
    for raw in (info.created, info.tags.get("date", "")):
        date = date_of(raw)
        if date not in _CONTAINER_EPOCHS:
            notes.set_date(date)
    _chapters(notes, ((chapter.span.start, chapter.span.end, chapter.title) for chapter in info.chapters))


def from_path(path: Path, root: Path, notes: Notes) -> None:
    """Notes of where the file lies: the words of its name and of its folders below ``root``, a date in its name."""
    notes.set_date(date_in_name(path.stem))
    notes.add("filename", split_words(path.stem))
    try:
        folders = path.parent.relative_to(root).parts
    except ValueError:
        folders = ()
    for folder in reversed(folders):
        notes.add("folder", split_words(folder))
    notes.set("title", path.stem)


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
