"""What file names say: words, and which part of a recording a file is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEPARATORS: Final = re.compile(r"[\s_\-.+~()\[\]{},;]+")
# holidayVideo -> holiday Video; IMG1234 -> IMG 1234, while v27, mp4 and S01E02 stay what people call them.
_CAMEL: Final = re.compile(r"(?<=[^\W\d_]{2})(?=\d{2})|(?<=\d{2})(?=[^\W\d_]{3})|(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")

_GOPRO: Final = re.compile(r"(g[hxs])(\d\d)(\d{4})")
_OLD_GOPRO: Final = re.compile(r"(?:gopr|gp(\d\d))(\d{4})")
_DVD: Final = re.compile(r"(vts_\d\d)_([1-9])")


def split_words(name: str) -> str:
    """The words of a file or folder name, split at separators, capitals and digits: ``my_holidayVideo-2019``."""
    parts = (_CAMEL.sub(" ", part) for part in _SEPARATORS.split(name))
    return " ".join(part for part in parts if part)


def part_of(name: str, siblings: Iterable[str]) -> tuple[int, int, str] | None:
    """Which part of which recording a file is: its number, how many there are, the recording's name.

    Cameras cut long recordings into files of a few gigabytes: ``GH010123.MP4``, ``GH020123.MP4``; older ones into
    ``GOPR0123.MP4``, ``GP010123.MP4``; and DVDs are cut into ``VTS_01_1.VOB``, ``VTS_01_2.VOB``.

    Args:
        name: of the file.
        siblings: the names in its folder, its own among them.
    """
    own = _chapter(name)
    if own is None:
        return None
    numbers = sorted({other[1] for other in map(_chapter, siblings) if other is not None and other[0] == own[0]})
    if len(numbers) < 2 or own[1] not in numbers:
        return None
    return numbers.index(own[1]) + 1, len(numbers), own[0][0].upper()


def _chapter(name: str) -> tuple[tuple[str, str], int] | None:
    """The recording (its name, the file's ending) and the number of a part."""
    stem, ending = os.path.splitext(name.lower())
    if ending in (".mp4", ".360"):
        if match := _GOPRO.fullmatch(stem):
            return (match[1] + match[3], ending), int(match[2])
        if match := _OLD_GOPRO.fullmatch(stem):
            return (f"gopr{match[2]}", ending), int(match[1] or 0)
    if ending == ".vob" and (match := _DVD.fullmatch(stem)):
        return (match[1], ending), int(match[2])
    return None
