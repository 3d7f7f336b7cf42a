"""Bringing a sidecar up to date: new rows become a part, small and dead parts are joined with it, the rest stays."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
from filelock import FileLock, Timeout

from clamr_cli import kernel
from clamr_cli.files import TEMPORARY_PREFIX
from clamr_cli.store import vectors
from clamr_cli.store.failures import failing_as_store_error
from clamr_cli.store.records import moment_order
from clamr_cli.store.scan_cache import manifest
from clamr_cli.store.scan_cache.coverage import Rows, assigned, in_fragments
from clamr_cli.store.scan_cache.part import Damaged, Part
from clamr_cli.store.scan_cache.writer import PartWriter
from clamr_cli.store.schema import VECTORS
from clamr_cli.store.tables import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.store.scan_cache.part import PartInfo
    from clamr_cli.store.tables import Tables

    Moved = Callable[[int, int], None]
    """Called with how many vectors are written, and how many there are to write."""

LOCK_NAME: Final = "lock"

VECTORS_AT_ONCE: Final = 1 << 16
"""Vectors in memory at a time: 16 MiB of float16, three times that while they are packed."""

JOINED_SHARE: Final = 0.5
"""Parts smaller than this, as against what is written anyway, are joined with it."""

_DEAD_SHARE: Final = 0.3
"""Parts with more of them deleted are written again."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did: the vectors of the sidecar, those that were written now, its bytes and parts."""

    vectors: int
    written: int
    size: int
    parts: int


@dataclass(frozen=True, slots=True, eq=False)
class _Old:
    """A part there is, the fragments it stands for, and which of its moments are still there, as places in the part."""

    part: Part
    fragments: set[int]
    alive: NDArray[np.int64]

    @property
    def vectors(self) -> int:
        borders = self.part["segments"][self.part["moments"]]
        return int((borders[self.alive + 1] - borders[self.alive]).sum())


@dataclass(frozen=True, slots=True)
class _Entry:
    """A moment to be written: its id, what it is from (a part or the table), its place there, its address, its size."""

    moment_id: str
    source: int
    place: int
    row: int
    count: int


_TABLE: Final = -1


