"""``clamr ask``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli.cli.llm_options import LlmOptions
from clamr_cli.cli.preparing import PreparingFlags
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError

if TYPE_CHECKING:
    from clamr_cli.ask import Material, Question
    from clamr_cli.cli.ask_output import Told
    from clamr_cli.cli.preparing import Session
    from clamr_cli.cli.runtime import Context
    from clamr_cli.frames import Choice, FrameHit

_NOTHING: Final = "has neither a picture nor words that were found"
_KEPT_SIDE: Final = 448
"""Pixels of the longer side of the pictures that preparing keeps; larger ones are decoded again."""

_FRAMES: Final = 32
_AROUND: Final = 5.0
_FEWER: Final = "show fewer or smaller frames: -k, --side"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(LlmOptions, PreparingFlags):
    """Options of ``clamr ask``."""

    video: Annotated[str, typer.Argument(metavar="VIDEO|ID", help="A file, or a video's id or the beginning of it.")]
    question: Annotated[list[str], typer.Argument(metavar="QUESTION", help="What to answer.", show_default=False)]
    choice: Annotated[
        list[str] | None, typer.Option("--choice", metavar="TEXT", help="An answer to choose from; repeatable.")
    ] = None
    choices: Annotated[
        str | None, typer.Option("--choices", metavar="TEXT...", help="All answers to choose from, one after another.")
    ] = None
    count: Annotated[int | None, typer.Option("--count", "-k", metavar="N", help="Frames to show (default 32).")] = None
    select: Annotated[
        str, typer.Option("--select", metavar="HOW", help="diverse, top or windows (best of N equal parts).")
    ] = "diverse"
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", "-m", metavar="NAME", help="Choose frames by these only; repeatable."),
    ] = None
    side: Annotated[
        int, typer.Option("--side", metavar="PIXELS", help="Longer side of the frames at most.", show_default=True)
    ] = 448
    around: Annotated[
        str | None, typer.Option("--around", metavar="TIME", help="Show lines up to 5 seconds from a frame, or as far.")
    ] = None
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the answer's sampling.", min=0)] = 0
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="0 is the most probable answer.", min=0.0)
    ] = 0.0
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds for an answer.", min=0.1)] = 300.0
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the prompt as JSON; ask nobody.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the answer and what it rests on as JSON.")] = False


def run(before: Context, flags: Flags) -> int:
    """Ask a vision-language model a question about one video.

    It is shown the frames and lines that matter. The frames are those that 'clamr frames' finds. The model is a
    folder on this machine or an OpenAI-compatible endpoint. The times that it cites are checked: one that nothing
    shown has is marked with a question mark.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.ask_output import answer_line, lines
    from clamr_cli.cli.preparing import prepared_for
    from clamr_cli.text import plural

    question, choice, around = _asked(flags)
    session = prepared_for(before, flags, flags.video)
    hits = _chosen(session, question, choice)
    if session.prepared.candidates and not hits:
        output.warn("nothing found: no frame has what it is to be chosen by")
        return EXIT_NOTHING
    if flags.count is not None and 0 < len(hits) < choice.k:
        output.warn(f"the video has only {plural(len(hits), 'frame')} to choose from, not {choice.k}")
    material = _material(session, hits, around, flags.side)
    if flags.dry_run:
        return _show_prompt(question, material, flags)
    told = _answered(before, session, flags, question, material, hits)
    output.write([answer_line(told)] if flags.json else lines(told))
    return _tell(told)


def _asked(flags: Flags) -> tuple[Question, Choice, float]:
    """What the flags ask for; all of it is checked before anything is opened."""
    import math

    from clamr_cli.ask import Question
    from clamr_cli.cli import options
    from clamr_cli.frames import Choice
    from clamr_cli.timeline import parse_time

    question = Question.of(" ".join(flags.question), (*(flags.choice or ()), *filter(None, [flags.choices])))
    for name, number in (("-k", flags.count), ("--side", flags.side)):
        if number is not None and number < 1:
            raise UsageError(f"{name} {number} would show nothing", "give 1 or more")
    if flags.select not in ("diverse", "top", "windows"):
        raise UsageError(f"there is no --select {flags.select}", "use diverse, top or windows")
    if not math.isfinite(flags.temperature):
        raise UsageError(f"invalid --temperature: {flags.temperature}", "give a finite one")
    flags.check_llm()
    if flags.model is None and not flags.dry_run:
        hint = "name one: --model FOLDER, or --base-url URL --model NAME; --dry-run shows the prompt without"
        raise UsageError("no model to ask", hint)
    around = _AROUND if flags.around is None else parse_time(flags.around)
    modalities = options.modalities(flags.modality)
    flags.check_model()
    return question, Choice(flags.count or _FRAMES, flags.select, modalities), around  # type: ignore[arg-type]


