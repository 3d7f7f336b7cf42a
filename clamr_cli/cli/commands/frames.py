"""``clamr frames``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.cli.preparing import PrepareFlags
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.cli.exporting import Export
    from clamr_cli.cli.runtime import Context
    from clamr_cli.frames import Choice, FrameHit, Prepared, Strategy
    from clamr_cli.types import Encoder

_STRATEGIES: Final[Mapping[str, Strategy]] = {"diverse": "diverse", "top": "top", "windows": "windows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions, PrepareFlags):
    """Options of ``clamr frames``."""

    video: Annotated[str, typer.Argument(metavar="VIDEO|ID", help="A file, or a video's id or the beginning of it.")]
    question: Annotated[
        list[str], typer.Argument(metavar="QUESTION", help="What the frames are to answer.", show_default=False)
    ]
    count: Annotated[int, typer.Option("--count", "-k", metavar="N", help="How many frames.", show_default=True)] = 32
    select: Annotated[
        str, typer.Option("--select", metavar="HOW", help="diverse, top or windows (best of N equal parts).")
    ] = "diverse"
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", "-m", metavar="NAME", help="Only video, speech, ocr or metadata; repeatable."),
    ] = None
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="DIR", help="Write JPEGs named by time, and frames.json.")
    ] = None
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet (.jpg, .png or .webp).")
    ] = None
    around: Annotated[
        str | None,
        typer.Option("--around", metavar="TIME", help="With --out: a clip from so long before to after each frame."),
    ] = None
    exact: Annotated[
        bool, typer.Option("--exact", help="Encode clips anew instead of copying from the keyframe before.")
    ] = False
    side: Annotated[
        int, typer.Option("--side", metavar="PIXELS", help="Longer side of the JPEGs at most.", show_default=True)
    ] = 1280
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export or sheet.")] = False


def run(before: Context, flags: Flags) -> int:
    """Find the frames that answer a question inside one long video.

    A video that was not asked about before is prepared first: frames about every 2 seconds, each with what is said and
    written around it. All of that is kept, so further questions take a moment.

    Piped, it prints tab-separated lines: rank, score, time, start, end, best second, modality, words, speech, on-screen
    text, file, clip.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.exporting import Export
    from clamr_cli.cli.preparing import prepared_for

    question, choice = _asked(flags)
    form = flags.form
    export = Export.of(flags)
    session = prepared_for(before, flags, flags.video)
    prepared = session.prepared
    if not prepared.candidates:
        raise UsageError(
            f"{_name(prepared)} has no picture, so there are no frames to choose",
            'what is said in it can be searched: clamr index FILE, then clamr search "words"',
        )
    hits = _found(prepared, session.encoder(), question, choice)
    if not hits:
        output.warn("nothing found: no frame has what was asked for")
        return EXIT_NOTHING
    whole = export.write(session.store, prepared, question, choice, hits)
    _show(hits, form, export)
    return EXIT_FOUND if whole else EXIT_PARTIAL


def _asked(flags: Flags) -> tuple[str, Choice]:
    """What the flags ask for; all of it is checked before anything is opened."""
    from clamr_cli.cli.options import modalities
    from clamr_cli.frames import Choice

    question = " ".join(flags.question).strip()
    if not question:
        raise UsageError("the question is empty", 'ask something: clamr frames film.mp4 "who opens the door?"')
    if flags.count < 1:
        raise UsageError(f"-k {flags.count} would choose nothing", "give 1 or more")
    if flags.select not in _STRATEGIES:
        raise UsageError(f"there is no --select {flags.select}", f"use {', '.join(_STRATEGIES)}")
    return question, Choice(flags.count, _STRATEGIES[flags.select], modalities(flags.modality))


def _name(prepared: Prepared) -> str:
    return prepared.target.path or prepared.target.video_id


def _found(prepared: Prepared, encoder: Encoder, question: str, choice: Choice) -> list[FrameHit]:
    from clamr_cli.cli.output import warn
    from clamr_cli.frames import find
    from clamr_cli.text import plural

    hits = find(prepared, encoder, question, choice)
    if hits and len(hits) < choice.k:
        warn(f"the video has only {plural(len(hits), 'frame')} to choose from, not {choice.k}")
    return hits


def _show(hits: Sequence[FrameHit], form: Form, export: Export) -> None:
    from clamr_cli.cli import frames_output as frames
    from clamr_cli.cli import output
    from clamr_cli.cli.output import json_line, tsv_line

    match form:
        case Form.TABLE:
            output.print_table(frames.table(hits))
        case Form.JSON:
            output.write(json_line(frames.record(hit, export.files(hit))) for hit in hits)
        case _:
            output.write(tsv_line(frames.row(hit, export.files(hit))) for hit in hits)
