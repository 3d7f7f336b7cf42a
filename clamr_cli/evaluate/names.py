"""Which video of the index a collection means: by video-id, path, file name or stem."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from clamr_cli.queries import LabelledQuery
    from clamr_cli.types import FileRecord

_TAIL: Final = re.compile(r"\[([^\[\]]+)\]$")
"""The id that download tools put at the end of a stem: ``Title [PPQVve-Jeb4].mp4``."""


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
    id in brackets at the end of a stem. Where several videos fit at one of these steps, the name means none. Names that
    are left are tried once more in one way of writing: without ``./``, and with letters and their accents as one.
    """
    wanted = list(dict.fromkeys(names))
    videos = _found(wanted, files, str)
    if left := [name for name in wanted if name not in videos]:
        videos |= _found(left, files, _written)
    return Resolved(videos, tuple(name for name in wanted if name not in videos))


def renamed(
    queries: Sequence[LabelledQuery], documents: Mapping[str, str], *, judged_only: bool
) -> list[LabelledQuery]:
    """Queries with one name for each video that answers, where the collection has several for it.

    Args:
        queries: as they were read.
        documents: the name to use, by each name of a video of the index.
        judged_only: leave out answers that the index does not hold, and queries of which no answer is left; without
            it they stay, and nothing can find them.
    """
    made = []
    for query in queries:
        relevant: dict[str, int] = {}
        for name, grade in query.relevant.items():
            document = documents.get(name)
            if document is None and judged_only:
                continue
            key = name if document is None else document
            relevant[key] = max(grade, relevant.get(key, 0))
        if relevant or not query.relevant:
            made.append(replace(query, relevant=relevant))
    return made


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first few of some names."""
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def _found(names: Iterable[str], files: Sequence[FileRecord], written: Callable[[str], str]) -> dict[str, str]:
    """The videos of those names that mean one."""
    steps = _steps(files, written)
    fitting = {name: next((found for step in steps if (found := step.get(written(name)))), set()) for name in names}
    return {name: next(iter(videos)) for name, videos in fitting.items() if len(videos) == 1}


def _written(name: str) -> str:
    """A name in one way of writing: systems differ in how they take letters with accents apart."""
    return unicodedata.normalize("NFC", PurePath(name).as_posix())


def _steps(files: Sequence[FileRecord], written: Callable[[str], str]) -> tuple[dict[str, set[str]], ...]:
    identities, paths, stems, tails = (defaultdict[str, set[str]](set) for _ in range(4))
    for file in files:
        identities[file.video_id].add(file.video_id)
        path = PurePath(written(file.path))
        for end in _ends(path):
            paths[end].add(file.video_id)
        for end in _ends(path.with_suffix("")):
            stems[end].add(file.video_id)
        if tail := _TAIL.search(path.stem):
            tails[tail[1]].add(file.video_id)
    return identities, paths, stems, tails


def _ends(path: PurePath) -> Iterator[str]:
    """``c``, ``b/c``, ``a/b/c`` and, of a whole path, itself."""
    parts = path.parts
    yield from ("/".join(parts[start:]) for start in range(1 if path.root else 0, len(parts)))
    yield path.as_posix()
