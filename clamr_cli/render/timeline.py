"""A video along its time: frames, speech, on-screen text and metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clamr_cli.render.console import text
from clamr_cli.render.details import facts
from clamr_cli.render.hits import MODALITY_STYLES, clock
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import Cell, seconds
from clamr_cli.text import plural
from clamr_cli.timeline import format_time
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from clamr_cli.types import Span, Timeline, TimelineEntry


def record(timeline: Timeline) -> dict[str, object]:
    """The time line as a JSON object."""
    return {
        "video_id": timeline.video.video_id,
        "title": timeline.video.fields.title,
        "moments": [{"start": seconds(span.start), "end": seconds(span.end)} for span in timeline.moments],
        "timeline": [
            {
                "modality": entry.modality,
                "start": seconds(entry.span.start),
                "end": seconds(entry.span.end),
                "text": entry.text,
                "source": entry.source,
            }
            for entry in timeline.entries
        ],
    }


def rows(timeline: Timeline) -> Iterator[tuple[Cell, ...]]:
    """Fields for tab-separated output: what it is, start, end, source, text. Facts have no time."""
    for name, value in facts(timeline):
        yield (name, None, None, None, value)
    for span in timeline.moments:
        yield ("moment", *_times(span), None, None)
    for entry in timeline.entries:
        source = "frame" if entry.modality is Modality.VIDEO else entry.source
        yield (entry.modality, *_times(entry.span), source, entry.text)


def _times(span: Span) -> tuple[str, str]:
    return f"{span.start:.2f}", f"{span.end:.2f}"


def drawn(timeline: Timeline) -> Iterator[RenderableType]:
    """The time line for people: what holds for all of the video, then moment by moment."""
    whole = [entry for entry in timeline.entries if entry.modality is Modality.METADATA]
    if whole:
        yield Text("\nnoted", style="bold")
        yield _table(whole)
    inside = [entry for entry in timeline.entries if entry.modality is not Modality.METADATA]
    for number, span in enumerate(timeline.moments):
        last = number == len(timeline.moments) - 1
        here = [e for e in inside if span.start <= e.span.start and (last or e.span.start < span.end)]
        # What began earlier and reaches in was shown where it began; before the first moment there is none.
        inside = [entry for entry in inside if entry not in here]
        yield Text(f"\n{clock(span)}", style="bold")
        yield _table(here)


def _table(entries: Sequence[TimelineEntry]) -> Table:
    table = empty_table()
    table.show_header = False
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    frames = [entry.span for entry in entries if entry.modality is Modality.VIDEO]
    if frames:
        times = " ".join(format_time(span.start) for span in frames)
        table.add_row(clock_around(frames), _label(Modality.VIDEO), f"{plural(len(frames), 'frame')}: {times}")
    for entry in entries:
        if entry.modality is not Modality.VIDEO:
            source = text(f"  {entry.source}" if entry.source else "", "dim")
            table.add_row(clock(entry.span), _label(entry.modality), Text.assemble(text(entry.text), source))
    return table


def clock_around(spans: Sequence[Span]) -> str:
    """From the first start to the last end."""
    return f"{format_time(min(span.start for span in spans))}-{format_time(max(span.end for span in spans))}"


def _label(modality: Modality) -> Text:
    return text(modality, MODALITY_STYLES[modality])
