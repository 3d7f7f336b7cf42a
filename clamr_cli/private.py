"""Folders and files that only their owner may read. What is there already keeps its mode."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for their owner alone.

    Raises:
        OSError: one cannot be made, or a file is in the way.
    """
    # `Path.mkdir(parents=True)` gives its mode to the last folder only.
    missing = [folder]
    while not missing[-1].exists() and missing[-1].parent != missing[-1]:
        missing.append(missing[-1].parent)
    for one in reversed(missing):
        one.mkdir(mode=FOLDER_MODE, exist_ok=True)


def opener(path: str | os.PathLike[str], flags: int) -> int:
    """For the argument ``opener`` of :func:`open`: a file that is made is its owner's only."""
    return os.open(path, flags, FILE_MODE)


@contextmanager
def as_private_as(folder: Path | None) -> Iterator[None]:
    """What libraries make in the block is its owner's only where the folder is; a shared folder stays shared."""
    try:
        shared = folder is None or bool(folder.stat().st_mode & 0o077)
    except OSError:
        shared = True
    if shared:
        yield
        return
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
