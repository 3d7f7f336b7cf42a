"""``clamr demo``: a library in one command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clamr_cli.cli.options import Context, quiet_libraries
from clamr_cli.cli.output import print_line
from clamr_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DemoArguments:
    directory: Annotated[
        str | None,
        typer.Option("--dir", "-o", metavar="DIR", help="Where clips and index go (default: in the cache folder)."),
    ] = None


def demo(context: Context, arguments: DemoArguments) -> int:
    """Index and search a few short clips made here.

    It searches by each modality and explains a result. It needs no network and no videos of yours, and prints each
    command that it ran.

    Examples:
        clamr demo
    """
    from clamr_cli import demo as library

    cache = context.settings().cache
    quiet_libraries()
    folder = Path(os.path.expanduser(arguments.directory)).absolute() if arguments.directory else cache / "demo"
    try:
        return library.run(folder, cache, print_line)
    except PermissionError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror})", "choose another with --dir") from error
