"""Small JSON files beside an index: written whole or not at all, and never worth an error."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from clamr_cli.files import write_atomically
from clamr_cli.types import SearchOptions

if TYPE_CHECKING:
    from pathlib import Path

LAST_SEARCH_NAME = "last-search.json"


@dataclass(frozen=True, slots=True)
class LastSearch:
    """What was searched last: the query, its options, and the name of the encoder where it was given."""

    query: str
    options: SearchOptions
    encoder: str = ""


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The content of a JSON file, None where it is absent, unreadable or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file at once. A disk that is full or read-only leaves the old one: such files are a courtesy."""
    with suppress(OSError):
        write_atomically(path, json.dumps(value).encode("ascii"), sync=False)


def write_last_search(path: Path, search: LastSearch) -> None:
    """Remember a search. Best effort."""
    write_json(path, msgspec.to_builtins(search))


def read_last_search(path: Path) -> LastSearch | None:
    """The remembered search, None where there is none (or one that another version wrote)."""
    try:
        return msgspec.convert(read_json(path), LastSearch)
    except msgspec.ValidationError:
        return None
