"""clamr frames: the frames that answer a question inside one video, and what is written of them to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli import locations, terms
from clamr_cli.cli import options
from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import emit, warn
from clamr_cli.cli.progress import PrepareView, counted, follow
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, EXIT_PARTIAL, MediaError, StoreError, UsageError
from clamr_cli.files import absent_file
from clamr_cli.records import (
    FRAME,
    Column,
    record,
    rounded,
)
from clamr_cli.selection import create_encoder
from clamr_cli.text import escape_json, file_time, format_time, parse_time, plural
from clamr_cli.types import Encoder

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.frames import DenseOptions, FrameChoice, FrameHit, Prepared
    from clamr_cli.store import Store

_LONGEST_CELL: Final = 120


@dataclass(frozen=True, kw_only=True)
class FramesArguments(options.FormOptions, options.EncoderOptions, options.PrepareOptions):
    video: options.VideoArgument
    question: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="What the frames are to answer.", show_default=False),
    ] = None
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Frames like this picture, instead of a question; - reads one from stdin."),
    ] = None
    count: Annotated[int, typer.Option("--count", "-n", "-k", metavar="N", help="How many frames.", min=1)] = 32
    select: options.SelectOption = "diverse"
    modality: options.ModalityOption = None
    out: Annotated[
        str | None,
        typer.Option("--out", "--output", "-o", metavar="DIR", help="Write JPEGs named by time, and frames.json."),
    ] = None
    sheet: options.SheetOption = None
    around: Annotated[
        float | None,
        typer.Option(
            metavar="TIME", parser=parse_time, help="With --out: a clip from so long before to after each frame."
        ),
    ] = None
    exact: Annotated[
        bool, typer.Option("--exact", help="Encode clips anew instead of copying from the keyframe before.")
    ] = False
    side: Annotated[
        int, typer.Option(metavar="PIXELS", help="Longer side of the JPEGs at most.", min=16, max=16_384)
    ] = 1280
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export or sheet.")] = False
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only prepare the video, for questions to come; --json prints events.")
    ] = False

    def check(self) -> None:
        """Refuse places that cannot be written to and a picture that cannot be read, before anything is opened."""
        if self.image is not None and self.image != "-":
            from clamr_cli.media.pictures import read_picture

            read_picture(self.image)
        if self.out == "" or self.sheet == "":
            raise UsageError("the place to write to is empty", "name a folder with --out, a file with --sheet")
        if self.around is not None and self.out is None:
            raise UsageError("--around requires --out DIR")
        if self.around == 0:
            raise UsageError("invalid --around: 0", "give a length of time such as 2s")
        if self.exact and self.around is None:
            raise UsageError("--exact requires --around TIME")
        if self.sheet is not None:
            from clamr_cli.frames.sheet import check_sheet

            check_sheet(self.sheet, force=self.force)


def frames(context: Context, arguments: FramesArguments) -> int:
    """Find the frames that answer a question inside one long video.

    A video that was not asked about before is prepared first: frames about every 2 seconds, each with what is said and
    written around it. All of that is kept, so further questions take a moment. With --prepare that is all it does.

    As with clamr search, the exit code is 1 where all of them are weak, which probably do not answer. With --out and
    --sheet they are written nevertheless, and it is 0.

    Piped, it prints tab-separated lines: rank, score, time, start, end, best second, modality, words, speech, on-screen
    text, file, clip.

    Examples:
        clamr frames 3 "who opens the door?"
        clamr frames talk.mp4 "a diagram" -n 8 -o frames --sheet frames.png
        clamr frames film.mp4 --image door.jpg -n 8
        clamr frames film.mp4 --prepare
    """
    from clamr_cli.frames import FrameChoice, find, stills
    from clamr_cli.frames.sheet import Tile, write_sheet

    question = " ".join(arguments.question or ()).strip()
    if arguments.prepare:
        if question or arguments.image is not None:
            raise UsageError("--prepare takes no question", "ask when the video is prepared")
        session = prepare_video(context, arguments, arguments.video, events=arguments.json)
        if not arguments.json:
            warn(f"prepared: {plural(len(session.prepared.candidates), 'frame')} to choose from")
        return EXIT_FOUND
    if arguments.image is not None and question:
        raise UsageError("a question and --image exclude each other", "give one of them")
    if arguments.image is None and not question:
        raise UsageError("the question is empty", 'ask something: clamr frames film.mp4 "who opens the door?"')
    choice = FrameChoice(arguments.count, arguments.select, terms.modalities(arguments.modality))
    form = arguments.form
    arguments.check()
    session = prepare_video(context, arguments, arguments.video)
    prepared = session.prepared
    if not prepared.candidates:
        raise UsageError(
            f"{prepared.target.path or prepared.target.video_id} has no picture, so there are no frames to choose",
            'what is said in it can be searched: clamr index FILE, then clamr search "words"',
        )
    encoder, example = session.encoder(), None
    if arguments.image is not None:
        example, question = options.example(session.store, encoder, arguments.image, is_picture=True)
    hits = find(prepared, encoder, question, choice, example)
    if not hits:
        warn("nothing found: no frame has what was asked for")
        return EXIT_NOTHING
    if len(hits) < choice.k:
        warn(f"the video has only {plural(len(hits), 'frame')} to choose from, not {choice.k}")
    complete = True
    if arguments.out is not None:
        hits, complete = _export(session, question, choice, hits, arguments)
    if arguments.sheet is not None:
        path, ordered = Path(arguments.sheet).expanduser(), sorted(hits, key=lambda hit: hit.frame.time)
        jpegs = stills(session.store, prepared, [hit.number for hit in ordered])
        tiles = [
            Tile(jpeg, hit.frame.time, hit.rank, hit.modality or "", path=prepared.target.path)
            for hit, jpeg in zip(ordered, jpegs, strict=True)
        ]
        write_sheet(path, question, tiles)
    emit(_columns(hits), hits, form)
    if weak := all(hit.weak for hit in hits):
        warn("only weak hits: probably nothing in this video answers the question")
    written = arguments.out is not None or arguments.sheet is not None
    return EXIT_PARTIAL if not complete else EXIT_NOTHING if weak and not written else EXIT_FOUND


def _columns(hits: Sequence[FrameHit]) -> list[Column]:
    """The columns; JSON objects have the names of those files only that were written."""
    absent = {name for name in ("file", "clip") if not any(getattr(hit, name) for hit in hits)}
    return [replace(column, json=None) if column.name in absent else column for column in FRAME]


def _export(
    session: VideoSession, question: str, choice: FrameChoice, hits: Sequence[FrameHit], arguments: FramesArguments
) -> tuple[list[FrameHit], bool]:
    """Write the folder; the hits with the names of their files, and whether every clip could be cut."""
    from clamr_cli.frames.export import Folder, clip_suffix, cut_clips, full_size

    prepared, around, quiet = session.prepared, arguments.around, arguments.quiet
    if around is not None and not prepared.target.path:
        raise UsageError("the video's file is not at hand, so no clips can be cut", "leave out --around")
    suffix = "" if around is None else clip_suffix(prepared, exact=arguments.exact)
    stems = [file_time(hit.frame.time) for hit in hits]
    hits = [
        replace(hit, file=f"{stem}.jpg", clip=stem + suffix if suffix else "")
        for hit, stem in zip(hits, stems, strict=True)
    ]
    names = [name for hit in hits for name in (hit.file, hit.clip) if name]
    listing = _listing(prepared, question, choice, hits, arguments)
    folder = Folder.begin(Path(arguments.out or "").expanduser(), listing, names, force=arguments.force)
    missing = [hit for hit in hits if not folder.has(hit.file)]
    written, small = full_size(session.store, prepared, missing, side=arguments.side), 0
    for hit, jpeg, is_small in counted("writing frames", written, len(missing), quiet=quiet):
        folder.write(hit.file, jpeg)
        small += is_small
    if small:
        count = f"{small} of {plural(len(hits), 'frame')}"
        warn(f"{count} could not be decoded from the file: wrote the small stored pictures instead")
    complete = True
    if around is not None:
        clips = cut_clips(prepared, hits, folder, around, exact=arguments.exact)
        for hit, error in counted("cutting clips", clips, len(hits), quiet=quiet):
            if error is not None:
                complete = False
                warn(f"no clip around {format_time(hit.frame.time)}: {error}")
    return hits, complete


def _listing(
    prepared: Prepared, question: str, choice: FrameChoice, hits: Sequence[FrameHit], arguments: FramesArguments
) -> bytes:
    """The content of ``frames.json``: all that shapes the files, so that equal lists need no new ones."""
    clips = {} if arguments.around is None else {"around": arguments.around, "exact": arguments.exact}
    content = {
        "format": "clamr-frames",
        "version": 1,
        "video_id": prepared.target.video_id,
        "path": prepared.target.path,
        "title": prepared.fields.title,
        "duration": rounded(3)(prepared.media.duration),
        "question": question,
        "select": choice.select,
        "k": choice.k,
        "modalities": list(choice.modalities),
        "encoder": prepared.encoder.name,
        "candidates": len(prepared.candidates),
        "side": arguments.side,
        **clips,
        "frames": [record(_columns(hits), hit) for hit in hits],
    }
    return escape_json(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class VideoSession:
    """An open index, the settings of this run, and a prepared video."""

    store: Store
    settings: Settings
    options: DenseOptions
    prepared: Prepared

    def encoder(self) -> Encoder:
        """The encoder for questions about the video: the one it was prepared with."""
        return create_encoder(self.options.index.encoder, self.settings, self.options.index.encoder_settings)


def prepare_video(
    context: Context, arguments: options.PrepareOptions, video: str, *, events: bool = False
) -> VideoSession:
    """Find a video by path or id and prepare it, showing on stderr how far that is; with ``events`` on stdout too."""
    from clamr_cli.frames import locate, prepare

    settings = arguments.settings(context)
    is_there = locations.lexists(video)
    try:
        store = open_store(settings)
    except StoreError as error:
        if not error.what.startswith("no index at"):
            raise
        # Whatever is prepared is kept in an index; without one, a video can be named by its path only.
        if not is_there and (absent := absent_file(video)):
            raise absent from None
        store = open_store(settings, create=is_there)
    options, view = arguments.dense_options(store, settings), PrepareView()
    try:
        target = locate(store, video)
        video = target.path or target.video_id
        code = follow(prepare(store, target, options), view, quiet=arguments.quiet, json=events)
    except MediaError as error:
        # With its name, and with a hint that is about no index run.
        hint = "name a video" if "--exclude" in error.hint else error.hint.replace("index again", "try again")
        raise type(error)(f"{video}: {error.what}", hint) from error
    if code:
        raise typer.Exit(code)
    return VideoSession(store, settings, options, view.prepared)
