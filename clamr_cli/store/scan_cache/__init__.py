"""A copy of the token vectors beside the index, packed for scanning, that can always be deleted and built anew.

LanceDB stays the source of truth. The cache of an encoder is a folder of files; each says for which fragments of the
vectors table it stands, by the names of their data files, which are never used twice. What no file stands for is read
from the table, and what was deleted since is masked, so a search is right whatever state the cache is in.
"""

from clamr_cli.store.scan_cache.build import PackResult, update
from clamr_cli.store.scan_cache.scan_file import CorruptCache, ScanFile
from clamr_cli.store.scan_cache.snapshot import Snapshot

__all__ = ["CorruptCache", "PackResult", "ScanFile", "Snapshot", "update"]
