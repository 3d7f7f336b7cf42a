"""Output: one list of columns per command gives its table, TSV, CSV, JSON lines; all text is escaped here."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Final

from clamr_cli.records import Column, fields, json_line, record
from clamr_cli.text import command_line, csv_text, escape_field, escape_terminal, file_link

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

STYLES: Final[Mapping[str, str]] = {
    "video": "magenta", "speech": "cyan", "ocr": "yellow", "metadata": "green", "audio": "blue",
    "ok": "green", "warn": "yellow", "fail": "bold red", "failed": "red", "missing": "yellow", "offline": "yellow",
}  # fmt: skip
"""Colours of words that have a meaning of their own wherever they fill a cell."""

_PIPE_WIDTH: Final = 80
"""Columns of a table that goes to no terminal, where COLUMNS does not say otherwise."""

_NARROW: Final = 60
"""Columns of a screen below which the cells of a table with several columns stand below each other."""


class Form(StrEnum):
    """The forms of output."""

    TABLE = "table"
    TSV = "tsv"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"


def emit(
    columns: Sequence[Column],
    rows: Iterable[Any],
    form: Form,
    *,
    extra: Mapping[str, object] | None = None,
    row_style: Callable[[Any], str] | None = None,
    header: bool = True,
) -> None:
    """Print a list of things; ``extra`` are further keys of every JSON object, ``row_style`` is of the table.

    CSV goes without its header where another list came before.
    """
    match form:
        case Form.JSON:
            write(json_line({**record(columns, row), **(extra or {})}) for row in rows)
        case Form.TABLE:
            print_table(table(columns, list(rows), row_style))
        case Form.CSV:
            names = [column.name for column in columns if column.tsv]
            write([csv_text(names if header else None, (fields(columns, row) for row in rows))])
        case _:
            write(tsv_line(fields(columns, row)) for row in rows)


def emit_one(columns: Sequence[Column], thing: Any, form: Form) -> None:  # noqa: ANN401
    """Print one thing: a JSON object, else lines of name and value.

    A column's value is what ``cell`` makes of the thing, else what ``tsv`` makes of the value; a list takes a line for
    each of its values, and None takes none.
    """
    if form is Form.JSON:
        write([json_line(record(columns, thing))])
        return
    pairs = []
    for column in columns:
        value = column.cell(thing) if column.cell else column.tsv(column.value(thing)) if column.tsv else None
        values = value if isinstance(value, list) else [] if value is None else [value]
        pairs += [{"name": column.header, "value": each} for each in values]
    emit((Column("name"), Column("value", wide=True)), pairs, form)


def tsv_line(cells: Sequence[object]) -> bytes:
    """One line of tab-separated UTF-8; tabs, line breaks, backslashes and control characters in fields are escaped."""
    return ("\t".join("" if cell is None else escape_field(str(cell)) for cell in cells) + "\n").encode()


def write_paths(paths: Iterable[str], *, null: bool = False) -> None:
    """Print paths as the bytes they are, each once, each ended by a line break or a zero byte.

    A terminal gets them as a shell reads them, unless ``null``: a name may hold what a terminal obeys.
    """
    quoted = not null and sys.stdout.isatty()
    end = b"\0" if null else b"\n"
    write((command_line([path]).encode() if quoted else os.fsencode(path)) + end for path in dict.fromkeys(paths))


def write(lines: Iterable[bytes]) -> None:
    """Bytes to stdout, as they are."""
    sys.stdout.flush()
    for line in lines:
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def leave_broken_pipes() -> None:
    """Discard output that nobody reads any more: what is still buffered must not fail again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_line(message: str) -> None:
    """A line of text to stdout at once; control characters are escaped."""
    write([f"{escape_terminal(message)}\n".encode()])


@dataclass(slots=True)
class _Presentation:
    """Presentation of all output: without notes, and in colour ``auto``, ``always`` or ``never``."""

    quiet: bool = False
    color: str = "auto"


_PRESENTATION: Final = _Presentation()


def present(*, quiet: bool, color: str) -> None:
    """Choose how everything from here on is presented: ``quiet`` shows no notes; colours auto, always or never."""
    _PRESENTATION.quiet, _PRESENTATION.color = quiet, color


def is_quiet() -> bool:
    """True if neither notes nor progress are shown."""
    return _PRESENTATION.quiet


