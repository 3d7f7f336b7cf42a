"""``clamr eval qa``: which frames let a model answer questions about long videos best."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from clamr_cli.cli import options
from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import Form, emit, empty_table, print_table, safe, tsv_line, warn, write
from clamr_cli.cli.progress import LlmRunView, event_line, follow, stage_text
from clamr_cli.errors import EXIT_FOUND, EXIT_PARTIAL, MediaError, StoreError, UsageError
from clamr_cli.events import Event, Notice, Progress
from clamr_cli.records import Column, rounded
from clamr_cli.selection import create_encoder
from clamr_cli.text import parse_time, plural

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from clamr_cli.evaluate.qa import QaReport, QuestionSettled, Share, Strategy
    from clamr_cli.evaluate.questions import QuestionMedia

_NAME_WIDTH: Final = len("clamr+speech+subs")


@dataclass(frozen=True, kw_only=True)
class EvalQaArguments(options.FormOptions, options.LlmOptions, options.PrepareOptions):
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Questions: a file, or the folder of a published collection.")
    ]
    format: Annotated[
        Literal["auto", "videomme", "longvideobench", "qvhighlights", "jsonl"],
        typer.Option(help="Format of the questions."),
    ] = "auto"
    videos: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Look for the videos here; repeatable.")] = (
        None
    )
    subtitles: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Look for their subtitles here; repeatable.")
    ] = None
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="uniform, dense, clamr, clamr+speech, each also with +subs; repeatable (default all)."
        ),
    ] = None
    count: Annotated[int, typer.Option("--count", "-k", metavar="N", help="Frames of a strategy.", min=1)] = 32
    dense_frames: Annotated[int, typer.Option(metavar="N", help="Frames of dense.", min=1)] = 768
    select: options.SelectOption = "diverse"
    nearby: Annotated[
        float,
        typer.Option("--context", metavar="TIME", parser=parse_time, help="Attach speech within TIME of a frame."),
    ] = "3s"  # type: ignore[assignment]  # defaults are parsed too
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            metavar="FILE",
            parser=options.out_file,
            help="Keep results in this JSONL file; go on there.",
        ),
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="The first N questions.", min=1)] = (
        None
    )
    concurrency: options.ConcurrencyOption = 4
    timeout: options.TimeoutOption = 300.0
    bootstrap: options.BootstrapOption = 2000
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of answers and resamples.", min=0)] = 0

    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies to compare."""
        from clamr_cli.evaluate.qa import Strategy

        strategies = list(Strategy)
        if self.strategy:
            names = [part.strip().lower() for name in self.strategy for part in name.split(",")]
            if unknown := [name for name in names if name not in strategies]:
                raise UsageError(f"invalid strategy {unknown[0]!r}", f"use {', '.join(strategies)}")
            strategies = [Strategy(name) for name in names]
        # What the model is told changes nothing where none is asked.
        return tuple(dict.fromkeys(strategy if self.model else strategy.silent for strategy in strategies))


