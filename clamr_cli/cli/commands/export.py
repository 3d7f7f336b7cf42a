"""``clamr export``: hits as lists for editing programs and players."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clamr_cli.cli.commands.cut import SelectionOptions, selections_of
from clamr_cli.cli.options import Context
from clamr_cli.cli.output import warn, write
from clamr_cli.errors import EXIT_FOUND, EXIT_PARTIAL, UsageError
from clamr_cli.text import plural

if TYPE_CHECKING:
    from clamr_cli.edit.export import Times
    from clamr_cli.edit.selections import Selection
    from clamr_cli.store import Store
    from clamr_cli.types import Hit


def _rate(text: str) -> Fraction:
    """A frame rate: 25, 23.976, 29.97 or 30000/1001; for ``typer.Option(parser=_rate)``."""
    known = {"23.976": "24000/1001", "23.98": "24000/1001", "29.97": "30000/1001", "59.94": "60000/1001"}
    try:
        rate = Fraction(known.get(text.strip(), text.strip()))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 1 <= rate <= 500:
        raise UsageError(f"invalid --rate: {text!r}", "write it like 25, 23.976, 29.97 or 30000/1001")
    return rate


@dataclass(frozen=True, kw_only=True)
class ExportArguments(SelectionOptions):
    target: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="A file whose ending says the format (cut.otio), or the format's name for stdout."
        ),
    ]
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Format of the file, whatever its ending: resolve, losslesscut.")
    ] = None
    out: Annotated[str | None, typer.Option("--out", "--output", "-o", metavar="FILE", help="Write it there.")] = None
    rate: Annotated[
        Fraction | None, typer.Option(metavar="N", parser=_rate, help="Frames a second of the list: 25, 29.97.")
    ] = None
    drop_frame: Annotated[
        bool | None,
        typer.Option("--drop-frame/--no-drop-frame", help="Timecode of the list at 29.97 and 59.94."),
    ] = None
    times: Annotated[
        Literal["auto", "video", "joined"],
        typer.Option(help="Of srt, vtt, youtube and resolve: the video's, or of all stretches joined."),
    ] = "auto"
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Of the list; by default the file's name.")] = None
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False


def export(context: Context, arguments: ExportArguments) -> int:
    """Write hits as a list for an editing program or a player.

    Formats: .otio (OpenTimelineIO), .edl (CMX 3600), .xml (Final Cut Pro 7, for Premiere), .fcpxml (1.10), resolve (markers, with --format), .csv (shot list), losslesscut (CSV, with --format), .m3u8 and .xspf (players, with start times), .srt and .vtt (the lines of hits), .txt (YouTube chapters). Only .otio needs the extra "export".

    What is listed is named as for 'clamr cut': ranks of the last search, JSON lines, VIDEO@1:02-1:30, or nothing for all hits that are not weak. Nothing is cut: the list refers to the files that are there.

    Times are frames at the exact rate of each video, from its own timecode on. Videos with a variable frame rate, or another than the list, are conformed, and stderr says so. The list begins at 01:00:00:00 and has the frame rate of most of it.

    srt, vtt, youtube and resolve count the time of the video where all is of one, else that of the stretches joined, as 'clamr cut --join' writes them; --times decides.

    Examples:
        clamr export cut.otio 1 3-5
        clamr export edl --line --pad 0.5 > cut.edl
        clamr export markers.edl --format resolve
        clamr search "red car" --json | clamr export cut.fcpxml -
        clamr export holiday.otio --tag holiday
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.edit.export import FORMATS, format_named

    if arguments.format is not None and arguments.format not in FORMATS:
        raise UsageError(f"invalid --format: {arguments.format}", f"use one of {', '.join(FORMATS)}")
    form = arguments.format or format_named(arguments.target)
    if arguments.target in FORMATS and arguments.format is None:
        path = arguments.out
    elif arguments.out is not None:
        raise UsageError("two files were named", f"leave out {arguments.target} or -o")
    else:
        path = arguments.target
    target = None if path is None else check_export(path, force=arguments.force)
    selections, failures = arguments.select(context)
    for line in failures:
        warn(f"left out: {line}", always=True)
    title = arguments.title or ("clamr" if target is None else target.stem)
    written = write_list(
        selections, form, target, title, pad=arguments.pad or 0.0, as_given=arguments.as_given, rate=arguments.rate,
        drop=arguments.drop_frame, times=arguments.times,
    )  # fmt: skip
    if target is not None:
        warn(f"wrote {target}: {plural(written, 'clip')}")
    return EXIT_PARTIAL if failures else EXIT_FOUND


def check_export(name: str, *, force: bool) -> Path:
    """The file of a list; refused where it is there already."""
    path = Path(name).expanduser()
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already", "name another file, or replace it with --force")
    return path


def write_list(
    selections: Sequence[Selection],
    form: str,
    target: Path | None,
    title: str,
    *,
    pad: float = 0.0,
    as_given: bool = False,
    rate: Fraction | None = None,
    drop: bool | None = None,
    times: Times = "auto",
) -> int:
    """Write selections in a format to a file, or stdout, say what was conformed, and return how many they are."""
    from clamr_cli.edit.export import FORMATS, edit_list
    from clamr_cli.edit.selections import snapped
    from clamr_cli.frames.export import Folder, writing

    spans = [snapped(one, pad, as_given=as_given) for one in selections]
    edits, notes = edit_list(selections, spans, title, rate=rate, drop=drop)
    content = FORMATS[form][1](edits, times)
    if target is None:
        write([content])
    else:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        Folder(target.parent).write(target.name, content)
    for note in notes if form in ("otio", "edl", "fcp7", "fcpxml", "csv", "resolve") else ():
        warn(f"note: {note}")
    return len(edits.shots)


def export_hits(store: Store, hits: Sequence[Hit], target: Path) -> int:
    """Write the hits that are not weak to a file; returns the exit code."""
    from clamr_cli.edit.export import format_named

    selections, failures = selections_of(store, hits)
    if selections:
        count = write_list(selections, format_named(target.name), target, target.stem)
        warn(f"wrote {target}: {plural(count, 'clip')}")
    return EXIT_PARTIAL if failures else EXIT_FOUND
