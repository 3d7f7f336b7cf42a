"""The tables of an index, and how an index of an older version becomes one of this version.

Every row that stands for a value of :mod:`clamr_cli.types` keeps it whole as JSON in ``record``, exactly as it was
given; the other columns repeat what is searched, filtered or joined by. Text columns hold no lone surrogates, so a file
name that is no UTF-8 lives in ``path`` as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clamr_cli.store.tables import Tables

SCHEMA_VERSION: Final = 1
"""Goes up by one with every change that needs :data:`MIGRATIONS`."""

META, FILES, VIDEOS, MOMENTS, VECTORS, EXTRACTIONS = "meta", "files", "videos", "moments", "vectors", "extractions"

VECTOR_TYPE: Final = pa.list_(pa.float16(), DIMENSION)
SPAN_TYPE: Final = pa.list_(pa.float32(), 2)
RANGE_TYPE: Final = pa.list_(pa.int32(), 2)

SUMS: Final = pa.field("sums", pa.list_(pa.uint64(), 3))
"""Checksums of a row of vectors: Lance's files have none. Null in rows of an older clamr."""


def _key(name: str) -> pa.Field:
    """A column of the primary key. The mark makes LanceDB refuse commits that would double a row."""
    return pa.field(name, pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    META: pa.schema([_key("name"), ("value", pa.string())]),
    FILES: pa.schema(
        [_key("key"), ("path", pa.binary()), ("display", pa.string()), ("video_id", pa.string()),
         ("state", pa.string()), ("record", pa.string())]
    ),
    VIDEOS: pa.schema(
        [_key("video_id"), ("content_hash", pa.string()), ("title", pa.string()), ("uploader", pa.string()),
         ("date", pa.string()), ("language", pa.string()), ("duration", pa.float64()), ("record", pa.string())]
    ),
    MOMENTS: pa.schema(
        [_key("moment_id"), ("video_id", pa.string()), ("start", pa.float64()), ("end", pa.float64()),
         ("title", pa.string()), ("uploader", pa.string()), ("date", pa.string()), ("language", pa.string()),
         ("duration", pa.float64()), ("text", pa.string()), ("record", pa.string())]
    ),
    VECTORS: pa.schema(
        [_key("moment_id"), _key("fingerprint"), ("encoder", pa.string()), ("dimension", pa.int32()),
         ("count", pa.int32()), ("vectors", pa.list_(VECTOR_TYPE)), ("modality", pa.list_(pa.uint8())),
         ("spans", pa.list_(SPAN_TYPE)), ("segments", pa.list_(pa.int32())), ("offsets", pa.list_(RANGE_TYPE)),
         ("input_ids", pa.list_(pa.int32())), SUMS]
    ),
    EXTRACTIONS: pa.schema(
        [_key("digest"), ("key", pa.string()), ("payload", pa.string()), ("blobs", pa.list_(pa.large_binary()))]
    ),
}  # fmt: skip

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(field.name for field in schema if not field.nullable) for name, schema in SCHEMAS.items()
}
"""The primary key of each table."""

MIGRATIONS: Final[dict[int, Callable[[Tables], None]]] = {}
"""For each older version, the step that makes it the next one.

A step can be cut off and run again, so it must do nothing to what it has already changed.
"""


def migrate(tables: Tables, version: int) -> None:
    """Bring the tables from ``version`` to :data:`SCHEMA_VERSION`, step by step. The caller holds the writer lock.

    Raises:
        StoreError: there is no way from that version.
    """
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise StoreError(
                f"the index at {tables.uri} has version {version}, from which this clamr knows no way",
                "build it anew in another place with: clamr --db NEW_DIR index DIR",
            )
        MIGRATIONS[version](tables)
        version += 1
        write_version(tables, version)


def write_version(tables: Tables, version: int) -> None:
    """Record which version the tables have: the last write of creating or migrating an index."""
    tables.upsert(META, pa.table({"name": ["schema_version"], "value": [str(version)]}, schema=SCHEMAS[META]))


def read_version(tables: Tables) -> int | None:
    """Which version the tables have, None where there is no index (or one whose creation was cut off).

    Raises:
        StoreError: what is there cannot be read.
    """
    if not tables.exists(META):
        return None
    if not {"name", "value"} <= set(tables.dataset(META).schema.names):
        raise StoreError(f"what lies at {tables.uri} is not an index of clamr", "choose another place with --db DIR")
    rows = tables.read(META, ["name", "value"]).to_pylist()
    values = [row["value"] for row in rows if row["name"] == "schema_version"]
    if not values and tables.set_back(META):
        # The write that noted it is what was lost.
        return SCHEMA_VERSION
    if not values:
        return None
    if not values[0].isdecimal():
        raise StoreError(f"the index at {tables.uri} has no readable version", "build it anew in another place")
    return int(values[0])
