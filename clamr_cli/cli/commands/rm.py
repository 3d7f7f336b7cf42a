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

    from clamr_cli.cli.runtime import Context
    from clamr_cli.store import Store

_SHOWN = 50
"""Paths that are listed before somebody is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr rm``."""

    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID|PATH",
            help="Ids (or their beginnings), or paths of indexed files or of folders of them.",
            show_default=False,
        ),
    ] = None
    missing: Annotated[bool, typer.Option("--missing", help="All that is missing or offline.")] = False
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="NAME", help="Remove the vectors of this encoder; the videos stay."),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked anyway.")] = False


def run(before: Context, flags: Flags) -> int:
    """Take videos out of the index. The files themselves stay where they are, untouched.

    A folder stands for all that is indexed below it; neither it nor its files need to be there any more.

    With --encoder NAME it is the vectors of an encoder that are removed, not videos.

    What was prepared for questions about a file that is not in the index is forgotten too.

    A later index run of their folder finds them again; leave them out for good with --exclude.
    """
    from clamr_cli.cli.output import warn
    from clamr_cli.cli.runtime import open_store, quiet_libraries
    from clamr_cli.frames.target import forget
    from clamr_cli.index.register import Register

    if not flags.videos and not flags.missing and not flags.encoder:
        raise UsageError("nothing to remove", "name videos, files or folders, or give --missing or --encoder NAME")
    if flags.encoder and (flags.videos or flags.missing):
        raise UsageError("--encoder removes vectors, not videos", "give it alone")
    settings = before.settings()
    quiet_libraries()
    store = open_store(settings)
    if flags.encoder:
        return _remove_encoder(store, flags.encoder, yes=flags.yes)
    with store.writer("clamr rm"):
        ids, paths, prepared = _chosen(store, flags.videos or (), missing=flags.missing)
        if not ids and not paths and not prepared:
            warn("nothing is missing or offline")
            return EXIT_NOTHING
        if not flags.yes and not _agreed([*paths, *prepared]):
            warn("nothing was removed")
            return EXIT_NOTHING
        register = Register(store)
        for _ in register.forget([register.files[path] for path in paths], keep_extractions=False):
            pass
        store.remove_videos([one for one in ids if one in register.videos], keep_extractions=False)
        for path in prepared:
            forget(store, path)
        store.finish()
        for problem in store.pack_all():
            warn(f"searches will be slower: {problem}")
    for path in (*paths, *prepared):
        warn(f"removed from the index: {path}")
    return EXIT_FOUND


def _remove_encoder(store: Store, name: str, *, yes: bool) -> int:
    """Remove an encoder's vectors.

    Raises:
        UsageError: the index has none of it.
    """
    from clamr_cli.cli.output import warn

    names = sorted({use.info.name for use in store.encoders()})
    if name not in names:
        raise UsageError(
            f"the index has no vectors of encoder {name}", f"it has those of: {', '.join(names) or 'none'}"
        )
    if not yes and not _agreed([], f"take the vectors of {name} out of the index (no video is deleted)?"):
        warn("nothing was removed")
        return EXIT_NOTHING
    with store.writer("clamr rm"):
        store.forget_encoder(name)
        store.finish()
        for problem in store.pack_all():
            warn(f"searches will be slower: {problem}")
    warn(f"removed from the index: all vectors of {name}")
    return EXIT_FOUND


def _chosen(store: Store, named: Sequence[str], *, missing: bool) -> tuple[list[str], list[str], list[str]]:
    """The videos that ids name, every path the index knows of what is named, and files that are only prepared.

    Raises:
        UsageError: a name is neither an id nor a path of the index.
    """
    from clamr_cli.frames.target import noted
    from clamr_cli.media.presence import is_below
    from clamr_cli.search.filters import file_named
    from clamr_cli.types import FileState

    files = store.files()
    ids: dict[str, None] = {}
    prepared: dict[str, None] = {}
    chosen = {
        file.path
        for file in files
        if missing and (file.missing_since or file.state is not FileState.INDEXED) and not _is_there(file.path)
    }
    for name in named:
        place = os.path.abspath(name)
        file = file_named(files, name)
        below = [other.path for other in files if is_below(other.path, place)]
        if file is not None or below:
            chosen.update(below if file is None else [file.path, *below])
        elif noted(store, place) is not None:
            prepared[place] = None
        else:
            video_id = _resolved(store, name)
            ids[video_id] = None
            chosen.update(file.path for file in files if file.video_id == video_id)
    # Where nothing holds a video any more, notes of files that went before go with it.
    held = {file.video_id for file in files if file.state is FileState.INDEXED and file.path not in chosen}
    going = {file.video_id for file in files if file.path in chosen} - held - {""}
    paths = [file.path for file in files if file.path in chosen or file.video_id in going]
    return list(ids), paths, list(prepared)


def _is_there(path: str) -> bool:
    return "\0" not in path and os.path.lexists(path)


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
    from clamr_cli.cli.output import warn

    if sys.stdin is None or not sys.stdin.isatty():
        return True
    for path in paths[:_SHOWN]:
        warn(path)
    if len(paths) > _SHOWN:
        warn(f"and {len(paths) - _SHOWN} more")
    files = f"{len(paths)} {'file' if len(paths) == 1 else 'files'}"
    warn(f"{question or f'take {files} out of the index (no video is deleted)?'} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
