"""The files that index runs met, and the videos and moments that were made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clamr_cli.errors import StoreError, UsageError
from clamr_cli.store import records
from clamr_cli.store.records import VideoFacts
from clamr_cli.store.room import Room
from clamr_cli.store.schema import FILES, MOMENTS, VECTORS, VIDEOS
from clamr_cli.store.tables import literal, one_of
from clamr_cli.types import FileRecord, MomentRecord, VideoRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SHOWN_CANDIDATES = 10

_READ_ATTEMPTS = 5
"""How often to read again what a writer changed meanwhile."""


class Files(Room):
    """The index's files."""

    def files(self, video_ids: Sequence[str] | None = None) -> list[FileRecord]:
        """The files that index runs met, of the given videos (all without), by path."""
        keys, rows = (self._pick(FILES, column, "video_id", video_ids) for column in ("key", "record"))
        return sorted(map(_file, keys, rows), key=lambda file: file.path)

    def file(self, path: str) -> FileRecord | None:
        """What is recorded of a path, None where nothing is."""
        key = records.path_key(path)
        rows = self._tables.read(FILES, ["record"], one_of("key", [key])).column("record")
        return _file(key, rows[0].as_py()) if len(rows) else None

    def put_files(self, files: Sequence[FileRecord]) -> None:
        """Record files, replacing what was recorded of the same paths."""
        self._may_write().upsert(FILES, records.file_rows(files))

    def delete_files(self, paths: Sequence[str]) -> None:
        """Forget files. Paths that are not recorded are passed over."""
        self._may_write().delete(FILES, "key", map(records.path_key, paths))

    def drop_unreadable_records(self) -> int:
        """Take what cannot be read at all out of the tables of files, videos and moments; in how many places."""
        tables = self._may_write()
        return sum(tables.drop_unreadable(name) for name in (FILES, VIDEOS, MOMENTS))

    def drop_damaged_records(self) -> int:
        """Delete files, videos and moments whose records cannot be read, and videos of such moments; how many went.

        The next index run of their folders makes them anew from what was extracted.
        """
        tables = self._may_write()
        rows = tables.read(FILES, ["key", "record"]).to_pylist()
        files = [row["key"] for row in rows if not _loads(_file, row["key"], row["record"])]
        rows = tables.read(VIDEOS, ["video_id", "record"]).to_pylist()
        videos = [row["video_id"] for row in rows if not _loads(records.load, VideoRecord, row["record"])]
        rows = tables.read(MOMENTS, ["moment_id", "video_id", "record"]).to_pylist()
        lost = [row for row in rows if not _loads(records.load, MomentRecord, row["record"])]
        tables.delete(FILES, "key", files)
        tables.delete(VIDEOS, "video_id", [*videos, *(row["video_id"] for row in lost)])
        tables.delete(MOMENTS, "moment_id", [row["moment_id"] for row in lost])
        return len(files) + len(videos) + len(lost)


