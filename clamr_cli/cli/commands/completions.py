"""``clamr completions``: a script with which the shell completes clamr's commands and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from clamr_cli.cli.output import write
from clamr_cli.cli.runtime import Context
from clamr_cli.errors import EXIT_FOUND


@dataclass(frozen=True, kw_only=True)
class CompletionsArguments:
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


def completions(context: Context, arguments: CompletionsArguments) -> int:
    """Print a completion script for bash, zsh or fish.

    To have it in every new shell, write it where the shell looks:

    \b
    mkdir -p ~/.local/share/bash-completion/completions
    clamr completions bash > ~/.local/share/bash-completion/completions/clamr
    clamr completions zsh > "${fpath[1]}/_clamr"
    clamr completions fish > ~/.config/fish/completions/clamr.fish
    """  # noqa: D301 -- the parser wants the backspace itself, and then leaves the lines as they are
    from clamr_cli.cli.completion import SCRIPTS, commands_of

    write([SCRIPTS[arguments.shell](commands_of(context.program)).encode()])
    return EXIT_FOUND
