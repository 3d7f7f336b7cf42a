"""Rich consoles that print what they are given and nothing else: no markup, no emoji codes, no highlighting."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from rich.console import Console, ConsoleDimensions
from rich.style import Style
from rich.text import Text

from clamr_cli.text import escape_terminal, file_link

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType, RenderResult

PLAIN_WIDTH = 80
"""Columns of a table that goes to no terminal, where COLUMNS does not say otherwise."""


NARROW: Final = 60
"""Columns of a screen below which the cells of a table with several columns stand below each other."""


@dataclass(frozen=True, slots=True)
class ByWidth:
    """One of two drawings of the same: the narrow one where the screen has less than :data:`NARROW` columns."""

    wide: RenderableType
    narrow: RenderableType

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """What Rich draws."""
        yield self.wide if options.max_width >= NARROW else self.narrow


def console(stream: IO[str], *, width: int | None = None) -> Console:
    """A console on a stream. Rich itself heeds NO_COLOR and TERM=dumb, and COLUMNS on terminals that are not dumb."""
    made = Console(file=stream, width=width, markup=False, emoji=False, highlight=False)
    if width is None and not drawable(made):
        made.size = ConsoleDimensions(*shutil.get_terminal_size((PLAIN_WIDTH, 24)))
    return made


def drawable(console: Console) -> bool:
    """Whether it is a terminal that bars can be drawn on."""
    return console.is_terminal and not console.is_dumb_terminal


def text(content: str, style: str = "") -> Text:
    """Rich text of hostile content."""
    return Text(escape_terminal(content), style=style)


def linked(content: str, path: str, style: str = "bold") -> Text:
    """Rich text that opens a file when clicked, on terminals that can."""
    return Text(escape_terminal(content), style=Style.parse(style) + Style(link=file_link(path)))
