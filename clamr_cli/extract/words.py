"""Words and dates out of file names."""

from __future__ import annotations

import calendar
import datetime
import re
from typing import Final

_SEPARATORS: Final = re.compile(r"[\s_\-.+~()\[\]{},;]+")
# holidayVideo -> holiday Video; IMG1234 -> IMG 1234, while v27, mp4 and S01E02 stay what people call them.
_CAMEL: Final = re.compile(r"(?<=[^\W\d_]{2})(?=\d{2})|(?<=\d{2})(?=[^\W\d_]{3})|(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")
_DATE: Final = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_. ]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_FIRST_YEAR: Final = 1895
_NAME_FIRST_YEAR: Final = 1980


def split_words(name: str) -> str:
    """The words of a file or folder name, split at separators, capitals and digits: ``my_holidayVideo-2019``."""
    parts = (_CAMEL.sub(" ", part) for part in _SEPARATORS.split(name))
    return " ".join(part for part in parts if part)


def date_of(text: str) -> str:
    """ISO date of ``20250411``, ``2025-04-11`` or a time stamp that starts so; empty for anything else."""
    found = _DATE.match(text.strip()[:40].split("T")[0])
    return _checked(found, _FIRST_YEAR) if found else ""


def date_in_name(name: str) -> str:
    """ISO date inside a file name such as ``PXL_20250411_101530`` or ``2025-04-11 beach``; empty without one."""
    found = _DATE.search(name)
    return _checked(found, _NAME_FIRST_YEAR) if found else ""


def date_words(iso: str) -> str:
    """``11 April 2025`` of ``2025-04-11``: what people type."""
    date = datetime.date.fromisoformat(iso)
    return f"{date.day} {calendar.month_name[date.month]} {date.year}"


def _checked(found: re.Match[str], first_year: int) -> str:
    try:
        date = datetime.date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return ""
    return date.isoformat() if date.year >= first_year else ""
