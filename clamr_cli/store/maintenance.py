"""The writer's part: its lock, making and repairing an index, and putting it in order."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from clamr_cli.errors import IndexLocked, StoreError
from clamr_cli.files import TEMPORARY_PREFIX, locked, make_folder, sync_file, sync_folder
from clamr_cli.store.lease import Lease, is_leased, lease
from clamr_cli.store.tables import (
    FILES,
    HOLDER_NAME,
    LOCK_NAME,
    MAGIC,
    META,
    MOMENTS,
    SCHEMA_VERSION,
    SCHEMAS,
    VECTORS,
    VERSIONS,
    VIDEOS,
    Location,
    Tables,
    as_store_error,
    is_whole,
    read_note,
    read_version,
    store_errors,
    version_number,
    versions_of,
    write_note,
)
from clamr_cli.types import FileState

PREPARING: Final = "clamr: preparing the index"
"""The command of a process that creates the tables: a matter of seconds, which others wait for."""

_PREPARED_WITHIN: Final = 10.0
_LOOKED_WITHIN: Final = 0.2
"""Seconds. A search that looks whether somebody writes has the lock for an instant."""

SET_ASIDE: Final = "set-aside"
"""The folder of the index with manifests that could not be read."""

COPIES: Final = "manifests"
"""The folder of the index with a copy of each table's newest manifest, as the last run left it."""

_DOUBTFUL: Final = timedelta(minutes=10)
"""A video may have waited so long to be written after the time that its record names."""

_NAMED: Final = 3
"""Videos that a line about several of them names."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that writes to an index; ``since`` is local time in ISO 8601."""

    pid: int
    host: str
    command: str
    since: str


@contextmanager
def writer_lock(location: Location, command: str) -> Iterator[Lease | None]:
    """Hold the writer lock of an index in the block, or raise IndexLocked; it goes with the process.

    An index on object storage has a lease, too, which the block is given: the lock covers this machine only. The note
    beside it may outlive a killed process; it is only read while the lock is really held.
    """
    path, note = location.file(LOCK_NAME), location.file(HOLDER_NAME)
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
            if is_leased(location.uri):
                with lease(location.uri, command) as held:
                    yield held
            else:
                yield None
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


def create(tables: Tables) -> None:
    """Make the tables of a new index.

    The version is written last: a creation that was cut off is done again, and readers see no index until it is whole.
    """
    repair(tables)
    for name, schema in SCHEMAS.items():
        if not tables.exists(name):
            tables.create(name, schema)
    if read_version(tables) is None:
        _write_version(tables)
    tables.sync()


def _write_version(tables: Tables) -> None:
    row = {"name": ["schema_version"], "value": [str(SCHEMA_VERSION)]}
    tables.upsert(META, pa.table(row, schema=SCHEMAS[META]))


def repair(tables: Tables) -> list[str]:
    """Go on from the version before where the newest of a table cannot be read, and undo what may not fit to it.

    Returns a line for each table that lost its newest version.
    """
    lines = []
    lost = _set_lost_versions_aside(tables)
    for name, since in lost.items():
        remedy = "its copy was put back" if since is None else "clamr index goes on from the version before"
        lines.append(f"the newest version of the table {name} could not be read and was set aside: {remedy}")
        if since is not None and name in (MOMENTS, VECTORS):
            # Moments, or vectors, that are older than their video were not made for it.
            limit = (since - _DOUBTFUL).timestamp()
            rows = tables.read(VIDEOS, ["video_id", "record"]).to_pylist()
            late = [row["video_id"] for row in rows if _indexed_at(row["record"]) >= limit]
            if name == MOMENTS:
                tables.delete(VIDEOS, "video_id", late)
            else:
                tables.delete(VECTORS, "moment_id", tables.column(MOMENTS, "moment_id", "video_id", late))
    if META in lost and read_version(tables) is None:
        _write_version(tables)
    return lines


