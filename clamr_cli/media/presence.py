"""Whether known files are there, gone, or away with the disk or share that they lie on.

Only a file that is missing from a folder which still holds others is gone. An empty folder may be the mount point of a
disk that is not plugged in, and what cannot be read says nothing about what is there.
"""

import errno
import functools
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clamr_cli.media.files import explain
from clamr_cli.media.walk import is_hidden
from clamr_cli.types import FileRecord

MISSING: Final = (errno.ENOENT, errno.ENOTDIR)
"""Errors that say that there is no such file. All others say that it could not be looked at."""

# Folders in which disks and shares appear as folders of their own, and vanish when they are unplugged.
_MOUNTS: Final = re.compile(r"/(?:media(?:/[^/]+)?|run/media/[^/]+|run/user/[^/]+/gvfs|mnt|Volumes|net)")
_ABSENT: Final = "the folder is not there"
PATIENCE: Final = 1.5
"""Seconds for looking at files that are shown: a network share that hangs must not hang a search."""


@dataclass(frozen=True, slots=True)
class Absence:
    """The reason why a known file was not met.

    Attributes:
        folder: the nearest folder above the file that is still there, else the root; what cannot be read, where that
            is the reason.
        gone: the file is missing from a folder that still holds others.
        missing: there is no such file now, whether its disk is away or not. False where it could not be looked at.
        reason: why it does not count as gone; empty where it does.
    """

    folder: str
    gone: bool
    missing: bool
    reason: str = ""


class Folders:
    """The state of the folders of absent files. Each folder is looked at once.

    Args:
        unreadable: paths that a walk could not look at.
    """

    def __init__(self, unreadable: Collection[str] = ()) -> None:
        self._unreadable = frozenset(unreadable)
        self._reason_of = functools.cache(_reason)

    def absence(self, path: str, root: str) -> Absence | None:
        """The reason why a file below a root is absent, None where it is there."""
        for parent in (path, *ancestors(path)):
            if parent in self._unreadable:
                return Absence(parent, gone=False, missing=is_missing(path), reason="it cannot be read")
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno not in MISSING:
                return Absence(os.path.dirname(path), gone=False, missing=False, reason=explain(error)[0])
        else:
            return None
        below, folder = path, os.path.dirname(path)
        while len(folder) > len(root) and self._reason_of(folder) == _ABSENT:
            below, folder = folder, os.path.dirname(folder)
        reason = self._reason_of(folder)
        if not reason and below != path and _MOUNTS.fullmatch(folder):
            return Absence(below, gone=False, missing=True, reason="its disk is not there")
        return Absence(folder, gone=not reason, missing=True, reason=reason)


def _reason(folder: str) -> str:
    """The reason why a folder holds nothing; empty where it holds something."""
    try:
        with os.scandir(folder) as entries:
            # What desktops and file systems leave behind by themselves is nobody's content.
            return "" if any(not is_hidden(entry.name) for entry in entries) else "the folder is empty"
    except OSError as error:
        if error.errno not in MISSING:
            return explain(error)[0]
    return "the link leads to nothing" if os.path.islink(folder) else _ABSENT


def is_missing(path: str) -> bool:
    """Whether there is no such file: False too where it cannot be told."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno in MISSING
    except ValueError:  # a null byte
        return True
    return False


def ancestors(path: str) -> Iterator[str]:
    """The folders above a path, nearest first."""
    folder = os.path.dirname(path)
    while folder != path:
        yield folder
        path, folder = folder, os.path.dirname(folder)


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def readable(files: Sequence[FileRecord]) -> frozenset[str]:
    """The paths of the files that are there and can be opened now.

    Files of each root are looked at side by side for a short time. Where no answer came by then, what the last index
    run met counts.
    """
    answers: dict[str, bool] = {}
    by_root: dict[str, list[str]] = {}
    for file in files:
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
