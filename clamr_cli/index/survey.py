"""What is to be done: the files that are there, against those the index knows."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError
from clamr_cli.extract.sidecar import sidecar_signature
from clamr_cli.media.presence import MISSING, Absence, Folders, ancestors, is_below, is_missing
from clamr_cli.media.trouble import explain
from clamr_cli.media.walk import Found, Unreadable, discover, places
from clamr_cli.types import FileRecord, FileState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

FEW: Final = 3
"""Indexed files below a target from which on more than half of them missing at once means that a disk is away."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A target that is not there, though the index knows files of it; ``place`` may be a glob."""

    place: str
    files: frozenset[str]


@dataclass(slots=True)
class Survey:
    """Files by what they need.

    Attributes:
        work: to be looked at: new, changed, retried, made with another recipe, or without vectors of the encoder.
        unchanged: nothing to do.
        failed: failed before and have not changed since.
        absent: known, but not met, with the reason and the target below which they were expected.
        back: offline or unreadable until now, and there again.
        returned: those of them with which nothing else is to be done.
        resolved: folders that could not be read before and can be now.
        unreadable: met on the walk, but cannot be looked at; targets that are not there are among them.
        left_out: indexed before, there, and no longer met on the walk: of ignored names, or a camera's small copies.
        missing: forgotten before; what was extracted of them is still kept.
        totals: by target, how many of its indexed files were there the last time.
        folders: what became of the folders of absent files.
        emptied: folders all of whose indexed files have doubles, by size and time, that are new: they were moved.
    """

    work: list[Found] = field(default_factory=list)
    unchanged: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    absent: list[tuple[FileRecord, Absence, str]] = field(default_factory=list)
    back: list[FileRecord] = field(default_factory=list)
    returned: list[FileRecord] = field(default_factory=list)
    resolved: list[FileRecord] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    left_out: list[FileRecord] = field(default_factory=list)
    missing: list[FileRecord] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    folders: Folders = field(default_factory=Folders)
    emptied: frozenset[str] = frozenset()

    def moved(self, record: FileRecord) -> bool:
        """Whether a file whose content was met elsewhere is no longer at its own path: it was moved, not copied."""
        absence = self.folders.absence(record.path, record.root)
        return absence is not None and (absence.gone or (absence.missing and absence.folder in self.emptied))

    def settled(self, files: Mapping[str, FileRecord]) -> list[tuple[FileRecord, Absence]]:
        """The absent files that were not met elsewhere meanwhile, and whether they are gone or may be away.

        Args:
            files: as they are recorded now.
        """
        left = [
            # What is noted of a failure has no use where all videos of its folder were moved.
            (record, replace(absence, gone=True) if self._is_note(record, absence) else absence, root)
            for record, absence, root in self.absent
            if files.get(record.path) is record
        ]
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

    def _is_note(self, record: FileRecord, absence: Absence) -> bool:
        return record.state is FileState.FAILED and absence.missing and absence.folder in self.emptied


@dataclass(frozen=True, slots=True)
class Known:
    """What the index holds: its file records by path, the current recipe, and the videos that have vectors."""

    files: Mapping[str, FileRecord]
    recipe: str
    encoded: Collection[str]


def locate(targets: Iterable[str], files: Mapping[str, FileRecord], *, prune: bool) -> tuple[list[str], list[Lost]]:
    """The files and folders that targets name, absolute, and those targets that only the index knows.

    Args:
        targets: paths or globs.
        files: of the index, by path.
        prune: whether files count that were forgotten before.

    Raises:
        UsageError: a target does not exist, and the index knows nothing of it.
    """
    named: list[str] = []
    lost: list[Lost] = []
    for target in targets:
        try:
            named += places([target])
        except UsageError:
            place = os.path.abspath(os.path.expanduser(target))
            known = [path for path, record in files.items() if prune or record.state is not FileState.MISSING]
            below = frozenset(path for path in known if _is_of(path, place))
            if not below:
                raise
            lost.append(Lost(place, below))
    return named, lost


def _is_of(path: str, place: str) -> bool:
    if is_below(path, place):
        return True
    # A pattern that ends in a folder means all in it; ``**/`` may stand for no folder. That ``*`` crosses folders here
    # takes in more than the walk would: what is there of it is left as it is.
    patterns = {place, place.replace("**/", "")} if glob.has_magic(place) else ()
    return any(fnmatch.fnmatchcase(path, end) for one in patterns for end in (one, f"{one}/*"))


def survey(
    targets: Sequence[str], known: Known, *, exclude: Sequence[str], retry_failed: bool, prune: bool = False
) -> Survey:
    """Walk the targets and sort what is found.

    Args:
        targets: paths or globs.
        known: what the index holds.
        exclude: globs of names and paths to leave out.
        retry_failed: try files again that failed and have not changed.
        prune: a target that is not there is no failure.

    Raises:
        UsageError: a target does not exist, and the index knows nothing of it.
    """
    result = Survey()
    seen: set[str] = set()
    places_named, lost = locate(targets, known.files, prune=prune)
    named = {*places_named}
    for found in discover(places_named, exclude=exclude):
        if isinstance(found, Unreadable):
            result.unreadable.append(found)
            continue
        if found.path in named and not os.access(found.path, os.R_OK):
            # Those met in folders have been opened by the walk.
            result.unreadable.append(Unreadable(found.path, *explain(PermissionError(errno.EACCES, ""))))
            continue
        seen.add(found.path)
        _sort(found, known, result, retry_failed=retry_failed)
    if not prune:
        result.unreadable += [_unreadable(one.place) for one in lost]
    result.folders = Folders({one.path for one in result.unreadable})
    roots = {path: one.place for one in lost if glob.has_magic(one.place) for path in one.files}
    _sort_unseen(known, seen, {*named, *(one.place for one in lost)}, roots, result)
    result.emptied = _emptied(known, seen, result)
    back = {record.path for record in result.back}
    result.returned = [record for record in result.unchanged if record.path in back]
    result.unchanged = [record for record in result.unchanged if record.path not in back]
    return result


