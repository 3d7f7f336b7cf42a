"""The files that an index has, by path and by video, and how some of them are forgotten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from clamr_cli.media.presence import is_missing
from clamr_cli.types import FileRecord, FileState

if TYPE_CHECKING:
    from clamr_cli.store import Store

KEPT_FOR: Final = timedelta(days=30)
"""How long what was extracted of a missing file is kept, so that it costs nothing when the file comes back."""

_AT_ONCE: Final = 500
"""Files that are forgotten in one step; a step costs a few commits and a look through the keys of extractions."""


class Register:
    """The files of an index as they are recorded. Changes are written at once; the caller is the index's one writer.

    Attributes:
        files: by path.
        videos: the ids of those that the index has.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.files: dict[str, FileRecord] = {}
        self._by_video: defaultdict[str, dict[str, FileRecord]] = defaultdict(dict)
        for record in store.files():
            self._set(record)
        self.videos: set[str] = {video.video_id for video in store.catalog()}

    def of_video(self, video_id: str) -> list[FileRecord]:
        """The files of a content, in whatever state, by path."""
        return sorted(self._by_video.get(video_id, {}).values(), key=lambda record: record.path)

    def holders(self, video_id: str) -> list[FileRecord]:
        """The indexed files of a content, by path."""
        return [record for record in self.of_video(video_id) if record.state is FileState.INDEXED]

    def put(self, records: Sequence[FileRecord]) -> None:
        """Record files, replacing what was recorded of the same paths."""
        for part in _parts(records):
            self._store.put_files(part)
            for record in part:
                self._set(record)

    def drop(self, paths: Sequence[str]) -> None:
        """Delete what is recorded of files; their videos stay."""
        self._store.delete_files(paths)
        for path in paths:
            self._unset(path)

    def drop_unheld(self, video_id: str) -> None:
        """Take a video out of the index unless an indexed file still holds it."""
        if not self.holders(video_id):
            self._remove([video_id])

    def forget(self, records: Sequence[FileRecord], *, keep_extractions: bool) -> Iterator[list[FileRecord]]:
        """Forget files, some hundreds at a time, and yield those that were.

        A video leaves the index unless another indexed file holds it. What can be interrupted between two writes is
        done again by the next run: the files' own records are written last.

        Args:
            records: the files.
            keep_extractions: note the files as missing and keep what was extracted of them for their return.
        """
        for part in _parts(records):
            going = {record.path for record in part}
            rest = {
                video_id: [record for record in self.of_video(video_id) if record.path not in going]
                for video_id in {record.video_id for record in part if record.video_id}
            }
            self._remove(one for one, left in rest.items() if not any(r.state is FileState.INDEXED for r in left))
            if keep_extractions:
                missing = FileState.MISSING
                self.put(
                    [
                        replace(record, state=missing, error="", hint="", missing_since=now())
                        for record in part
                        if record.video_id
                    ]
                )
                self.drop([record.path for record in part if not record.video_id])
            else:
                self._store.drop_extractions(*sorted(video_id for video_id, left in rest.items() if not left))
                self.drop(sorted(going))
            yield part

    def sweep(self) -> None:
        """Forget what was extracted of files that have been missing for :data:`KEPT_FOR`."""
        missing = [record for record in self.files.values() if record.state is FileState.MISSING]
        # Indexes of earlier versions do not say since when.
        self.put([replace(record, missing_since=now()) for record in missing if not record.missing_since])
        until = (datetime.now(UTC) - KEPT_FOR).isoformat(timespec="seconds")
        old = [r for r in missing if r.missing_since and r.missing_since < until and is_missing(r.path)]
        for _ in self.forget(old, keep_extractions=False):
            pass

    def _remove(self, video_ids: Iterable[str]) -> None:
        going = sorted(self.videos.intersection(video_ids))
        if going:
            self._store.remove_videos(going)
            self.videos.difference_update(going)

    def _set(self, record: FileRecord) -> None:
        self._unset(record.path)
        self.files[record.path] = record
        self._by_video[record.video_id][record.path] = record

    def _unset(self, path: str) -> None:
        before = self.files.pop(path, None)
        if before is not None:
            self._by_video[before.video_id].pop(path, None)


def now() -> str:
    """This moment as records hold it: ISO 8601 in UTC, to the second, so that texts compare like times."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parts(records: Sequence[FileRecord]) -> Iterator[list[FileRecord]]:
    for start in range(0, len(records), _AT_ONCE):
        yield list(records[start : start + _AT_ONCE])
