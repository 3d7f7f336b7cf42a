"""``.nfo`` files: Kodi's XML (https://kodi.wiki/view/NFO_files) and plain text ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT: Final = re.compile(r"<(movie|episodedetails|tvshow|musicvideo|video)\b", re.IGNORECASE)
_ENTITY: Final = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")
_MOST_LINES: Final = 200

# Element -> the field it belongs to, in the order in which they are noted.
_ELEMENTS: Final[Mapping[str, str]] = {
    "title": "title",
    "originaltitle": "title",
    "showtitle": "show",
    "set/name": "show",
    "artist": "artist",
    "album": "album",
    "tagline": "tagline",
    "premiered": "date",
    "aired": "date",
    "year": "year",
    "genre": "genre",
    "tag": "tags",
    "studio": "studio",
    "director": "director",
    "country": "country",
    "actor/name": "cast",
    "plot": "description",
    "outline": "description",
}


def read_nfo(text: str) -> dict[str, list[str]]:
    """Field -> its texts, in the order that they should be noted.

    Raises:
        ValueError: XML that is malformed, or that declares entities (which could be made to expand without end).
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return _plain(text)
    if _ENTITY.search(text):
        raise ValueError("it declares a document type or entities")
    # Kodi allows an address after the document, and several episodes in a row; the first is the file's own.
    try:
        root = ElementTree.fromstring(_first_root(text))  # noqa: S314  (entities are refused above)
    except ElementTree.ParseError as error:
        raise ValueError(f"malformed XML ({error})") from error
    fields: dict[str, list[str]] = {}
    for path, field in _ELEMENTS.items():
        texts = [content for element in root.findall(path) if (content := (element.text or "").strip())]
        if texts:
            fields.setdefault(field, []).extend(texts[:_MOST_LINES])
    return fields


def _first_root(text: str) -> str:
    """The first element of a kind that is known, with all that is in it; the whole text where there is none."""
    start = _ROOT.search(text)
    end = re.compile(rf"</{start[1]}\s*>", re.IGNORECASE).search(text, start.end()) if start else None
    return text[start.start() : end.end()] if start and end else text


def _plain(text: str) -> dict[str, list[str]]:
    """A text file with drawings around the words: the lines that have words."""
    lines = [line.strip() for line in text.splitlines() if len(_LETTERS.findall(line)) > 1]
    return {"description": [" ".join(lines[:_MOST_LINES])]} if lines else {}
