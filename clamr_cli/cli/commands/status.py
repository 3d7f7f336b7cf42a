"""``clamr status``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context
    from clamr_cli.render.listing import Row
    from clamr_cli.store import Store, StoreStats


_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions):
    """Options of ``clamr status``."""

    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be indexed, or only in part, and why.")
    ] = False


def run(before: Context, flags: Flags) -> int:
    """Say what the index holds, where it is, what failed.

    What does not fit together in its tables is told as a problem, with what to run.

    Piped, it prints tab-separated lines: name and value; with --failed path, reason and what to do.
    """
    from clamr_cli.cli import output
    from clamr_cli.cli.runtime import open_store, quiet_libraries
    from clamr_cli.render.listing import Column
    from clamr_cli.render.records import json_line

    settings = before.settings()
    form = flags.form
    quiet_libraries()
    store = open_store(settings)
    if flags.failed:
        return _failed(store, flags)
    stats, incomplete = store.stats(), _incomplete(store)
    if form is Form.JSON:
        output.write([json_line({**_record(store, stats), "incomplete": len(incomplete)})])
    else:
        rows = [
            *_rows(store, stats),
            ("incomplete", f"{len(incomplete)} (clamr status --failed)" if incomplete else "0"),
        ]
        # A few are named at once; the list has all.
        rows += [("incomplete file", f"{path}: {part}") for path, part, _ in incomplete[:_NAMED]]
        output.listing(flags, (Column("name"), Column("value", wide=True)), rows)
    return EXIT_FOUND


def _incomplete(store: Store) -> list[Row]:
    """The indexed files of which only a part can be read, how much of each, and what to do."""
    from clamr_cli.timeline import readable_part

    parts = {video.video_id: readable_part(video.media) for video in store.videos() if video.media.incomplete}
    if not parts:
        return []
    return [
        (file.path, parts[file.video_id], "copy or download it again, then index it again")
        for file in store.files()
        if file.state.value == "indexed" and file.video_id in parts
    ]


def _failed(store: Store, flags: Flags) -> int:
    from clamr_cli.cli import output
    from clamr_cli.render.listing import Column

    rows: list[Row] = [(file.path, file.error, file.hint) for file in store.files() if file.failed]
    rows += _incomplete(store)
    if not rows:
        output.warn("no file of the index failed")
    else:
        columns = (Column("path", wide=True), Column("reason", below="path"), Column("hint", below="path"))
        output.listing(flags, columns, rows)
    return EXIT_FOUND


def _offline(store: Store) -> int:
    from clamr_cli.search import offline

    return len(offline(store.files()))


def _record(store: Store, stats: StoreStats) -> dict[str, object]:
    from clamr_cli.render.records import partial

    return {
        "index": store.uri,
        "size": stats.size,
        "files": stats.files,
        "videos": stats.videos,
        "moments": stats.moments,
        "seconds": round(stats.seconds, 3),
        "failed": stats.failed,
        "missing": stats.missing,
        "offline": _offline(store),
        "extractions": stats.extractions,
        "encoders": [
            {
                "name": use.info.name,
                "fingerprint": use.info.fingerprint,
                "moments": use.moments,
                "vectors": use.vectors,
                **partial(store.coverage(use.info.fingerprint)),
            }
            for use in stats.encoders
        ],
        "problems": store.problems(),
    }


def _rows(store: Store, stats: StoreStats) -> list[Row]:
    from clamr_cli.text import plural, size
    from clamr_cli.timeline import format_time

    away = _offline(store)
    rows: list[Row] = [
        ("index", store.uri),
        ("size", "remote" if stats.size is None else size(stats.size)),
        ("files", stats.files),
        ("videos", stats.videos),
        ("moments", stats.moments),
        ("time", format_time(stats.seconds)),
        ("failed", f"{stats.failed} (clamr status --failed)" if stats.failed else "0"),
        ("missing", stats.missing),
        ("offline", f"{away} (clamr ls)" if away else "0"),
    ]
    names = [use.info.name for use in stats.encoders]
    for use in stats.encoders:
        # Two of one name differ in weights or settings, such as --pool.
        name = use.info.name if names.count(use.info.name) == 1 else f"{use.info.name} {use.info.fingerprint[:8]}"
        searched, of = store.coverage(use.info.fingerprint)
        part = f", {searched} of {plural(of, 'video')}" if searched < of else ""
        rows.append(("encoder", f"{name}: {plural(use.moments, 'moment')}, {plural(use.vectors, 'vector')}{part}"))
    rows += [("problem", problem) for problem in store.problems()]
    return rows
