"""``clamr ls``: the videos of the index."""

from __future__ import annotations

from dataclasses import dataclass

from clamr_cli.cli.options import Context, FormOptions, PathOption, SpeakerOption, TagOption, open_indexes
from clamr_cli.cli.output import emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING
from clamr_cli.records import FILE, file_rows
from clamr_cli.types import Filters


@dataclass(frozen=True, kw_only=True)
class LsArguments(FormOptions):
    path: PathOption = None
    tag: TagOption = None
    speaker: SpeakerOption = None


def ls(context: Context, arguments: LsArguments) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing),
    and "offline" where an indexed file is not there now.

    Examples:
        clamr ls
        clamr ls --path "*holiday*" --json
        clamr ls --tag holiday
    """
    settings, form = context.reading_settings(), arguments.form
    store = open_indexes(context, settings)
    rows = file_rows(store, arguments.path)
    if arguments.tag or arguments.speaker:
        from clamr_cli.search.search import select

        filters = Filters(tags=tuple(arguments.tag or ()), speakers=tuple(arguments.speaker or ()))
        passing = select(store, filters)
        rows = [row for row in rows if row["video_id"] in passing]
    if not rows:
        warn(
            "no video of the index matches"
            if arguments.path or arguments.tag or arguments.speaker
            else "the index holds no videos: clamr index DIR"
        )
        return EXIT_NOTHING
    emit(FILE, rows, form)
    return EXIT_FOUND
