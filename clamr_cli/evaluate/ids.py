"""The ids of videos: names that collections have for them, and how they are written in TREC files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final
from urllib.parse import quote, unquote

from clamr_cli.queries import LabelledQuery
from clamr_cli.types import FileRecord

_BRACKETED_ID: Final = re.compile(r"\[([^\[\]]+)\]$")
"""The id that download tools put at the end of a stem: ``Title [PPQVve-Jeb4].mp4``."""

_UNSAFE: Final = re.compile(r"[\s%\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Names that collections have for videos of the index.

    Attributes:
        videos: video-id by name, for the names that mean one video.
        unknown: names that mean none, or several, in the order they were met.
    """

    videos: Mapping[str, str]
    unknown: tuple[str, ...]


def resolve(names: Iterable[str], files: Sequence[FileRecord]) -> Resolved:
    """Find the videos that names mean.

    A name is tried as a video-id, then as the end of a path (whole parts), then as one without its suffix, then as the
    id in brackets at the end of a stem. If several videos fit at one of these steps, the name means none. Names that
    are left are tried once more in a normal form: without ``./``, and with letters and their accents as one.
    """
    unique = list(dict.fromkeys(names))
    videos: dict[str, str] = {}
    # Systems differ in whether they take letters with accents apart.
    for form in (str, lambda name: unicodedata.normalize("NFC", PurePath(name).as_posix())):
        if not (left := [name for name in unique if name not in videos]):
            break
        steps = _lookup_tables(files, form)
        for name in left:
            matches = next((matches for step in steps if (matches := step.get(form(name)))), set())
            if len(matches) == 1:
                videos[name] = next(iter(matches))
    return Resolved(videos, tuple(name for name in unique if name not in videos))


def _lookup_tables(files: Sequence[FileRecord], form: Callable[[str], str]) -> tuple[dict[str, set[str]], ...]:
    """Video-ids by id, by end of a path, by end of a path without suffix, and by bracketed id."""
    by_id, by_path, by_stem, by_bracket = (defaultdict[str, set[str]](set) for _ in range(4))
    for file in files:
        by_id[file.video_id].add(file.video_id)
        path = PurePath(form(file.path))
        for end in _ends(path):
            by_path[end].add(file.video_id)
        for end in _ends(path.with_suffix("")):
            by_stem[end].add(file.video_id)
        if bracketed := _BRACKETED_ID.search(path.stem):
            by_bracket[bracketed[1]].add(file.video_id)
    return by_id, by_path, by_stem, by_bracket


def _ends(path: PurePath) -> Iterator[str]:
    """``c``, ``b/c``, ``a/b/c`` and, of an absolute path, itself."""
    parts = path.parts
    yield from ("/".join(parts[start:]) for start in range(1 if path.root else 0, len(parts)))
    yield path.as_posix()


def renamed(
    queries: Sequence[LabelledQuery], documents: Mapping[str, str], *, judged_only: bool
) -> list[LabelledQuery]:
    """Queries with one name for each video that answers, also if the collection has several for it.

    Args:
        queries: as they were read.
        documents: the name to use, by each name of a video of the index.
        judged_only: leave out answers that the index does not hold, and queries of which no answer is left; without
            it they stay, and nothing can find them.
    """
    result = []
    for query in queries:
        relevant: dict[str, int] = {}
        for name, grade in query.relevant.items():
            if name in documents or not judged_only:
                document = documents.get(name, name)
                relevant[document] = max(grade, relevant.get(document, 0))
        if relevant or not query.relevant:
            result.append(replace(query, relevant=relevant))
    return result


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names, with commas."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def escape(name: str) -> str:
    """An id as one column: blanks, invisible characters and bytes that are not UTF-8 are percent-encoded.

    >>> escape("my trip.mp4")
    'my%20trip.mp4'
    """

    def encoded(match: re.Match[str]) -> str:
        character = match[0]
        # A surrogate escape stands for one byte of a file name.
        is_byte = "\udc80" <= character <= "\udcff"
        return quote(os.fsencode(character) if is_byte else character.encode("utf-8", "surrogatepass"), safe="")

    return _UNSAFE.sub(encoded, name)


def unescape(name: str) -> str:
    """The id that :func:`escape` was given.

    >>> unescape("my%20trip.mp4")
    'my trip.mp4'
    """
    return unquote(name, errors="surrogateescape")
