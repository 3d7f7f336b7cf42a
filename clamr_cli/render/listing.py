"""Lists of things: the same columns as a Rich table, as tab-separated lines and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from clamr_cli.render.console import ByWidth, text
from clamr_cli.render.records import Cell, json_line, tsv_line
from clamr_cli.text import size
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

STATE_STYLES = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "failed": "red",
    "missing": "yellow",
    "offline": "yellow",
    "indexed": "",
}


def as_text(value: Cell) -> str:
    """A cell as people read it."""
    return "" if value is None else str(value)


def as_time(value: Cell) -> str:
    """Seconds as ``m:ss``."""
    return format_time(float(value)) if value is not None else ""


def as_size(value: Cell) -> str:
    """A number of bytes as ``1.5 MB``."""
    return size(int(value)) if value is not None else ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name for programs, and how people see its values.

    ``wide`` columns share the room that is left and fold; the others stay whole. A column that names another one in
    ``below`` is drawn beneath that one's values, where it takes no width of its own.
    """

    name: str
    show: Callable[[Cell], str] = as_text
    justify: Literal["left", "right"] = "left"
    wide: bool = False
    style: str = ""
    below: str = ""


Row = tuple[Cell, ...]


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Table:
    """A Rich table; every cell is escaped, and states are coloured."""
    drawn = empty_table()
    upright = [column for column in columns if not column.below]
    for column in upright:
        drawn.add_column(
            column.name.replace("_", " "),
            justify=column.justify,
            style=column.style,
            no_wrap=not column.wide,
            overflow="fold",
            ratio=1 if column.wide else None,
        )
    for row in rows:
        cells = {column.name: column.show(value) for column, value in zip(columns, row, strict=True)}
        drawn.add_row(*(_stacked(column, columns, cells) for column in upright))
    return drawn


def drawn(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> RenderableType:
    """The table, and for narrow screens its rows as paragraphs where it has more columns than a name and a value."""
    wide = table(columns, rows)
    return wide if len(wide.columns) < 3 else ByWidth(wide, _paragraphs(columns, rows))


def _paragraphs(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Text:
    """Each row with its short cells in one line, and the long ones and those below them in lines of their own."""
    found = []
    for row in rows:
        cells = {column.name: column.show(value) for column, value in zip(columns, row, strict=True)}
        short = [
            text(cells[column.name], STATE_STYLES.get(cells[column.name], ""))
            for column in columns
            if not (column.wide or column.below) and cells[column.name]
        ]
        long = [_stacked(column, columns, cells) for column in columns if column.wide]
        found.append(Text("\n").join([Text("  ").join(short), *(one for one in long if one)]))
    return Text("\n").join(found)


def _stacked(column: Column, columns: Sequence[Column], cells: Mapping[str, str]) -> Text:
    """A cell with those below it; empty ones take no line."""
    own = cells[column.name]
    lines = [text(own, STATE_STYLES.get(own, ""))] if own else []
    lines += [text(cells[other.name], "dim") for other in columns if other.below == column.name and cells[other.name]]
    return Text("\n").join(lines)


def empty_table() -> Table:
    """A table without lines, as wide as it needs to be."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)


def tsv(rows: Iterable[Sequence[Cell]]) -> Iterator[bytes]:
    """Tab-separated lines without a header."""
    return (tsv_line(row) for row in rows)


def json_lines(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Iterator[bytes]:
    """A JSON object per row, keyed by the columns' names."""
    return (json_line({column.name: value for column, value in zip(columns, row, strict=True)}) for row in rows)