def _unreadable(place: str) -> Unreadable:
    """A target that only the index knows."""
    try:
        os.lstat(place)
    except OSError as error:
        if error.errno not in MISSING:
            return Unreadable(place, *explain(error))
    return Unreadable(place, "it is not there", "connect its disk, or forget its videos with --prune")


def revisit(known: Known, *, retry_failed: bool, prune: bool = False) -> Survey:
    """Without targets: what the index knows, to be tried again where it failed.

    Indexed files count as unchanged here; where a video has no vectors of the encoder it is encoded from what is kept.

    Args:
        known: what the index holds.
        retry_failed: try files again that failed.
        prune: also look which of all files are missing.
    """
    result = Survey()
    for record in known.files.values():
        if prune and is_missing(record.path):
            result.absent.append((record, Absence(record.path, gone=True, missing=True), record.root))
        elif record.state is FileState.INDEXED:
            result.unchanged.append(record)
        elif record.state is FileState.FAILED:
            if retry_failed:
                _retry(record, result)
            else:
                result.failed.append(record)
    return result


def _retry(record: FileRecord, result: Survey) -> None:
    absence = result.folders.absence(record.path, record.root)
    if absence is not None:
        result.absent.append((record, absence, record.root))
        return
    try:
        now = os.stat(record.path)
    except OSError:
        result.failed.append(record)
        return
    if os.path.isdir(record.path):
        (result.resolved if _is_readable_folder(record.path) else result.failed).append(record)
    else:
        result.work.append(Found(record.path, record.root, now.st_size, now.st_mtime_ns))


def _sort(found: Found, known: Known, result: Survey, *, retry_failed: bool) -> None:
    record = known.files.get(found.path)
    if record is None or not _same_file(found, record):
        result.work.append(found)
    elif record.state is FileState.FAILED:
        (result.work.append(found) if retry_failed else result.failed.append(record))
    elif record.state is FileState.INDEXED and record.recipe == known.recipe and record.video_id in known.encoded:
        result.unchanged.append(record)
    else:
        result.work.append(found)


def _same_file(found: Found, record: FileRecord) -> bool:
    return (found.size, found.mtime_ns, sidecar_signature(found.path, found.root)) == (
        record.size,
        record.mtime_ns,
        record.sidecars,
    )


def _sort_unseen(known: Known, seen: set[str], named: set[str], by_glob: Mapping[str, str], result: Survey) -> None:
    """Look after the known files of the targets that the walk did not meet, and those that came back.

    Args:
        known: what the index holds.
        seen: what the walk met.
        named: the targets.
        by_glob: by path, the glob that matched nothing, for what the index knows of it.
        result: what to add to.
    """
    met = seen | {one.path for one in result.unreadable}
    absent: list[tuple[FileRecord, Absence, str]] = []
    returned: set[str] = set()
    for path, record in known.files.items():
        root = by_glob.get(path) or next((place for place in (path, *ancestors(path)) if place in named), None)
        if root is None:
            continue
        offline = record.state is FileState.INDEXED and bool(record.missing_since)
        result.totals[root] += record.state is FileState.INDEXED and not offline
        absence = None
        if path not in met:
            absence = result.folders.absence(path, record.root if path in by_glob else root)
        if absence is not None:
            if path in by_glob:
                absence = replace(absence, folder=root, gone=False, reason="it is not there")
            if record.state is not FileState.MISSING:
                absent.append((record, absence, root))
            elif absence.missing:
                result.missing.append(record)
        elif offline and (path in seen or path not in met) and os.access(path, os.R_OK):
            result.back.append(record)
            returned.update(ancestors(path))
        elif record.state is FileState.FAILED and path not in met and _is_readable_folder(path):
            result.resolved.append(record)
        elif record.state is FileState.INDEXED and path not in met and os.path.realpath(path) not in met:
            result.left_out.append(record)
    for record, absence, root in absent:
        if absence.gone and record.state is FileState.INDEXED and record.missing_since:
            # What was taken to be away stays so until something of the same folder is back, whatever is put there.
            if not record.error and absence.folder not in returned:
                absence = replace(absence, gone=False, reason="they were offline before")
            else:
                result.totals[root] += 1
        result.absent.append((record, absence, root))


def _is_readable_folder(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)


def _emptied(known: Known, seen: set[str], result: Survey) -> frozenset[str]:
    """Folders that lost all their files to a move, rather than with their disk."""
    new = {
        (found.size, found.mtime_ns)
        for found in result.work
        if found.path not in known.files or known.files[found.path].state is not FileState.INDEXED
    }
    unseen = [r for path, r in known.files.items() if r.state is FileState.INDEXED and path not in seen] if new else []
    absences = (result.folders.absence(r.path, r.root) for r in unseen if (r.size, r.mtime_ns) in new)
    emptied = {one.folder for one in absences if one is not None and one.missing and not one.gone}
    for record in unseen if emptied else ():
        if (record.size, record.mtime_ns) not in new:
            emptied.difference_update(ancestors(record.path))
    return frozenset(emptied)
