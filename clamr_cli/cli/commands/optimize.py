"""``clamr optimize``: an index that is smaller on disk and faster to search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, open_store
from clamr_cli.cli.output import emit_one
from clamr_cli.cli.progress import steps
from clamr_cli.errors import EXIT_FOUND
from clamr_cli.records import Column, json_only
from clamr_cli.text import plural, size


@dataclass(frozen=True, kw_only=True)
class OptimizeArguments(FormOptions):
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Build the approximate index even if the library is small.")
    ] = False


def _grown(done: dict[str, int]) -> int:
    """Bytes that were added; negative where bytes were freed."""
    return (done["size"] or 0) - (done["size_before"] or 0)


COLUMNS: Final = (
    Column("index", "Path or address of the index."),
    json_only("size_before", "Bytes before; null for a remote index."),
    Column(
        "size", "Bytes now; null for a remote index.",
        cell=lambda done: None if done["size"] is None else size(done["size"]),
    ),
    Column("freed", json=None, cell=lambda done: size(-_grown(done)) if _grown(done) <= 0 else None),
    Column("added", json=None, cell=lambda done: size(_grown(done)) if _grown(done) > 0 else None),
    Column(
        "packed", "Vectors that were packed for searches.",
        cell=lambda done: f"{plural(done['packed'], 'vector')} in {plural(done['parts'], 'file')}",
    ),
    json_only("parts", "Files that they are in."),
    Column("approximate_index", "True if there is an approximate index.", tsv=lambda there: "yes" if there else "no"),
)  # fmt: skip


def optimize(context: Context, arguments: OptimizeArguments) -> int:
    """Put the index in order: smaller on disk, faster to search.

    Small files are joined, what is left over is removed, and the vectors that searches compare with are packed. Searches need none of it to be right; they get faster, and disk space is freed. Old versions of the data stay for a minute, for searches that are under way. Where the library holds more vectors than searches may compare with (the setting scan_limit), an approximate index is built or brought up to date.

    Piped, it prints tab-separated lines: name and value.

    Examples:
        clamr optimize
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.kernel import usable_threads

    settings, form = context.settings(), arguments.form
    store = open_store(settings)
    with steps() as moved, store.writer("clamr optimize"):
        start = store.stats()
        moved("joining files, removing what is left over", 0, 1)
        store.finish()
        packed = files = 0
        for use in start.encoders:
            text = f"packing vectors of {use.info.name}"
            built = store.pack_vectors(use.info.fingerprint, join=True, report=partial(moved, text))
            packed += built.vectors if built else 0
            files += built.files if built else 0
        large = any(use.vectors > settings.scan_limit * usable_threads() for use in start.encoders)
        if start.encoders and (arguments.approximate or large or store.has_approximate_index()):
            moved("building the approximate index", 0, 1)
            store.index_vectors()
    outcome = {
        "index": store.uri,
        "size_before": start.size,
        "size": store.stats().size,
        "packed": packed,
        "parts": files,
        "approximate_index": store.has_approximate_index(),
    }
    emit_one(COLUMNS, outcome, form)
    return EXIT_FOUND
