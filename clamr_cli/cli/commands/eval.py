"""``clamr eval``: how well queries find their answers, for the index and for the runs of other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from clamr_cli.cli import options
from clamr_cli.cli.options import Context, encoder_for, open_store
from clamr_cli.cli.output import STYLES, Form, console, emit, empty_table, print_table, safe, tsv_line, warn, write
from clamr_cli.cli.progress import steps
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.records import Column, json_only, rounded
from clamr_cli.types import Filters

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from clamr_cli.evaluate.run import EvaluationReport

_WIDE: Final = 110
"""Columns of a screen from which the values by modality stand beside the means."""

_NAME_WIDTH: Final = 16
"""Characters of a system's name that stand side by side at least, where it is as long."""


@dataclass(frozen=True, kw_only=True)
class EvalArguments(options.FormOptions, options.EncoderOptions):
    queries: Annotated[
        Path | None, typer.Argument(metavar="[QUERIES]", help="File of queries with answers.", show_default=False)
    ] = None
    format: Annotated[
        Literal["auto", "jsonl", "json", "multivent", "msrvtt", "trec"], typer.Option(help="Format of the queries.")
    ] = "auto"
    qrels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judgements: TREC's four columns, or JSON lines.")
    ] = None
    published_pool: Annotated[
        bool, typer.Option("--published-pool", help="A document for each judgement, as CLaMR was published.")
    ] = False
    judged_only: Annotated[bool, typer.Option("--judged-only", help="Leave out answers the index does not hold.")] = (
        False
    )
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="nDCG@10 (default), R@1, RR, AP...; repeatable, main one first."),
    ] = None
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Compare with simpler systems.")] = True
    run: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Score this TREC run, without an index; repeatable.")
    ] = None
    compare: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Test this TREC run too; repeatable.")] = (
        None
    )
    run_out: Annotated[
        Path | None,
        typer.Option(
            "--run-out",
            "-o",
            metavar="FILE",
            parser=options.out_file,
            help="Write the encoder's ranking as a TREC run.",
        ),
    ] = None
    qrels_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=options.out_file, help="Write the judgements for TREC's tools."),
    ] = None
    path: options.PathOption = None
    scoring: options.ScoringOption = None
    encoder: options.EncoderOption = None
    device: options.DeviceOption = None
    bootstrap: options.BootstrapOption = 2000
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the resamples.", min=0)] = 0
    csv: options.CsvOption = False


def evaluate(context: Context, arguments: EvalArguments) -> int:
    """Measure how well queries find their answers.

    One screen says whether joint encoding pays on your library, compared with simpler systems built from the same.

    Piped, it prints tab-separated lines, a header first: system, rows, measures, interval, p, main measure by
    modality.

    Examples:
        clamr eval queries.jsonl
        clamr synth --model ~/models/vlm | clamr eval -
    """
    from clamr_cli.evaluate import data, metrics, run

    form = arguments.form
    if arguments.run and not (arguments.qrels or arguments.queries):
        raise UsageError("a run is scored against judgements", "give --qrels FILE, or queries with answers")
    if not arguments.run and not arguments.queries:
        raise UsageError("no queries to evaluate", "give a file: clamr eval QUERIES")
    settings = context.settings(encoder=arguments.encoder, scoring=arguments.scoring, device=arguments.device)
    evaluation_options = run.EvaluationOptions(
        measures=tuple(dict.fromkeys(map(metrics.parse, arguments.measure or metrics.DEFAULT_MEASURES))),
        scoring=settings.scoring,
        published=arguments.published_pool,
        judged_only=arguments.judged_only,
        baselines=arguments.baselines,
        sampling=metrics.Sampling(arguments.bootstrap, arguments.seed),
        filters=Filters(path=arguments.path),
    )
    if arguments.queries is None:
        queries = data.queries_of_qrels(arguments.qrels or Path())
    else:
        queries = all_queries = data.read_queries(arguments.queries, arguments.format)
        if arguments.qrels:
            queries = data.judged_queries(all_queries, arguments.qrels)
        if unjudged := len(all_queries) - len(queries):
            warn(f"{unjudged} of the queries were not judged and are left out")
    runs: dict[str, data.ScoredDocuments] = {}
    for path in [*(arguments.run or ()), *(arguments.compare or ())]:
        # By the stems of their files, numbered from the second of a stem.
        names = (path.stem if number == 1 else f"{path.stem}-{number}" for number in count(1))
        runs[next(name for name in names if name not in runs)] = data.read_run(path)
    if arguments.run:
        evaluation = run.evaluate_runs(runs, queries, evaluation_options)
    else:
        from clamr_cli.encoders.mini.encoder import SentenceModel

        store = open_store(settings)
        encoder = encoder_for(store, settings, arguments.encoder_settings())

        def sentences() -> SentenceModel:
            return SentenceModel.create(cache=settings.cache, device=settings.device, threads=settings.threads)

        with steps() as progress:
            evaluation = run.evaluate(
                store, encoder, queries, evaluation_options, others=runs, sentences=sentences, progress=progress
            )
    ours = evaluation.runs[0]
    for out, lines in (
        (arguments.run_out, data.run_lines(evaluation.task.scored(ours), ours.name.replace(" ", "-"))),
        (arguments.qrels_out, data.qrel_lines(evaluation.task.qrels)),
    ):
        if out:
            try:
                with out.open("w", encoding="utf-8", newline="\n") as stream:
                    stream.writelines(lines)
            except OSError as error:
                raise UsageError(f"{out} cannot be written ({error.strerror})", "name another file") from error
    if evaluation.unknown:
        unknown = f"answers that are no video of the index, or several: {len(evaluation.unknown)} "
        lost = f"; queries without another answer: {len(evaluation.lost)}, which count as 0 unless --judged-only"
        warn(f"{unknown}({data.listed(evaluation.unknown)}){lost if evaluation.lost else ''}")
    for note in evaluation.notes:
        warn(note)
    _show(evaluation.report, form)
    return EXIT_FOUND


