"""Where output goes and in which form: data to stdout as bytes, talk to stderr as escaped lines."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, RenderableType

    from clamr_cli.render.listing import Column, Row


class Form(StrEnum):
    """The forms of output."""

    TABLE = "table"
    TSV = "tsv"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFlags:
    """The options that every command with output has."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False
    tsv: Annotated[bool, typer.Option("--tsv", help="Print tab-separated lines even on a terminal.")] = False
    table: Annotated[bool, typer.Option("--table", help="Print a table even into a pipe.")] = False


def form(flags: FormFlags) -> Form:
    """The form that the flags ask for; a table on a terminal and tab-separated lines elsewhere when they ask for none.

    Raises:
        UsageError: they ask for two.
    """
    wanted = [one for one in Form if getattr(flags, one.value, False)]
    if len(wanted) > 1:
        raise UsageError(f"--{wanted[0]} and --{wanted[1]} exclude each other", "choose one")
    if wanted:
        return wanted[0]
    return Form.TABLE if sys.stdout is not None and sys.stdout.isatty() else Form.TSV


def write(lines: Iterable[bytes]) -> None:
    """Bytes to stdout, as they are."""
    if sys.stdout is None:
        return
    sys.stdout.flush()
    for line in lines:
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def say(message: str) -> None:
    """A line of talk on stderr; control characters are escaped."""
    from clamr_cli.render.text import escape_terminal

    if sys.stderr is not None:
        sys.stderr.write(f"{escape_terminal(message)}\n")
        sys.stderr.flush()


def tell(message: str) -> None:
    """A line of text to stdout at once; control characters are escaped."""
    from clamr_cli.render.text import escape_terminal

    write([f"{escape_terminal(message)}\n".encode()])


def draw(*renderables: RenderableType) -> None:
    """Rich renderables to stdout."""
    from clamr_cli.render.console import console

    if sys.stdout is not None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal of another character set shows what it lacks as escapes, as stderr does.
            sys.stdout.reconfigure(errors="backslashreplace")
        target = console(sys.stdout)
        for renderable in renderables:
            target.print(renderable)


def talk() -> Console:
    """A console on stderr."""
    from clamr_cli.render.console import console

    return console(sys.stderr)


def listing(flags: FormFlags, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a list in the form that the flags ask for."""
    from clamr_cli.render import listing as lists

    match form(flags):
        case Form.JSON:
            write(lists.json_lines(columns, rows))
        case Form.TABLE:
            draw(lists.drawn(columns, rows))
        case _:
            write(lists.tsv(rows))
