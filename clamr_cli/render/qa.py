"""Results of questions as tables for people and as records for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from clamr_cli.evaluate.qa.report import ALL, SELECTION, Report, Row, Share
from clamr_cli.render import records
from clamr_cli.render.console import text
from clamr_cli.render.listing import empty_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from clamr_cli.render.records import Cell

_WIDTH: Final = len("clamr+speech+subs")
_SHORT: Final = {"precision": "prec."}


class Screen:
    """A report as a table of accuracy where a model answered, and one of the choice of frames where it is known."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if any(row.accuracy for row in self._report.rows):
            yield _accuracy(self._report)
            yield Text()
        if self._report.measures:
            yield _selection(self._report)
            yield Text()
        yield text(basis(self._report), "dim")


def basis(report: Report) -> str:
    """What the figures rest on, in one line."""
    answered = max((row.accuracy[ALL].count for row in report.rows if row.accuracy), default=0)
    parts = []
    if answered:
        parts.append(f"accuracy over {answered} questions with 95 % intervals; p: against {report.rows[0].strategy}")
    if report.measures:
        known = max(row.evidence for row in report.rows)
        parts.append(f"choice of frames over {known} questions whose evidence is annotated")
    return "; ".join(parts) or "no question was answered, and none has annotated evidence"


def _accuracy(report: Report) -> Table:
    drawn = empty_table()
    drawn.add_column("strategy", overflow="fold", min_width=_WIDTH)
    for name in ("frames", *report.groups, "p", "unclear"):
        drawn.add_column(text(name), justify="right", no_wrap=name not in report.groups)
    best = max(row.accuracy[ALL].mean for row in report.rows if row.accuracy)
    for row in report.rows:
        good = bool(row.accuracy) and row.accuracy[ALL].mean == best
        shares = (_share(row.accuracy.get(group)) for group in report.groups)
        p = "" if row.p is None else f"{row.p:.3f}"
        rest = text(p), text(str(row.unclear or ""))
        drawn.add_row(text(row.strategy, "bold" if good else ""), text(f"{row.frames:.0f}"), *shares, *rest)
    return drawn


def _share(share: Share | None) -> Text:
    """A percentage, and below it its interval."""
    if share is None:
        return Text()
    mean = Text(f"{100 * share.mean:.1f}")
    if share.interval is None:
        return mean
    low, high = share.interval
    return Text.assemble(mean, "\n", (f"{100 * low:.1f}-{100 * high:.1f}", "dim"))


def _selection(report: Report) -> Table:
    drawn = empty_table()
    drawn.add_column("strategy", overflow="fold")
    for name in ("frames", *report.measures):
        drawn.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
    for row in _choosing(report):
        values = (row.selection.get(name) for name in report.measures)
        cells = [f"{row.frames:.0f}", *("" if value is None else f"{100 * value:.1f}" for value in values)]
        drawn.add_row(text(row.strategy), *map(text, cells))
    return drawn


def _choosing(report: Report) -> Iterator[Row]:
    """The rows without those that choose as an earlier one does and only tell the model more."""
    seen: list[tuple[float, Mapping[str, float]]] = []
    for row in report.rows:
        if (row.frames, row.selection) not in seen:
            seen.append((row.frames, row.selection))
            yield row


def tsv_lines(report: Report) -> Iterator[bytes]:
    """A header and a line a strategy."""
    head = ["strategy", "frames", "unclear", "failed", "p"]
    for group in report.groups:
        head += [f"questions {group}", f"accuracy {group}", f"low {group}", f"high {group}"]
    yield records.tsv_line([*head, "evidence", *SELECTION.values()])
    for row in report.rows:
        yield records.tsv_line(_cells(report, row))


def _cells(report: Report, row: Row) -> list[Cell]:
    cells: list[Cell] = [row.strategy, round(row.frames, 1), row.unclear, row.failed, _rounded(row.p)]
    for group in report.groups:
        share = row.accuracy.get(group)
        low, high = (share.interval if share else None) or (None, None)
        cells += [share.count if share else 0, _rounded(share.mean if share else None), _rounded(low), _rounded(high)]
    return [*cells, row.evidence, *(_rounded(row.selection.get(name)) for name in SELECTION.values())]


def json_lines(report: Report) -> Iterator[bytes]:
    """An object a strategy."""
    for row in report.rows:
        yield records.json_line(
            {
                "strategy": row.strategy,
                "frames": round(row.frames, 1),
                "unclear": row.unclear,
                "failed": row.failed,
                "p": _rounded(row.p),
                "accuracy": {
                    group: {
                        "questions": share.count,
                        "mean": _rounded(share.mean),
                        "interval": None if share.interval is None else [_rounded(border) for border in share.interval],
                    }
                    for group, share in row.accuracy.items()
                },
                "evidence": row.evidence,
                "selection": {name: _rounded(value) for name, value in row.selection.items()},
            }
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
