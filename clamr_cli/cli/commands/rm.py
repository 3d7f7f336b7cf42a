"""``clamr rm``: videos out of the index; the files stay."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clamr_cli import locations
from clamr_cli.cli.options import Context, open_store
from clamr_cli.cli.output import warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.text import plural
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from clamr_cli.store import Store

_MOST_LISTED: Final = 50
"""Paths that are listed before somebody is asked."""


@dataclass(frozen=True, kw_only=True)
class RmArguments:
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO",
            help="Ranks of the last search, ids, parts of titles, or paths of indexed files or of their folders.",
            show_default=False,
        ),
    ] = None
    missing: Annotated[bool, typer.Option("--missing", help="All that is missing or offline.")] = False
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="NAME", help="Remove the vectors of this encoder; the videos stay."),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; only a terminal is asked anyway.")] = False


def rm(context: Context, arguments: RmArguments) -> int:
    """Take videos out of the index. The files themselves stay where they are, untouched.

    A folder stands for all that is indexed below it; neither it nor its files need to be there any more.

    With --encoder NAME it is the vectors of an encoder that are removed, not videos.

    What was prepared for questions about a file that is not in the index is forgotten too.

    A later index run of their folder finds them again; leave them out for good with --exclude.

    Examples:
        clamr rm ~/Videos/old
        clamr rm --missing
    """
    from clamr_cli.frames.prepare import forget
    from clamr_cli.index.scan import Register
    from clamr_cli.media.walk import is_below

    if not arguments.videos and not arguments.missing and not arguments.encoder:
        raise UsageError("nothing to remove", "name videos, files or folders, or give --missing or --encoder NAME")
    if arguments.encoder and (arguments.videos or arguments.missing):
        raise UsageError("--encoder removes vectors, not videos", "give it alone")
    store = open_store(context.settings())
    if arguments.encoder:
        return _remove_encoder(store, arguments.encoder, yes=arguments.yes)
    with store.writer("clamr rm"):
        ids, paths, prepared = _select(store, arguments.videos or (), missing=arguments.missing)
        if not ids and not paths and not prepared:
            warn("nothing is missing or offline")
            return EXIT_NOTHING
        files = plural(len(paths) + len(prepared), "file")
        if not arguments.yes and not _confirm(
            f"take {files} out of the index (no video is deleted)?", [*paths, *prepared]
        ):
            warn("nothing was removed")
            return EXIT_NOTHING
        register = Register(store)
        for _ in register.forget([register.files[path] for path in paths], keep_extractions=False):
            pass
        store.remove_videos([video_id for video_id in ids if video_id in register.videos], keep_extractions=False)
        for path in prepared:
            forget(store, path)
        named = [locations.absolute(name) for name in arguments.videos or ()]
        folders = store.folders()
        left = {path: own for path, own in folders.items() if not any(is_below(path, name) for name in named)}
        if left != folders:
            store.put_folders(left)
        _finish(store)
    for path in (*paths, *prepared):
        warn(f"removed from the index: {path}")
    return EXIT_FOUND


def _remove_encoder(store: Store, name: str, *, yes: bool) -> int:
    names = sorted({use.info.name for use in store.encoders()})
    if name not in names:
        raise UsageError(
            f"the index has no vectors of encoder {name}", f"it has those of: {', '.join(names) or 'none'}"
        )
    if not yes and not _confirm(f"take the vectors of {name} out of the index (no video is deleted)?"):
        warn("nothing was removed")
        return EXIT_NOTHING
    with store.writer("clamr rm"):
        store.forget_encoder(name)
        _finish(store)
    warn(f"removed from the index: all vectors of {name}")
    return EXIT_FOUND


def _finish(store: Store) -> None:
    store.finish()
    for problem in store.pack_all():
        warn(f"searches will be slower: {problem}")


def _select(store: Store, names: Sequence[str], *, missing: bool) -> tuple[list[str], list[str], list[str]]:
    """The videos that ids name, every path the index knows of what is named, and files that are only prepared."""
    from clamr_cli.frames.prepare import noted
    from clamr_cli.media.walk import is_below
    from clamr_cli.search.search import file_named

    files = store.files()
    ids: dict[str, None] = {}
    prepared: dict[str, None] = {}
    selected = {
        file.path
        for file in files
        if missing
        and (file.missing_since or file.state is not FileState.INDEXED)
        and (locations.is_remote(file.path) or not os.path.lexists(file.path))
    }
    for name in names:
        path = locations.absolute(name)
        file = file_named(files, name)
        below = [other.path for other in files if is_below(other.path, path)]
        if file is not None or below:
            selected.update(below if file is None else [file.path, *below])
        elif noted(store, path) is not None:
            prepared[path] = None
        else:
            video_id = _resolve(store, name)
            ids[video_id] = None
            selected.update(file.path for file in files if file.video_id == video_id)
    # Where nothing holds a video any more, notes of files that went before go with it.
    held = {file.video_id for file in files if file.state is FileState.INDEXED and file.path not in selected}
    going = {file.video_id for file in files if file.path in selected} - held - {""}
    paths = [file.path for file in files if file.path in selected or file.video_id in going]
    return list(ids), paths, list(prepared)


def _resolve(store: Store, name: str) -> str:
    """The id of the video of this name; a name that looks like a file, or is one, is an unknown file."""
    from clamr_cli.search import video_named

    try:
        if os.sep not in name:
            return video_named(store, name)
    except UsageError:
        if not os.path.lexists(name):
            raise
    raise UsageError(f"the index has no file {name}", "list what it holds with: clamr ls")


def _confirm(question: str, paths: Sequence[str] = ()) -> bool:
    """Ask whether to go on, where somebody is there to answer."""
    if sys.stdin is None or not sys.stdin.isatty():
        return True
    for path in paths[:_MOST_LISTED]:
        warn(path, always=True)
    if len(paths) > _MOST_LISTED:
        warn(f"and {len(paths) - _MOST_LISTED} more", always=True)
    warn(f"{question} [y/N]", always=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
