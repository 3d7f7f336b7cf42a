"""``clamr duplicates``: videos that show the same, wholly or in part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli import options
from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import Form, emit, warn, write_paths
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.records import Column, as_span, fixed, json_only, objects, rounded, seconds_column, table_only
from clamr_cli.text import format_time, plural

if TYPE_CHECKING:
    from clamr_cli.edit.duplicates import Range
    from clamr_cli.store import Store


@dataclass(frozen=True, kw_only=True)
class DuplicatesArguments(options.FormOptions):
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO|PATH]...", help="Only pairs with one of these: names as of show, folders, globs."
        ),
    ] = None
    share: Annotated[
        float,
        typer.Option(
            "--share", metavar="PART", help="Least part of the shorter video that is shared.", min=0.0, max=1.0
        ),
    ] = 0.1
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Decode all of every video once: finds short parts of long ones.")
    ] = False
    not_duplicate: Annotated[
        tuple[str, str] | None,
        typer.Option("--not-duplicate", metavar="A B", help="Remember that two videos are no duplicates."),
    ] = None
    take_back: Annotated[
        tuple[str, str] | None, typer.Option("--take-back", metavar="A B", help="Forget that again.")
    ] = None
    csv: options.CsvOption = False
    paths: Annotated[
        bool, typer.Option("--paths", help="Print only the paths of files that are copies, or wholly in another.")
    ] = False
    null: Annotated[bool, typer.Option("-0", "--null", help="With --paths: end each with a zero byte.")] = False
    quiet: options.QuietOption = False


_RANGE: Final = (
    seconds_column("start_a", "Where it starts in a, in seconds.", lambda one: one.a.start),
    seconds_column("end_a", "Where it ends in a.", lambda one: one.a.end),
    seconds_column("start_b", "Where it starts in b.", lambda one: one.b.start),
    seconds_column("end_b", "Where it ends in b.", lambda one: one.b.end),
    json_only("speed", "Seconds of b for a second of a.", json=rounded(4), kind=float),
    json_only("mirrored", "True if b is mirrored left to right.", kind=bool),
    json_only("sound", "same, other, or empty where it could not be compared."),
)


def _where(one: Range) -> str:
    marks = [f"x{one.speed:.2f}"] * (abs(one.speed - 1) > 0.005) + ["mirrored"] * one.mirrored
    return " ".join([f"{as_span(one.a)} = {as_span(one.b)}", *marks])


def _exact(ranges: Sequence[Range]) -> str:
    return " ".join(f"{one.a.start:.2f}-{one.a.end:.2f}={one.b.start:.2f}-{one.b.end:.2f}" for one in ranges)


def _described(side: Any) -> str:  # noqa: ANN401 -- a Side
    media = side.video.media
    return f"{media.width}x{media.height}, {format_time(media.duration)}, {side.bitrate / 1000:.0f} kbit/s"


def _kept(row: dict[str, Any]) -> str:
    pair = row["pair"]
    side = "both" if pair.keep is None else "the first" if pair.keep is pair.a else "the second"
    return f"keep {side}: {pair.reason}"


def _sides(name: str) -> tuple[Column, ...]:
    return (
        Column(
            f"video_id_{name}", "Id of the video.", lambda row: getattr(row["pair"], name).video.video_id, table=None
        ),
        Column(f"path_{name}", "Path of its file.", lambda row: getattr(row["pair"], name).path, table=None),
        Column(
            f"share_{name}", "Part of it that the other shows, too, without stretches of one colour.",
            lambda row: getattr(row["pair"], name).share, json=rounded(3), tsv=fixed(3), table=None, kind=float,
        ),
    )  # fmt: skip


COLUMNS: Final = (
    Column("rank", "From 1, the surest first.", label="#", right=True, kind=int),
    Column(
        "kind", "copy (same content), same, cut (one is in the other), part, intro or outro.",
        lambda row: row["pair"].kind,
    ),
    Column(
        "share", "Part of the shorter video that is shared.",
        lambda row: row["pair"].share, json=rounded(3), tsv=fixed(3),
        table=lambda share: f"{share:.0%}", right=True, kind=float,
    ),
    Column(
        "sound", "same, other, or empty where it could not be compared.", lambda row: row["pair"].sound,
        table=lambda sound: {"other": "other sound"}.get(sound, ""), below="kind",
    ),
    Column(
        "similarity", "Of the pictures, 1 where they are equal.", lambda row: row["pair"].similarity, json=rounded(3),
        tsv=fixed(3), table=None, kind=float,
    ),
    table_only("ranges", lambda row: "\n".join(map(_where, row["pair"].ranges)), label="where"),
    objects("ranges", "The ranges that both show.", _RANGE, lambda row: row["pair"].ranges),
    Column(
        "ranges", "START-END=START-END in seconds, with spaces between.",
        lambda row: _exact(row["pair"].ranges), json=None, table=None,
    ),
    *_sides("a"),
    *_sides("b"),
    table_only("files", lambda row: row["pair"].a.path, wide=True),
    table_only("a", lambda row: _described(row["pair"].a), below="files"),
    table_only("b", lambda row: row["pair"].b.path, below="files", style="none"),
    table_only("b facts", lambda row: _described(row["pair"].b), below="files"),
    table_only("keep", _kept, below="files", style="green"),
    Column(
        "keep", "Path of the file to keep; null for both, wherever the other may have more.",
        lambda row: row["pair"].keep and row["pair"].keep.path, table=None, kind=str | None,
    ),
    Column("reason", "Why.", lambda row: row["pair"].reason, table=None),
)  # fmt: skip


def duplicates(context: Context, arguments: DuplicatesArguments) -> int:
    """Find videos that show the same, wholly or in part.

    Found well are copies that were encoded anew, scaled, put in black bars, made brighter or faster by up to 5 %, and parts of them, if the picture changes or both have sound. Less surely: crops, mirrored copies, ranges shorter than 10 seconds, and copies with a logo or subtitles on the picture. A range of few different pictures (slides, a camera that stands still) is only shown if the sound is the same, or what moves or changes in them is exactly the same at the same times. Where that is not sure from the fingerprints, videos of up to 15 minutes, or all with --thorough, are decoded once for a closer look. A copy with another sound is one too, and is marked. Each pair says where: 12:34-17:33 = 0:00-5:00 is what the first shows from 12:34 and the second from the start.

    Pairs that share less than a tenth of the shorter video, such as an intro of a series, are only counted: --share 0 shows them. One of two videos is proposed to be kept only where the other seems to have nothing more; nothing is ever deleted.

    --paths prints files with the same content as another, and files that are wholly in another, at the same speed, with the same sound throughout (or no sound in both and many different pictures). The other one is there now and is not printed. Pictures are compared by fingerprints: subtitles or a logo on one of them, and further subtitle tracks, go unseen. Look before you delete.

    Fingerprints of the pictures are made when videos are indexed. What an older index lacks is made now, once; sound is heard where pictures match, and of a small library (about a day of video) everywhere.

    Examples:
        clamr duplicates
        clamr duplicates holiday.mp4 --share 0
        clamr duplicates --not-duplicate a.mp4 b.mp4
        clamr duplicates --paths -0 | xargs -0 ls -l
    """  # noqa: E501 -- a paragraph of help is a line
    if arguments.null and not arguments.paths:
        raise UsageError("-0/--null requires --paths")
    form = arguments.form
    if (arguments.not_duplicate or arguments.take_back) and (arguments.names or arguments.paths):
        raise UsageError("--not-duplicate and --take-back stand alone", "run clamr duplicates afterwards")
    settings = context.settings()
    store = open_store(settings)
    if arguments.not_duplicate or arguments.take_back:
        return _remember(store, arguments.not_duplicate, arguments.take_back)
    from clamr_cli.cli.progress import steps
    from clamr_cli.edit.duplicates import FindOptions, find_pairs, superfluous
    from clamr_cli.files import readable_now

    chosen = _chosen(store, arguments.names) if arguments.names else None
    find = FindOptions(settings.cache, settings.time_limit, arguments.share, arguments.thorough)
    notes: list[str] = []
    with steps(quiet=arguments.quiet) as moved:
        pairs = find_pairs(store, find, chosen, progress=moved, note=notes.append)
    for line in notes:
        warn(line)
    if not pairs:
        warn("no duplicates")
        return EXIT_NOTHING
    if form is Form.PATHS:
        needless = superfluous(pairs, readable_now(store.files()))
        write_paths(needless, null=arguments.null)
        return EXIT_FOUND if needless else EXIT_NOTHING
    emit(COLUMNS, [{"rank": rank, "pair": pair} for rank, pair in enumerate(pairs, 1)], form)
    return EXIT_FOUND


def _chosen(store: Store, names: Sequence[str]) -> set[str]:
    """The videos of names, folders and globs; UsageError where one has none."""
    from clamr_cli.search import video_named
    from clamr_cli.search.search import files_matching

    chosen: set[str] = set()
    files = store.files()
    for name in names:
        is_pattern = os.path.isdir(name) or any(character in name for character in "*?[")
        below = files_matching(files, os.path.abspath(name) if os.path.isdir(name) else name) if is_pattern else []
        if is_pattern and not below:
            raise UsageError(f"no indexed file is below {name}", "list them with: clamr ls")
        chosen.update([file.video_id for file in below] if below else [video_named(store, name)])
    return chosen


def _remember(store: Store, apart: tuple[str, str] | None, again: tuple[str, str] | None) -> int:
    """Note that two videos are no duplicates, or take that back."""
    from clamr_cli.search import video_named

    def pair_of(names: tuple[str, str]) -> tuple[str, str]:
        first, second = sorted(video_named(store, name) for name in names)
        if first == second:
            raise UsageError(f"{names[0]} and {names[1]} have the same content", "name two videos")
        return first, second

    pairs = store.not_duplicates()
    if again and pair_of(again) not in pairs:
        raise UsageError(f"{again[0]} and {again[1]} were not called different", "see clamr duplicates")
    pairs -= {pair_of(again)} if again else set()
    pairs |= {pair_of(apart)} if apart else set()
    with store.writer("clamr duplicates"):
        store.put_not_duplicates(pairs)
    warn(f"remembered as no duplicates: {plural(len(pairs), 'pair')} of videos")
    return EXIT_FOUND