# --- output -----------------------------------------------------------------------------------------------------------

_four = rounded(4)
"""Digits of every value for programs. The rows of all columns are pairs of a report and one of its systems."""


def _rounded_values(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _four(value) for name, value in values.items()}


SYSTEM: Final = (
    json_only("system", "Name of the system.", lambda row: row[1].name),
    json_only("rows", "How many queries count, by the modality they aim at.", lambda row: dict(row[0].rows)),
    json_only("measures", "Mean of each measure.", lambda row: _rounded_values(row[1].means)),
    json_only("main", "The measure of interval, test and values by modality.", lambda row: row[0].measures[0]),
    json_only(
        "interval",
        "95 % confidence interval of the main measure.",
        lambda row: None if row[1].interval is None else [_four(border) for border in row[1].interval],
    ),
    json_only("p", "Of the paired randomisation test against the first system.", lambda row: _four(row[1].p)),
    json_only("by_modality", "The main measure by modality.", lambda row: _rounded_values(row[1].by_label)),
    json_only(
        "modality_accuracy",
        "Share of labelled queries whose best answer was won by the modality they aim at.",
        lambda row: _four(row[1].accuracy),
    ),
    json_only(
        "modality_accuracy_by_modality", "The same by modality.", lambda row: _rounded_values(row[1].accuracy_by_label)
    ),
    json_only(
        "auroc",
        "Chance that the top score of an answered query is above that of one without an answer.",
        lambda row: _four(row[1].auroc),
    ),
    json_only("oracle", "True if it knows what queries aim at.", lambda row: row[1].oracle),
    json_only(
        "auroc_against",
        "unanswerable: queries without an answer; leave-one-out: the same ones without their answers.",
        lambda row: row[0].separation,
    ),
    json_only("queries_without_answer", "How many there are.", lambda row: row[0].unanswered),
)


def figures(report: EvaluationReport) -> list[Column]:
    """The columns of TSV and CSV."""
    from clamr_cli.evaluate.run import LABELS

    def border(number: int) -> Any:  # noqa: ANN401
        return lambda row: None if row[1].interval is None else row[1].interval[number]

    def mean(measure: str) -> Any:  # noqa: ANN401
        return lambda row: row[1].means[measure]

    def mean_of(label: str) -> Any:  # noqa: ANN401
        return lambda row: row[1].by_label.get(label)

    main = report.measures[0]
    # All usual labels, so that columns stay where they are; audio where there is any.
    labels = [label for label in LABELS if label != "audio" or label in report.rows]
    return [
        Column("system", get=lambda row: row[1].name),
        Column("rows", get=lambda row: sum(row[0].rows.values())),
        *(Column(name, get=mean(name), tsv=_four) for name in report.measures),
        Column("low", get=border(0), tsv=_four),
        Column("high", get=border(1), tsv=_four),
        Column("p", get=lambda row: row[1].p, tsv=_four),
        *(Column(f"{main} {label}", get=mean_of(label), tsv=_four) for label in labels),
        Column("modality accuracy", get=lambda row: row[1].accuracy, tsv=_four),
        Column("auroc", get=lambda row: row[1].auroc, tsv=_four),
    ]


