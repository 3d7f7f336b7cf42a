"""Command lines that say more than the parser understands by itself: commands of two words, options of many values."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMES: Final[Mapping[str, str]] = {
    "ask": "chat question answer",
    "completions": "completion",
    "doctor": "check diagnose test env",
    "explain": "why",
    "frames": "frame screenshot screenshots thumbnails pictures images",
    "index": "add build crawl import ingest reindex re-index refresh rescan scan sync update watch embed",
    "ls": "dir list videos files",
    "models": "model weights",
    "models pull": "download fetch install pull get",
    "open": "launch play view watch-at mpv vlc",
    "optimize": "optimise clean cleanup compact gc prune vacuum",
    "rm": "del delete drop forget remove uninstall unindex",
    "search": "find grep query lookup look s q",
    "show": "cat describe details info inspect metadata",
    "status": "stat stats statistics state",
    "synth": "generate synthesize synthesise queries",
    "train": "finetune fine-tune",
    "--version": "version ver",
}
_OTHER_NAMES: Final = {other: name for name, others in _NAMES.items() for other in others.split()}
"""What other programs call it: the command of ours."""


class Group(TyperGroup):
    """Commands whose help calls arguments by their names alone, without ``<list[str]>`` and the like behind them."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 -- untyped
        super().__init__(**given)
        for command in self.commands.values():
            for one in command.params:
                if one.param_type_name == "argument":
                    one.display_type_rich = _nothing  # type: ignore[attr-defined, method-assign, unused-ignore]


def _nothing(ctx: Any) -> str:  # noqa: ANN401, ARG001 -- untyped
    return ""


class Program(Group):
    """The commands of clamr.

    A name may be two words: ``eval qa`` is one, and ``eval FILE`` still is ``eval``. ``help COMMAND`` is
    ``COMMAND --help``. Names that other programs have for a command lead to it.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 -- untyped
        """The command that the first words name, the longest name first."""
        if args[0] == "help":
            named = [word for word in args if word != "help" and not word.startswith("-")]
            if not named:
                typer.echo(ctx.get_help())
                raise typer.Exit
            args = [*named, "--help"]
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, self.commands[name], args[2:]
        if args[0] not in self.commands and (meant := self._meant(args[0])):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def _meant(self, word: str) -> str:
        """A hint for the name of another program's command; empty where none is known."""
        name = word.lower().lstrip("-")
        if name in self.commands:
            return name
        if name in _OTHER_NAMES:
            return _OTHER_NAMES[name]
        if os.sep in word and os.path.lexists(word):
            return f"index {word}"
        return f'search "{word}"' if len(word.split()) > 1 else ""


class Choosing(TyperCommand):
    """A command with ``--choices A B C``: each value that follows is one ``--choice``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 -- untyped
        """Parse, after the choices were taken apart."""
        return super().parse_args(ctx, spread(args, "--choices", "--choice"))


def spread(arguments: Sequence[str], many: str, one: str) -> list[str]:
    """Arguments in which ``many A B`` became ``one=A one=B``; the values end at the next option, or at ``--``.

    >>> spread(["talk.mp4", "--choices", "yes", "no", "--json"], "--choices", "--choice")
    ['talk.mp4', '--choice=yes', '--choice=no', '--json']
    """
    found: list[str] = []
    inside = ended = False
    for place, argument in enumerate(arguments):
        ended = ended or argument == "--"
        if argument == many and not ended and not _is_option(arguments, place + 1):
            inside = True
            continue
        inside = inside and not _is_option(arguments, place)
        found.append(f"{one}={argument}" if inside else argument)
    return found


def _is_option(arguments: Sequence[str], place: int) -> bool:
    return place >= len(arguments) or (arguments[place].startswith("-") and len(arguments[place]) > 1)