def _indexed_at(record: str) -> float:
    try:
        return datetime.fromisoformat(json.loads(record)["indexed_at"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _set_lost_versions_aside(tables: Tables) -> dict[str, datetime | None]:
    """Set aside the newest versions of tables as far as they cannot be read.

    Returns the tables that lost any, and when the version was written that is the newest now; None where the lost one
    was put back from its copy.
    """
    lost: dict[str, datetime | None] = {}
    for name in SCHEMAS:
        folder = tables.folder(name)
        if folder is None or not (versions := versions_of(folder)):
            continue
        copies = [path for path in (folder.parent / COPIES / name).glob("*.manifest") if is_whole(path)]
        with store_errors("repair", tables.uri):
            good = next((number for number, path in versions if _is_good(tables, name, number, path)), 0)
            bad = [manifest for number, manifest in versions if number > good]
            # Without any good version nothing is moved that may be read in part.
            partly = any(map(is_whole, bad))
            restorable = bool(copies) or not any((folder / "data").glob("*"))
            if not bad or (not good and (partly or not restorable)):
                continue
            aside = folder.parent / SET_ASIDE
            aside.mkdir(parents=True, exist_ok=True)
            for manifest in bad:
                os.replace(manifest, aside / f"{name}-{manifest.name}")
            sync_folder(folder / VERSIONS)
            # A copy is put back if it is newer than what can be read.
            newer = [path for path in copies if version_number(path.name) > good]
            for path in newer[:1]:
                shutil.copyfile(path, folder / VERSIONS / path.name)
                sync_file(folder / VERSIONS / path.name)
                sync_folder(folder / VERSIONS)
            lost[name] = None if newer or not good else tables.at(name, good).versions()[-1]["timestamp"]
        tables.forget_state(name)
    return lost


def _is_good(tables: Tables, name: str, number: int, manifest: Path) -> bool:
    """Whether a version can be read, with all the files it names."""
    if not is_whole(manifest):
        return False
    try:
        data = tables.at(name, number)
    except ValueError as error:
        if "os error" in str(error):
            raise
        return False
    return int(data.version) == number and _has_its_files(manifest.parent.parent, data)


def _has_its_files(table: Path, data: Any) -> bool:  # noqa: ANN401
    """Whether the data files of a version are there, with the length they had and the end they should have."""
    for fragment in data.get_fragments():
        for file in fragment.metadata.files:
            try:
                with (table / "data" / file.path).open("rb") as content:
                    size = os.fstat(content.fileno()).st_size
                    content.seek(max(0, size - len(MAGIC)))
                    end = content.read()
            except FileNotFoundError:
                return False
            if end != MAGIC or (file.file_size_bytes and file.file_size_bytes != size):
                return False
        if (deletion := fragment.metadata.deletion_file) is not None:
            path = table / deletion.path(fragment.fragment_id)
            if not path.is_file() or not path.stat().st_size:
                return False
    return True


def finish(tables: Tables, grace: timedelta) -> None:
    """Sweep, join fragments, bring the full-text index up to date, remove replaced data older than ``grace``."""
    _sweep_orphans(tables)
    _sweep_temporaries(tables.location)
    for name in SCHEMAS:
        tables.compact(name)
    if tables.count(MOMENTS):
        tables.index(MOMENTS, "text")
    # Nothing that is replaced goes before what replaces it is on the disk.
    tables.sync()
    for name in SCHEMAS:
        tables.forget_versions(name, grace)
    if tables.location.folder is not None:
        with suppress(OSError):
            _keep_copies(tables.location.folder)


def _keep_copies(index: Path) -> None:
    """Copy the newest manifest of each table beside the tables: old versions are removed, and one alone may be lost."""
    for name in SCHEMAS:
        numbered = versions_of(index / f"{name}.lance")
        folder = index / COPIES / name
        if not numbered or (folder / numbered[0][1].name).is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{numbered[0][1].name}.part"
        shutil.copyfile(numbered[0][1], draft)
        sync_file(draft)
        os.replace(draft, folder / numbered[0][1].name)
        for old in folder.iterdir():
            if old.name != numbered[0][1].name:
                old.unlink(missing_ok=True)
        sync_folder(folder)


def _sweep_orphans(tables: Tables) -> None:
    """Delete moments without a video and vectors without a moment: a killed writer had not got to them."""
    videos = set(tables.column(VIDEOS, "video_id"))
    moments = tables.read(MOMENTS, ["moment_id", "video_id"]).to_pylist()
    alive = {row["moment_id"] for row in moments if row["video_id"] in videos}
    tables.delete(VECTORS, "moment_id", sorted(set(tables.column(VECTORS, "moment_id")) - alive))
    tables.delete(MOMENTS, "moment_id", sorted({row["moment_id"] for row in moments} - alive))


def _sweep_temporaries(location: Location) -> None:
    """Remove the unfinished files of killed writers, which no other clean-up of the tables touches."""
    if location.folder is None:
        return
    with store_errors("clean", location.uri):
        leftovers = list(location.folder.glob(f"{TEMPORARY_PREFIX}*"))
        for table in SCHEMAS:
            # os.walk goes on where a folder vanishes under it; Path.rglob raises.
            for folder, folders, names in os.walk(location.folder / f"{table}.lance"):
                paths = (Path(folder) / name for name in (*folders, *names))
                leftovers += [path for path in paths if path.name.startswith(".tmp") or "#" in path.suffix]
        for path in leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def contradictions(tables: Tables) -> list[str]:
    """Contradictions between the tables, each with its remedy, a line each."""
    moments = tables.read(MOMENTS, ["moment_id", "video_id"]).to_pylist()
    videos = set(tables.column(VIDEOS, "video_id"))
    described = {row["video_id"] for row in moments}
    encoded = {moment_id.partition("#")[0] for moment_id in tables.column(VECTORS, "moment_id")}
    files = tables.read(FILES, ["video_id", "state"]).to_pylist()
    indexed = {row["video_id"] for row in files if row["state"] == FileState.INDEXED}
    whole = videos & described
    compared = (
        (indexed - whole, "with an indexed file but no record or no moments: clamr index DIR"),
        (described - videos - indexed, "with moments but no record: clamr index DIR"),
        (encoded - described - indexed, "with vectors but no moments: clamr index DIR"),
        (whole - encoded, "without vectors: clamr index --encoder NAME"),
        (videos - {row["video_id"] for row in files}, "without a file: clamr index DIR, or clamr rm ID"),
    )
    lines = []
    for ids, problem in compared:
        if ids:
            names = ", ".join(sorted(ids)[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
            lines.append(f"{len(ids)} {'video' if len(ids) == 1 else 'videos'} ({names}) {problem}")
    return lines


def size_on_disk(location: Location) -> int | None:
    """Bytes of all files of a local index, None for a remote one."""
    if location.folder is None:
        return None
    total = 0
    for folder, _, names in os.walk(location.folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
