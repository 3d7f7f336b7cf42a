"""``clamr rm``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.cli.declare import Globals
    from clamr_cli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr rm``."""

    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID|PATH", help="Ids (or their beginnings), or paths of indexed files.", show_default=False
        ),
    ] = None
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="NAME", help="Remove the vectors of this encoder; the videos stay."),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked anyway.")] = False


def run(before: Globals, flags: Flags) -> int:
    """Take videos out of the index. The files themselves stay where they are, untouched.

    With --encoder NAME it is the vectors of an encoder that are removed, not videos.

    What was prepared for questions about a file that is not in the index is forgotten too.

    A later index run of their folder finds them again; leave them out for good with --exclude.
    """
    from clamr_cli.cli.output import say
    from clamr_cli.cli.session import open_store, quiet_libraries
    from clamr_cli.frames.target import forget

    if bool(flags.videos) == bool(flags.encoder):
        raise UsageError("nothing to remove, or two things", "name videos, or an encoder with --encoder NAME")
    settings = before.settings()
    quiet_libraries()
    store = open_store(settings)
    if flags.encoder:
        return _remove_encoder(store, flags.encoder, yes=flags.yes)
    with store.writer("clamr rm"):
        ids, paths, prepared = _chosen(store, flags.videos or [])
        if not flags.yes and not _agreed([*paths, *prepared]):
            say("nothing was removed")
            return EXIT_NOTHING
        store.remove_videos(ids, keep_extractions=False)
        store.delete_files(paths)
        for path in prepared:
            forget(store, path)
        store.finish()
        for problem in store.pack_all():
            say(f"searches will be slower: {problem}")
    for path in (*paths, *prepared):
        say(f"removed from the index: {path}")
    return EXIT_FOUND


def _remove_encoder(store: Store, name: str, *, yes: bool) -> int:
    """Remove an encoder's vectors.

    Raises:
        UsageError: the index has none of it.
    """
    from clamr_cli.cli.output import say

    names = sorted({use.info.name for use in store.encoders()})
    if name not in names:
        raise UsageError(
            f"the index has no vectors of encoder {name}", f"it has those of: {', '.join(names) or 'none'}"
        )
    if not yes and not _agreed([], f"take the vectors of {name} out of the index (no video is deleted)?"):
        say("nothing was removed")
        return EXIT_NOTHING
    with store.writer("clamr rm"):
        store.forget_encoder(name)
        store.finish()
        for problem in store.pack_all():
            say(f"searches will be slower: {problem}")
    say(f"removed from the index: all vectors of {name}")
    return EXIT_FOUND


def _chosen(store: Store, named: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The videos that ids and paths name, every path the index knows of them, and files that are only prepared.

    Raises:
        UsageError: one of them is neither an id nor a path of the index.
    """
    from clamr_cli.frames.target import noted
    from clamr_cli.types import FileState

    files = store.files()
    by_path = {file.path: file for file in files}
    ids: dict[str, None] = {}
    paths: dict[str, None] = {}
    prepared: dict[str, None] = {}
    for name in named:
        file = by_path.get(name) or by_path.get(os.path.abspath(name))
        if file is not None:
            paths[file.path] = None
            others = [other for other in files if other.video_id == file.video_id and other.path not in paths]
            if file.video_id and not any(other.state is FileState.INDEXED for other in others):
                # Nothing holds it any more: what is left are notes of files that went before.
                ids[file.video_id] = None
                paths.update(dict.fromkeys(other.path for other in others))
        elif noted(store, os.path.abspath(name)) is not None:
            prepared[os.path.abspath(name)] = None
        else:
            video_id = _resolved(store, name)
            ids[video_id] = None
            paths.update(dict.fromkeys(other.path for other in files if other.video_id == video_id))
    return list(ids), list(paths), list(prepared)


def _resolved(store: Store, name: str) -> str:
    """The id that begins with a name; what looks like a file, or is one, is told as one that is not known.

    Raises:
        UsageError: no id begins so, or several do.
    """
    try:
        if os.sep not in name:
            return store.resolve(name)
    except UsageError:
        if not os.path.lexists(name):
            raise
    raise UsageError(f"the index knows no file {name}", "list what it holds with: clamr ls")


def _agreed(paths: Sequence[str], question: str = "") -> bool:
    """Ask whether to go on, where somebody is there to answer."""
    from clamr_cli.cli.output import say

    if sys.stdin is None or not sys.stdin.isatty():
        return True
    for path in paths:
        say(path)
    files = f"{len(paths)} {'file' if len(paths) == 1 else 'files'}"
    say(f"{question or f'take {files} out of the index (no video is deleted)?'} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
