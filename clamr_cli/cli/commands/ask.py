"""clamr ask: a question about one video, answered by a vision-language model."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli import terms
from clamr_cli.ask import Answer, Citation, Material, Question
from clamr_cli.cli import options
from clamr_cli.cli.commands.frames import VideoSession, prepare_video
from clamr_cli.cli.options import Context
from clamr_cli.cli.output import print_line, warn, write
from clamr_cli.cli.progress import Screen
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.records import json_line, json_only, record, rounded, span_record
from clamr_cli.text import command_line, format_time, parse_time, plural

if TYPE_CHECKING:
    from clamr_cli.frames import FrameHit

_STORED_SIDE: Final = 448
"""Pixels of the longer side of the frames that preparing stores; larger ones are decoded again."""

_FRAMES: Final = 32
_AROUND: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class AskArguments(options.LlmOptions, options.PrepareOptions):
    video: options.VideoArgument
    question: Annotated[list[str], typer.Argument(metavar="QUESTION", help="What to answer.", show_default=False)]
    choice: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="An answer to choose from; repeatable.")] = (
        None
    )
    choices: Annotated[
        str | None, typer.Option(metavar="TEXT...", help="All answers to choose from, one after another.")
    ] = None
    count: Annotated[
        int | None, typer.Option("--count", "-n", "-k", metavar="N", help="Frames to show (default 32).", min=1)
    ] = None
    select: options.SelectOption = "diverse"
    modality: options.ModalityOption = None
    side: Annotated[int, typer.Option(metavar="PIXELS", help="Longer side of the frames at most.", min=1)] = 448
    around: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=parse_time, help="Show lines up to 5 seconds from a frame, or as far."),
    ] = None
    seed: Annotated[int, typer.Option(metavar="N", help="Of the answer's sampling.", min=0)] = 0
    temperature: options.TemperatureOption = 0.0
    timeout: options.TimeoutOption = 300.0
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the prompt as JSON; ask nobody.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print the answer and what it rests on as JSON.")] = False


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer and what it is about."""

    answer: Answer
    question: Question
    model: str
    video_id: str
    path: str  # empty where no file is at hand
    opened: str  # what clamr open finds the video by
    hits: Sequence[FrameHit]  # that were chosen, best first
    notes: Sequence[str]  # what the user should know

    @property
    def letter(self) -> str | None:
        return None if self.answer.choice is None else string.ascii_uppercase[self.answer.choice]

    def opening(self, citation: Citation) -> str:
        """The command that opens the video at a cited time."""
        return command_line(["clamr", "open", f"{self.opened}@{format_time(citation.start)}"])


def _citation(asked: Asked, citation: Citation) -> dict[str, object]:
    return {
        "text": citation.text,
        "start": rounded(3)(citation.start),
        "end": rounded(3)(citation.end),
        "source": citation.source,
        "open": None if citation.source is None else asked.opening(citation),
    }


def _frames(asked: Asked) -> list[dict[str, object]]:
    hits = sorted(asked.hits[: len(asked.answer.material.frames)], key=lambda hit: hit.frame.time)
    return [
        {"time": rounded(3)(hit.frame.time), "score": rounded(4)(hit.score), "modality": hit.modality} for hit in hits
    ]


def _lines(asked: Asked) -> list[dict[str, object]]:
    lines = asked.answer.material.lines
    return [{**span_record(line.span), "kind": line.kind, "text": line.text} for line in lines]


ANSWER: Final = (
    json_only("video_id", "Id of the video."),
    json_only("path", "Its file; empty where none is at hand."),
    json_only("question", "The question.", lambda asked: asked.question.text),
    json_only("choices", "The answers to choose from.", lambda asked: list(asked.question.choices)),
    json_only("answer", "The answer.", lambda asked: asked.answer.text),
    json_only("choice", "Letter of the choice it takes; null where it takes none.", lambda asked: asked.letter),
    json_only(
        "citations", "The times it cites: text, start, end, source (null where nothing shown has it), open.",
        lambda asked: [_citation(asked, citation) for citation in asked.answer.citations],
    ),
    json_only("model", "The model that answered."),
    json_only("frames", "The frames that it was shown, in time order: time, score, modality.", _frames),
    json_only("lines", "The lines that it was shown: start, end, kind, text.", _lines),
    json_only("notes", "What the user should know.", lambda asked: list(asked.notes)),
)  # fmt: skip