class Videos(Room):
    """The index's videos, their moments and their texts."""

    def videos(self, ids: Sequence[str] | None = None) -> list[VideoRecord]:
        """The videos with the given ids (all without), by id. Unknown ids are passed over."""
        rows = self._pick(VIDEOS, "record", "video_id", ids)
        return sorted((records.load(VideoRecord, row) for row in rows), key=lambda video: video.video_id)

    def catalog(self) -> list[VideoFacts]:
        """What can be filtered by of every video, by id: much cheaper than :meth:`videos`."""
        columns = ["video_id", "title", "uploader", "date", "language", "duration"]
        rows = self._tables.read(VIDEOS, columns).to_pylist()
        return sorted((VideoFacts(**row) for row in rows), key=lambda facts: facts.video_id)

    def video(self, video_id: str) -> VideoRecord:
        """One video.

        Raises:
            UsageError: the index has none of that id.
        """
        found = self.videos([video_id])
        if not found:
            raise _unknown(video_id)
        return found[0]

    def resolve(self, prefix: str) -> str:
        """The id that begins with ``prefix``.

        Raises:
            UsageError: there is none, or several; the message lists them.
        """
        ids = sorted(self._tables.read(VIDEOS, ["video_id"]).column("video_id").to_pylist())
        found = [video_id for video_id in ids if prefix and video_id.startswith(prefix)]
        if prefix in found:
            return prefix
        if not found:
            raise _unknown(prefix)
        if len(found) > 1:
            more = f" and {len(found) - _SHOWN_CANDIDATES} more" if len(found) > _SHOWN_CANDIDATES else ""
            raise UsageError(
                f"{prefix!r} begins the ids of {len(found)} videos: {', '.join(found[:_SHOWN_CANDIDATES])}{more}",
                "give more of the id",
            )
        return str(found[0])

    def put_video(self, video: VideoRecord, moments: Sequence[MomentRecord]) -> None:
        """Record a video and its moments, replacing what was recorded of it.

        Vectors stay if all moments are as they were, else they go with the old moments: they were made from those. A
        reader sees the old state, none, or the new one.
        """
        tables = self._may_write()
        _check_ids(video, moments)
        old = self._moments_as_stored([video.video_id])
        if old and old != sorted(moments, key=_in_order):
            tables.delete(VIDEOS, "video_id", [video.video_id])
            tables.delete(VECTORS, "moment_id", [moment.moment_id for moment in old])
            kept = {moment.moment_id for moment in moments}
            tables.delete(MOMENTS, "moment_id", [m.moment_id for m in old if m.moment_id not in kept])
        tables.upsert(MOMENTS, records.moment_rows(video, moments))
        tables.upsert(VIDEOS, records.video_rows(video))

    def moments(self, video_ids: Sequence[str] | None = None) -> list[MomentRecord]:
        """The moments of the given videos (of all without), by video and time."""
        found: list[MomentRecord] = []
        for _ in range(_READ_ATTEMPTS):
            version = self._tables.version(VIDEOS)
            visible = set(self._pick(VIDEOS, "video_id", "video_id", video_ids))
            found = [moment for moment in self._moments_as_stored(video_ids) if moment.video_id in visible]
            # A video that was replaced meanwhile may have been caught between its old and its new moments.
            if self._tables.version(VIDEOS) == version:
                break
        return found

    def matching_text(self, text: str, limit: int = 100) -> list[str]:
        """Ids of moments whose speech, screen text or metadata hold words of ``text``, best first (BM25)."""
        return [moment_id for moment_id, _ in self.scored_text(text, limit)]

    def scored_text(self, text: str, limit: int | None = None) -> list[tuple[str, float]]:
        """Like :meth:`matching_text`, with the scores; all moments that hold any word where ``limit`` is None."""
        limit = self._tables.count(MOMENTS) if limit is None else limit
        if not text.strip() or limit < 1:
            return []
        return self._tables.matching_text(MOMENTS, "text", "moment_id", records.readable(text), limit)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every moment and all its texts, a line each: metadata, then speech, then on-screen text."""
        for batch in self._tables.batches(MOMENTS, ["moment_id", "text"]):
            yield from zip(*(batch.column(name).to_pylist() for name in ("moment_id", "text")), strict=True)

    def _moments_as_stored(self, video_ids: Sequence[str] | None) -> list[MomentRecord]:
        rows = self._pick(MOMENTS, "record", "video_id", video_ids)
        return sorted((records.load(MomentRecord, row) for row in rows), key=_in_order)


def _loads(load: Callable[..., object], *arguments: object) -> bool:
    try:
        load(*arguments)
    except StoreError:
        return False
    return True


def _file(key: str, text: str) -> FileRecord:
    """A file's record.

    Raises:
        StoreError: it is none, or not that of its key.
    """
    file = records.load(FileRecord, text)
    if records.path_key(file.path) != key:
        raise StoreError(f"the index holds a damaged FileRecord (of {file.path!r})", "index its folder again")
    return file


def _in_order(moment: MomentRecord) -> tuple[str, float, float, str]:
    return moment.video_id, moment.span.start, moment.span.end, moment.moment_id


def _unknown(video_id: str) -> UsageError:
    return UsageError(f"no video of the index has an id that begins with {video_id!r}", "list them with: clamr ls")


def _check_ids(video: VideoRecord, moments: Iterable[MomentRecord]) -> None:
    """Searches tell a moment's video from its id, so the two must agree."""
    literal(video.video_id)
    ids = [moment.moment_id for moment in moments]
    foreign = [moment_id for moment_id in ids if moment_id.partition("#")[0] != video.video_id]
    foreign += [moment.moment_id for moment in moments if moment.video_id != video.video_id]
    if foreign or len(set(ids)) != len(ids) or "#" in video.video_id:
        raise StoreError(
            f"the moments of video {video.video_id!r} have unfit ids {foreign or ids!r}", "this is a defect of clamr"
        )
