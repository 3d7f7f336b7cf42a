"""One writer per index: a lock that dies with its process, and a note that says who holds it."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from clamr_cli.errors import IndexLocked, StoreError
from clamr_cli.files import make_folder
from clamr_cli.store.failures import as_store_error
from clamr_cli.store.side import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clamr_cli.store.place import Place

LOCK_NAME = "writer.lock"
HOLDER_NAME = "writer.json"

PREPARING = "clamr: preparing the index"
"""What somebody does who makes the tables: a matter of seconds, which others wait for."""

_PREPARED_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes to an index: process id, host, command, and since when (local time, ISO 8601)."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def this_process(cls, command: str) -> Holder:
        """A note about the running process."""
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), command, since)

    @classmethod
    def parse(cls, note: Any) -> Holder | None:  # noqa: ANN401
        """Read a note; None for one that is damaged, absent or of another make."""
        try:
            return cls(int(note["pid"]), str(note["host"]), str(note["command"]), str(note["since"]))
        except (TypeError, KeyError, ValueError):
            return None


def refusal(place: Place, holder: Holder | None) -> IndexLocked:
    """The error for a lock that someone else holds. Their command may hold hostile file names, hence ``repr``."""
    if holder is None:
        return IndexLocked(f"another process is writing to the index at {place.uri}", "wait until it has finished")
    return IndexLocked(
        f"{holder.command!r} is writing to the index at {place.uri} "
        f"(process {holder.pid} on {holder.host!r} since {holder.since!r})",
        f"wait until it has finished, or stop it: kill {holder.pid}",
    )


def held(place: Place) -> bool:
    """Whether somebody writes to an index, as far as this process can see."""
    path = place.side_file(LOCK_NAME)
    if path is None or not path.exists():
        return False
    try:
        with FileLock(path, thread_local=False, blocking=False):
            return False
    except (Timeout, OSError):
        return True


def _acquire(lock: FileLock, note: Path) -> None:
    """Take the lock, waiting for who only looks whether it is free or prepares the index.

    Raises:
        Timeout: someone else writes.
    """
    ends = time.monotonic() + _PREPARED_WITHIN
    while True:
        try:
            # A search that looks whether somebody writes has it for an instant.
            lock.acquire(timeout=0.2, poll_interval=0.02)
            return
        except Timeout:
            holder = Holder.parse(read_json(note))
            if holder is None or holder.command != PREPARING or time.monotonic() > ends:
                raise


@contextmanager
def hold(place: Place, command: str) -> Iterator[None]:
    """Hold the writer lock of an index in the block.

    The lock is the operating system's and goes with the process, however it ends. The note beside it may outlive a
    killed process; it is only read while the lock is really held.

    Raises:
        IndexLocked: someone else holds it; the message names them.
        StoreError: the lock file cannot be made.
    """
    path, note = place.side_file(LOCK_NAME), place.side_file(HOLDER_NAME)
    if path is None or note is None:
        raise StoreError(f"the index at {place.uri} is remote and no folder was given for its lock")
    # Not thread-local: a generator that writes may be closed by another thread than the one that began it.
    lock = FileLock(path, thread_local=False)
    try:
        make_folder(path.parent)
        _acquire(lock, note)
    except Timeout:
        raise refusal(place, Holder.parse(read_json(note))) from None
    except OSError as error:
        raise as_store_error("lock", place.uri, error) from error
    try:
        write_json(note, asdict(Holder.this_process(command)))
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()
