"""Private folders and files, files that are written whole or not at all, locks, and whether known files are there."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from clamr_cli import locations
from clamr_cli.errors import UsageError
from clamr_cli.types import FileRecord

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

TEMPORARY_PREFIX: Final = ".tmp-"
"""Begins the names of drafts, so that those of killed processes can be told from other files."""

PATIENCE: Final = 1.5
"""Seconds for looking at files that are shown: a network share that hangs must not hang a search."""


def absent_file(name: str) -> UsageError | None:
    """The error for a name that no file has; None if it may be an id, which has neither separators nor dots."""
    if os.sep in name or "." in name:
        return UsageError(f"there is no file {name}", "check the path, or give an id that clamr ls shows")
    return None


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for their owner alone.

    Raises:
        OSError: one cannot be made, or a file is in the way.
    """
    # `Path.mkdir(parents=True)` gives its mode to the last folder only.
    missing = [folder]
    while not missing[-1].exists() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def private_file(path: str | os.PathLike[str], flags: int) -> int:
    """For the argument ``opener`` of :func:`open`: a new file is its owner's only."""
    return os.open(path, flags, FILE_MODE)


@contextmanager
def private_as(folder: Path | None) -> Iterator[None]:
    """Files that libraries create in the block are private if the folder is; a shared folder stays shared."""
    try:
        shared = folder is None or bool(folder.stat().st_mode & 0o077)
    except OSError:
        shared = True
    if shared:
        yield
        return
    mask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace a file in one step: a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: of the file; its folder is made where it is missing. A new file is its owner's only.
        content: all of it.
        sync: force it to the disk.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            if sync:
                out.flush()
                os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_file(path: str | Path) -> None:
    """Force a file to the disk; fine where it is gone."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last, where the system can."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock in the block. It is the system's, and goes with the process however that ends.

    Args:
        path: of the lock file; its folder must exist.
        wait: until it is free; else the block gets False where somebody else holds it.

    Raises:
        OSError: the lock file cannot be made.
    """
    # Costs more to import than all the rest here.
    from filelock import FileLock, Timeout

    # Not thread-local: a generator that holds it may be closed by another thread than the one that began it.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def readable_now(files: Sequence[FileRecord]) -> frozenset[str]:
    """The paths of the files that are there and can be opened now. Servers are not asked: the last index run was.

    Files of each root are looked at side by side for a short time. Where no answer came by then, what the last index
    run met counts.
    """
    answers: dict[str, bool] = {}
    by_root: dict[str, list[str]] = {}
    for file in files:
        if not locations.is_remote(file.path):
            by_root.setdefault(file.root, []).append(file.path)

    def look(paths: Sequence[str]) -> None:
        for path in paths:
            # os.access refuses a null byte with an error.
            answers[path] = "\0" not in path and os.access(path, os.R_OK)

    # The threads are daemons: one that hangs in a system call must not keep the program from ending.
    threads = [threading.Thread(target=look, args=(paths,), daemon=True) for paths in by_root.values()]
    for thread in threads:
        thread.start()
    patience = PATIENCE
    for thread in threads:
        thread.join(timeout=patience)
        patience = 0.0 if thread.is_alive() else patience
    seen = dict(answers)
    return frozenset(file.path for file in files if seen.get(file.path, not file.missing_since) and not file.error)
