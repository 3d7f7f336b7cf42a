"""``clamr eval``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import EncoderOptions, FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.errors import EXIT_FOUND, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.evaluate.data import QuerySet
    from clamr_cli.evaluate.run import EvaluationOptions, Outcome, Ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions, EncoderOptions):
    """Options of ``clamr eval``."""

    queries: Annotated[
        str | None, typer.Argument(metavar="[QUERIES]", help="File of queries with answers.", show_default=False)
    ] = None
    layout: Annotated[
        str, typer.Option("--format", metavar="NAME", help="auto, jsonl, json, multivent, msrvtt or trec.")
    ] = "auto"
    qrels: Annotated[
        str | None, typer.Option("--qrels", metavar="FILE", help="Judgements: TREC's four columns, or JSON lines.")
    ] = None
    published_pool: Annotated[
        bool, typer.Option("--published-pool", help="A document for each judgement, as CLaMR was published.")
    ] = False
    judged_only: Annotated[bool, typer.Option("--judged-only", help="Leave out answers the index does not hold.")] = (
        False
    )
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure", metavar="NAME", help="nDCG@10 (default), R@1, RR, AP...; repeatable, main one first."
        ),
    ] = None
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Compare with simpler systems.")] = True
    run_in: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="FILE", help="Score this TREC run, without an index; repeatable."),
    ] = None
    compare: Annotated[
        list[str] | None, typer.Option("--compare", metavar="FILE", help="Test this TREC run too; repeatable.")
    ] = None
    run_out: Annotated[
        str | None, typer.Option("--run-out", metavar="FILE", help="Write the encoder's ranking as a TREC run.")
    ] = None
    qrels_out: Annotated[
        str | None, typer.Option("--qrels-out", metavar="FILE", help="Write the judgements for TREC's tools.")
    ] = None
    path: Annotated[str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path matches.")] = None
    scoring: Annotated[
        str | None, typer.Option("--scoring", metavar="NAME", help="token-max (default) or modality-max.")
    ] = None
    encoder: Annotated[str | None, typer.Option("--encoder", metavar="NAME", help="Use the vectors of this one.")] = (
        None
    )
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", metavar="N", help="Resamples of intervals and tests; 0 for none.", min=0)
    ] = 2000
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the resamples.", min=0)] = 0
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False


def run(before: Context, flags: Flags) -> int:
    """Measure how well queries find their answers.

    One screen says whether joint encoding pays on your library, compared with simpler systems built from the same.

    Piped, it prints tab-separated lines, a header first: system, rows, measures, interval, p, main measure by
    modality.
    """
    form = flags.form
    _check(flags)
    outcome = _of_runs(before, flags) if flags.run_in else _of_index(before, flags)
    _write_files(flags, outcome)
    _tell(outcome)
    _show(outcome, form)
    return EXIT_FOUND


def _check(flags: Flags) -> None:
    """Refuse what cannot be done before anything is read."""
    from pathlib import Path

    if flags.run_in and not (flags.qrels or flags.queries):
        raise UsageError("a run is scored against judgements", "give --qrels FILE, or queries with answers")
    if not flags.run_in and not flags.queries:
        raise UsageError("no queries to evaluate", "give a file: clamr eval QUERIES")
    for target in filter(None, (flags.run_out, flags.qrels_out)):
        if Path(target).is_dir() or not Path(target).absolute().parent.is_dir():
            raise UsageError(f"{target} cannot be written", "name a file in a folder that is there")


def _options(before: Context, flags: Flags) -> tuple[Settings, EvaluationOptions]:
    from clamr_cli.evaluate import metrics
    from clamr_cli.evaluate.run import EvaluationOptions
    from clamr_cli.types import Filters

    settings = before.settings(encoder=flags.encoder, scoring=flags.scoring, device=flags.device)
    options = EvaluationOptions(
        measures=tuple(dict.fromkeys(map(metrics.parse, flags.measure or metrics.DEFAULT_MEASURES))),
        scoring=settings.scoring,
        published=flags.published_pool,
        judged_only=flags.judged_only,
        baselines=flags.baselines,
        sampling=metrics.Sampling(flags.bootstrap, flags.seed),
        filters=Filters(path=flags.path),
    )
    return settings, options


def _of_index(before: Context, flags: Flags) -> Outcome:
    from clamr_cli.cli.progress import steps
    from clamr_cli.cli.runtime import encoder_for, open_store, quiet_libraries
    from clamr_cli.encoders.mini.encoder import SentenceModel
    from clamr_cli.evaluate.run import evaluate

    settings, options = _options(before, flags)
    loaded = _queries(flags)
    others = _runs(flags.compare or [])
    quiet_libraries()
    store = open_store(settings)
    encoder = encoder_for(store, settings, flags.encoder_settings())
    with steps() as progress:
        return evaluate(
            store,
            encoder,
            loaded.queries,
            options,
            others=others,
            sentences=lambda: SentenceModel.create(
                cache=settings.cache, device=settings.device, threads=settings.threads
            ),
            progress=progress,
        )


def _of_runs(before: Context, flags: Flags) -> Outcome:
    from clamr_cli.evaluate.run import evaluate_runs

    _, options = _options(before, flags)
    return evaluate_runs(_runs([*(flags.run_in or ()), *(flags.compare or ())]), _queries(flags).queries, options)


def _queries(flags: Flags) -> QuerySet:
    from pathlib import Path

    from clamr_cli.cli import output
    from clamr_cli.evaluate import data

    qrels = Path(flags.qrels) if flags.qrels else None
    if flags.queries is None:
        return data.queries_of_qrels(qrels or Path())
    loaded = data.read_queries(Path(flags.queries), flags.layout, qrels)
    if loaded.unjudged:
        output.warn(f"{loaded.unjudged} of the queries were not judged and are left out")
    return loaded


def _runs(files: Sequence[str]) -> dict[str, Ranking]:
    """Runs by the stems of their files, numbered from the second of a stem."""
    from itertools import count
    from pathlib import Path

    from clamr_cli.evaluate.data import read_run

    runs: dict[str, Ranking] = {}
    for path in map(Path, files):
        names = (path.stem if number == 1 else f"{path.stem}-{number}" for number in count(1))
        runs[next(name for name in names if name not in runs)] = read_run(path)
    return runs


def _write_files(flags: Flags, outcome: Outcome) -> None:
    from clamr_cli.evaluate import data

    if flags.run_out:
        run = outcome.runs[0]
        _write(flags.run_out, data.run_lines(outcome.task.scored(run), run.name.replace(" ", "-")))
    if flags.qrels_out:
        _write(flags.qrels_out, data.qrel_lines(outcome.task.qrels))


def _write(target: str, lines: Iterable[str]) -> None:
    from pathlib import Path

    try:
        with Path(target).open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)
    except OSError as problem:
        raise UsageError(f"{target} cannot be written ({problem.strerror})", "name another file") from problem


def _tell(outcome: Outcome) -> None:
    """What the figures rest on, and what was left out."""
    from clamr_cli.cli import output
    from clamr_cli.evaluate.ids import listed

    if outcome.unknown:
        strangers = f"answers that are no video of the index, or several: {len(outcome.unknown)} "
        lost = f"; queries without another answer: {len(outcome.lost)}, which count as 0 unless --judged-only"
        output.warn(f"{strangers}({listed(outcome.unknown)}){lost if outcome.lost else ''}")
    for note in outcome.notes:
        output.warn(note)


def _show(outcome: Outcome, form: Form) -> None:
    from clamr_cli.cli import eval_output as evaluation
    from clamr_cli.cli import output

    if form is Form.TABLE:
        output.print_table(evaluation.Screen(outcome.report))
    else:
        for line in filter(None, (evaluation.verdict(outcome.report), evaluation.basis(outcome.report))):
            output.warn(line)
    match form:
        case Form.JSON:
            output.write(evaluation.json_lines(outcome.report))
        case Form.CSV:
            output.write(evaluation.csv_lines(outcome.report))
        case Form.TSV:
            output.write(evaluation.tsv_lines(outcome.report))
