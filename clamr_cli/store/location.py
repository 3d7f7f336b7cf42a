"""Location of an index, the lock of its one writer, and the small notes beside its tables."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlparse

import msgspec

from clamr_cli.errors import IndexLocked, StoreError
from clamr_cli.files import locked, make_folder, write_atomically
from clamr_cli.store.errors import as_store_error
from clamr_cli.types import SearchOptions

Note = TypeVar("Note")

LAST_SEARCH_NAME: Final = "last-search.json"
_LOCK_NAME: Final = "writer.lock"
_HOLDER_NAME: Final = "writer.json"

PREPARING: Final = "clamr: preparing the index"
"""The command of a process that creates the tables: a matter of seconds, which others wait for."""

_PREPARED_WITHIN: Final = 10.0
_LOOKED_WITHIN: Final = 0.2
"""Seconds. A search that looks whether somebody writes has the lock for an instant."""


@dataclass(frozen=True, slots=True)
class Location:
    """Location of an index.

    Attributes:
        uri: of the database, for LanceDB.
        folder: the local folder, None for an object store.
        beside: the local folder for lock, notes and scan cache, None where none was given for an object store.
        prefix: of the names in it.
    """

    uri: str
    folder: Path | None
    beside: Path | None
    prefix: str = ""

    @classmethod
    def of(cls, uri: str | Path, lock_dir: Path | None = None) -> Location:
        """Tell a folder from an address. Addresses (``scheme://...``) pass through; ``file://`` is a folder.

        Raises:
            StoreError: LanceDB cannot work in a folder of this name.
        """
        text = str(uri)
        if text.startswith("file://"):
            return cls.of(Path(unquote(urlparse(text).path)), lock_dir)
        if "://" in text:
            text = text.rstrip("/")
            digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
            return cls(text, None, lock_dir, f"index-{digest}-")
        # Lance resolves relative paths by itself; a later chdir must not move the index.
        folder = Path(text).absolute()
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in str(folder)):
            # Lance cannot name its files there.
            raise StoreError(
                f"an index cannot lie in {str(folder)!r}", "choose a folder without control characters in its name"
            )
        return cls(str(folder), folder, folder)

    def file(self, name: str) -> Path | None:
        """The path of a file beside the tables, None where there is no folder for it."""
        return None if self.beside is None else self.beside / f"{self.prefix}{name}"


@dataclass(frozen=True, slots=True)
class LastSearch:
    """The last search: the query, its options, and the name of the encoder where it was given."""

    query: str
    options: SearchOptions
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that writes to an index; ``since`` is local time in ISO 8601."""

    pid: int
    host: str
    command: str
    since: str


def read_note(path: Path | None, kind: type[Note]) -> Note | None:
    """A note from its JSON file; None where it is absent, damaged or of another version."""
    try:
        # msgspec's own reader refuses the lone surrogates of odd file names.
        return None if path is None else msgspec.convert(json.loads(path.read_bytes()), kind)
    except (OSError, ValueError, msgspec.ValidationError):
        return None


def write_note(path: Path | None, note: object) -> None:
    """Replace a note. A disk that is full or read-only leaves the old one: notes are a courtesy."""
    if path is not None:
        with suppress(OSError):
            write_atomically(path, json.dumps(msgspec.to_builtins(note)).encode("ascii"), sync=False)


def is_being_written(location: Location) -> bool:
    """Whether somebody writes to an index, as far as this process can see."""
    path = location.file(_LOCK_NAME)
    if path is None or not path.exists():
        return False
    try:
        with locked(path, wait=False) as free:
            return not free
    except OSError:
        return True


@contextmanager
def writer_lock(location: Location, command: str) -> Iterator[None]:
    """Hold the writer lock of an index in the block, or raise IndexLocked; it goes with the process.

    The note beside it may outlive a killed process; it is only read while the lock is really held.
    """
    path, note = location.file(_LOCK_NAME), location.file(_HOLDER_NAME)
    if path is None or note is None:
        raise StoreError(f"the index at {location.uri} is remote and no folder was given for its lock")
    started = time.monotonic()
    with ExitStack() as stack:
        try:
            make_folder(path.parent)
            while not stack.enter_context(locked(path, wait=False)):
                holder = read_note(note, _Holder)
                patience = _PREPARED_WITHIN if holder and holder.command == PREPARING else _LOOKED_WITHIN
                if time.monotonic() - started > patience:
                    raise _refusal(location, holder)
                time.sleep(0.02)
        except OSError as error:
            raise as_store_error("lock", location.uri, error) from error
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_note(note, _Holder(os.getpid(), socket.gethostname(), command, since))
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)


def _refusal(location: Location, holder: _Holder | None) -> IndexLocked:
    if holder is None:
        return IndexLocked(f"another process is writing to the index at {location.uri}", "wait until it has finished")
    # The command of another process may hold hostile file names.
    return IndexLocked(
        f"{holder.command!r} is writing to the index at {location.uri} "
        f"(process {holder.pid} on {holder.host!r} since {holder.since!r})",
        f"wait until it has finished, or stop it: kill {holder.pid}",
    )
