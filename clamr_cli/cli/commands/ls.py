"""``clamr ls``: the videos of the index."""

from __future__ import annotations

from dataclasses import dataclass

from clamr_cli.cli.options import Context, FormOptions, PathOption, open_store
from clamr_cli.cli.output import emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING
from clamr_cli.records import FILE, file_rows


@dataclass(frozen=True, kw_only=True)
class LsArguments(FormOptions):
    path: PathOption = None


def ls(context: Context, arguments: LsArguments) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing),
    and "offline" where an indexed file is not there now.

    Examples:
        clamr ls
        clamr ls --path "*holiday*" --json
    """
    settings, form = context.settings(), arguments.form
    store = open_store(settings)
    rows = file_rows(store, arguments.path)
    if not rows:
        warn("no video of the index matches" if arguments.path else "the index holds no videos: clamr index DIR")
        return EXIT_NOTHING
    emit(FILE, rows, form)
    return EXIT_FOUND
