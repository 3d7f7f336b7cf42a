"""``clamr show``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.output import Form, FormFlags
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from clamr_cli.cli.declare import Globals


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormFlags):
    """Options of ``clamr show``."""

    video: Annotated[str, typer.Argument(metavar="ID", help="A video's id, or the beginning of it.")]


def run(before: Globals, flags: Flags) -> int:
    """Show everything the index knows of a video.

    Piped, it prints tab-separated lines: what it is, start, end, source, text.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.session import open_store, quiet_libraries
    from clamr_cli.render import details
    from clamr_cli.render.records import json_line, tsv_line

    settings = before.settings()
    form = output.form(flags)
    quiet_libraries()
    store = open_store(settings)
    video = store.video(store.resolve(flags.video))
    files = [file for file in store.files() if file.video_id == video.video_id]
    moments = store.moments([video.video_id])
    match form:
        case Form.JSON:
            output.write([json_line(details.record(video, files, moments))])
        case Form.TABLE:
            output.draw(*details.drawn(video, files, moments))
        case _:
            output.write(tsv_line(row) for row in details.rows(video, files, moments))
    return EXIT_FOUND
