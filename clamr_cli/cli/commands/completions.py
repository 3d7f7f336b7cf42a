"""``clamr completions``: scripts made from the declared commands; the shell completes without starting clamr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.errors import EXIT_FOUND, UsageError

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr completions``."""

    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


def run(before: Context, flags: Flags) -> int:  # noqa: ARG001 -- every command takes both
    """Print a completion script for bash, zsh or fish.

    To have it in every new shell, write it where the shell looks:

    \b
    mkdir -p ~/.local/share/bash-completion/completions
    clamr completions bash > ~/.local/share/bash-completion/completions/clamr
    clamr completions zsh > "${fpath[1]}/_clamr"
    clamr completions fish > ~/.config/fish/completions/clamr.fish
    """  # noqa: D301 -- the parser wants the backspace itself, and then leaves the lines as they are
    from clamr_cli.cli import build
    from clamr_cli.cli.output import write
    from clamr_cli.cli.scripts import SCRIPTS, commands_of

    if flags.shell not in SCRIPTS:
        raise UsageError(f"there are no completions for {flags.shell!r}", f"use {', '.join(SCRIPTS)}")
    write([SCRIPTS[flags.shell](commands_of(typer.main.get_command(build()))).encode()])
    return EXIT_FOUND