def ask(context: Context, arguments: AskArguments) -> int:
    """Ask a vision-language model a question about one video.

    It is shown the frames and lines that matter. The frames are those that 'clamr frames' finds. The model is a
    folder on this machine or an OpenAI-compatible endpoint. The times that it cites are checked: one that nothing
    shown has is marked with a question mark.

    Examples:
        clamr ask talk.mp4 "what is the door made of?" --model ~/models/vlm
        clamr ask 1a2b "which?" --choices red blue --base-url http://gpu:8000/v1
    """
    from clamr_cli import ask as library
    from clamr_cli.frames import FrameChoice, find

    choices = (*(arguments.choice or ()), *filter(None, [arguments.choices]))
    question = library.Question.of(" ".join(arguments.question), choices)
    arguments.check_llm()
    if arguments.model is None and not arguments.dry_run:
        hint = "name one: --model FOLDER, or --base-url URL --model NAME; --dry-run shows the prompt without"
        raise UsageError("no model to ask", hint)
    choice = FrameChoice(arguments.count or _FRAMES, arguments.select, terms.modalities(arguments.modality))
    arguments.check_model()
    session = prepare_video(context, arguments, arguments.video)
    prepared = session.prepared
    hits: list[FrameHit] = []
    if prepared.candidates:
        hits = find(prepared, session.encoder(), question.text, choice)
        if not hits:
            warn("nothing found: no frame has what it is to be chosen by")
            return EXIT_NOTHING
    elif prepared.texts.speech or prepared.texts.ocr:
        warn("the video has no picture: the model is shown what is said alone")
    else:
        video = prepared.target.path or prepared.target.video_id
        raise UsageError(f"{video} has neither a picture nor words that were found", "ask about another one")
    if arguments.count is not None and 0 < len(hits) < choice.k:
        warn(f"the video has only {plural(len(hits), 'frame')} to choose from, not {choice.k}")
    material = _material(session, hits, _AROUND if arguments.around is None else arguments.around, arguments.side)
    seed, temperature = arguments.seed, arguments.temperature
    if arguments.dry_run:
        prompt = library.prompt_for(question, material, seed=seed, temperature=temperature)
        write([json_line({"seed": seed, "temperature": temperature, "messages": prompt.describe()})])
        return EXIT_FOUND
    with Screen(quiet=arguments.quiet) as screen:
        screen.bar(f"asking about {len(material.frames)} frames", 0, None, due=False)
        model = arguments.load_model(session.settings, image_hint="show fewer or smaller frames: -k, --side")
        try:
            answer = library.ask(model, question, material, seed=seed, temperature=temperature)
        finally:
            model.close()
    target = prepared.target
    # An id means something in the index that was named here, and the command that opens it names none.
    is_indexed = bool(session.store.files([target.video_id])) and not (context.db or context.config)
    opened = target.video_id if not target.path or is_indexed else target.path
    notes = (*model.notes, *answer.notes)
    asked = Asked(answer, question, model.name, target.video_id, target.path, opened, hits, notes)
    return _print(asked, json=arguments.json)


def _material(session: VideoSession, hits: Sequence[FrameHit], around: float, side: int) -> Material:
    """Input of the model: the frames, at most ``side`` pixels large, and the lines around them."""
    from clamr_cli import ask as library
    from clamr_cli.frames import full_size, stills

    store, prepared = session.store, session.prepared
    if side > _STORED_SIDE:
        jpegs = {hit.number: jpeg for hit, jpeg, _ in full_size(store, prepared, hits, side=side)}
    else:
        numbers = [hit.number for hit in hits]
        jpegs = dict(zip(numbers, stills(store, prepared, numbers), strict=True))
    frames = [replace(hit.frame, jpeg=jpegs[hit.number]) for hit in hits]
    spans = [hit.frame.span for hit in hits] or [line.span for line in prepared.texts.speech]
    lines = library.lines_near(spans, prepared.texts.speech, prepared.texts.ocr, around=around)
    if not hits and sum(line.kind == "said" for line in lines) < len(prepared.texts.speech):
        warn("not all that is said fits into the question: the model is shown its beginning")
    return library.Material(library.smaller(frames, side), lines)


def _print(asked: Asked, *, json: bool) -> int:
    """Print the choice where there were some, the answer, and a command for each time that it cites."""
    answer, choices = asked.answer, asked.question.choices
    if json:
        write([json_line(record(ANSWER, asked))])
    else:
        lines = [] if answer.choice is None else [f"{asked.letter}. {choices[answer.choice]}"]
        lines += answer.text.split("\n")
        shown = [citation for citation in answer.citations if citation.source is not None]
        lines += ["", *map(asked.opening, shown)] if shown else []
        for line in lines:
            print_line(line)
    for note in asked.notes:
        warn(f"note: {note}")
    if answer.invented:
        times = ", ".join(citation.text for citation in answer.invented)
        warn(f"nothing that was shown has these cited times: {times}")
    if choices and answer.choice is None:
        warn(f"the answer takes none of the choices A to {string.ascii_uppercase[len(choices) - 1]}")
        return EXIT_NOTHING
    return EXIT_FOUND
