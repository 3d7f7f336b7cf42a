"""An evaluation as a table for people, and as records for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from clamr_cli.cli.output import STYLES, csv_text, empty_table, json_line, safe, tsv_line
from clamr_cli.evaluate.report import AUDIO, LABELS, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table


_SURE: Final = 0.05
_NARROW: Final = 110
"""Columns below which the values by modality get a table of their own."""

_NAME: Final = 16
"""Characters of a system's name that stand side by side at least, where it is as long."""

_GAP: Final = 2
"""Blanks between columns, as :func:`empty_table` has them."""


class Screen:
    """A report as one table where it is wide enough, else as several beneath each other."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        means, labels = _means(self._report), _labels(self._report)
        wide = options.max_width >= _NARROW + 8 * len(self._report.measures)
        shortest = min(_NAME, max(len(line.name) for line in self._report.lines))
        for group in [[*means, *labels]] if wide else [means, labels]:
            for columns in _fitting(group, options.max_width - shortest):
                yield _drawn(self._report, columns, shortest)
                yield Text()
        if told := verdict(self._report):
            yield safe(told)
        yield safe(basis(self._report), "dim")


def verdict(report: Report) -> str:
    """The first system against the best other one that needs no oracle, in one line; empty where there is none."""
    first, rival, main = report.lines[0], report.rival, report.measures[0]
    if rival is None:
        return ""
    gap = first.means[main] - rival.means[main]
    sure = "" if rival.p is None else f", p {_chance(rival.p)}"
    return f"{first.name} against {rival.name}, the best other without an oracle: {main} {gap:+.3f}{sure}"


def basis(report: Report) -> str:
    """What the figures rest on, in one line."""
    counts = ", ".join(f"{count} {label}" for label, count in report.rows.items())
    total = sum(report.rows.values())
    told = [f"{total} {'query' if total == 1 else 'queries'} ({counts})"]
    if any(line.p is not None for line in report.lines):
        told.append("p: paired randomisation test against the first")
    if all(line.auroc is None for line in report.lines):
        return "; ".join(told)
    if report.separation == "unanswerable":
        told.append(f"AUROC: against the queries without an answer ({report.unanswered})")
    else:
        told.append("AUROC: against the same queries without their answers (leave one out)")
    return "; ".join(told)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of values: its name, and a cell for each system."""

    name: Text
    cells: Sequence[Text]

    @property
    def width(self) -> int:
        """What it takes of a screen."""
        return _GAP + max(one.cell_len for one in (self.name, *self.cells))


def _filled(columns: Iterable[_Column]) -> list[_Column]:
    """Those that say anything."""
    return [column for column in columns if any(column.cells)]


def _fitting(columns: Sequence[_Column], room: int) -> Iterator[list[_Column]]:
    """The columns in groups that fit beside the names, one at least in each."""
    group: list[_Column] = []
    for column in columns:
        if group and sum(one.width for one in (*group, column)) > room:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _drawn(report: Report, columns: Sequence[_Column], shortest: int) -> Table:
    """A table of some columns; names fold, but are given ``shortest`` characters a line at least."""
    drawn = empty_table()
    drawn.add_column("system", overflow="fold", min_width=shortest)
    for column in columns:
        drawn.add_column(column.name, justify="right", no_wrap=True)
    best = max(line.means[report.measures[0]] for line in report.lines)
    for line, *cells in zip(report.lines, *(column.cells for column in columns), strict=True):
        drawn.add_row(safe(line.name, "bold" if line.means[report.measures[0]] == best else ""), *cells)
    return drawn


def _means(report: Report) -> list[_Column]:
    main, *others = report.measures
    return _filled(
        (
            _Column(safe(main), [safe(_number(line.means[main]), "bold") for line in report.lines]),
            _Column(safe("95 % interval"), [safe(_between(line.interval), "dim") for line in report.lines]),
            _Column(safe("p"), [_sureness(line.p) for line in report.lines]),
            *(_Column(safe(name), [safe(_number(line.means[name])) for line in report.lines]) for name in others),
        )
    )


def _labels(report: Report) -> list[_Column]:
    lines = report.lines
    found = []
    for label in report.rows:
        cells = [safe(_number(line.by_label.get(label))) for line in lines]
        found.append(_Column(safe(label, STYLES.get(label, "")), cells))
    found.append(_Column(safe("aim met"), [safe(_number(line.accuracy)) for line in lines]))
    found.append(_Column(safe("AUROC"), [safe(_number(line.auroc)) for line in lines]))
    return _filled(found)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"


def _sureness(p: float | None) -> Text:
    return safe("") if p is None else safe(_chance(p), "" if p < _SURE else "dim")


def _chance(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def columns(report: Report) -> list[str]:
    """Columns of the TSV and CSV, in order."""
    main = report.measures[0]
    by_label = [f"{main} {label}" for label in _always(report)]
    return ["system", "rows", *report.measures, "low", "high", "p", *by_label, "modality accuracy", "auroc"]


def _always(report: Report) -> list[str]:
    """Labels that have a column: all that are usual, so that columns stay where they are, and what is met beside."""
    return [label for label in LABELS if label != AUDIO or label in report.rows]


def tsv_lines(report: Report) -> Iterator[bytes]:
    """A header and a line a system."""
    yield tsv_line(columns(report))
    yield from map(tsv_line, _rows(report))


def csv_lines(report: Report) -> Iterator[bytes]:
    """CSV with a header."""
    yield csv_text(columns(report), _rows(report))


def _rows(report: Report) -> Iterable[list[object]]:
    for line in report.lines:
        low, high = line.interval or (None, None)
        means = [_rounded(line.means[name]) for name in report.measures]
        labels = [_rounded(line.by_label.get(label)) for label in _always(report)]
        rest = [_rounded(value) for value in (low, high, line.p)]
        yield [
            line.name,
            sum(report.rows.values()),
            *means,
            *rest,
            *labels,
            *map(_rounded, (line.accuracy, line.auroc)),
        ]


def json_lines(report: Report) -> Iterator[bytes]:
    """An object a system."""
    for line in report.lines:
        yield json_line(
            {
                "system": line.name,
                "rows": dict(report.rows),
                "measures": {name: _rounded(line.means[name]) for name in report.measures},
                "main": report.measures[0],
                "interval": None if line.interval is None else [_rounded(border) for border in line.interval],
                "p": _rounded(line.p),
                "by_modality": {label: _rounded(value) for label, value in line.by_label.items()},
                "modality_accuracy": _rounded(line.accuracy),
                "modality_accuracy_by_modality": {
                    label: _rounded(value) for label, value in line.accuracy_by_label.items()
                },
                "auroc": _rounded(line.auroc),
                "oracle": line.oracle,
                "auroc_against": report.separation,
                "queries_without_answer": report.unanswered,
            }
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
