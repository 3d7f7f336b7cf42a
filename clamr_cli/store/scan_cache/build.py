"""Bringing the scan cache up to date: new rows become a file, small and dead files are written again with them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.files import locked
from clamr_cli.store.errors import store_errors
from clamr_cli.store.records import VECTORS, moment_order
from clamr_cli.store.scan_cache import scan_file
from clamr_cli.store.scan_cache.scan_file import CorruptCache
from clamr_cli.store.scan_cache.snapshot import Snapshot, fragment_of
from clamr_cli.store.tables import Tables, one_of
from clamr_cli.store.vectors import PackedVectors

LOCK_NAME: Final = "lock"

# 16 MiB of float16 in memory at a time, three times that while they are packed.
VECTORS_AT_ONCE: Final = 1 << 16

# Files smaller than this, as against what is written anyway, are written again with it: so there are few of them.
JOINED_SHARE: Final = 0.5

# Files with more of them deleted are written again.
DEAD_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True)
class PackResult:
    """The vectors of a scan cache, those that were written now, its bytes and its files."""

    vectors: int
    written: int
    size: int
    files: int


def update(
    tables: Tables,
    folder: Path,
    fingerprint: str,
    *,
    join: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> PackResult | None:
    """Make an encoder's scan cache stand for the newest version of the table; see :meth:`Store.pack_vectors`.

    A build that is cut off leaves nothing that is trusted. Another process that is at it is waited for with ``join``,
    else left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_NAME, wait=join) as free:
        if not free:
            return None
        snapshot = Snapshot(tables, folder, fingerprint)
        with store_errors("read", tables.uri, VECTORS):
            rows = snapshot.data.to_table(
                columns=["moment_id", "count"], filter=one_of("fingerprint", [fingerprint]), with_row_address=True
            )
        addresses, counts = rows.column("_rowaddr").to_numpy(), rows.column("count").to_numpy()
        alive = {file.name: int(np.diff(file.starts)[file.places >= 0].sum()) for file in snapshot.files}
        files = []
        for file in sorted(snapshot.files, key=lambda file: -alive[file.name]):
            with suppress(CorruptCache):
                file.verify(np.array([[0, len(file.codes)]]))
                if file.covered and alive[file.name] >= (1 - DEAD_SHARE) * len(file.codes):
                    files.append(file)
        while True:
            covered = {number for file in files for number in file.covered}
            missing = [fragment for number, fragment in snapshot.fragments.items() if number not in covered]
            numbers = np.array([fragment.number for fragment in missing], np.uint64)
            chosen = np.flatnonzero(np.isin(fragment_of(addresses), numbers))
            written = int(counts[chosen].sum())
            # Files that are left out are written again, with what is missing.
            joined = bool(missing) and (join or (files and alive[files[-1].name] * JOINED_SHARE <= written))
            if not files or not (joined or (join and len(files) > 1)):
                break
            files.pop()
        names = {LOCK_NAME, *(file.name for file in files)}
        if missing:
            moment_ids = rows.column("moment_id").to_pylist()
            chosen = np.array(sorted(chosen.tolist(), key=lambda row: moment_order(moment_ids[row])), np.int64)
            path = folder / f"{uuid.uuid4().hex}{scan_file.SUFFIX}"
            batches = _batches(snapshot, addresses[chosen], counts[chosen])
            for done in scan_file.write(path, fingerprint, missing, written, addresses[chosen], batches):
                if report is not None:
                    report(done, written)
            names.add(path.name)
        # Files that were joined, are damaged or of an older format, and what builds left that were cut off.
        for path in folder.iterdir():
            if path.name not in names:
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        size = sum(path.stat().st_size for path in folder.glob(f"*{scan_file.SUFFIX}/*"))
        return PackResult(sum(len(file.codes) for file in files) + written, written, size, len(names) - 1)


def _batches(snapshot: Snapshot, addresses: NDArray[np.uint64], counts: NDArray[np.int32]) -> Iterator[PackedVectors]:
    """Stored vectors of moments, about :data:`VECTORS_AT_ONCE` at a time, one moment at least."""
    places = snapshot.find(addresses)
    chunks = np.cumsum(counts, dtype=np.int64) // VECTORS_AT_ONCE
    for some in np.split(places, np.flatnonzero(np.diff(chunks)) + 1):
        if len(some):
            yield snapshot.fetch(some.tolist())
