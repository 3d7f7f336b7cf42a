"""The list of a sidecar's parts: one JSON file with a checksum of itself, replaced in one step."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import xxhash

from clamr_cli.files import TEMPORARY_PREFIX, sync_folder
from clamr_cli.store.scan_cache.part import PartInfo

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1
"""Goes up by one with every change of what the files hold: others are not read, and built anew."""

NAME: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of a sidecar, of which encoder they are, and the version of the table they were made from."""

    format: int
    fingerprint: str
    version: int
    parts: tuple[PartInfo, ...]


def folder_of(sidecars: Path, fingerprint: str) -> Path:
    """Where an encoder's sidecar lies among all of them; a fingerprint may be any text."""
    return sidecars / hashlib.blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def read(folder: Path, fingerprint: str) -> Manifest | None:
    """The manifest of a sidecar, None where there is none that can be used: absent, damaged, of another make."""
    try:
        outer = json.loads((folder / NAME).read_bytes())
        body = outer["body"]
        if xxhash.xxh3_64_hexdigest(body.encode()) != outer["checksum"]:
            return None
        manifest = msgspec.json.decode(body, type=Manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError):
        return None
    return manifest if (manifest.format, manifest.fingerprint) == (FORMAT, fingerprint) else None


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest at once; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    body = msgspec.json.encode(manifest).decode()
    text = json.dumps({"checksum": xxhash.xxh3_64_hexdigest(body.encode()), "body": body})
    temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{NAME}"
    try:
        with temporary.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, folder / NAME)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(folder)
