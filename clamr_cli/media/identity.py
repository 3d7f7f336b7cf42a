"""Which video a file holds, by its content: the same under every name and in every place."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from clamr_cli.errors import MediaError
from clamr_cli.media.trouble import check_regular_file, media_error

WHOLE_UP_TO: Final = 64 * 2**20
"""Bytes up to which every byte counts."""

BLOCK: Final = 2**20
BLOCKS: Final = 64
ID_LENGTH: Final = 12


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
            for start, length in _blocks(size):
                file.seek(start)
                _feed(digest, file.fileno(), length)
    except OSError as error:
        raise media_error(error) from error
    return digest.hexdigest()


def video_id(content_hash: str) -> str:
    """The short name of a video: the first 12 hexadecimal characters of its content hash."""
    return content_hash[:ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file: where its content lies, its size in bytes and its last change."""

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


def _blocks(size: int) -> list[tuple[int, int]]:
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    last = size - BLOCK
    return [(last * number // (BLOCKS - 1), BLOCK) for number in range(BLOCKS)]


def _feed(digest: hashlib.blake2b, descriptor: int, length: int) -> None:
    while length > 0:
        piece = os.read(descriptor, min(length, BLOCK))
        if not piece:
            raise MediaError("the file became shorter while it was read", "index again when it is complete")
        digest.update(piece)
        length -= len(piece)
