"""What was extracted from videos, kept under keys so that it is never done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clamr_cli.store import records
from clamr_cli.store.records import Extraction
from clamr_cli.store.room import Room
from clamr_cli.store.schema import EXTRACTIONS
from clamr_cli.store.tables import in_parts, one_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Extractions(Room):
    """The index's extractions."""

    def extraction(self, key: str) -> Extraction | None:
        """What was kept under a key, None where nothing was."""
        where = one_of("digest", [records.digest(key)])
        rows = self._tables.read(EXTRACTIONS, ["payload", "blobs"], where).to_pylist()
        return Extraction(records.load(dict[str, Any], rows[0]["payload"]), rows[0]["blobs"]) if rows else None

    def extractions(self, keys: Sequence[str]) -> dict[str, Extraction]:
        """What was kept under several keys, read at once; keys under which nothing is are left out."""
        names = {records.digest(key): key for key in keys}
        found: dict[str, Extraction] = {}
        for part in in_parts(names):
            rows = self._tables.read(EXTRACTIONS, ["digest", "payload", "blobs"], one_of("digest", part))
            for row in rows.to_pylist():
                payload = records.load(dict[str, Any], row["payload"])
                found[names[row["digest"]]] = Extraction(payload, row["blobs"])
        return found

    def has_extraction(self, key: str) -> bool:
        """Whether something is kept under a key."""
        return self._tables.count(EXTRACTIONS, one_of("digest", [records.digest(key)])) > 0

    def put_extraction(self, key: str, payload: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Keep a JSON object and bytes under a key, replacing what was there."""
        self._may_write().upsert(EXTRACTIONS, records.extraction_row(key, payload, blobs))

    def delete_extractions(self, keys: Collection[str]) -> None:
        """Delete what is kept under these keys."""
        self._may_write().delete(EXTRACTIONS, "digest", [records.digest(key) for key in keys])

    def drop_extractions(self, *prefixes: str) -> int:
        """Delete all whose key begins with a content hash, or with an id made of its beginning; how many went."""
        tables = self._may_write()
        starts = {records.readable(prefix) for prefix in prefixes} - {""}
        if not starts:
            return 0
        lengths = sorted({len(start) for start in starts})
        rows = tables.read(EXTRACTIONS, ["digest", "key"]).to_pylist()
        gone = [row["digest"] for row in rows if any(row["key"][:length] in starts for length in lengths)]
        tables.delete(EXTRACTIONS, "digest", gone)
        return len(gone)
