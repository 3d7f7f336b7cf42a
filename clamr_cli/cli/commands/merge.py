"""``clamr merge``: several indexes put together in one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, open_store
from clamr_cli.cli.output import emit_one, warn
from clamr_cli.cli.progress import steps
from clamr_cli.config import convert
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.records import Column, json_only


@dataclass(frozen=True, kw_only=True)
class MergeArguments(FormOptions):
    indexes: Annotated[list[str], typer.Argument(metavar="DB", help="Indexes to put together.", show_default=False)]
    into: Annotated[
        str | None, typer.Option(metavar="DB", help="The index that takes them; made where there is none.")
    ] = None


COLUMNS: Final = (
    Column("index", "Path or address of the index that took them."),
    Column("videos", "Videos that came.", kind=int),
    Column("moments", "Moments that came.", kind=int),
    Column("vectors", "Moments' vectors that came, of all encoders.", kind=int),
    Column("extractions", "What was extracted of contents, and labels, that came.", kind=int),
    Column("files", "Files that came.", kind=int),
    json_only("conflicts", "What the indexes say otherwise than that one, a line each.", kind=list[str]),
)  # fmt: skip


def merge(context: Context, arguments: MergeArguments) -> int:
    """Put indexes together in one, as if their videos had been indexed there.

    Nothing is decoded or encoded: files, videos, moments, vectors of all encoders, what was extracted, corrections, tags, notes and settings are copied. The indexes themselves stay as they are. Where two say different things of the same video, path or setting, what was there first stays, and a line says so. A merge that was interrupted can be run again.

    Examples:
        clamr merge job-*/index --into ~/library
        clamr search "red car" --db ~/library
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.store.merge import merge as put_together

    if arguments.into is None:
        raise UsageError("no index was named to take them", "give --into DB")
    settings, form = context.settings(), arguments.form
    sources = [open_store(replace(settings, db=str(convert("db", name, "DB")))) for name in arguments.indexes]
    target = open_store(replace(settings, db=str(convert("db", arguments.into, "--into"))), create=True)
    with steps() as moved:
        merged = put_together(target, sources, lambda text, done, total: moved(f"merging {text}", done, total))
    for line in merged.conflicts:
        warn(line, always=True)
    emit_one(COLUMNS, {"index": target.uri, **asdict(merged)}, form)
    return EXIT_FOUND
