"""``clamr models`` and ``clamr models pull``: the weights that clamr can use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from clamr_cli import weights
from clamr_cli.cli.options import Context, FormOptions, QuietOption, quiet_libraries
from clamr_cli.cli.output import emit, warn
from clamr_cli.cli.progress import transfer
from clamr_cli.errors import EXIT_FOUND
from clamr_cli.records import Column, as_size


@dataclass(frozen=True, kw_only=True)
class PullArguments:
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that 'clamr models' lists.")]
    quiet: QuietOption = False


COLUMNS: Final = (
    Column("name", "Name of the model."),
    Column("state", "ok or absent.", get=lambda model: "ok" if model.installed else "absent"),
    Column("size", "Bytes.", table=as_size, right=True),
    Column("licence", "SPDX identifier or name of the licence.", below="purpose"),
    Column("purpose", "What it is for.", wide=True),
    Column("where", "The folder it is in, or how to get it.", lambda model: model.where or model.hint, below="purpose"),
)


def models(context: Context, arguments: FormOptions) -> int:
    """List the models that clamr can use.

    It shows what each is for, its licence and size, and where it is. 'clamr models pull NAME' fetches one.

    Piped, it prints tab-separated lines: name, state, size in bytes, licence, purpose, where it is or how to get it.

    Examples:
        clamr models
    """
    cache = context.settings().cache
    emit(COLUMNS, [weights.status(name, cache) for name in weights.names()], arguments.form)
    return EXIT_FOUND


def pull(context: Context, arguments: PullArguments) -> int:
    """Fetch a model into the cache folder and check it. This is the one command that uses the network.

    Examples:
        clamr models pull whisper-small
    """
    quiet_libraries()
    from clamr_cli.weights import download

    with transfer(arguments.name, quiet=arguments.quiet) as moved:
        folder = download.pull(arguments.name, context.settings().cache, moved)
    warn(f"{arguments.name} is in {folder}")
    return EXIT_FOUND
