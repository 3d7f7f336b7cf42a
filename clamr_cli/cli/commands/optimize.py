"""``clamr optimize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.output import Form
from clamr_cli.errors import EXIT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable

    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.render.listing import Row
    from clamr_cli.store import Store

    Moved = Callable[[str, float, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions):
    """Options of ``clamr optimize``."""

    approximate: Annotated[
        bool, typer.Option("--approximate", help="Build the approximate index even if the library is small.")
    ] = False


def run(before: Context, flags: Flags) -> int:
    """Put the index in order: smaller on disk, faster to search.

    Small files are joined, what is left over is removed, and the vectors that searches compare with are packed. Searches need none of it to be right; they get faster, and disk space is freed. Old versions of the data stay for a minute, for searches that are under way. Where the library holds more vectors than searches may compare with (the setting scan_limit), an approximate index is built or brought up to date.

    Piped, it prints tab-separated lines: name and value.
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.cli import output
    from clamr_cli.cli.runtime import open_store, quiet_libraries
    from clamr_cli.render.records import json_line
    from clamr_cli.render.waiting import steps

    settings = before.settings()
    form = flags.form
    quiet_libraries()
    store = open_store(settings)
    with steps(output.talk()) as moved, store.writer("clamr optimize"):
        record = optimized(store, settings, moved, approximate=flags.approximate)
    if form is Form.JSON:
        output.write([json_line(record)])
    else:
        from clamr_cli.render.listing import Column

        output.listing(flags, (Column("name"), Column("value", wide=True)), _rows(record))
    return EXIT_FOUND


def optimized(store: Store, settings: Settings, moved: Moved, *, approximate: bool) -> dict[str, object]:
    """Do all of it; the caller holds the writer lock.

    Returns:
        Bytes before and after, vectors and parts that are packed, and whether there is an approximate index.
    """
    from clamr_cli.kernel import usable_threads

    start = store.stats()
    moved("joining files, removing what is left over", 0, 1)
    store.finish()
    packed = parts = 0
    for use in start.encoders:

        def packing(done: int, total: int, name: str = use.info.name) -> None:
            moved(f"packing vectors of {name}", done, total)

        built = store.pack_vectors(use.info.fingerprint, join=True, report=packing)
        packed += built.vectors if built else 0
        parts += built.files if built else 0
    large = any(use.vectors > settings.scan_limit * usable_threads() for use in start.encoders)
    if start.encoders and (approximate or large or store.has_approximate_index()):
        moved("building the approximate index", 0, 1)
        store.index_vectors()
    return {
        "index": store.uri,
        "size_before": start.size,
        "size": store.stats().size,
        "packed": packed,
        "parts": parts,
        "approximate_index": store.has_approximate_index(),
    }


def _rows(record: dict[str, object]) -> list[Row]:
    from clamr_cli.text import plural, size

    before, after = record["size_before"], record["size"]
    rows: list[Row] = [("index", str(record["index"]))]
    if isinstance(before, int) and isinstance(after, int):
        rows.append(("size", size(after)))
        rows.append(("freed", size(before - after)) if after <= before else ("added", size(after - before)))
    packed, parts = record["packed"], record["parts"]
    if isinstance(packed, int) and isinstance(parts, int):
        rows.append(("packed", f"{plural(packed, 'vector')} in {plural(parts, 'file')}"))
    rows.append(("approximate index", "yes" if record["approximate_index"] else "no"))
    return rows
