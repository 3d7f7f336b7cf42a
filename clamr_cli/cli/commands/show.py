"""``clamr show``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions):
    """Options of ``clamr show``."""

    video: Annotated[str, typer.Argument(metavar="ID", help="A video's id, or the beginning of it.")]


def run(before: Context, flags: Flags) -> int:
    """Show everything the index knows of a video.

    Piped, it prints tab-separated lines: what it is, start, end, source, text.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.commands.explain import show_timeline
    from clamr_cli.cli.runtime import open_store, quiet_libraries
    from clamr_cli.render import details
    from clamr_cli.render.records import json_line
    from clamr_cli.search import timeline

    settings = before.settings()
    form = flags.form
    quiet_libraries()
    store = open_store(settings)
    line = timeline(store, store.resolve(flags.video))
    if form is Form.JSON:
        output.write([json_line(details.record(line, store.moments([line.video.video_id])))])
    else:
        show_timeline(line, form)
    return EXIT_FOUND
