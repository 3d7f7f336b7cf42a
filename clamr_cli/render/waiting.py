"""A wait whose end nobody knows: a sign of life on a terminal, nothing elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from clamr_cli.render.console import drawable, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


@contextmanager
def waiting(console: Console, doing: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows what is being waited for, for the time of a block."""
    if quiet or not drawable(console):
        yield
        return
    with console.status(text(doing)):
        yield