def warn(message: str, *, always: bool = False) -> None:
    """A note for people on stderr, ``always`` also with --quiet; control characters are escaped."""
    if _PRESENTATION.quiet and not always:
        return
    sys.stderr.write(f"{escape_terminal(message)}\n")
    sys.stderr.flush()


def print_table(*renderables: RenderableType) -> None:
    """Rich tables and texts to stdout."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another character set shows what it lacks as escapes, as stderr does.
        sys.stdout.reconfigure(errors="backslashreplace")
    target = console(sys.stdout)
    for renderable in renderables:
        target.print(renderable)


def console(stream: IO[str], *, width: int | None = None) -> Console:
    """A Rich console that prints what it is given and nothing else: no markup, no emoji codes, no highlighting.

    Rich itself heeds NO_COLOR (unless --color is given) and TERM=dumb, and COLUMNS on terminals that are not dumb.
    """
    from rich.console import Console, ConsoleDimensions

    colors: dict[str, Any] = {}
    if _PRESENTATION.color == "never":
        colors = {"no_color": True}
    elif _PRESENTATION.color == "always":
        colors = {"no_color": False} if stream.isatty() else {"no_color": False, "color_system": "256"}
    target = Console(file=stream, width=width, markup=False, emoji=False, highlight=False, **colors)
    if width is None and not can_draw(target):
        target.size = ConsoleDimensions(*shutil.get_terminal_size((_PIPE_WIDTH, 24)))
    return target


def can_draw(target: Console) -> bool:
    """True if bars can be drawn there."""
    return target.is_terminal and not target.is_dumb_terminal


def safe(content: object, style: str = "", *, link: str = "") -> Text:
    """Rich text of hostile content; ``link`` is a path that a click opens, on terminals that can."""
    from rich.style import Style
    from rich.text import Text

    if link:
        return Text(escape_terminal(str(content)), style=Style.parse(style) + Style(link=file_link(link)))
    return Text(escape_terminal(str(content)), style=style)


def table(
    columns: Sequence[Column],
    rows: Sequence[Any],
    row_style: Callable[[Any], str] | None = None,
    *,
    header: bool = True,
) -> RenderableType:
    """A Rich table; narrow screens get its rows as paragraphs where it has more columns than a name and a value."""
    from rich.text import Text

    upright = [column for column in columns if column.table and not column.below]
    wide = empty_table(header=header)
    for column in upright:
        wide.add_column(
            column.header,
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=not column.wide,
            overflow="fold",
            ratio=1 if column.wide else None,
        )
    paragraphs = []
    for row in rows:
        cells = [_cell(column, columns, row) for column in upright]
        style = row_style(row) if row_style else ""
        wide.add_row(*cells, style=style)
        # On a narrow screen the short cells stand in one line, the long ones in lines of their own.
        pairs = [(column.wide, cell) for column, cell in zip(upright, cells, strict=True) if cell]
        head = Text("  ").join(Text(" ").join(cell.split()) for is_wide, cell in pairs if not is_wide)
        paragraph = Text("\n").join([head, *(cell for is_wide, cell in pairs if is_wide)])
        paragraph.stylize_before(style)
        paragraphs.append(paragraph)
    narrow = Text("\n").join(paragraphs)

    class ByWidth:
        def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
            yield wide if options.max_width >= _NARROW else narrow

    return wide if len(upright) < 3 else ByWidth()


def _cell(column: Column, columns: Sequence[Column], row: Any) -> Text:  # noqa: ANN401
    """A cell with those of the columns below it; empty ones take no line."""
    from rich.text import Text

    lines = []
    for part in (column, *(other for other in columns if other.below == column.name and other.table)):
        value = part.value(row) if part.cell is None else None
        content = part.cell(row) if part.cell else part.table(value) if part.table and value is not None else ""
        if not content:
            continue
        style = STYLES.get(str(content)) or part.style or ("dim" if part.below else "")
        link = part.link(row) if part.link else ""
        lines.append(content if isinstance(content, Text) else safe(content, style, link=link))
    return Text("\n").join(lines)


def empty_table(*, header: bool = True) -> Table:
    """A table without lines, as wide as it needs to be."""
    from rich.table import Table

    return Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False, show_header=header
    )
