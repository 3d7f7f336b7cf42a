"""Filters: the videos and moments that may answer, by what the index knows of a video, and by quoted phrases.

A quoted phrase must stand in the text of one modality of a moment, across its lines. Case, white space, normal forms
and the shapes of apostrophes, quotation marks and dashes make no difference, see :func:`clamr_cli.text.plain`.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from clamr_cli.store import Store, VideoFacts
from clamr_cli.store.tables import readable
from clamr_cli.text import plain
from clamr_cli.types import TEXT_MODALITIES, FileRecord, Filters, MomentRecord

_QUOTED: Final = re.compile(r'"([^"]*)"|“([^“”]*)”|„([^„“”]*)[“”]|”([^“”]*)”|«([^«»]*)»|»([^«»]*)«|＂([^＂]*)＂')


def select(store: Store, filters: Filters) -> dict[str, VideoFacts]:
    """The videos that pass all filters, by id.

    A video without a date, language or known duration passes no filter on it.

    Raises:
        UsageError: a filter names a video the index does not have.
    """
    videos = {facts.video_id: facts for facts in store.catalog() if _passes(facts, filters)}
    allowed = set(videos)
    if filters.videos:
        allowed &= {store.resolve(prefix) for prefix in filters.videos}
    if filters.path:
        allowed &= {file.video_id for file in files_matching(store.files(), filters.path)}
    return {video_id: facts for video_id, facts in videos.items() if video_id in allowed}


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
    # The language of a tag without its region: en of en-US.
    languages = [re.split(r"[-_]", tag.strip().casefold())[0] for tag in (facts.language, filters.language or "")]
    return filters.language is None or languages[0] == languages[1]


def files_matching(files: Iterable[FileRecord], pattern: str) -> list[FileRecord]:
    """The files whose path matches a glob: as a whole, in its last parts, or by a folder above it.

    ``*`` matches across folders. ``/home/me/trips``, ``trips``, ``*.mp4`` and ``trips/*.mp4`` all find
    ``/home/me/trips/a.mp4``. Brackets are those of a name, as in ``[2019] Trip``, where one has them; otherwise they
    stand for one of the characters in them. Names are compared as people read them, see :func:`clamr_cli.text.plain`,
    but in their case.
    """
    files = list(files)
    for glob in dict.fromkeys((pattern.replace("[", "[[]"), pattern)):
        if matching := [file for file in files if _path_matches(file.path, glob)]:
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


def split_phrases(query: str) -> tuple[str, tuple[str, ...]]:
    """A query without its quotation marks, and the phrases that were in them; a mark without its other half stays."""
    phrases = [plain(match[match.lastindex or 0]) for match in _QUOTED.finditer(query)]
    text = _QUOTED.sub(lambda match: match[match.lastindex or 0], query)
    return text.strip(), tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def moments_with(store: Store, phrases: Sequence[str], videos: Collection[str]) -> frozenset[str]:
    """The moments of the given videos that hold every phrase."""
    # All texts of a moment in one are looked through first: that costs no reading of whole records.
    wanted = [plain(readable(phrase)) for phrase in phrases]
    texts = ((moment_id, plain(text)) for moment_id, text in store.texts())
    near = {moment_id for moment_id, text in texts if all(phrase in text for phrase in wanted)}
    owners = sorted({moment_id.partition("#")[0] for moment_id in near} & set(videos))
    moments = store.moments(owners) if owners else []
    return frozenset(one.moment_id for one in moments if one.moment_id in near and holds(one, phrases))


def holds(moment: MomentRecord, phrases: Sequence[str]) -> bool:
    """Whether each phrase stands in the text of one modality of a moment."""
    texts = [plain(" ".join(part.text for part in moment.segments(modality))) for modality in TEXT_MODALITIES]
    return all(any(phrase in text for text in texts) for phrase in phrases)
