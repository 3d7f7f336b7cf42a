"""``clamr demo``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr demo``."""

    directory: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="Where clips and index go (default: in the cache folder)."),
    ] = None


def run(before: Context, flags: Flags) -> int:
    """Index and search a few short clips made here.

    It searches by each modality and explains a result. It needs no network and no videos of yours, and prints each
    command that it ran.
    """
    import os
    from pathlib import Path

    from clamr_cli.cli.output import print_line
    from clamr_cli.cli.runtime import quiet_libraries
    from clamr_cli.demo import run as demonstrate

    cache = before.settings().cache
    quiet_libraries()
    directory = Path(os.path.expanduser(flags.directory)).absolute() if flags.directory else cache / "demo"
    try:
        return demonstrate(directory, cache, print_line)
    except PermissionError as error:
        raise UsageError(f"{directory} cannot be written ({error.strerror})", "choose another with --dir") from error
