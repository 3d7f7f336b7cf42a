"""``clamr ls``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.output import FormFlags
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING

if TYPE_CHECKING:
    from clamr_cli.cli.declare import Globals
    from clamr_cli.render.records import Cell
    from clamr_cli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormFlags):
    """Options of ``clamr ls``."""

    path: Annotated[str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path matches.")] = None


def run(before: Globals, flags: Flags) -> int:
    """List the videos of the index.

    Piped, it prints tab-separated lines: video id, duration in seconds, title, path, state (indexed, failed, missing),
    and "offline" where an indexed file is not there now.
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
        Column("offline", below="state", show=_mark),
    )
    if output.form(flags) is output.Form.TSV:
        rows = [(*row[:-1], _mark(row[-1])) for row in rows]
    output.listing(flags, columns, rows)
    return EXIT_FOUND


def _mark(offline: Cell) -> str:
    from clamr_cli.render.records import OFFLINE

    return OFFLINE if offline else ""


def _rows(store: Store, glob: str | None) -> list[tuple[Cell, ...]]:
    from clamr_cli.search import offline
    from clamr_cli.search.filters import files_matching

    facts = {known.video_id: known for known in store.catalog()}
    rows: list[tuple[Cell, ...]] = []
    files = store.files() if glob is None else files_matching(store.files(), glob)
    away = offline(files)
    for file in files:
        known = facts.get(file.video_id)
        duration, title = (round(known.duration, 3), known.title) if known else (None, "")
        rows.append((file.video_id or None, duration, title, file.path, file.state.value, file.path in away))
    return rows
