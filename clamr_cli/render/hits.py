"""Search results as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clamr_cli.render.console import ByWidth, linked, text
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import matched
from clamr_cli.text import shorten
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from clamr_cli.types import Hit, Span

MODALITY_STYLES = {"video": "magenta", "speech": "cyan", "ocr": "yellow", "metadata": "green", "audio": "blue"}
APPROXIMATE = "approximate: candidates came from an index; --exact compares with everything"
_LONGEST_CELL = 90


def clock(span: Span) -> str:
    """A stretch of time as ``12:03-12:41``."""
    return f"{format_time(span.start)}-{format_time(span.end)}"


def drawn(hits: Sequence[Hit]) -> RenderableType:
    """The table, or where the screen is narrow the same with the cells of a hit below each other."""
    return ByWidth(table(hits), _narrow(hits))


def _narrow(hits: Sequence[Hit]) -> Table:
    drawn = empty_table()
    drawn.show_header = False
    if any(hit.approximate for hit in hits):
        drawn.caption = APPROXIMATE
    drawn.add_column(justify="right", style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for hit in hits:
        lines = (
            _title(hit),
            Text.assemble(f"{hit.score:.2f}  ", _winner(hit), f"  {clock(hit.span)} at {format_time(hit.at)}"),
            _matched(hit),
        )
        drawn.add_row(str(hit.rank), Text("\n").join(line for line in lines if line), style="dim" if hit.weak else "")
    return drawn


def table(hits: Sequence[Hit]) -> Table:
    """Rank, score, title (opens the file) and id, moment and best second, winning modality, what matched.

    Weak ones are dim; those whose file is not there say so beside the id.
    """
    drawn = empty_table()
    if any(hit.approximate for hit in hits):
        drawn.caption = APPROXIMATE
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
    return Text.assemble(name, "\n", text(hit.video_id, "dim"), text("  offline" if hit.offline else "", "yellow"))


def _moment(hit: Hit) -> Text:
    return Text.assemble(clock(hit.span), "\n", (f"at {format_time(hit.at)}", "dim"))


def _winner(hit: Hit) -> Text:
    return text(hit.modality or "-", MODALITY_STYLES.get(hit.modality or "", ""))


def _matched(hit: Hit) -> Text:
    return text(shorten(" · ".join(matched(hit.evidence)), _LONGEST_CELL))
