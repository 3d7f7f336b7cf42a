"""``clamr ls``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.output import FormFlags
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING

if TYPE_CHECKING:
    from clamr_cli.cli.declare import Globals
    from clamr_cli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormFlags):
    """Options of ``clamr ls``."""

    path: Annotated[str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path matches.")] = None


def run(before: Globals, flags: Flags) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing).
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.session import open_store, quiet_libraries
    from clamr_cli.render.listing import Column, as_time

    settings = before.settings()
    output.form(flags)
    quiet_libraries()
    rows = _rows(open_store(settings), flags.path)
    if not rows:
        output.say("the index holds no such video" if flags.path else "the index holds no videos: clamr index DIR")
        return EXIT_NOTHING
    columns = (
        Column("video_id", style="dim"),
        Column("duration", show=as_time, justify="right"),
        Column("title", wide=True),
        Column("path", below="title"),
        Column("state"),
    )
    output.listing(flags, columns, rows)
    return EXIT_FOUND


def _rows(store: Store, glob: str | None) -> list[tuple[str | float | None, ...]]:
    from clamr_cli.search.filters import path_matches

    facts = {known.video_id: known for known in store.catalog()}
    rows: list[tuple[str | float | None, ...]] = []
    for file in store.files():
        if glob is not None and not path_matches(file.path, glob):
            continue
        known = facts.get(file.video_id)
        duration, title = (round(known.duration, 3), known.title) if known else (None, "")
        rows.append((file.video_id or None, duration, title, file.path, file.state.value))
    return rows