def _show(report: EvaluationReport, form: Form) -> None:
    if form is Form.TABLE:
        print_table(*screen(report, console(sys.stdout).width))
        return
    for line in filter(None, (verdict(report), basis(report))):
        warn(line)
    rows = [(report, system) for system in report.systems]
    if form is Form.JSON:
        emit(SYSTEM, rows, form)
        return
    columns = figures(report)
    if form is Form.TSV:
        write([tsv_line([column.name for column in columns])])
    emit(columns, rows, form)


def verdict(report: EvaluationReport) -> str:
    """The first system against the best other one that needs no oracle, in one line; empty where there is none."""
    first, rival, main = report.systems[0], report.rival, report.measures[0]
    if rival is None:
        return ""
    p = "" if rival.p is None else f", p {_probability(rival.p)}"
    gap = first.means[main] - rival.means[main]
    return f"{first.name} against {rival.name}, the best other without an oracle: {main} {gap:+.3f}{p}"


def basis(report: EvaluationReport) -> str:
    """The queries and tests that the figures rest on, in one line."""
    counts = ", ".join(f"{number} {label}" for label, number in report.rows.items())
    total = sum(report.rows.values())
    parts = [f"{total} {'query' if total == 1 else 'queries'} ({counts})"]
    if any(system.p is not None for system in report.systems):
        parts.append("p: paired randomisation test against the first")
    if any(system.auroc is not None for system in report.systems):
        if report.separation == "unanswerable":
            parts.append(f"AUROC: against the queries without an answer ({report.unanswered})")
        else:
            parts.append("AUROC: against the same queries without their answers (leave one out)")
    return "; ".join(parts)


def screen(report: EvaluationReport, width: int) -> Iterator[Table | Text]:
    """A report as one table where the screen is wide enough, else as several beneath each other."""
    systems = report.systems
    main, *others = report.measures

    def values(header: str, numbers: Sequence[float | None], style: str = "") -> list[Text]:
        return [safe(header), *(safe("" if value is None else f"{value:.3f}", style) for value in numbers)]

    intervals = ["" if s.interval is None else f"{s.interval[0]:.3f}-{s.interval[1]:.3f}" for s in systems]
    tests = [safe("") if s.p is None else safe(_probability(s.p), "" if s.p < 0.05 else "dim") for s in systems]
    means = [
        values(main, [system.means[main] for system in systems], "bold"),
        [safe("95 % interval"), *(safe(interval, "dim") for interval in intervals)],
        [safe("p"), *tests],
        *(values(name, [system.means[name] for system in systems]) for name in others),
    ]
    labels = [
        *(values(label, [system.by_label.get(label) for system in systems]) for label in report.rows),
        values("aim met", [system.accuracy for system in systems]),
        values("AUROC", [system.auroc for system in systems]),
    ]
    for cells, label in zip(labels, report.rows, strict=False):
        cells[0] = safe(label, STYLES.get(label, ""))
    shortest = min(_NAME_WIDTH, max(len(system.name) for system in systems))
    wide = width >= _WIDE + 8 * len(report.measures)
    best = max(system.means[main] for system in systems)
    names = [safe(system.name, "bold" if system.means[main] == best else "") for system in systems]
    for group in [[*means, *labels]] if wide else [means, labels]:
        for columns in _fitting([column for column in group if any(column[1:])], width - shortest):
            table = empty_table()
            table.add_column("system", overflow="fold", min_width=shortest)
            for header, *_ in columns:
                table.add_column(header, justify="right", no_wrap=True)
            for name, *cells in zip(names, *(column[1:] for column in columns), strict=True):
                table.add_row(name, *cells)
            yield table
            yield safe("")
    if line := verdict(report):
        yield safe(line)
    yield safe(basis(report), "dim")


def _fitting(columns: Sequence[list[Text]], room: int) -> Iterator[list[list[Text]]]:
    """The columns in groups that fit beside the names, one at least in each."""
    group: list[list[Text]] = []
    used = 0
    for column in columns:
        # Two blanks stand between columns.
        width = 2 + max(cell.cell_len for cell in column)
        if group and used + width > room:
            yield group
            group, used = [], 0
        group.append(column)
        used += width
    if group:
        yield group


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
