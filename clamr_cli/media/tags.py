"""Container tags, which anyone may have written: made safe to store and show, and read for date and place."""

from __future__ import annotations

import datetime
import itertools
import re
import unicodedata
from typing import TYPE_CHECKING, Final

from clamr_cli.dates import is_recording_date

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TAGS: Final = 100
LONGEST_TAG: Final = 5_000

_LOCATION: Final = re.compile(r"[+-]\d{1,3}(\.\d+)?[+-]\d{1,3}(\.\d+)?([+-]\d+(\.\d+)?)?(CRS\w+)?/?")
_LOCATION_TAGS: Final = ("com.apple.quicktime.location.iso6709", "location", "location-eng")
_CREATED_TAGS: Final = ("com.apple.quicktime.creationdate", "date_recorded", "creation_time", "date")
_NO_DATE_BEFORE: Final = 1971
"""A creation time of 1904 or 1970 is a clock that was never set."""


def clean_text(text: str) -> str:
    """One line of at most :data:`LONGEST_TAG` characters, without control characters or marks that turn direction."""
    unwanted = {"Cc", "Cf", "Cs", "Co", "Cn"}
    # Joiners are part of words in many scripts and of emoji.
    kept = (
        c if c in "\u200c\u200d" or unicodedata.category(c) not in unwanted else " " for c in text[: 2 * LONGEST_TAG]
    )
    return " ".join("".join(kept).split())[:LONGEST_TAG]


def clean_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Container tags with lower-case keys and clean, capped values; the empty ones left out."""
    cleaned = ((clean_text(key).lower()[:100], clean_text(value)) for key, value in metadata.items())
    return dict(itertools.islice(((key, value) for key, value in cleaned if key and value), MOST_TAGS))


def created(tags: Mapping[str, str]) -> str:
    """The recording date as ISO 8601, with its time where the container has one; empty where none can be trusted."""
    for key in _CREATED_TAGS:
        try:
            moment = datetime.datetime.fromisoformat(tags.get(key, ""))
        except ValueError:
            continue
        if moment.year >= _NO_DATE_BEFORE and is_recording_date(moment.date().isoformat()):
            whole_day = len(tags[key]) <= len("YYYY-MM-DD")
            return moment.date().isoformat() if whole_day else moment.isoformat()
    return ""


def location(tags: Mapping[str, str]) -> str:
    """The recording place as an ISO 6709 string such as ``+52.5200+013.4050/``, or an empty string."""
    return next((tags[key] for key in _LOCATION_TAGS if _LOCATION.fullmatch(tags.get(key, ""))), "")
