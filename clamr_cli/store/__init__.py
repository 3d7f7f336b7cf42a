"""The index on disk, the only place that knows LanceDB. Open one with :meth:`Store.open`."""

from clamr_cli.store.scan_cache import CorruptCache, PackedVectors, PackResult, ScanFile, Snapshot
from clamr_cli.store.store import (
    VOICES_VERSION,
    EncoderUse,
    Extraction,
    LastHit,
    LastSearch,
    Store,
    StoreStats,
    VideoFacts,
)
from clamr_cli.store.tables import SCHEMA_VERSION
from clamr_cli.store.union import SnapshotUnion, StoreUnion

__all__ = [
    "SCHEMA_VERSION",
    "VOICES_VERSION",
    "CorruptCache",
    "EncoderUse",
    "Extraction",
    "LastHit",
    "LastSearch",
    "PackResult",
    "PackedVectors",
    "ScanFile",
    "Snapshot",
    "SnapshotUnion",
    "Store",
    "StoreStats",
    "StoreUnion",
    "VideoFacts",
]
