"""CSV files as people save them: headers in any case, quoted or not, with columns that nobody asked for."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def names(header: str) -> set[str]:
    """The names of columns in a header, lower-case; none where it is no line of CSV."""
    try:
        return {_name(name) for name in next(csv.reader([header], skipinitialspace=True), [])}
    except csv.Error:
        return set()


def rows(text: str, source: str, columns: Sequence[str]) -> list[list[str]]:
    """The values of some columns of a CSV file; the first of them numbers the rows and must differ.

    Args:
        text: of the file, its header first.
        source: its name, for messages.
        columns: as :func:`names` has them.

    Raises:
        UsageError: a column is missing, or a row is not whole.
    """
    made: list[list[str]] = []
    seen: set[str] = set()
    for number, record in enumerate(_records(text, source, columns), 1):
        row = [(record[column] or "").strip() for column in columns]
        if what := _trouble(record, row, seen):
            hint = f"each row has its own {', '.join(columns)}; a text with commas is quoted"
            raise UsageError(f"{source}, row {number}: {what}", hint)
        seen.add(row[0])
        made.append(row)
    return made


def _records(text: str, source: str, columns: Sequence[str]) -> list[dict[Any, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
        reader.fieldnames = [_name(name) for name in reader.fieldnames or ()]
        if missing := [column for column in columns if column not in reader.fieldnames]:
            raise UsageError(f"{source} has no column {', '.join(missing)}", "give another --format")
        return list(reader)
    except csv.Error as error:
        raise UsageError(f"{source} is no CSV: {error}", "give another --format") from error


def _trouble(record: Mapping[Any, object], row: Sequence[str], seen: Collection[str]) -> str:
    """What is wrong with a row, if anything."""
    # The reader keeps what is over under None: most often a text with a comma that was not quoted.
    if None in record:
        return "it has more fields than the header"
    if not all(row):
        return "a field is empty"
    return f"{row[0]!r} stands twice" if row[0] in seen else ""


def _name(name: str) -> str:
    return name.strip().lower()
