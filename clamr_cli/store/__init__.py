"""The index on disk, the only place that knows LanceDB. Open one with :meth:`Store.open`."""

from clamr_cli.store.location import LastSearch
from clamr_cli.store.records import SCHEMA_VERSION, Extraction, VideoFacts
from clamr_cli.store.scan_cache import CorruptCache, PackResult, ScanFile, Snapshot
from clamr_cli.store.store import EncoderUse, Store, StoreStats
from clamr_cli.store.vectors import PackedVectors

__all__ = [
    "SCHEMA_VERSION",
    "CorruptCache",
    "EncoderUse",
    "Extraction",
    "LastSearch",
    "PackResult",
    "PackedVectors",
    "ScanFile",
    "Snapshot",
    "Store",
    "StoreStats",
    "VideoFacts",
]
