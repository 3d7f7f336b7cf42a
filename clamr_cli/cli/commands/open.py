"""``clamr open``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import names_file
from clamr_cli.errors import EXIT_FOUND, UsageError

if TYPE_CHECKING:
    from clamr_cli.cli.runtime import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr open``."""

    place: Annotated[
        str, typer.Argument(metavar="VIDEO[@TIME]", help="A file or an id, and when: film.mp4@12:03, 1a2b@1h5m.")
    ]
    player: Annotated[str | None, typer.Option("--player", metavar="NAME", help="mpv or vlc; else what is there.")] = (
        None
    )
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of starting the player.")] = False


def run(before: Context, flags: Flags) -> int:
    """Open a video in a player, at a moment.

    It starts mpv or VLC, or prints the command where neither is installed.
    """
    from clamr_cli.cli import players
    from clamr_cli.cli.output import warn, write
    from clamr_cli.text import command_line

    if flags.player is not None and flags.player not in players.PROGRAMS:
        raise UsageError(f"there is no player {flags.player!r}", f"use {' or '.join(players.PROGRAMS)}")
    video, seconds = split(flags.place)
    path = _path(before, video)
    here = players.installed()
    name = flags.player or next(iter(here), next(iter(players.PROGRAMS)))
    words = players.command(name, here.get(name, name), path, seconds)
    if flags.show or name not in here:
        if not flags.show:
            warn(f"{name} is not installed; with it:" if here else f"no player is installed; with {name}:")
        write([command_line(words).encode() + b"\n"])
        return EXIT_FOUND
    players.launch(words)
    return EXIT_FOUND


def split(place: str) -> tuple[str, float]:
    """A video and the second to start at, 0 where none is named. A file that is called so is a file.

    Raises:
        UsageError: what follows the last @ is no time, and there is no such file.
    """
    from clamr_cli.timeline import parse_time

    video, at, when = place.rpartition("@")
    if not at or ("\0" not in place and os.path.lexists(place)):
        return place, 0.0
    return video, parse_time(when)


def _path(before: Context, video: str) -> str:
    """The file that a path or an id names.

    Raises:
        UsageError: there is no such file or id, or the file of the id is gone.
    """
    if "\0" not in video and os.path.isfile(video):
        return os.path.abspath(video)
    if "\0" not in video and os.path.isdir(video):
        raise UsageError(f"{video} is a folder", "name one video in it")
    if names_file(video) or not video.strip():
        raise UsageError(f"there is no file {video!r}", "check the path, or give an id that clamr ls shows")
    from clamr_cli.cli.runtime import open_store, quiet_libraries

    settings = before.settings()
    quiet_libraries()
    store = open_store(settings)
    video_id = store.resolve(video)
    files = [record.path for record in store.files([video_id])]
    for path in files:
        if os.path.isfile(path):
            return path
    where = f"it was at {files[0]}" if files else "the index knows no file of it"
    hint = "connect its disk, bring it back, or index its folder"
    raise UsageError(f"no file of video {video_id} is there now ({where})", hint)
