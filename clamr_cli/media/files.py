"""Files as the file system has them: errors in words, stamps, and the content that gives a video its identity."""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
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
NO_FILE: Final = ("this is a pipe or a device, not a file", "save the recording to a file first")

WHOLE_UP_TO: Final = 64 * 2**20
"""Bytes up to which every byte counts for the identity."""

BLOCK: Final = 2**20
_BLOCKS: Final = 64
_ID_LENGTH: Final = 12


def explain(error: OSError) -> tuple[str, str]:
    """The meaning of a system error for the file it met, and what to do about it; names no path."""
    if isinstance(error, TimeoutError):
        return _REASONS[errno.ETIMEDOUT]
    unknown = (f"the file cannot be read ({error.strerror or type(error).__name__})", "")
    return _REASONS.get(error.errno or 0, unknown)


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
        raise MediaError(*NO_FILE)
    return status


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a file in the file system: where its content lies, its size in bytes and its last change."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def stamp(path: str) -> Stamp:
    """The file's stamp now.

    Raises:
        MediaError: it is gone, a folder, a pipe or a device.
    """
    status = check_regular_file(path)
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def replaced(path: str, before: Stamp) -> bool:
    """Whether a path holds something else than when it had that stamp; a recording that has grown is still the same.

    Raises:
        MediaError: see :func:`stamp`.
    """
    now = stamp(path)
    if (now.device, now.inode) != (before.device, before.inode) or now.size < before.size:
        return True
    return now.size == before.size and now.mtime_ns != before.mtime_ns


def content_hash(path: str) -> str:
    """BLAKE2b-256 over a file's size and content, as 64 hexadecimal characters.

    Up to 64 MiB the whole content counts. Of a larger file 64 blocks of 1 MiB count, evenly spread with the first and
    the last among them: enough to tell recordings apart at the cost of 64 MiB of reading, but a change of a few bytes
    between two blocks (that keeps the size) goes unseen.

    Raises:
        MediaError: the file is gone, unreadable, a pipe, or shrinks while it is read.
    """
    check_regular_file(path)
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=32)
            for start, length in blocks(size):
                file.seek(start)
                while length > 0:
                    piece = os.read(file.fileno(), min(length, BLOCK))
                    if not piece:
                        raise MediaError("the file became shorter while it was read", "index again when it is complete")
                    digest.update(piece)
                    length -= len(piece)
    except OSError as error:
        raise media_error(error) from error
    return digest.hexdigest()


def blocks(size: int) -> list[tuple[int, int]]:
    """The starts and lengths of the blocks of a file of some size that count for its identity."""
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    last = size - BLOCK
    return [(last * number // (_BLOCKS - 1), BLOCK) for number in range(_BLOCKS)]


def video_id(content_hash: str) -> str:
    """The short name of a video: the first 12 hexadecimal characters of its content hash."""
    return content_hash[:_ID_LENGTH]
