"""``clamr eval qa``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.cli.preparing import PreparingFlags
from clamr_cli.cli.writing import WriterFlags, writer_of
from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.cli.eval_qa_talk import Talk
    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.evaluate.qa.media_lookup import Lookup, Media
    from clamr_cli.evaluate.qa.questions import LabelledQuestion
    from clamr_cli.evaluate.qa.report import Report
    from clamr_cli.evaluate.qa.run import Journal, QaEvent, QaOptions
    from clamr_cli.frames import DenseOptions, Prepared
    from clamr_cli.store import Store

_FEWER: Final = "show fewer frames: -k, --dense-frames"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions, WriterFlags, PreparingFlags):
    """Options of ``clamr eval qa``."""

    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Questions: a file, or the folder of a published collection.")
    ]
    layout: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="auto, videomme, longvideobench, qvhighlights or jsonl."),
    ] = "auto"
    videos: Annotated[
        list[str] | None, typer.Option("--videos", metavar="DIR", help="Look for the videos here; repeatable.")
    ] = None
    subtitles: Annotated[
        list[str] | None, typer.Option("--subtitles", metavar="DIR", help="Look for their subtitles here; repeatable.")
    ] = None
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="uniform, dense, clamr, clamr+speech, each also with +subs; repeatable (default all).",
        ),
    ] = None
    count: Annotated[
        int, typer.Option("--count", "-k", metavar="N", help="Frames of a strategy.", show_default=True, min=1)
    ] = 32
    dense_frames: Annotated[
        int, typer.Option("--dense-frames", metavar="N", help="Frames of dense.", show_default=True, min=1)
    ] = 768
    select: Annotated[
        str, typer.Option("--select", metavar="HOW", help="diverse, top or windows (best of N equal parts).")
    ] = "diverse"
    nearby: Annotated[
        str, typer.Option("--context", metavar="TIME", help="What is said so long before or after a frame is its own.")
    ] = "3s"
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Keep results in this JSONL file; go on there."),
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="The first N questions.", min=1)] = (
        None
    )
    concurrency: Annotated[int, typer.Option(metavar="N", help="Questions to the endpoint at once.", min=1)] = 4
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds for an answer.", min=0.1)] = 300.0
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", metavar="N", help="Resamples of intervals and tests; 0 for none.", min=0)
    ] = 2000
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of answers and resamples.", min=0)] = 0


def run(before: Context, flags: Flags) -> int:
    """Measure which frames let a model answer questions best.

    The questions are about long videos. It reads Video-MME, LongVideoBench, QVHighlights and its own lines. Without
    --model only the choice of frames is measured, against annotated evidence. It can be interrupted; the same
    command with the same --out goes on.
    """
    from clamr_cli.cli.eval_qa_talk import Talk
    from clamr_cli.cli.runtime import create_encoder, open_store, quiet_libraries
    from clamr_cli.evaluate.metrics import Sampling
    from clamr_cli.evaluate.qa.report import report
    from clamr_cli.evaluate.qa.run import Bench, Journal, evaluate, setup_of

    form, options = flags.form, _options(flags)
    _check(flags)
    settings, interval, context = _settings(before, flags)
    questions = _questions(flags)
    quiet_libraries()
    store = open_store(settings, create=True)
    lookup = _lookup(store, questions, flags)
    dense = _dense(store, settings, flags, interval, context)
    encoder = create_encoder(dense.index.encoder, settings, dense.index.encoder_settings)
    writer = writer_of(flags, settings, image_hint=_FEWER, workers=flags.concurrency) if flags.model else None
    there = [question for question in questions if question.video in lookup.media]
    out = Path(flags.out) if flags.out else None
    talk = Talk(len(lookup.media), out, quiet=flags.quiet)
    prepare = partial(_prepared, store, dense, settings.cache / "qa", talk)
    marks = {question.id: question.mark for question in questions}
    try:
        bench = Bench(store, encoder, prepare, writer)
        with Journal(setup_of(bench, options, dense), out, marks) as journal:
            ended = _follow(evaluate(bench, there, lookup.media, options, journal), journal, talk)
            _show(report(journal, questions, options.strategies, Sampling(flags.bootstrap, flags.seed)), form)
    finally:
        if writer is not None:
            writer.close()
    return EXIT_PARTIAL if ended == EXIT_FOUND and (lookup.missing or talk.failed) else ended


def _check(flags: Flags) -> None:
    """Refuse what cannot be done before anything is read."""
    flags.check_writer()
    if flags.base_url and not flags.model:
        raise UsageError("no model to ask at --base-url", "name it with --model")
    if flags.out and (Path(flags.out).is_dir() or not Path(flags.out).absolute().parent.is_dir()):
        raise UsageError(f"{flags.out} cannot be written", "name a file in a folder that is there")
    flags.check_model()


def _options(flags: Flags) -> QaOptions:
    from clamr_cli.evaluate.qa import strategies
    from clamr_cli.evaluate.qa.run import QaOptions

    if flags.select not in ("diverse", "top", "windows"):
        raise UsageError(f"there is no --select {flags.select}", "use diverse, top or windows")
    named = [part for name in flags.strategy or () for part in name.split(",")]
    chosen = tuple(dict.fromkeys(map(strategies.parse, named))) or strategies.ALL
    if flags.model is None:
        # What the model is told changes nothing where none is asked.
        chosen = tuple(dict.fromkeys(strategies.Strategy(one.sampling) for one in chosen))
    picking = strategies.Picking(flags.count, flags.dense_frames, flags.select)  # type: ignore[arg-type]
    return QaOptions(chosen, picking, seed=flags.seed)


def _settings(before: Context, flags: Flags) -> tuple[Settings, float, float]:
    """The settings, seconds between candidates, and seconds around them whose speech is theirs."""
    from clamr_cli.cli.preparing import settings_of
    from clamr_cli.timeline import parse_time

    interval = 2.0 if flags.interval is None else parse_time(flags.interval)
    return settings_of(before, flags), interval, parse_time(flags.nearby)


def _dense(store: Store, settings: Settings, flags: Flags, interval: float, context: float) -> DenseOptions:
    """How to prepare: the same for every strategy; no strategy looks at what is written on screen."""
    from clamr_cli.cli.preparing import options_of

    dense = options_of(store, settings, flags, interval)
    return replace(dense, index=replace(dense.index, text=False), context=context)


def _questions(flags: Flags) -> list[LabelledQuestion]:
    from clamr_cli.evaluate.qa import questions

    return questions.read(questions.locate(Path(flags.data)), flags.layout)[: flags.limit]


def _lookup(store: Store, questions: Sequence[LabelledQuestion], flags: Flags) -> Lookup:
    from clamr_cli.cli.output import warn
    from clamr_cli.evaluate.ids import listed
    from clamr_cli.evaluate.qa import media_lookup
    from clamr_cli.text import plural

    data = Path(flags.data)
    folder = data if data.is_dir() else data.absolute().parent
    videos, subtitles = ([*map(Path, named or ()), folder] for named in (flags.videos, flags.subtitles))
    lookup = media_lookup.find(questions, store.files(), videos, [*subtitles, *videos])
    if flags.model is None and not any(question.has_evidence for question in questions):
        what = "nothing to measure: no question says where its answer is, and no model is named"
        raise UsageError(what, "name one: --model FOLDER, or --base-url URL --model NAME")
    if not lookup.media:
        raise UsageError(
            f"none of the videos is here ({listed(lookup.missing)})", "say where they are with --videos DIR"
        )
    if lookup.missing:
        lost = sum(question.video in lookup.missing for question in questions)
        what = f"{plural(lost, 'question')} about {plural(len(lookup.missing), 'video')} not here"
        warn(f"left out: {what} ({listed(lookup.missing)})")
    return lookup


def _prepared(store: Store, dense: DenseOptions, cache: Path, talk: Talk, media: Media) -> Prepared:
    """A video ready for questions; what must be known of the way there is told.

    Raises:
        MediaError: it cannot be found any more, or read.
    """
    from clamr_cli.errors import MediaError, StoreError
    from clamr_cli.evaluate.qa.media_lookup import subtitles
    from clamr_cli.frames import Prepared, locate, prepare

    try:
        target = replace(locate(store, media.video), subtitles=subtitles(media, cache))
    except UsageError as error:
        raise MediaError(error.what, error.hint) from error
    with contextlib.closing(prepare(store, target, dense)) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Prepared):
                return event
            talk.prepares(event)
    raise StoreError("what was prepared is not all there", "run the command again")


def _follow(events: Iterator[QaEvent], journal: Journal, talk: Talk) -> int:
    """Run and say what happens; an interruption keeps what there is and says how to go on."""
    from clamr_cli.cli.commands.index import close
    from clamr_cli.cli.output import warn
    from clamr_cli.cli.signals import interruptible
    from clamr_cli.text import plural

    if journal.others:
        told = f"{plural(journal.others, 'result')} of the file made with other settings or for other questions"
        warn(f"{told}: left there, and not counted")
    with interruptible():
        try:
            with talk:
                for event in events:
                    talk.show(event)
        except KeyboardInterrupt:
            kept = f"{plural(talk.settled, 'result')} kept" if journal.path else "no result is kept"
            warn(f"interrupted: {kept}; {talk.how}")
            return EXIT_INTERRUPTED
        finally:
            close(events)
    return EXIT_FOUND


def _show(found: Report, form: Form) -> None:
    from clamr_cli.cli import output
    from clamr_cli.render import qa

    if form is Form.TABLE:
        output.print_table(qa.Screen(found))
        return
    output.warn(qa.basis(found))
    output.write(qa.json_lines(found) if form is Form.JSON else qa.tsv_lines(found))