def eval_qa(context: Context, arguments: EvalQaArguments) -> int:
    """Measure which frames let a model answer questions best.

    The questions are about long videos. It reads Video-MME, LongVideoBench, QVHighlights and its own lines. Without
    --model only the choice of frames is measured, against annotated evidence. It can be interrupted; the same
    command with the same --out goes on.

    Examples:
        clamr eval qa questions.jsonl --videos ~/Videos -o results.jsonl
    """
    from clamr_cli.evaluate import questions as collections
    from clamr_cli.evaluate.data import listed
    from clamr_cli.evaluate.metrics import Sampling
    from clamr_cli.evaluate.qa import RESULT_KEY, QaOptions, QaRun, report
    from clamr_cli.frames import Prepared, locate, prepare
    from clamr_cli.journal import Journal

    form, strategies = arguments.form, arguments.strategies()
    qa_options = QaOptions(strategies, arguments.count, arguments.dense_frames, arguments.select, seed=arguments.seed)
    arguments.check_llm()
    if arguments.base_url and not arguments.model:
        raise UsageError("no model to ask at --base-url", "name it with --model")
    arguments.check_model()
    settings = arguments.settings(context)
    questions = collections.read(collections.locate(Path(arguments.data)), arguments.format)[: arguments.limit]
    store = open_store(settings, create=True)
    data = Path(arguments.data)
    folder = data if data.is_dir() else data.absolute().parent
    videos, subtitles = ([*(folders or ()), folder] for folders in (arguments.videos, arguments.subtitles))
    media, missing = collections.find_media(questions, store.files(), videos, [*subtitles, *videos])
    if arguments.model is None and not any(question.has_evidence for question in questions):
        what = "nothing to measure: no question says where its answer is, and no model is named"
        raise UsageError(what, "name one: --model FOLDER, or --base-url URL --model NAME")
    if not media:
        raise UsageError(f"none of the videos is here ({listed(missing)})", "say where they are with --videos DIR")
    if missing:
        lost = sum(question.video in missing for question in questions)
        what = f"{plural(lost, 'question')} about {plural(len(missing), 'video')} not here"
        warn(f"left out: {what} ({listed(missing)})")
    # The same for every strategy; no strategy looks at on-screen text.
    dense = arguments.dense_options(store, settings)
    dense = replace(dense, index=replace(dense.index, text=False), context=arguments.nearby)
    encoder = create_encoder(dense.index.encoder, settings, dense.index.encoder_settings)
    model = None
    if arguments.model:
        hint = "show fewer frames: -k, --dense-frames"
        model = arguments.load_model(settings, image_hint=hint, workers=arguments.concurrency)
    view = QaView(len(media), arguments.out)

    def prepare_media(video: QuestionMedia) -> Prepared:
        try:
            srt = collections.cached_subtitles(video, settings.cache / "qa")
            target = replace(locate(store, video.video), subtitles=srt)
        except UsageError as error:
            raise MediaError(error.what, error.hint) from error
        with contextlib.closing(prepare(store, target, dense)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Prepared):
                    return event
                view.show_preparation(event)
        raise StoreError("what was prepared is not all there", "run the command again")

    try:
        with Journal(arguments.out, "results", RESULT_KEY, ascii_only=True) as journal:
            run = QaRun(store, encoder, prepare_media, model, qa_options, dense, journal, questions)
            if run.others:
                results = f"{plural(run.others, 'result')} of the file made with other settings or for other questions"
                warn(f"{results}: left there, and not counted")
            code = follow(run.events(media), view, quiet=arguments.quiet)
        sampling = Sampling(arguments.bootstrap, arguments.seed)
        _show(report(run.results.values(), questions, strategies, sampling), form)
    finally:
        if model is not None:
            model.close()
    return EXIT_PARTIAL if code == EXIT_FOUND and (missing or view.failed) else code


class QaView(LlmRunView):
    """Shows a run on stderr; a reason why a video fails is read once."""

    def __init__(self, videos: int, out: Path | None) -> None:
        super().__init__(videos, out)
        self.settled = self.failed = 0
        self._reasons: set[tuple[str, str]] = set()

    def settle(self, event: QuestionSettled) -> None:
        self.settled += 1
        if event.record["outcome"] == "failed":
            self.failed += 1
            # A video that cannot be read fails for every question and strategy.
            reason = (str(event.record["video"]), str(event.record["reason"]))
            if reason not in self._reasons:
                self._reasons.add(reason)
                failure = f"failed {reason[0]}, question {event.record['id']}: {reason[1]}"
                self.screen.line(failure, always=True)

    def results(self) -> str:
        return plural(self.settled, "result")

    def show_preparation(self, event: Event) -> None:
        """Take in how far the preparation of the next video is."""
        if isinstance(event, Notice):
            self.screen.line(event_line(event), always=True)
        if isinstance(event, Progress):
            self.stage = stage_text(event)
        self.move()

    def interrupted(self) -> str:
        results = f"{self.results()} kept" if self._out else "no result is kept"
        return f"interrupted: {results}; {self.how_to_go_on()}"


_four = rounded(4)


def _accuracy_record(accuracy: Mapping[str, Share]) -> dict[str, object]:
    return {
        group: {
            "questions": share.count,
            "mean": _four(share.mean),
            "interval": None if share.low is None else [_four(share.low), _four(share.high)],
        }
        for group, share in accuracy.items()
    }


