"""``clamr models`` and ``clamr models pull``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from clamr_cli.cli.options import FormOptions
from clamr_cli.cli.runtime import Context
from clamr_cli.errors import EXIT_FOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(FormOptions):
    """Options of ``clamr models``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFlags:
    """Options of ``clamr models pull``."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that 'clamr models' lists.")]
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False


def run(before: Context, flags: Flags) -> int:
    """List the models, or fetch one.

    It shows what each is for, its licence and size, and where it is. Piped, it prints tab-separated lines: name, state,
    size in bytes, licence, purpose, where it is or how to get it.
    """
    from clamr_cli import weights
    from clamr_cli.cli import output
    from clamr_cli.render.listing import Column, as_size

    cache = before.settings().cache
    known = [weights.status(name, cache) for name in weights.names()]
    columns = (
        Column("name"),
        Column("state"),
        Column("size", show=as_size, justify="right"),
        Column("licence", below="purpose"),
        Column("purpose", wide=True),
        Column("where", below="purpose"),
    )
    rows = [
        (one.name, "ok" if one.installed else "absent", one.size, one.licence, one.purpose, one.where or one.hint)
        for one in known
    ]
    output.listing(flags, columns, rows)
    return EXIT_FOUND


def pull(before: Context, flags: PullFlags) -> int:
    """Fetch a model into the cache folder and check it. This is the one command that uses the network."""
    from clamr_cli import weights
    from clamr_cli.cli.output import talk, warn
    from clamr_cli.cli.runtime import quiet_libraries
    from clamr_cli.render.progress import transfer

    cache = before.settings().cache
    weights.model(flags.name)
    quiet_libraries()
    with transfer(talk(), flags.name, quiet=flags.quiet) as progress:
        place = weights.pull(flags.name, cache, progress)
    warn(f"{flags.name} is in {place}")
    return EXIT_FOUND
