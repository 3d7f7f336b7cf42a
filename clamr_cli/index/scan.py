"""The files that an index has, and which of those that are there need which work."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from clamr_cli import locations
from clamr_cli.errors import UsageError
from clamr_cli.extract.sidecars import sidecar_signature
from clamr_cli.media.files import explain
from clamr_cli.media.walk import (
    MISSING,
    Absence,
    Folders,
    Unreadable,
    VideoFile,
    ancestors,
    discover,
    expand_targets,
    is_below,
    is_missing,
)
from clamr_cli.types import FileRecord, FileState

if TYPE_CHECKING:
    from clamr_cli.store import Store

FEW: Final = 3
"""Indexed files below a target from which on more than half of them missing at once means that a disk is away."""

KEPT_FOR: Final = timedelta(days=30)
"""Time for which extractions of a missing file are kept, so that it costs nothing when the file comes back."""

_AT_ONCE: Final = 500
"""Files that are forgotten in one step; a step costs a few commits and a look through the keys of extractions."""


class Register:
    """The files of an index as they are recorded. Changes are written at once; the caller is the index's one writer.

    ``files`` are by path, ``videos`` are the ids of those that the index has.
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
        done again by the next run: the files' own records are written last. With ``keep_extractions`` the files are
        noted as missing, and what was extracted of them is kept for their return.
        """
        for part in _parts(records):
            going = {record.path for record in part}
            rest = {
                video_id: [record for record in self.of_video(video_id) if record.path not in going]
                for video_id in {record.video_id for record in part if record.video_id}
            }
            self._remove(one for one, left in rest.items() if not any(r.state is FileState.INDEXED for r in left))
            if keep_extractions:
                missing, since = FileState.MISSING, now()
                known = [record for record in part if record.video_id]
                self.put([replace(r, state=missing, error="", hint="", missing_since=since) for r in known])
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


class Scan:
    """The files of an index and of a walk, by what they need.

    Args:
        files: the index's, by path.
        recipe: of this run, or a function that gives that of a path.
        encoded: the videos that have vectors of this run's encoder.
        retry_failed: try files again that failed and have not changed.
    """

    def __init__(
        self,
        files: Mapping[str, FileRecord],
        recipe: str | Callable[[str], str] = "",
        encoded: Collection[str] = (),
        *,
        retry_failed: bool = False,
    ) -> None:
        self.files, self.encoded, self.retry_failed = files, encoded, retry_failed
        self._recipe_of: Callable[[str], str] = recipe if callable(recipe) else lambda _: recipe
        # To be looked at: new, changed, retried, of another recipe, or without vectors of the encoder.
        self.work: list[VideoFile] = []
        self.unchanged: list[FileRecord] = []
        self.failed: list[FileRecord] = []  # before, and not changed since
        # Not met, with the reason and the target below which they were expected.
        self.absent: list[tuple[FileRecord, Absence, str]] = []
        self.back: list[FileRecord] = []  # offline or unreadable until now, and there again
        self.returned: list[FileRecord] = []  # those of them with which nothing else is to be done
        self.resolved: list[FileRecord] = []  # folders that could not be read before and can be now
        # Met on the walk, but cannot be looked at; targets that are not there are among them.
        self.unreadable: list[Unreadable] = []
        # Indexed before, there, and no longer met on the walk: of ignored names, or a camera's small copies.
        self.left_out: list[FileRecord] = []
        self.missing: list[FileRecord] = []  # forgotten before; what was extracted of them is still stored
        self.totals: Counter[str] = Counter()  # by target, how many of its indexed files were there the last time
        self.folders = Folders()
        # Folders all of whose indexed files have doubles, by size and time, that are new: they were moved.
        self.emptied: frozenset[str] = frozenset()

    def walk(
        self,
        targets: Sequence[str],
        *,
        exclude: Sequence[str] | Callable[[str], Sequence[str]] = (),
        prune: bool = False,
        unfinished: Collection[str] = (),
        shard: tuple[int, int] | None = None,
    ) -> None:
        """Walk the targets and sort what is met, and what is not; with ``prune`` an absent target is no failure.

        Files that are ``unfinished``, or not in the ``shard`` (:func:`in_shard`), are there, and are left as they are.

        Raises:
            UsageError: a target does not exist, and the index knows nothing of it.
        """
        paths, lost = resolve_targets(targets, self.files, prune=prune)
        named, encoded = set(paths), self.encoded
        seen: set[str] = set()
        for item in discover(paths, exclude=exclude):
            if shard is not None and not in_shard(item.path, shard):
                seen.add(item.path)
            elif isinstance(item, Unreadable):
                self.unreadable.append(item)
            elif item.path in named and not locations.can_read(item.path):
                # Those met in folders have been opened by the walk.
                self.unreadable.append(Unreadable(item.path, *explain(PermissionError(errno.EACCES, ""))))
            else:
                seen.add(item.path)
                record = self.files.get(item.path)
                if item.path in unfinished:
                    continue
                if (
                    record is None
                    or (item.size, item.mtime_ns) != (record.size, record.mtime_ns)
                    or sidecar_signature(item.path, item.root) != record.sidecars
                ):
                    self.work.append(item)
                elif record.state is FileState.FAILED and not self.retry_failed:
                    self.failed.append(record)
                elif (
                    record.state is FileState.INDEXED
                    and record.recipe == self._recipe_of(item.path)
                    and record.video_id in encoded
                ):
                    self.unchanged.append(record)
                else:
                    self.work.append(item)
        for target in () if prune else lost:
            reason = ("it is not there", "connect its disk, or forget its videos with --prune")
            try:
                locations.lstat(target)
            except OSError as error:
                if error.errno not in MISSING:
                    reason = explain(error)
            self.unreadable.append(Unreadable(target, *reason))
        self.folders = Folders({one.path for one in self.unreadable})
        by_glob = {path: target for target, paths in lost.items() if glob.has_magic(target) for path in paths}
        self._sort_unseen(seen, {*named, *lost}, by_glob)
        self.emptied = self._emptied_folders(seen)
        back = {record.path for record in self.back}
        self.returned = [record for record in self.unchanged if record.path in back]
        self.unchanged = [record for record in self.unchanged if record.path not in back]

    def revisit(self, *, prune: bool = False) -> None:
        """Sort the files of the index without targets; with ``prune``, look which of all files are missing.

        Indexed files count as unchanged here; where a video has no vectors it is encoded from what is stored.
        """
        for record in self.files.values():
            if prune and is_missing(record.path):
                self.absent.append((record, Absence(record.path, gone=True, missing=True), record.root))
            elif record.state is FileState.INDEXED:
                self.unchanged.append(record)
            elif record.state is FileState.FAILED and not self.retry_failed:
                self.failed.append(record)
            elif record.state is FileState.FAILED:
                absence = self.folders.absence(record.path, record.root)
                status = None
                with contextlib.suppress(OSError):
                    status = locations.stat(record.path)
                if absence is not None:
                    self.absent.append((record, absence, record.root))
                elif status is not None and not stat.S_ISDIR(status.st_mode):
                    self.work.append(VideoFile(record.path, record.root, status.st_size, status.st_mtime_ns))
                elif _is_readable_folder(record.path):
                    self.resolved.append(record)
                else:
                    self.failed.append(record)

    def moved(self, record: FileRecord) -> bool:
        """Whether a file whose content was met elsewhere is no longer at its own path: it was moved, not copied."""
        absence = self.folders.absence(record.path, record.root)
        return absence is not None and (absence.gone or (absence.missing and absence.folder in self.emptied))

    def settled(self, files: Mapping[str, FileRecord]) -> list[tuple[FileRecord, Absence]]:
        """The absent files that were not met elsewhere meanwhile, and whether they are gone or may be away.

        ``files`` are as they are recorded now.
        """
        left = []
        for record, absence, root in self.absent:
            if files.get(record.path) is record:
                # The record of a failure has no use where all videos of its folder were moved.
                emptied = record.state is FileState.FAILED and absence.missing and absence.folder in self.emptied
                left.append((record, replace(absence, gone=True) if emptied else absence, root))
        gone = Counter(root for record, absence, root in left if absence.gone and record.state is FileState.INDEXED)
        away = {
            root: f"{count} of its {self.totals[root]} files are missing at once"
            for root, count in gone.items()
            if self.totals[root] >= FEW and 2 * count > self.totals[root]
        }
        return [
            (record, replace(absence, gone=False, folder=root, reason=away[root]))
            if absence.gone and root in away
            else (record, absence)
            for record, absence, root in left
        ]

    def _sort_unseen(self, seen: set[str], named: set[str], by_glob: Mapping[str, str]) -> None:
        """Look after the index's files of the targets that the walk did not meet, and those that came back.

        ``seen`` are the paths that the walk met, ``named`` the targets; ``by_glob`` gives for a path that the index has
        the glob that matched nothing.
        """
        met = seen | {one.path for one in self.unreadable}
        absent: list[tuple[FileRecord, Absence, str]] = []
        returned: set[str] = set()
        for path, record in self.files.items():
            root = by_glob.get(path) or next((place for place in (path, *ancestors(path)) if place in named), None)
            if root is None:
                continue
            offline = record.state is FileState.INDEXED and bool(record.missing_since)
            self.totals[root] += record.state is FileState.INDEXED and not offline
            absence = None
            if path not in met:
                absence = self.folders.absence(path, record.root if path in by_glob else root)
            if absence is not None:
                if path in by_glob:
                    absence = replace(absence, folder=root, gone=False, reason="it is not there")
                if record.state is not FileState.MISSING:
                    absent.append((record, absence, root))
                elif absence.missing:
                    self.missing.append(record)
            elif offline and (path in seen or path not in met) and locations.can_read(path):
                self.back.append(record)
                returned.update(ancestors(path))
            elif record.state is FileState.FAILED and path not in met and _is_readable_folder(path):
                self.resolved.append(record)
            elif record.state is FileState.INDEXED and path not in met and locations.realpath(path) not in met:
                self.left_out.append(record)
        for record, absence, root in absent:
            if absence.gone and record.state is FileState.INDEXED and record.missing_since:
                # What was taken to be away stays so until something of the same folder is back, whatever is put there.
                if not record.error and absence.folder not in returned:
                    absence = replace(absence, gone=False, reason="they were offline before")
                else:
                    self.totals[root] += 1
            self.absent.append((record, absence, root))

    def _emptied_folders(self, seen: set[str]) -> frozenset[str]:
        """Folders that lost all their files to a move, rather than with their disk."""
        indexed = {path: record for path, record in self.files.items() if record.state is FileState.INDEXED}
        new = {(item.size, item.mtime_ns) for item in self.work if item.path not in indexed}
        unseen = [record for path, record in indexed.items() if path not in seen] if new else []
        absences = (self.folders.absence(r.path, r.root) for r in unseen if (r.size, r.mtime_ns) in new)
        emptied = {one.folder for one in absences if one is not None and one.missing and not one.gone}
        for record in unseen if emptied else ():
            if (record.size, record.mtime_ns) not in new:
                emptied.difference_update(ancestors(record.path))
        return frozenset(emptied)


def in_shard(path: str, shard: tuple[int, int]) -> bool:
    """Whether a path is in part ``number`` (from 1) of ``count``: by a digest, so files that come move no others.

    >>> [in_shard("/videos/a.mp4", (number, 3)) for number in (1, 2, 3)]
    [True, False, False]
    """
    number, count = shard
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count == number - 1


def resolve_targets(
    targets: Iterable[str], files: Mapping[str, FileRecord], *, prune: bool
) -> tuple[list[str], dict[str, list[str]]]:
    """The files and folders that targets name, absolute, and those targets that only the index knows, with its files.

    With ``prune`` files count that were forgotten before.

    Raises:
        UsageError: a target does not exist, and the index knows nothing of it.
    """
    named: list[str] = []
    lost: dict[str, list[str]] = {}
    for target in targets:
        try:
            named += expand_targets([target])
        except UsageError:
            path = locations.absolute(target)
            recorded = [name for name, record in files.items() if prune or record.state is not FileState.MISSING]
            # A pattern that ends in a folder means all in it; ``**/`` may stand for no folder. That ``*`` crosses
            # folders here takes in more than the walk would: what is there of it is left as it is.
            patterns = (
                {path, path.replace("**/", "")} if glob.has_magic(path) and not locations.is_remote(path) else set()
            )
            ends = [end for one in patterns for end in (one, f"{one}/*")]
            lost[path] = [
                name for name in recorded if is_below(name, path) or any(fnmatch.fnmatchcase(name, end) for end in ends)
            ]
            if not lost[path]:
                raise
    return named, lost


def _is_readable_folder(path: str) -> bool:
    if not locations.is_remote(path):
        return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)
    try:
        return stat.S_ISDIR(locations.stat(path).st_mode)
    except OSError:
        return False


def known_folders(store: Store) -> dict[str, dict[str, object]]:
    """The folders, files and globs that index runs were given, with the settings that are remembered for each.

    Indexes of earlier versions do not say; there it is every folder that was walked, and files that were named alone.
    """
    known = store.folders()
    if known:
        return known
    records = [record for record in store.files() if record.state is not FileState.MISSING]
    counts = Counter(record.root for record in records)
    walked = {r.root for r in records if counts[r.root] > 1 or os.path.dirname(r.path) != r.root}
    return {path: {} for path in sorted({r.root if r.root in walked else r.path for r in records})}
