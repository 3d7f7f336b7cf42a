"""clamr open: a video in a player, at a moment. Commands are lists of words, no shell reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import typer

from clamr_cli import locations, terms
from clamr_cli.cli.options import Context, open_indexes
from clamr_cli.cli.output import warn, write
from clamr_cli.errors import EXIT_FOUND, StoreError, UsageError
from clamr_cli.files import absent_file
from clamr_cli.text import command_line

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "mpv": ("mpv",),
    "vlc": ("vlc", "/Applications/VLC.app/Contents/MacOS/VLC"),
}
"""Player -> names or places of its program, the first choice first."""

_START: Final[Mapping[str, str]] = {"mpv": "--start=", "vlc": "--start-time="}


@dataclass(frozen=True, kw_only=True)
class OpenArguments:
    place: Annotated[
        str, typer.Argument(metavar="VIDEO[@TIME]", help="A rank, id, title part or file, and when: 3, film.mp4@12:03.")
    ]
    player: Annotated[Literal["mpv", "vlc"] | None, typer.Option(help="The one that is installed by default.")] = None
    show: Annotated[bool, typer.Option("--print", help="Print the command instead of starting the player.")] = False


def open_video(context: Context, arguments: OpenArguments) -> int:
    """Open a video in a player, at a moment.

    'clamr open 3' opens the third hit of the last search where its answer is: the second that the search showed. Other names start at the beginning unless they have a time.

    It starts mpv or VLC, or prints the command where neither is installed. A player gets an address of a video in a bucket that holds for six hours.

    Examples:
        clamr open 3
        clamr open film.mp4@1h5m --player vlc
    """  # noqa: E501 -- a paragraph of help is a line
    video, span = terms.split_place(arguments.place)
    path, seconds = _find(context, video)
    seconds = seconds if span is None else span.start
    if locations.is_remote(path):
        try:
            path = locations.address_for_player(path)
        except locations.RemoteError as error:
            raise UsageError(f"{path} cannot be opened: {error.strerror}", error.hint) from error
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


def player_command(player: str, program: str, path: str, seconds: float) -> list[str]:
    """The words that start a player at a moment of a file.

    The path is absolute, so it looks like no option and like no other address, and ``--`` ends the options anyway.
    """
    time = f"{seconds:.3f}".rstrip("0").rstrip(".")
    start = [_START[player] + time] if seconds > 0 else []
    return [program, *start, "--", path]


def _find(context: Context, video: str) -> tuple[str, float]:
    """The file that a path or a name is of, and the second at which a hit of the last search is opened."""
    if locations.is_file(video):
        return locations.absolute(video), 0.0
    if not video.strip():
        raise UsageError("no video was named", "give a file, or an id that clamr ls shows")
    from clamr_cli.search import last_hit, video_named

    absent, hit = absent_file(video), None
    try:
        store = open_indexes(context, context.reading_settings())
        hit = last_hit(store, video)
        video_id = video_named(store, video)
    except (StoreError, UsageError) as error:
        if os.path.isdir(video):
            raise UsageError(f"{video} is a folder", "name one video in it") from None
        raise absent or error from None
    paths = [record.path for record in store.files([video_id])]
    for path in paths:
        if locations.is_file(path):
            return path, 0.0 if hit is None else hit.at
    where = f"it was at {paths[0]}" if paths else "the index knows no file of it"
    hint = "connect its disk, bring it back, or index its folder"
    raise UsageError(f"no file of video {video_id} is there now ({where})", hint)
