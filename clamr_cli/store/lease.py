"""The lease of the one writer of an index on object storage: an object that only one writer can have replaced.

It is written with conditional requests: the first writer creates it (``If-None-Match: *``), others replace it only if
it is still as they read it (``If-Match``). It names its holder, when it expires, and a number that grows with each
holder. A holder renews it while it writes and looks at it before every commit, so one that was cut off or suspended
beyond its time commits nothing more: the number is then another's. What slips through between the look and the commit
meets Lance, whose commits are conditional, too.

Clocks of machines are allowed to differ by :data:`SKEW`. Readers need no lease.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from clamr_cli.errors import ClamrError, IndexLocked, MissingExtra, StoreError
from clamr_cli.locations import object_store
from clamr_cli.store.tables import as_store_error

LEASE_NAME: Final = "writer.lease"
"""The object beside the tables."""

_SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
"""Storage with conditional requests, where several machines may write."""

DURATION: Final = 60.0
"""Seconds from a renewal on."""

SKEW: Final = 15.0
"""Seconds after its end from which others take a lease."""


def is_leased(uri: str) -> bool:
    """Whether an index at this address has a lease."""
    return uri.partition("://")[0] in _SCHEMES


class LeaseRecord(msgspec.Struct, frozen=True):
    """The content of the object. ``expires`` is in seconds since 1970; 0 where the holder has given it back."""

    number: int
    holder: str
    host: str
    pid: int
    command: str
    since: str
    expires: float


class Lease:
    """A lease that this process holds."""

    def __init__(self, store: Any, uri: str, record: LeaseRecord, version: Any, duration: float) -> None:  # noqa: ANN401
        self._store, self._uri, self._duration = store, uri, duration
        self._version = version
        self._lost: StoreError | None = None
        self._changing = threading.Lock()
        self.record = record

    def check(self) -> None:
        """Make sure that the index is still this writer's; renew what has run out while nobody else took it.

        Raises:
            StoreError: another writer has taken over.
        """
        if self._lost is None and time.time() >= self.record.expires:
            self.renew()
        if self._lost is not None:
            raise self._lost

    def renew(self) -> None:
        """Extend the lease; a failed request is no loss until the time is over."""
        import obstore
        from obstore.exceptions import NotFoundError, PreconditionError

        with self._changing:
            record = msgspec.structs.replace(self.record, expires=time.time() + self._duration)
            try:
                written = obstore.put(self._store, LEASE_NAME, msgspec.json.encode(record), mode=self._version)
                self._version, self.record = _condition(written), record
            except (PreconditionError, NotFoundError):
                now, version = _read(self._store)
                if now is not None and now.holder == self.record.holder:
                    # An answer to an earlier request of ours was lost.
                    self._version = version
                    return
                who = "nobody" if now is None else f"{now.command!r} (process {now.pid} on {now.host!r})"
                self._lost = StoreError(
                    f"the lease of the index at {self._uri} ran out and is now held by {who}",
                    "run the command again when that is done; what was finished is kept",
                )
            except Exception as error:  # of the network, in types of several libraries
                if time.time() >= self.record.expires:
                    self._lost = as_store_error("renew the lease of", self._uri, error)

    def give_back(self) -> None:
        """Let others have it at once; where that fails, they wait until it expires."""
        import obstore

        with self._changing:
            record = msgspec.structs.replace(self.record, expires=0.0)
            with suppress(Exception):
                obstore.put(self._store, LEASE_NAME, msgspec.json.encode(record), mode=self._version)


@contextmanager
def lease(uri: str, command: str, *, duration: float = DURATION) -> Iterator[Lease]:
    """Hold the lease of a remote index in the block, and renew it meanwhile.

    Raises:
        MissingExtra: the library that makes conditional requests is not installed.
        IndexLocked: another writer holds it.
        StoreError: the storage refuses.
    """
    try:
        store = _open(uri)
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        before, version = _read(store)
        if before is not None and before.expires > time.time() - SKEW:
            raise _refusal(uri, before)
        since = time.strftime("%Y-%m-%d %H:%M:%S%z")
        number = 1 if before is None else before.number + 1
        record = LeaseRecord(
            number, uuid.uuid4().hex, socket.gethostname(), os.getpid(), command, since, time.time() + duration
        )
        try:
            version = _condition(obstore.put(store, LEASE_NAME, msgspec.json.encode(record), mode=version))
        except (AlreadyExistsError, PreconditionError):
            # Somebody was quicker.
            raise _refusal(uri, _read(store)[0]) from None
    except ClamrError:
        raise
    except Exception as error:
        raise as_store_error("lock", uri, error) from error
    held, ended = Lease(store, uri, record, version, duration), threading.Event()

    def keep() -> None:
        while not ended.wait(duration / 3):
            held.renew()

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join()
        held.give_back()


def holder(uri: str) -> LeaseRecord | None:
    """The writer of a remote index; None where there is none, or that cannot be told."""
    try:
        record, _ = _read(_open(uri))
    except Exception:  # a courtesy to readers
        return None
    return record if record is not None and record.expires > time.time() - SKEW else None


def _open(uri: str) -> Any:  # noqa: ANN401 -- a store of obstore
    try:
        return object_store(uri)
    except MissingExtra as error:
        raise MissingExtra("writing to an index on object storage", "cluster") from error


def _read(store: Any) -> tuple[LeaseRecord | None, Any]:  # noqa: ANN401
    """The lease, None where there is none or it cannot be understood; and the condition under which to replace it."""
    import obstore
    from obstore.exceptions import NotFoundError

    try:
        result = obstore.get(store, LEASE_NAME)
    except (NotFoundError, FileNotFoundError):
        return None, "create"
    try:
        return msgspec.json.decode(bytes(result.bytes()), type=LeaseRecord), _condition(result.meta)
    except msgspec.MsgspecError:
        return None, _condition(result.meta)


def _condition(written: Any) -> dict[str, str]:  # noqa: ANN401
    """The condition under which an object is replaced: that it is still as it was written."""
    return {name: written[name] for name in ("e_tag", "version") if written.get(name) is not None}


def _refusal(uri: str, record: LeaseRecord | None) -> IndexLocked:
    if record is None:
        return IndexLocked(f"another process is writing to the index at {uri}", "wait until it has finished")
    # The command of another process may hold hostile file names.
    until = time.strftime("%H:%M:%S", time.localtime(record.expires + SKEW))
    return IndexLocked(
        f"{record.command!r} is writing to the index at {uri} "
        f"(process {record.pid} on {record.host!r} since {record.since!r})",
        f"wait until it has finished; if it was killed, the index is free at {until}",
    )
