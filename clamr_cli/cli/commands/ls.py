"""``clamr ls``: the videos of the index."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from clamr_cli import terms
from clamr_cli.cli.options import (
    Context,
    FormOptions,
    PathOption,
    SinceOption,
    SpeakerOption,
    TagOption,
    UntilOption,
    open_indexes,
)
from clamr_cli.cli.output import emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING
from clamr_cli.records import FILE, file_rows
from clamr_cli.types import Filters


class Order(StrEnum):
    """An order of videos."""

    PATH = "path"
    DATE = "date"
    LENGTH = "length"


@dataclass(frozen=True, kw_only=True)
class LsArguments(FormOptions):
    path: PathOption = None
    since: SinceOption = None
    until: UntilOption = None
    tag: TagOption = None
    speaker: SpeakerOption = None
    sort: Annotated[Order, typer.Option("--sort", help="The newest or the longest first.")] = Order.PATH


def ls(context: Context, arguments: LsArguments) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing),
    "offline" where an indexed file is not there now, and the date.

    Examples:
        clamr ls
        clamr ls --path "*holiday*" --json
        clamr ls --tag holiday
        clamr ls --since "last summer" --sort date
    """
    settings, form = context.reading_settings(), arguments.form
    store = open_indexes(context, settings)
    rows = file_rows(store, arguments.path)
    filters = Filters(
        since=terms.since(arguments.since),
        until=terms.until(arguments.until),
        tags=tuple(arguments.tag or ()),
        speakers=tuple(arguments.speaker or ()),
    )
    if filters != Filters():
        from clamr_cli.search.search import select

        passing = select(store, filters)
        rows = [row for row in rows if row["video_id"] in passing]
    if arguments.sort is not Order.PATH:
        rows.sort(key=lambda row: row["date"] if arguments.sort is Order.DATE else row["duration"] or 0, reverse=True)
    if not rows:
        warn(
            "no video of the index matches"
            if arguments.path or filters != Filters()
            else "the index holds no videos: clamr index DIR"
        )
        return EXIT_NOTHING
    emit(FILE, rows, form)
    return EXIT_FOUND
