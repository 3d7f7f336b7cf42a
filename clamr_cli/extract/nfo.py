"""``.nfo`` files: Kodi's XML (https://kodi.wiki/view/NFO_files) and plain text ones. And XML as people write it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT: Final = re.compile(r"<(movie|episodedetails|tvshow|musicvideo|video)\b", re.IGNORECASE)
_ENTITY: Final = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE: Final = re.compile(r"&(#\d{1,7};|#x[0-9a-fA-F]{1,6};|\w{1,31};)?", re.ASCII)
_BARE_BRACKET: Final = re.compile(r"<(?![/!?A-Za-z_])")
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")
_MOST_LINES: Final = 200

# Element -> the field it belongs to, in the order in which they are noted.
_ELEMENTS: Final[Mapping[str, str]] = {
    "title": "title",
    "originaltitle": "title",
    "showtitle": "show",
    "set": "show",
    "set/name": "show",
    "artist": "artist",
    "album": "album",
    "tagline": "tagline",
    "season": "season",
    "episode": "episode",
    "premiered": "date",
    "aired": "date",
    "releasedate": "date",
    "year": "date",
    "genre": "genre",
    "tag": "tags",
    "studio": "studio",
    "director": "director",
    "country": "country",
    "actor/name": "cast",
    "plot": "description",
    "outline": "description",
}


class ReadInPart(ValueError):
    """A file of which only the beginning could be read; ``read`` is what was in it."""

    def __init__(self, reason: str, read: dict[str, list[str]]) -> None:
        super().__init__(reason)
        self.read = read


def read_nfo(text: str) -> dict[str, list[str]]:
    """Field -> its texts, in the order that they should be noted.

    Raises:
        ReadInPart: XML that is malformed from some place on.
        ValueError: XML in which nothing can be read, or that declares entities (which could be made to expand without
            end).
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return _plain(text)
    if _ENTITY.search(text):
        raise ValueError("it declares a document type or entities")
    # Kodi allows an address after the document, and several episodes in a row; the first is the file's own.
    root, problem = parse_xml(_first_root(text))
    fields: dict[str, list[str]] = {}
    for path, field in _ELEMENTS.items():
        texts = [content for element in root.findall(path) if (content := (element.text or "").strip())]
        if texts:
            fields.setdefault(field, []).extend(texts[:_MOST_LINES])
    for field in ("season", "episode"):
        if field in fields and (fields[field][0].isdecimal()):
            fields[field] = [f"{field} {int(fields[field][0])}"]
    if problem:
        raise ReadInPart(problem, fields) if fields else ValueError(problem)
    return fields


def parse_xml(text: str) -> tuple[ElementTree.Element, str]:
    """The first element of a document, and what is wrong from some place on, empty for a whole document.

    Characters that XML forbids are left out; bare ``&`` and ``<``, and names of HTML such as ``&nbsp;``, are read as
    people mean them.

    Raises:
        ValueError: nothing can be read, or it declares a document type or entities.
    """
    if _ENTITY.search(text):
        raise ValueError("it declares a document type or entities")
    try:
        return ElementTree.fromstring(text), ""  # noqa: S314  (entities are refused above)
    except ElementTree.ParseError:
        pass
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("start",))
    root: ElementTree.Element | None = None
    problem = ""
    try:
        parser.feed(_repaired(text))
        events: Iterator[Any] = parser.read_events()
        for _, element in events:
            root = element if root is None else root
        parser.close()
    except ElementTree.ParseError as error:
        problem = f"malformed XML ({error})"
    if root is None:
        raise ValueError(problem or "malformed XML")
    return root, problem


def _repaired(text: str) -> str:
    before, *sections = _NO_XML.sub("", text).split("<![CDATA[")
    parts = [
        ("", before),
        *(("<![CDATA[" + raw + end, rest) for raw, end, rest in (s.partition("]]>") for s in sections)),
    ]
    return "".join(raw + _BARE_BRACKET.sub("&lt;", _REFERENCE.sub(_referenced, rest)) for raw, rest in parts)


def _referenced(match: re.Match[str]) -> str:
    """A reference of XML as it is, one of HTML as its character, and anything else as a bare ``&``."""
    if match[1] in ("amp;", "lt;", "gt;", "quot;", "apos;"):
        return match[0]
    character = html.unescape(match[0]) if match[1] else match[0]
    known = character != match[0] and not _NO_XML.search(character)
    return html.escape(character if known else match[0])


def _first_root(text: str) -> str:
    """The first element of a kind that is known, with all that is in it; the whole text where there is none."""
    start = _ROOT.search(text)
    end = re.compile(rf"</{start[1]}\s*>", re.IGNORECASE).search(text, start.end()) if start else None
    return text[start.start() : end.end()] if start and end else text


def _plain(text: str) -> dict[str, list[str]]:
    """A text file with drawings around the words: the lines that have words."""
    lines = [line.strip() for line in text.splitlines() if len(_LETTERS.findall(line)) > 1]
    return {"description": [" ".join(lines[:_MOST_LINES])]} if lines else {}
