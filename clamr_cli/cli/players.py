"""Players that can start at a moment, and how each is told to; commands are lists of words, no shell reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "mpv": ("mpv",),
    "vlc": ("vlc", "/Applications/VLC.app/Contents/MacOS/VLC"),
}
"""Player -> names or places of its program, the first choice first."""

_START: Final[Mapping[str, str]] = {"mpv": "--start=", "vlc": "--start-time="}


def installed() -> dict[str, str]:
    """The players that are here, with the place of their program."""
    found = {name: next(filter(None, map(shutil.which, places)), None) for name, places in PROGRAMS.items()}
    return {name: place for name, place in found.items() if place is not None}


def command(player: str, program: str, path: str, seconds: float) -> list[str]:
    """The words that start a player at a moment of a file.

    The path is absolute, so it looks like no option and like no address, and ``--`` ends the options anyway.
    """
    told = f"{seconds:.3f}".rstrip("0").rstrip(".")
    start = [_START[player] + told] if seconds > 0 else []
    return [program, *start, "--", os.path.abspath(path)]


def launch(words: Sequence[str]) -> None:
    """Start a player that goes on by itself, whatever becomes of this terminal.

    Raises:
        UsageError: it cannot be started.
    """
    nothing = subprocess.DEVNULL
    try:
        subprocess.Popen(list(words), stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{words[0]} cannot be started: {error}", "see the command with --print") from error
