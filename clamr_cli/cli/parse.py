"""Option values as people write them, turned into the values that searches take."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from datetime import date
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError
from clamr_cli.types import SHOWN_MODALITIES, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DATE: Final = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)
_HEAVIEST: Final = 1000
"""A modality that counts so much more decides alone; far larger weights would leave the range of scores."""

_KNOWN: Final = ", ".join(SHOWN_MODALITIES)


def names_file(video: str) -> bool:
    """Whether a name that no file has can only be meant as a path: ids have neither separators nor dots."""
    return os.sep in video or "." in video


def modality(name: str) -> Modality:
    """A modality by its name.

    Raises:
        UsageError: there is none of that name.
    """
    for known in SHOWN_MODALITIES:
        if name.strip().lower() == known.value:
            return known
    raise UsageError(f"there is no modality {name!r}", f"use {_KNOWN}")


def modalities(names: Sequence[str]) -> tuple[Modality, ...]:
    """Modalities by name, each once; a name may be several with commas between.

    Raises:
        UsageError: an unknown one.
    """
    return tuple(dict.fromkeys(modality(part) for name in names for part in name.split(",")))


def query(text: str, example: str) -> str:
    """What to look for, without white space around it.

    Args:
        text: as it was typed.
        example: how it could be, for the message.

    Raises:
        UsageError: nothing, or nothing but punctuation, which says nothing of what is wanted.
    """
    found = text.strip()
    if not found:
        raise UsageError("the query is empty", f"say what to look for: {example}")
    # Letters, marks, digits and symbols, emoji among them.
    if not any(unicodedata.category(character)[0] in "LMNS" for character in found):
        raise UsageError(f"the query {found!r} has no words", f"say what to look for: {example}")
    return found


def floor(number: float | None) -> float | None:
    """A score below which hits are weak.

    Raises:
        UsageError: no number.
    """
    if number is not None and math.isnan(number):
        raise UsageError(f"invalid --floor: {number}", "give a number, such as 0.35")
    return number


def weights(texts: Sequence[str]) -> Mapping[Modality, float]:
    """Weights such as ``speech=2``; several may be given with commas between. Zero leaves a modality out.

    Raises:
        UsageError: no number, a negative one, or an unknown modality.
    """
    found: dict[Modality, float] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _HEAVIEST:
            raise UsageError(f"invalid --weight {part}: {number!r}", f"write it like speech=2, from 0 to {_HEAVIEST}")
        found[modality(name)] = value
    return found


def day(text: str | None) -> str | None:
    """A date, month or year as YYYY-MM-DD, YYYY-MM or YYYY; it must be one of the calendar.

    Raises:
        UsageError: no date.
    """
    if text is None:
        return None
    match = _DATE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        year, month, number = (int(part) if part else None for part in match.groups())
        found = date(year or 0, month or 1, number or 1).isoformat()
    except ValueError:
        raise UsageError(f"invalid date: {text!r}", "write it like 2024-05-17, 2024-05 or 2024") from None
    return found[:4] if month is None else found[:7] if number is None else found