def update(tables: Tables, folder: Path, fingerprint: str, *, join: bool = False, moved: Moved | None = None) -> Built:
    """Make an encoder's sidecar stand for the newest version of the table.

    Whoever builds it already is left alone, or waited for where the parts are to be put together. Vectors of an unknown
    fingerprint give a sidecar without parts.

    Args:
        tables: of the index.
        folder: of this encoder's sidecar.
        fingerprint: of the encoder.
        join: put all parts together.
        moved: is told of progress.

    Raises:
        OSError: the sidecar cannot be written; the old one stays.
        StoreError: the index cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(Timeout), FileLock(folder / LOCK_NAME, thread_local=False, blocking=join):
        return _update(tables, folder, fingerprint, join=join, moved=moved or _unseen)
    return Built(0, 0, 0, 0)


def _unseen(_done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def _update(tables: Tables, folder: Path, fingerprint: str, *, join: bool, moved: Moved) -> Built:
    rows = Rows.read(tables)
    before = manifest.read(folder, fingerprint)
    old = _usable(folder, before.parts if before else (), rows)
    fresh = _fresh(tables, rows, fingerprint, set().union(*(one.fragments for one in old)))
    kept, joined = _choose(old, sum(entry.count for entry in fresh), join=join)
    parts = [_trimmed(one) for one in kept]
    entries = sorted([*fresh, *_entries(joined)], key=lambda entry: moment_order(entry.moment_id))
    written = sum(entry.count for entry in entries)
    seen = set(rows.fragments) - {number for one in kept for number in one.fragments}
    if entries:
        with PartWriter(folder, written) as writer:
            for done in _write(writer, tables, rows, fingerprint, entries, [one.part for one in joined]):
                moved(done, written)
            parts.append(writer.finish(rows.as_covered(seen)))
    elif seen and parts:
        # Rows of other encoders only: the part that is there stands for them too.
        parts[-1] = replace(parts[-1], fragments=parts[-1].fragments + rows.as_covered(seen))
    now = manifest.Manifest(manifest.FORMAT, fingerprint, int(rows.data.version), tuple(parts))
    if now != before:
        manifest.write(folder, now)
    _sweep(folder, {part.name for part in parts})
    return Built(sum(part.vectors for part in parts), written, sum(part.size for part in parts), len(parts))


def _usable(folder: Path, infos: Sequence[PartInfo], rows: Rows) -> list[_Old]:
    """The parts that are whole and stand for anything still."""
    found = []
    for info, fragments in zip(infos, assigned(rows, infos), strict=True):
        with suppress(Damaged):
            part = Part(folder, info)
            part.verify(0, info.size)
            alive = (rows.places(part["rows"]) >= 0) & in_fragments(part["rows"], fragments)
            if alive.any():
                found.append(_Old(part, fragments, np.flatnonzero(alive)))
    return found


def _trimmed(one: _Old) -> PartInfo:
    """A part that stays, without the fragments that are gone."""
    info = one.part.info
    return replace(info, fragments=tuple(f for f in info.fragments if f.number in one.fragments))


def _choose(old: Sequence[_Old], fresh: int, *, join: bool) -> tuple[list[_Old], list[_Old]]:
    """Which parts stay, and which are written again together with the new rows."""
    by_size = sorted(old, key=lambda one: -one.vectors)
    joined = [one for one in by_size if one.vectors < (1 - _DEAD_SHARE) * one.part.info.vectors]
    kept = [one for one in by_size if one not in joined]
    if join and (fresh or joined or len(kept) > 1):
        return [], by_size
    size = fresh + sum(one.vectors for one in joined)
    while kept and size and kept[-1].vectors * JOINED_SHARE <= size:
        size += kept[-1].vectors
        joined.append(kept.pop())
    return kept, joined


def _fresh(tables: Tables, rows: Rows, fingerprint: str, covered: set[int]) -> list[_Entry]:
    """The rows of the fragments that no part stands for."""
    missing = [fragment for fragment in rows.data.get_fragments() if fragment.fragment_id not in covered]
    if not missing:
        return []
    with failing_as_store_error("read", tables.uri, VECTORS):
        table = rows.data.scanner(
            columns=["moment_id", "count"],
            filter=one_of("fingerprint", [fingerprint]),
            fragments=missing,
            with_row_address=True,
        ).to_table()
    columns = (table.column(name).to_pylist() for name in ("moment_id", "_rowaddr", "count"))
    return [_Entry(moment_id, _TABLE, 0, row, count) for moment_id, row, count in zip(*columns, strict=True)]


def _entries(parts: Sequence[_Old]) -> Iterator[_Entry]:
    for source, one in enumerate(parts):
        sizes = np.diff(one.part["segments"][one.part["moments"]])
        for place in one.alive.tolist():
            yield _Entry(one.part.moment_ids[place], source, place, int(one.part["rows"][place]), int(sizes[place]))


def _write(
    writer: PartWriter, tables: Tables, rows: Rows, fingerprint: str, entries: Sequence[_Entry], parts: Sequence[Part]
) -> Iterator[int]:
    """Write moments in order; yields how many vectors are written."""
    done = 0
    for source, group in groupby(entries, key=lambda entry: entry.source):
        for chunk in _chunks(group):
            if source == _TABLE:
                _pack(writer, tables, rows, fingerprint, chunk)
            else:
                for entry in chunk:
                    _copy(writer, entry, parts[source])
            done += sum(entry.count for entry in chunk)
            yield done


def _chunks(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """As many moments at a time as :data:`VECTORS_AT_ONCE` allows, one at least."""
    chunk: list[_Entry] = []
    size = 0
    for entry in entries:
        if chunk and size + entry.count > VECTORS_AT_ONCE:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += entry.count
    if chunk:
        yield chunk


def _pack(writer: PartWriter, tables: Tables, rows: Rows, fingerprint: str, chunk: Sequence[_Entry]) -> None:
    """Quantize moments of the table."""
    places = rows.places(np.array([entry.row for entry in chunk], np.uint64))
    # The table is read from front to back, whatever the order of the moments.
    front = np.argsort(places)
    with failing_as_store_error("read", tables.uri, VECTORS):
        table = rows.data.take(places[front].tolist(), columns=vectors.columns(vectors.SCORED, rows.data))
        table.validate(full=True)
    (batch,) = table.combine_chunks().to_batches()
    try:
        found = vectors.packed(batch, fingerprint)
    except vectors.DamagedRow as row:
        raise vectors.refusal(tables, fingerprint, chunk[int(front[row.number])].moment_id) from row
    moments = [_one(found, number) for number in range(len(found.moment_ids))]
    back = np.argsort(front)
    sorted_rows: list[NDArray[np.float16]] = []
    for entry, (moment_id, values, ids) in zip(chunk, (moments[number] for number in back), strict=True):
        if (moment_id, len(values)) != (entry.moment_id, entry.count):
            raise ValueError(f"the table has {moment_id!r} with {len(values)} vectors where {entry.moment_id!r} was")
        ordered = bool((ids[1:] >= ids[:-1]).all())
        order = np.argsort(ids, kind="stable")
        modalities, lengths = np.unique(ids, return_counts=True)
        writer.moment(moment_id, entry.row, lengths.astype(np.int64), modalities, ordered=ordered)
        sorted_rows.append(values if ordered else values[order])
    packed = kernel.quantize(np.concatenate(sorted_rows))
    writer.vectors(packed.codes, packed.scales, packed.residuals, packed.reach)


def _one(packed: vectors.PackedVectors, number: int) -> tuple[str, NDArray[np.float16], NDArray[np.uint8]]:
    rows = slice(int(packed.indptr[number]), int(packed.indptr[number + 1]))
    return packed.moment_ids[number], packed.vectors[rows], packed.modality_ids[rows]


def _copy(writer: PartWriter, entry: _Entry, part: Part) -> None:
    """Take over a moment of another part."""
    first, last = (int(border) for border in part["moments"][entry.place : entry.place + 2])
    borders = part["segments"][first : last + 1]
    ordered = bool(part["ordered"][entry.place])
    writer.moment(entry.moment_id, entry.row, np.diff(borders), part["modalities"][first:last], ordered=ordered)
    rows = slice(int(borders[0]), int(borders[-1]))
    writer.vectors(part["codes"][rows], part["scales"][rows], part["residuals"][rows], part.info.reach)


def _sweep(folder: Path, names: set[str]) -> None:
    """Remove parts that the manifest does not name, and what builds left that were cut off."""
    for pattern in ("part-*", f"{TEMPORARY_PREFIX}*"):
        for path in folder.glob(pattern):
            if path.name not in names:
                # Where a mapped file cannot be removed, the next build does it.
                with suppress(OSError):
                    path.unlink(missing_ok=True)
