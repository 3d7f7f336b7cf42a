"""The index: files, videos, moments, vectors and what was extracted, with one writer at a time.

What a reader sees of a video hangs on its row in the videos table, which is written last and deleted first. A process
that is killed between two writes leaves rows nobody sees; the next write of the same video replaces them and
:meth:`Store.finish` sweeps the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clamr_cli.errors import StoreError
from clamr_cli.files import private_as
from clamr_cli.store import lock, schema, side, upkeep
from clamr_cli.store.catalog import Files, Videos
from clamr_cli.store.embeddings import Embeddings, EncoderUse
from clamr_cli.store.extractions import Extractions
from clamr_cli.store.place import Place
from clamr_cli.store.schema import EXTRACTIONS, FILES, MOMENTS, VECTORS, VIDEOS
from clamr_cli.store.side import LastSearch
from clamr_cli.store.tables import READER_GRACE, Tables
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from pathlib import Path

    from clamr_cli.types import SearchOptions


_NAMED = 3
"""Videos that a line about several of them names."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What an index holds. ``failed`` and ``missing`` are among ``files``; ``size`` is in bytes, None where remote.

    A file whose video stays in the index though it could not be read is among ``failed``.
    """

    files: int
    failed: int
    missing: int
    videos: int
    moments: int
    seconds: float
    extractions: int
    encoders: tuple[EncoderUse, ...]
    size: int | None


class Store(Files, Videos, Embeddings, Extractions):
    """An index. Make one with :meth:`open`."""

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False, lock_dir: Path | None = None) -> Store:
        """Open an index, bringing one of an older version up to date.

        Args:
            uri: a folder, or an address such as ``s3://bucket/name``.
            create: make an empty index where there is none.
            lock_dir: the local folder for the lock of a remote index.

        Raises:
            StoreError: there is none, it is of a newer version, or it cannot be read.
            IndexLocked: it must be created or brought up to date, and someone else is writing to it.
        """
        tables = Tables(Place.of(uri, lock_dir))
        version = schema.read_version(tables)
        if version is None and not create:
            if lock.held(tables.place):
                raise StoreError(f"no index at {tables.uri}", "nothing is indexed yet; clamr index is running")
            raise StoreError(f"no index at {tables.uri}", "make one with: clamr index DIR")
        if version is not None and version > schema.SCHEMA_VERSION:
            raise StoreError(
                f"the index at {tables.uri} was made by a newer clamr "
                f"(version {version} of its tables; this one knows {schema.SCHEMA_VERSION})",
                "update clamr, or choose another place with --db DIR",
            )
        if version != schema.SCHEMA_VERSION:
            with lock.hold(tables.place, lock.PREPARING), private_as(tables.place.folder):
                upkeep.prepare(tables)
        return cls(tables)

    def remove_videos(self, ids: Sequence[str], *, keep_extractions: bool = True) -> None:
        """Take videos, their moments and vectors out of the index. Files and, if asked, extractions stay."""
        tables = self._may_write()
        hashes = [] if keep_extractions else [video.content_hash for video in self.videos(ids)]
        moment_ids = self._pick(MOMENTS, "moment_id", "video_id", ids)
        tables.delete(VIDEOS, "video_id", ids)
        tables.delete(VECTORS, "moment_id", moment_ids)
        tables.delete(MOMENTS, "video_id", ids)
        self.drop_extractions(*hashes)

    def remember_search(self, query: str, options: SearchOptions, encoder: str = "") -> None:
        """Note a search for :meth:`last_search`. A courtesy: failing to write it is no error."""
        path = self._tables.place.side_file(side.LAST_SEARCH_NAME)
        if path is not None:
            side.write_last_search(path, LastSearch(query, options, encoder))

    def last_search(self) -> LastSearch | None:
        """What was searched last, if that is known."""
        path = self._tables.place.side_file(side.LAST_SEARCH_NAME)
        return None if path is None else side.read_last_search(path)

    def stats(self) -> StoreStats:
        """Counts, and bytes on disk."""
        files = self.files()
        catalog = self.catalog()
        visible = {facts.video_id for facts in catalog}
        owners = self._tables.read(MOMENTS, ["video_id"]).column("video_id").to_pylist()
        return StoreStats(
            files=len(files),
            failed=sum(file.failed for file in files),
            missing=sum(file.state is FileState.MISSING for file in files),
            videos=len(catalog),
            moments=sum(owner in visible for owner in owners),
            seconds=sum(facts.duration for facts in catalog),
            extractions=self._tables.count(EXTRACTIONS),
            encoders=tuple(self.encoders()),
            size=upkeep.size_on_disk(self._tables.place),
        )

    def problems(self) -> list[str]:
        """Contradictions between the tables, each with its remedy, a line each.

        A video is written to one table after another, so while somebody writes there is nothing to compare.
        """
        found = [f"the newest version of the table {name} cannot be read: clamr index DIR" for name in self.set_back()]
        if self.is_being_written():
            return found
        moments = self._tables.read(MOMENTS, ["moment_id", "video_id"]).to_pylist()
        videos = set(self._pick(VIDEOS, "video_id", "video_id", None))
        described = {row["video_id"] for row in moments}
        encoded = {one.partition("#")[0] for one in self._pick(VECTORS, "moment_id", "moment_id", None)}
        rows = self._tables.read(FILES, ["video_id", "state"]).to_pylist()
        held = {row["video_id"] for row in rows if row["state"] == FileState.INDEXED}
        whole = videos & described
        compared = (
            (held - whole, "with an indexed file but no record or no moments: clamr index DIR"),
            (described - videos - held, "with moments but no record: clamr index DIR"),
            (encoded - described - held, "with vectors but no moments: clamr index DIR"),
            (whole - encoded, "without vectors: clamr index --encoder NAME"),
            (videos - {row["video_id"] for row in rows}, "without a file: clamr index DIR, or clamr rm ID"),
        )
        for ids, what in compared:
            if ids:
                named = ", ".join(sorted(ids)[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
                found.append(f"{len(ids)} {'video' if len(ids) == 1 else 'videos'} ({named}) {what}")
        return found

    def sweep(self) -> None:
        """Remove data that killed writers left and no version names; quicker than :meth:`finish`."""
        for name in schema.SCHEMAS:
            self._may_write().forget_versions(name, READER_GRACE)

    def finish(self, *, grace: timedelta = READER_GRACE) -> None:
        """Put the index in order after a run: sweep what killed writers left, join fragments, index the texts.

        Args:
            grace: how long replaced data stays on disk for readers that are still at it.
        """
        upkeep.finish(self._may_write(), grace)