STRATEGY: Final = (
    Column("strategy", "How frames were chosen."),
    Column("frames", "How many were shown or chosen on average.", json=rounded(1), tsv=rounded(1)),
    Column("unclear", "Answers that take no choice; they count as wrong."),
    Column("failed", "Questions without an answer; they do not count."),
    Column("p", "Of being no better than the first strategy.", json=_four, tsv=_four),
    Column("accuracy", "Share of right answers by class of length.", json=_accuracy_record, tsv=None),
)
EVIDENCE: Final = (
    Column("evidence", "Questions whose evidence is annotated."),
    Column(
        "selection",
        "Means of the measures of the chosen frames.",
        json=lambda selection: {name: _four(value) for name, value in selection.items()},
        tsv=None,
    ),
)


def _columns(report: QaReport) -> list[Column]:
    """The columns of a report; those of TSV depend on its classes of length."""
    from clamr_cli.evaluate.qa import SELECTION

    def share_of(group: str) -> Any:  # noqa: ANN401
        return lambda row: row.accuracy.get(group)

    def mean_of(measure: str) -> Any:  # noqa: ANN401
        return lambda row: row.selection.get(measure)

    columns = list(STRATEGY)
    for group in report.groups:
        share = share_of(group)
        columns += [
            Column(f"questions {group}", "", share, None, lambda share: share.count if share else 0),
            Column(f"accuracy {group}", "", share, None, lambda share: share and _four(share.mean)),
            Column(f"low {group}", "", share, None, lambda share: share and _four(share.low)),
            Column(f"high {group}", "", share, None, lambda share: share and _four(share.high)),
        ]
    columns += EVIDENCE
    return [*columns, *(Column(name, "", mean_of(name), None, _four) for name in SELECTION.values())]


def _show(report: QaReport, form: Form) -> None:
    """A table of accuracy where a model answered, and one of the choice of frames where the evidence is annotated."""
    answered = max((row.accuracy["all"].count for row in report.rows if row.accuracy), default=0)
    evidence = max(row.evidence for row in report.rows)
    basis = []
    if answered:
        basis.append(f"accuracy over {answered} questions with 95 % intervals; p: against {report.rows[0].strategy}")
    if report.measures:
        basis.append(f"choice of frames over {evidence} questions whose evidence is annotated")
    summary = "; ".join(basis) or "no question was answered, and none has annotated evidence"
    if form is not Form.TABLE:
        warn(summary)
        columns = _columns(report)
        if form is Form.TSV:
            write([tsv_line([column.name for column in columns if column.tsv])])
        emit(columns, report.rows, form)
        return
    if answered:
        print_table(_accuracy_table(report), "")
    if report.measures:
        print_table(_selection_table(report), "")
    print_table(safe(summary, "dim"))


def _accuracy_table(report: QaReport) -> Table:
    table = empty_table()
    table.add_column("strategy", overflow="fold", min_width=_NAME_WIDTH)
    for name in ("frames", *report.groups, "p", "unclear"):
        table.add_column(safe(name), justify="right", no_wrap=name not in report.groups)
    best = max(row.accuracy["all"].mean for row in report.rows if row.accuracy)
    for row in report.rows:
        style = "bold" if row.accuracy and row.accuracy["all"].mean == best else ""
        shares = [_percentage(row.accuracy.get(group)) for group in report.groups]
        p = "" if row.p is None else f"{row.p:.3f}"
        table.add_row(safe(row.strategy, style), f"{row.frames:.0f}", *shares, p, str(row.unclear or ""))
    return table


def _percentage(share: Share | None) -> Text:
    """A percentage, and below it its interval."""
    if share is None or share.low is None or share.high is None:
        return safe("" if share is None else f"{100 * share.mean:.1f}")
    return safe(f"{100 * share.mean:.1f}").append(f"\n{100 * share.low:.1f}-{100 * share.high:.1f}", "dim")


def _selection_table(report: QaReport) -> Table:
    table = empty_table()
    table.add_column("strategy", overflow="fold")
    for name in ("frames", *report.measures):
        table.add_column("prec." if name == "precision" else name, justify="right", no_wrap=True)
    choices = []
    for row in report.rows:
        # A strategy that chooses as an earlier one does, and only tells the model more, is left out.
        if (row.frames, row.selection) not in choices:
            choices.append((row.frames, row.selection))
            values = [row.selection.get(name) for name in report.measures]
            cells = ("" if value is None else f"{100 * value:.1f}" for value in values)
            table.add_row(safe(row.strategy), f"{row.frames:.0f}", *cells)
    return table
