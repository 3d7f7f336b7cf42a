"""What went wrong with a file, in words: the one place that turns system and codec errors into :class:`MediaError`."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from clamr_cli.errors import MediaError, Unreachable

_REASONS: Final = {
    errno.ENOENT: ("the file is gone", "it was moved or deleted; index again"),
    errno.ENOTDIR: ("the file is gone", "it was moved or deleted; index again"),
    errno.EACCES: ("no permission to read the file", "give yourself read permission on it and its folders"),
    errno.EPERM: ("no permission to read the file", "give yourself read permission on it and its folders"),
    errno.EIO: ("the disk reported a read error", "check the disk or the connection to it, then index again"),
    errno.ESTALE: ("the file is no longer reachable", "check the connection to its network share, then index again"),
    errno.ETIMEDOUT: ("reading the file took too long", "check the connection to its disk, then index again"),
    errno.EISDIR: ("this is a folder, not a file", ""),
    errno.ELOOP: ("the link leads in a circle", "remove or repair the link"),
    errno.ENAMETOOLONG: ("the path is too long", "shorten the names of its folders"),
    errno.EMFILE: ("too many files are open", "raise the limit of open files (ulimit -n)"),
}


def explain(error: OSError) -> tuple[str, str]:
    """What a system error means for the file it met, and what to do about it; names no path."""
    if isinstance(error, TimeoutError):
        return _REASONS[errno.ETIMEDOUT]
    known = _REASONS.get(error.errno or 0)
    return known or (f"the file cannot be read ({error.strerror or type(error).__name__})", "")


def media_error(error: OSError) -> MediaError:
    """The :class:`MediaError` to raise from a system error."""
    kind = MediaError if isinstance(error, IsADirectoryError) else Unreachable
    return kind(*explain(error))


def check_regular_file(path: str) -> os.stat_result:
    """The status of a file that can be read to an end.

    Raises:
        MediaError: it is gone, a folder, a pipe or a device.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise media_error(error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(*_REASONS[errno.EISDIR])
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("this is a pipe or a device, not a file", "save the recording to a file first")
    return status
