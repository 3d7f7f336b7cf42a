"""Search results as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clamr_cli.render.console import linked, text
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import matched
from clamr_cli.render.text import shorten
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from clamr_cli.types import Hit, Span

MODALITY_STYLES = {"video": "magenta", "speech": "cyan", "ocr": "yellow", "metadata": "green", "audio": "blue"}
_LONGEST_CELL = 90


def clock(span: Span) -> str:
    """A stretch of time as ``12:03-12:41``."""
    return f"{format_time(span.start)}-{format_time(span.end)}"


def table(hits: Sequence[Hit]) -> Table:
    """Rank, score, title (opens the file) and id, moment and best second, winning modality, what matched.

    Weak ones are dim.
    """
    drawn = empty_table()
    if any(hit.approximate for hit in hits):
        drawn.caption = "approximate: candidates came from an index; --exact compares with everything"
    drawn.add_column("#", justify="right", style="dim", no_wrap=True)
    drawn.add_column("score", justify="right", no_wrap=True)
    drawn.add_column("title", overflow="fold", ratio=3)
    drawn.add_column("moment", no_wrap=True)
    drawn.add_column("by", no_wrap=True)
    drawn.add_column("matched", overflow="fold", ratio=4)
    for hit in hits:
        cells = (str(hit.rank), f"{hit.score:.2f}", _title(hit), _moment(hit), _winner(hit), _matched(hit))
        drawn.add_row(*cells, style="dim" if hit.weak else "")
    return drawn


def _title(hit: Hit) -> Text:
    name = linked(shorten(hit.title or hit.path, _LONGEST_CELL), hit.path)
    return Text.assemble(name, "\n", text(hit.video_id, "dim"))


def _moment(hit: Hit) -> Text:
    return Text.assemble(clock(hit.span), "\n", (f"at {format_time(hit.at)}", "dim"))


def _winner(hit: Hit) -> Text:
    return text(hit.modality or "-", MODALITY_STYLES.get(hit.modality or "", ""))


def _matched(hit: Hit) -> Text:
    return text(shorten(" · ".join(matched(hit.evidence)), _LONGEST_CELL))
