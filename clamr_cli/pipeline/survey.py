"""What is to be done: the files that are there, against those the index knows."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clamr_cli.extract.sidecar import sidecar_signature
from clamr_cli.media.walk import Found, Unreadable, discover, places
from clamr_cli.types import FileRecord, FileState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(slots=True)
class Survey:
    """Files by what they need.

    Attributes:
        work: to be looked at: new, changed, retried, made with another recipe, or without vectors of the encoder.
        unchanged: nothing to do.
        failed: failed before and have not changed since.
        gone: known, but no longer there.
        unreadable: met on the walk, but cannot be looked at.
    """

    work: list[Found] = field(default_factory=list)
    unchanged: list[FileRecord] = field(default_factory=list)
    failed: list[FileRecord] = field(default_factory=list)
    gone: list[FileRecord] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Known:
    """What the index holds: its file records by path, the current recipe, and the videos that have vectors."""

    files: Mapping[str, FileRecord]
    recipe: str
    encoded: Collection[str]


def survey(targets: Sequence[str], known: Known, *, exclude: Sequence[str], retry_failed: bool) -> Survey:
    """Walk the targets and sort what is found.

    Raises:
        UsageError: a target does not exist.
    """
    result = Survey()
    seen: set[str] = set()
    named = places(targets)
    for found in discover(named, exclude=exclude):
        if isinstance(found, Unreadable):
            result.unreadable.append(found)
            continue
        seen.add(found.path)
        _sort(found, known, result, retry_failed=retry_failed)
    folders = [place for place in named if os.path.isdir(place)]
    result.gone = [
        record
        for path, record in known.files.items()
        if path not in seen and _inside(path, folders) and not os.path.lexists(path)
    ]
    return result


def revisit(known: Known, *, retry_failed: bool) -> Survey:
    """Without targets: what the index knows, to be tried again where it failed.

    Indexed files count as unchanged here; where a video has no vectors of the encoder it is encoded from what is kept.
    """
    result = Survey()
    for record in known.files.values():
        if record.state is FileState.INDEXED:
            result.unchanged.append(record)
        elif record.state is FileState.FAILED:
            if retry_failed:
                _retry(record, result)
            else:
                result.failed.append(record)
    return result


def _retry(record: FileRecord, result: Survey) -> None:
    try:
        now = os.stat(record.path)
    except OSError:
        result.gone.append(record)
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


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path.startswith(os.path.join(folder, "")) for folder in folders)
