"""The command line: options, and one short file per command that parses, calls and renders."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli import __version__
from clamr_cli.cli.commands import (
    ask,
    completions,
    demo,
    doctor,
    encode,
    eval_qa,
    explain,
    frames,
    index,
    ls,
    models,
    optimize,
    rm,
    search,
    show,
    status,
    synth,
    train,
)
from clamr_cli.cli.commands import eval as evaluation
from clamr_cli.cli.commands import open as opening
from clamr_cli.cli.declare import Globals, command
from clamr_cli.cli.guard import guarded
from clamr_cli.cli.words import Choosing, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = (
    "'clamr help COMMAND' shows the options of a command.\n\n"
    "Exit codes: 0 found or done, 1 nothing found, 2 wrong usage, configuration or an error, "
    "3 some videos failed (the others are indexed), 130 interrupted."
)


def build() -> typer.Typer:
    """The whole command line, declared; nothing heavy is imported before a command runs."""
    app = typer.Typer(
        cls=Program,
        rich_markup_mode=None,
        add_completion=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(epilog=EPILOG)(root)
    command(app, "index", index.run, index.Flags)
    command(app, "search", search.run, search.Flags)
    command(app, "explain", explain.run, explain.Flags)
    command(app, "frames", frames.run, frames.Flags)
    command(app, "open", opening.run, opening.Flags)
    command(app, "ask", ask.run, ask.Flags, Choosing)
    command(app, "ls", ls.run, ls.Flags)
    command(app, "show", show.run, show.Flags)
    command(app, "rm", rm.run, rm.Flags)
    command(app, "status", status.run, status.Flags)
    command(app, "optimize", optimize.run, optimize.Flags)
    command(app, "encode", encode.run, encode.Flags)
    command(app, "eval", evaluation.run, evaluation.Flags)
    command(app, "eval qa", eval_qa.run, eval_qa.Flags)
    command(app, "synth", synth.run, synth.Flags)
    command(app, "train", train.run, train.Flags)
    command(app, "doctor", doctor.run, doctor.Flags)
    app.add_typer(models.build(), name="models")
    command(app, "demo", demo.run, demo.Flags)
    command(app, "completions", completions.run, completions.Flags)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clamr {__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    db: Annotated[
        str | None, typer.Option("--db", metavar="DIR", help="The index: a folder or s3://bucket/name.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Read settings from this TOML file.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search a folder of videos by what is seen, said, written on screen and noted about it."""
    context.obj = Globals(db, config)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: what follows the program's name; the process's own arguments where None.
    """
    return guarded(typer.main.get_command(build()), list(sys.argv[1:] if arguments is None else arguments))
