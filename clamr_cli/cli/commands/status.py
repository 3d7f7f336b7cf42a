"""``clamr status``: what the index holds, where it is, what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, open_store
from clamr_cli.cli.output import emit, emit_one, warn
from clamr_cli.errors import EXIT_FOUND
from clamr_cli.records import STATUS, Column, incomplete_files, status_row

if TYPE_CHECKING:
    pass

_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class StatusArguments(FormOptions):
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be indexed, or only in part, and why.")
    ] = False


FAILED_COLUMNS: Final = (
    Column("path", "Path of the file.", wide=True),
    Column("reason", "What is wrong with it.", below="path"),
    Column("hint", "What to do about it.", below="path"),
)


def status(context: Context, arguments: StatusArguments) -> int:
    """Say what the index holds, where it is, what failed.

    What does not fit together in its tables is told as a problem, with what to run.

    Piped, it prints tab-separated lines: name and value; with --failed path, reason and what to do.

    Examples:
        clamr status
        clamr status --failed
    """
    settings, form = context.settings(), arguments.form
    store = open_store(settings)
    incomplete = incomplete_files(store)
    if arguments.failed:
        rows = [{"path": file.path, "reason": file.error, "hint": file.hint} for file in store.files() if file.failed]
        if not rows and not incomplete:
            warn("no failed files")
        else:
            emit(FAILED_COLUMNS, [*rows, *incomplete], form)
        return EXIT_FOUND
    emit_one(STATUS, status_row(store), form)
    return EXIT_FOUND