def _chosen(session: Session, question: Question, choice: Choice) -> list[FrameHit]:
    from clamr_cli.cli.output import warn
    from clamr_cli.frames import find

    prepared = session.prepared
    if not prepared.candidates:
        if not (prepared.speech or prepared.ocr):
            raise UsageError(f"{prepared.target.path or prepared.target.video_id} {_NOTHING}", "ask about another one")
        warn("the video has no picture: the model is shown what is said alone")
        return []
    return find(prepared, session.encoder(), question.text, choice)


def _material(session: Session, hits: list[FrameHit], around: float, side: int) -> Material:
    from clamr_cli import ask
    from clamr_cli.cli.output import warn
    from clamr_cli.types import Frame

    prepared = session.prepared
    jpegs = _pictures(session, hits, side)
    frames = [Frame(hit.time, hit.span, jpegs[hit.number]) for hit in hits]
    spans = [hit.span for hit in hits] or [line.span for line in prepared.speech]
    lines = ask.lines_near(spans, prepared.speech, prepared.ocr, around=around)
    if not hits and sum(line.kind == "said" for line in lines) < len(prepared.speech):
        warn("not all that is said fits into the question: the model is shown its beginning")
    return ask.Material(ask.smaller(frames, side), lines)


def _pictures(session: Session, hits: list[FrameHit], side: int) -> dict[int, bytes]:
    """The JPEG of each frame: the one that was kept, or a larger one from the file."""
    from clamr_cli.frames import pictures, stills

    if side > _KEPT_SIDE:
        taken = pictures(session.store, session.prepared, hits, side=side)
        return {picture.hit.number: picture.jpeg for picture in taken}
    numbers = [hit.number for hit in hits]
    return dict(zip(numbers, stills(session.store, session.prepared, numbers), strict=True))


def _show_prompt(question: Question, material: Material, flags: Flags) -> int:
    from clamr_cli.ask import prompt_for
    from clamr_cli.cli.output import json_line, write

    prompt = prompt_for(question, material, seed=flags.seed, temperature=flags.temperature)
    write([json_line({"seed": prompt.seed, "temperature": prompt.temperature, "messages": prompt.describe()})])
    return EXIT_FOUND


def _answered(
    before: Context, session: Session, flags: Flags, question: Question, material: Material, hits: list[FrameHit]
) -> Told:
    from clamr_cli.ask import ask
    from clamr_cli.cli.ask_output import Told
    from clamr_cli.cli.progress import Screen

    target = session.prepared.target
    known = session.store.files([target.video_id])
    with Screen(quiet=flags.quiet) as screen:
        screen.bar(f"asking about {len(material.frames)} frames", 0, None, due=False)
        writer = flags.load_model(session.settings, image_hint=_FEWER)
        try:
            answer = ask(writer, question, material, seed=flags.seed, temperature=flags.temperature)
        finally:
            writer.close()
    # An id means something in the index that was named here, and the command that opens it names none.
    elsewhere = before.db or before.config
    opened = target.video_id if not target.path or (known and not elsewhere) else target.path
    return Told(answer, question, target.video_id, target.path, opened, writer.name, tuple(hits), tuple(writer.notes))


def _tell(told: Told) -> int:
    from clamr_cli.ask import LETTERS
    from clamr_cli.cli.output import warn

    for note in (*told.notes, *told.answer.notes):
        warn(f"note: {note}")
    if told.answer.invented:
        times = ", ".join(citation.text for citation in told.answer.invented)
        warn(f"nothing that was shown has these cited times: {times}")
    if told.question.choices and told.answer.choice is None:
        warn(f"the answer takes none of the choices A to {LETTERS[len(told.question.choices) - 1]}")
        return EXIT_NOTHING
    return EXIT_FOUND
