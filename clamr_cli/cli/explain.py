"""``clamr explain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.output import Form, FormFlags
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from clamr_cli.cli.declare import Globals
    from clamr_cli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormFlags):
    """Options of ``clamr explain``."""

    video: Annotated[str, typer.Argument(metavar="ID", help="A video's id, or the beginning of it.")]
    query: Annotated[
        str | None, typer.Option("--query", metavar="TEXT", help="Explain this query instead of the last search.")
    ] = None


def run(before: Globals, flags: Flags) -> int:
    """Say why a video ranks where it does.

    Per word of the query it shows what matched, when, how much of the score each modality has, and what the rank would
    be without it. Without --query it explains the last search; where there was none, it shows the video's time line.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.session import open_store, quiet_libraries

    settings = before.settings()
    output.form(flags)
    quiet_libraries()
    store = open_store(settings)
    return _timeline(store, store.resolve(flags.video), flags)


def _timeline(store: Store, video_id: str, flags: Flags) -> int:
    """What the index knows of a video along its time."""
    from clamr_cli.cli import output
    from clamr_cli.render import details
    from clamr_cli.render.records import json_line, tsv_line

    output.say("no query and no search before: this is the video's time line")
    moments = store.moments([video_id])
    match output.form(flags):
        case Form.JSON:
            output.write(json_line(details.moment_record(moment)) for moment in moments)
        case Form.TABLE:
            output.draw(*details.timeline(moments))
        case _:
            output.write(tsv_line(row) for row in details.moment_rows(moments))
    return EXIT_FOUND
