"""Parsers of what people write: the query of a search, modalities, weights, dates, languages, places in videos."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from clamr_cli import locations
from clamr_cli.errors import UsageError
from clamr_cli.text import parse_time
from clamr_cli.types import SHOWN_MODALITIES, Filters, Modality, Scoring, SearchOptions, Span

_HEAVIEST: Final = 1000
"""A modality that counts so much more decides alone; far larger weights would leave the range of scores."""


def query(words: str, example: str) -> str:
    """A query as it was typed, without white space around it."""
    text = words.strip()
    if not text:
        raise UsageError("the query is empty", f"say what to look for: {example}")
    # Letters, marks, digits and symbols, emoji among them.
    if not any(unicodedata.category(character)[0] in "LMNS" for character in text):
        raise UsageError(f"the query {text!r} has no words", f"say what to look for: {example}")
    return text


def split_place(place: str) -> tuple[str, Span | None]:
    """A video and the stretch of it that ``VIDEO@TIME`` or ``VIDEO@TIME-TIME`` names; a second is an empty span.

    The span is None where no time is named. A file that is called so is a file.

    Raises:
        UsageError: the time cannot be read, or the stretch ends before it begins.
    """
    video, at, when = place.rpartition("@")
    is_object = locations.is_remote(place) and re.search(r"\.[a-z]\w*$", when, re.IGNORECASE) is not None
    if not at or is_object or os.path.lexists(place):
        return place, None
    first, _, last = when.partition("-")
    start = parse_time(first)
    end = parse_time(last) if last else start
    if end < start:
        raise UsageError(f"{when} ends before it begins", "write it like 12:03-12:09")
    return video, Span(start, end)


def modality(name: str) -> Modality:
    """A modality by its name."""
    if name.strip().lower() not in SHOWN_MODALITIES:
        raise UsageError(f"invalid modality: {name!r}", f"use {', '.join(SHOWN_MODALITIES)}")
    return Modality(name.strip().lower())


def modalities(names: Sequence[str] | None) -> tuple[Modality, ...]:
    """Modalities by name, each once; a name may be several with commas between."""
    return tuple(dict.fromkeys(modality(part) for name in names or () for part in name.split(",")))


def weights(texts: Sequence[str] | None) -> Mapping[Modality, float]:
    """Weights such as ``speech=2``; several may be given with commas between. Zero leaves a modality out."""
    result: dict[Modality, float] = {}
    for part in (part for text in texts or () for part in text.split(",")):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _HEAVIEST:
            raise UsageError(f"invalid --weight {part}: {number!r}", f"write it like speech=2, from 0 to {_HEAVIEST}")
        result[modality(name)] = value
    return result


def since(text: str | None) -> str | None:
    """The first day of a date or period; None for none."""
    return None if text is None else _days("--since", text)[0]


def until(text: str | None) -> str | None:
    """The last day of a date or period; None for none."""
    return None if text is None else _days("--until", text)[1]


def _days(option: str, text: str) -> tuple[str, str]:
    """The first and the last day of a date or period as people name it."""
    from clamr_cli.dates import period

    try:
        return period(text, date.today())
    except ValueError as error:
        reason = f" ({error})" if re.search(r"\d{4}-\d\d-\d\d", str(error)) else ""
        raise UsageError(
            f"invalid {option}: {text!r}{reason}",
            'write it like 2024-05-17, 2024-05, "May 2024", yesterday, 2w or "last summer"',
        ) from None


def language(text: str) -> str:
    """The code of a language by its code or name, empty for no text; for ``typer.Option(parser=language)``."""
    from clamr_cli.languages import language_named

    if not text.strip():
        return ""
    if code := language_named(text):
        return code
    raise UsageError(f"unknown language: {text!r}", "give a code such as en, or a name such as English")


def search_options(
    *,
    scoring: Scoring,
    limit: int,
    scan_limit: int,
    also: Sequence[str] | None = None,
    without: Sequence[str] | None = None,
    modality: Sequence[str] | None = None,
    weight: Sequence[str] | None = None,
    since_day: str | None = None,
    until_day: str | None = None,
    longer: float | None = None,
    shorter: float | None = None,
    path: str | None = None,
    tags: Sequence[str] | None = None,
    speakers: Sequence[str] | None = None,
    language_code: str | None = None,
    offset: int = 0,
    moments: bool = False,
    floor: float | None = None,
    exact: bool = False,
    hybrid: bool = False,
) -> SearchOptions:
    """The options of a search from the words that name them.

    Raises:
        UsageError: a word that cannot be understood, or options that leave nothing to search in.
    """
    return SearchOptions(
        also=tuple(query(text, '--and "red car"') for text in also or ()),
        without=tuple(query(text, '--not "red car"') for text in without or ()),
        modalities=modalities(modality),
        weights=weights(weight),
        scoring=scoring,
        limit=limit,
        offset=offset,
        moments=moments,
        floor=floor,
        exact=exact,
        hybrid=hybrid,
        scan_limit=scan_limit,
        filters=Filters(
            since=since(since_day),
            until=until(until_day),
            longer=longer,
            shorter=shorter,
            path=path,
            tags=tuple(tags or ()),
            speakers=tuple(speakers or ()),
            language=language_code or None,
        ),
    )
