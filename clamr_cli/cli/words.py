"""Command lines that say more than the parser understands by itself: commands of two words, options of many values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    """Commands whose name may be two words: ``eval qa`` is one, and ``eval FILE`` still is ``eval``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 -- untyped
        """The command that the first words name, the longest name first."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, self.commands[name], args[2:]
        return super().resolve_command(ctx, args)


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
