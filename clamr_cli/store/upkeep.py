"""Making an index, and putting it in order: sweeping, joining, indexing texts. The caller holds the writer lock."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.files import TEMPORARY_PREFIX
from clamr_cli.store import durable, schema
from clamr_cli.store.failures import failing_as_store_error
from clamr_cli.store.schema import META, MOMENTS, SCHEMAS, VECTORS, VIDEOS
from clamr_cli.store.tables import in_parts, one_of

if TYPE_CHECKING:
    from clamr_cli.store.place import Place
    from clamr_cli.store.tables import Tables


_DOUBTFUL: Final = timedelta(minutes=10)
"""How long a video may have waited to be written after the time that its record names."""


def prepare(tables: Tables) -> None:
    """Make the tables of a new index, or bring older ones up to date.

    The version is written last: a creation that was cut off is done again, and readers see no index until it is whole.
    """
    repair(tables)
    version = schema.read_version(tables)
    if version is not None:
        schema.migrate(tables, version)
    for name, columns in schema.SCHEMAS.items():
        if not tables.exists(name):
            tables.create(name, columns)
    if version is None:
        schema.write_version(tables, schema.SCHEMA_VERSION)
    tables.sync()


def repair(tables: Tables) -> list[str]:
    """Go on from the version before where the newest of a table cannot be read, and undo what may not fit to it.

    Returns:
        A line for each table that lost its newest version.
    """
    lost = tables.repair(SCHEMAS)
    lines = []
    for name, since in lost.items():
        went = "its copy was put back" if since is None else "clamr index goes on from the version before"
        lines.append(f"the newest version of the table {name} could not be read and was set aside: {went}")
        if since is not None and name in (MOMENTS, VECTORS):
            _undo(tables, name, since - _DOUBTFUL)
    if META in lost and schema.read_version(tables) is None:
        schema.write_version(tables, schema.SCHEMA_VERSION)
    return lines


def _undo(tables: Tables, name: str, since: datetime) -> None:
    """Take away what was made from moments, or vectors, that are older than a video made after ``since``."""
    records = tables.read(VIDEOS, ["video_id", "record"]).to_pylist()
    late = [row["video_id"] for row in records if _indexed_at(row["record"]) >= since.timestamp()]
    if name == MOMENTS:
        tables.delete(VIDEOS, "video_id", late)
    else:
        moments = (tables.read(MOMENTS, ["moment_id"], one_of("video_id", part)) for part in in_parts(late))
        tables.delete(VECTORS, "moment_id", [one for table in moments for one in table.column(0).to_pylist()])


def _indexed_at(record: str) -> float:
    try:
        return datetime.fromisoformat(json.loads(record)["indexed_at"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return float("inf")


def finish(tables: Tables, grace: timedelta) -> None:
    """Sweep, join fragments, bring the full-text index up to date, remove replaced data older than ``grace``."""
    sweep_orphans(tables)
    sweep_temporaries(tables.place)
    for name in SCHEMAS:
        tables.compact(name)
    if tables.count(MOMENTS):
        tables.index_text(MOMENTS, "text")
    # Nothing that is replaced goes before what replaces it is on the disk.
    tables.sync()
    for name in SCHEMAS:
        tables.forget_versions(name, grace)
    if tables.place.folder is not None:
        with suppress(OSError):
            durable.keep_copies(tables.place.folder, list(SCHEMAS))


def sweep_orphans(tables: Tables) -> None:
    """Delete moments without a video and vectors without a moment: what a killed writer had not got to."""
    videos = set(tables.read(VIDEOS, ["video_id"]).column("video_id").to_pylist())
    owners = tables.read(MOMENTS, ["moment_id", "video_id"]).to_pylist()
    alive = {row["moment_id"] for row in owners if row["video_id"] in videos}
    encoded = set(tables.read(VECTORS, ["moment_id"]).column("moment_id").to_pylist())
    tables.delete(VECTORS, "moment_id", sorted(encoded - alive))
    tables.delete(MOMENTS, "moment_id", sorted(row["moment_id"] for row in owners if row["moment_id"] not in alive))


def sweep_temporaries(place: Place) -> None:
    """Remove the unfinished files of killed writers, which no other clean-up of the tables touches."""
    if place.folder is None:
        return
    with failing_as_store_error("clean", place.uri):
        # Whoever lists a folder while a reader looks at it may find less than was there a moment ago.
        for name in SCHEMAS:
            for path in _leftovers(place.folder / f"{name}.lance"):
                _remove(path)
        for path in place.folder.glob(f"{TEMPORARY_PREFIX}*"):
            _remove(path)


def _leftovers(table: Path) -> list[Path]:
    # os.walk goes on where a folder vanishes under it; Path.rglob raises.
    found = [Path(folder) / name for folder, folders, names in os.walk(table) for name in (*folders, *names)]
    return [path for path in found if path.name.startswith(".tmp") or "#" in path.suffix]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        path.unlink()


def size_on_disk(place: Place) -> int | None:
    """Bytes of all files of a local index, None for a remote one."""
    if place.folder is None:
        return None
    total = 0
    for folder, _, names in os.walk(place.folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
