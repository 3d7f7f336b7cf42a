"""clamr open: a video in a player, at a moment. Commands are lists of words, no shell reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import typer

from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import warn, write
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.files import absent_file
from clamr_cli.text import command_line, parse_time

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "mpv": ("mpv",),
    "vlc": ("vlc", "/Applications/VLC.app/Contents/MacOS/VLC"),
}
"""Player -> names or places of its program, the first choice first."""

_START: Final[Mapping[str, str]] = {"mpv": "--start=", "vlc": "--start-time="}


@dataclass(frozen=True, kw_only=True)
class OpenArguments:
    place: Annotated[
        str, typer.Argument(metavar="VIDEO[@TIME]", help="A file or an id, and when: film.mp4@12:03, 1a2b@1h5m.")
    ]
    player: Annotated[Literal["mpv", "vlc"] | None, typer.Option(help="The one that is installed by default.")] = None
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of starting the player.")] = False


def open_video(context: Context, arguments: OpenArguments) -> int:
    """Open a video in a player, at a moment.

    It starts mpv or VLC, or prints the command where neither is installed.

    Examples:
        clamr open 1a2b@12:03
        clamr open film.mp4@1h5m --player vlc
    """
    video, seconds = split(arguments.place)
    path = _path(context, video)
    programs = {name: next(filter(None, map(shutil.which, places)), None) for name, places in PROGRAMS.items()}
    installed = {name: program for name, program in programs.items() if program}
    name: str = arguments.player or next(iter(installed), next(iter(PROGRAMS)))
    words = player_command(name, installed.get(name, name), path, seconds)
    if arguments.show or name not in installed:
        if not arguments.show:
            warn(f"{name} is not installed; with it:" if installed else f"no player is installed; with {name}:")
        write([command_line(words).encode() + b"\n"])
        return EXIT_FOUND
    nothing = subprocess.DEVNULL
    try:
        # It goes on by itself, whatever becomes of this terminal.
        subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{words[0]} cannot be started: {error}", "see the command with --print") from error
    return EXIT_FOUND


def split(place: str) -> tuple[str, float]:
    """A video and the second to start at, 0 where none is named. A file that is called so is a file."""
    video, at, when = place.rpartition("@")
    if not at or os.path.lexists(place):
        return place, 0.0
    return video, parse_time(when)


def player_command(player: str, program: str, path: str, seconds: float) -> list[str]:
    """The words that start a player at a moment of a file.

    The path is absolute, so it looks like no option and like no address, and ``--`` ends the options anyway.
    """
    time = f"{seconds:.3f}".rstrip("0").rstrip(".")
    start = [_START[player] + time] if seconds > 0 else []
    return [program, *start, "--", os.path.abspath(path)]


def _path(context: Context, video: str) -> str:
    """The file that a path or an id names."""
    if os.path.isfile(video):
        return os.path.abspath(video)
    if os.path.isdir(video):
        raise UsageError(f"{video} is a folder", "name one video in it")
    if not video.strip():
        raise UsageError("no video was named", "give a file, or an id that clamr ls shows")
    if absent := absent_file(video):
        raise absent
    store = open_store(context.settings())
    video_id = store.resolve(video)
    paths = [record.path for record in store.files([video_id])]
    for path in paths:
        if os.path.isfile(path):
            return path
    where = f"it was at {paths[0]}" if paths else "the index knows no file of it"
    hint = "connect its disk, bring it back, or index its folder"
    raise UsageError(f"no file of video {video_id} is there now ({where})", hint)
