"""Which videos may answer: filters decided from what the index knows of each, never in a query language."""

from __future__ import annotations

import fnmatch
import math
import os
import re
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError
from clamr_cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clamr_cli.store import Store, VideoFacts
    from clamr_cli.types import FileRecord, Filters

_DATE: Final = re.compile(r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?")


def select(store: Store, filters: Filters) -> dict[str, VideoFacts]:
    """The videos that pass all filters, by id.

    A video without a date, language or known duration passes no filter on it.

    Raises:
        UsageError: a filter cannot be understood, or names a video the index does not have.
    """
    check(filters)
    found = {facts.video_id: facts for facts in store.catalog() if _passes(facts, filters)}
    if filters.videos:
        named = {store.resolve(prefix) for prefix in filters.videos}
        found = {video_id: facts for video_id, facts in found.items() if video_id in named}
    if filters.path:
        holders = {file.video_id for file in files_matching(store.files(), filters.path)}
        found = {video_id: facts for video_id, facts in found.items() if video_id in holders}
    return found


def check(filters: Filters) -> None:
    """Refuse filters that cannot be understood.

    Raises:
        UsageError: which one, and what it should be.
    """
    for name, date in (("since", filters.since), ("until", filters.until)):
        if date is not None and not _DATE.fullmatch(date):
            raise UsageError(f"invalid --{name}: {date!r}", "write it like 2024-05-31, 2024-05 or 2024")
    for name, seconds in (("longer", filters.longer), ("shorter", filters.shorter)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"invalid --{name}: {seconds:g}", "write it like 90, 1:30 or 1h30m")


def _passes(facts: VideoFacts, filters: Filters) -> bool:
    # Dates may lack their day or month. Only as much is compared as both have, so that --until 2024 takes in all of
    # 2024, and --since 2024-05 what is dated 2024.
    date = facts.date
    if filters.since is not None and not (date and date[: len(filters.since)] >= filters.since[: len(date)]):
        return False
    if filters.until is not None and not (date and date[: len(filters.until)] <= filters.until[: len(date)]):
        return False
    if filters.longer is not None and not facts.duration >= filters.longer:
        return False
    if filters.shorter is not None and not 0 < facts.duration <= filters.shorter:
        return False
    return filters.language is None or _primary(facts.language) == _primary(filters.language)


def _primary(language: str) -> str:
    """The language of a tag without its region: ``en`` of ``en-US``."""
    return re.split(r"[-_]", language.strip().casefold(), maxsplit=1)[0]


def files_matching(files: Iterable[FileRecord], pattern: str) -> list[FileRecord]:
    """The files whose path matches a glob: as a whole, in its last parts, or by a folder above it.

    ``*`` matches across folders. ``/home/me/trips``, ``trips``, ``*.mp4`` and ``trips/*.mp4`` all find
    ``/home/me/trips/a.mp4``. Brackets are those of a name, as in ``[2019] Trip``, where one has them; otherwise they
    stand for one of the characters in them. Names are compared as people read them, see :func:`clamr_cli.text.plain`,
    but in their case.
    """
    known = list(files)
    for glob in dict.fromkeys((pattern.replace("[", "[[]"), pattern)):
        if matching := [file for file in known if _path_matches(file.path, glob)]:
            return matching
    return []


def _path_matches(path: str, pattern: str) -> bool:
    for name, glob in ((path, pattern), (plain(path, case=True), plain(pattern, case=True))):
        for whole in (glob,) if os.path.isabs(glob) else (glob, f"*/{glob}"):
            if fnmatch.fnmatchcase(name, whole) or fnmatch.fnmatchcase(name, f"{whole.rstrip('/')}/*"):
                return True
    return False


def file_named(files: Sequence[FileRecord], name: str) -> FileRecord | None:
    """The file of a path: the one with exactly this path, else the only one whose path reads the same."""
    absolute = os.path.abspath(name)
    same = [file for file in files if file.path in (name, absolute)]
    same = same or [file for file in files if plain(file.path, case=True) == plain(absolute, case=True)]
    return same[0] if len(same) == 1 or (same and same[0].path in (name, absolute)) else None
