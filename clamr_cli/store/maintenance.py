"""Creating an index, repairing it, and putting it in order. The caller holds the writer lock."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.files import TEMPORARY_PREFIX
from clamr_cli.store import durable
from clamr_cli.store.errors import store_errors
from clamr_cli.store.location import Location
from clamr_cli.store.records import FILES, META, MOMENTS, SCHEMA_VERSION, SCHEMAS, VECTORS, VIDEOS
from clamr_cli.store.tables import Tables
from clamr_cli.types import FileState

_DOUBTFUL: Final = timedelta(minutes=10)
"""A video may have waited so long to be written after the time that its record names."""

_NAMED: Final = 3
"""Videos that a line about several of them names."""


def read_version(tables: Tables) -> int | None:
    """The version of the tables, None where there is no index (or one whose creation was cut off)."""
    if not tables.exists(META):
        return None
    if not {"name", "value"} <= set(tables.dataset(META).schema.names):
        raise StoreError(f"the tables at {tables.uri} are not an index of clamr", "choose another place with --db DIR")
    values = tables.column(META, "value", "name", ["schema_version"])
    if not values and tables.is_behind(META):
        # The write that noted it is what was lost.
        return SCHEMA_VERSION
    if not values:
        return None
    if not values[0].isdecimal():
        raise StoreError(f"the index at {tables.uri} has no readable version", "build it anew in another place")
    return int(values[0])


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
    lost = tables.repair(SCHEMAS)
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
            durable.keep_copies(tables.location.folder, list(SCHEMAS))


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
