"""From files to searchable moments.

``index`` yields events as work is done. Files are worked on by a few threads, each driving one file through worker
processes; only the caller's thread writes, so the index has one writer and every write is whole. Whatever was finished
before an interruption stays, and the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clamr_cli import encoders, weights
from clamr_cli.errors import ClamrError, MediaError, ModelError, StoreError
from clamr_cli.events import Discovered, Finished, Indexed, Moved, Notice, Removed, Skipped
from clamr_cli.media.walk import Found
from clamr_cli.pipeline.crew import outputs
from clamr_cli.pipeline.desk import Desk
from clamr_cli.pipeline.job import EncodeJob, Job
from clamr_cli.pipeline.outputs import Commit, Keep
from clamr_cli.pipeline.survey import Known, Survey, revisit, survey
from clamr_cli.private import opener
from clamr_cli.stages.options import IndexOptions
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.events import Event
    from clamr_cli.store import Store
    from clamr_cli.types import EncoderInfo, FileRecord

__all__ = ["IndexOptions", "check_models", "index"]

_FEW = 1_000_000
"""Up to so many stored vectors (250 MB) every run compares with their checksums; one without targets compares all."""

_PER_MOMENT = 50
"""As many vectors take as long to check as a moment does beside its vectors."""

_SHOWN = 10


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    indexed: int = 0
    moved: int = 0
    removed: int = 0
    failed: int = 0

    def count(self, event: Event) -> None:
        """Take an event into account."""
        match event:
            case Indexed():
                self.indexed += 1
            case Moved():
                self.moved += 1
            case Removed():
                self.removed += 1
            case Skipped():
                self.failed += 1


def index(store: Store, targets: Sequence[str], options: IndexOptions) -> Iterator[Event]:
    """Make the videos of files, folders and globs searchable, and forget those that are gone.

    Without targets, what the index holds is encoded with the encoder of the options where it lacks its vectors, and
    with ``retry_failed`` files that failed are tried again. Closing the iterator stops all work at once.

    Args:
        store: the index, opened for writing by nobody else.
        targets: paths or globs.
        options: how to extract and encode.

    Yields:
        Events in order: :class:`Discovered` first, :class:`Finished` last.

    Raises:
        UsageError: a target does not exist, or an option cannot be used.
        IndexLocked: another process writes to the index.
        ModelError: weights are absent or damaged.
        StoreError: the index or the cache cannot be written.
    """
    started = time.monotonic()
    encoder = encoders.describe(options.encoder, cache=options.cache, **dict(options.encoder_settings))
    with store.writer("clamr index"):
        damaged: list[str] = []
        if not targets or _has_few_vectors(store):
            damaged = store.drop_damaged() + [""] * store.drop_damaged_records()
        desk = Desk(store, options, encoder)
        known = Known(desk.files, desk.recipe.dump(), desk.encoded)
        plan = (
            survey(targets, known, exclude=options.exclude, retry_failed=options.retry_failed)
            if targets
            else revisit(known, retry_failed=options.retry_failed)
        )
        if plan.work:
            check_models(options)
        if not _answered_by_others(store, encoder):
            _put_settings(store, options)
        jobs = _jobs(plan, desk, everything=not targets)
        tally = Tally()
        waiting = len(jobs) - len(plan.work)
        refused = len(plan.unreadable)
        yield Discovered(
            len(plan.work) + len(plan.unchanged) + len(plan.failed) + refused,
            len(plan.unchanged) - waiting,
            len(jobs) + refused,
        )
        for line in (*store.repairs, *_lost(damaged)):
            yield Notice("", line)
        for event in _run(plan, jobs, desk):
            tally.count(event)
            yield event
        if plan.failed:
            yield Notice("", f"{len(plan.failed)} failed before and did not change; --retry-failed tries them again")
        if store.coverage(encoder.fingerprint)[0] >= _answered_by_others(store, encoder):
            _put_settings(store, options)
        store.finish()
        for problem in store.pack_all():
            yield Notice("", f"searches will be slower: {problem}")
        unchanged = len(plan.unchanged) - waiting
        yield Finished(tally.indexed, unchanged, tally.moved, tally.removed, tally.failed, time.monotonic() - started)


def _has_few_vectors(store: Store) -> bool:
    """Whether all stored vectors can be checked in no time, or cannot even be counted."""
    try:
        return sum(use.vectors + use.moments * _PER_MOMENT for use in store.encoders()) < _FEW
    except StoreError:
        return True


def _answered_by_others(store: Store, encoder: EncoderInfo) -> int:
    """From how many videos the vectors answer that an encoder of the same name and other settings made, at most.

    Until the new vectors answer from as many, searches go on with the old ones.
    """
    others = [use.info for use in store.encoders() if use.info.name == encoder.name and use.info != encoder]
    return max((store.coverage(other.fingerprint)[0] for other in others), default=0)


def _put_settings(store: Store, options: IndexOptions) -> None:
    if dict(options.encoder_settings) != store.encoder_settings(options.encoder):
        store.put_encoder_settings(options.encoder, options.encoder_settings)


def _lost(damaged: Sequence[str]) -> Iterator[str]:
    """What there is to say of rows of the index that were damaged; an empty name stands for a video not known."""
    if damaged:
        videos = ", ".join(sorted(set(filter(None, damaged)))[:_SHOWN]) or "some videos"
        yield (
            f"damaged rows of the index were removed ({videos}): clamr index DIR makes them anew, and "
            "clamr index --encoder NAME the vectors of that encoder"
        )


def check_models(options: IndexOptions) -> None:
    """Say at once which weights are missing, not after the first hour of work.

    Raises:
        ModelError: a recogniser's weights are absent or damaged.
    """
    wanted = {"--no-speech": options.asr.model} if options.speech else {}
    if options.text and options.ocr.engine == "easyocr":
        wanted["--no-ocr"] = weights.ocr_weights(options.ocr.languages)
    for without, name in wanted.items():
        try:
            weights.locate(name, options.cache)
        except ModelError as error:
            raise ModelError(error.what, f"{error.hint}, or index with {without}" if error.hint else "") from error


def _jobs(plan: Survey, desk: Desk, *, everything: bool) -> list[Job]:
    jobs = [Job(found, desk) for found in plan.work]
    if everything:
        by_video = {record.video_id: record for record in plan.unchanged if record.video_id not in desk.encoded}
        stored = desk.videos & desk.store.videos_described()
        # Sound is not kept, so an encoder that listens needs the file, and so does a video that a table has lost.
        jobs += [
            _from_file(record, desk) if desk.hears or record.video_id not in stored else EncodeJob(record, desk)
            for record in by_video.values()
        ]
    return jobs


def _from_file(record: FileRecord, desk: Desk) -> Job:
    return Job(Found(record.path, record.root, record.size, record.mtime_ns), desk)


def _run(plan: Survey, jobs: Sequence[Job], desk: Desk) -> Iterator[Event]:
    """Work through a plan; whatever ends it, no process stays behind."""
    try:
        for problem in plan.unreadable:
            yield _fail(
                Job(Found(problem.path, os.path.dirname(problem.path), 0, 0), desk), problem.reason, problem.hint
            )
        for job, output in outputs(jobs, hands=desk.options.jobs, stopping=desk.stopping):
            match output:
                case Keep():
                    with desk.reading:
                        desk.store.put_extraction(output.key, output.payload, output.blobs)
                case Commit():
                    _commit(desk, output)
                    yield output.event
                case MediaError():
                    yield _fail(job, output.what, output.hint)
                case Exception() if not isinstance(output, ClamrError):
                    yield _defect(job, output)
                case BaseException():
                    raise output
                case _:
                    yield output
        for record in plan.gone:
            yield from _forget(desk, record)
        desk.sweep(desk.encoded)
    finally:
        desk.sweep()
        desk.stop()


def _commit(desk: Desk, commit: Commit) -> None:
    """Write a finished video. The file's record comes last: without it the next run does the rest again."""
    file, store = commit.file, desk.store
    with desk.reading:
        if commit.video is not None and (commit.moments is not None or file.video_id not in desk.videos):
            store.put_video(commit.video, commit.moments or ())
            desk.videos.add(file.video_id)
        if commit.vectors is not None:
            store.put_vectors(desk.encoder, commit.vectors)
            desk.encoded.add(file.video_id)
        before = desk.files.get(file.path)
        store.sync()
        store.put_files([file])
        desk.files[file.path] = file
        stale = [r.path for r in desk.holders(file.video_id) if r.path != file.path and not os.path.lexists(r.path)]
        store.delete_files(stale)
        for path in stale:
            del desk.files[path]
        if before is not None:
            _drop_if_unheld(desk, before.video_id)


def _fail(job: Job, reason: str, hint: str) -> Skipped:
    """Record that a file could not be indexed. What the index had of its former content goes."""
    desk, record = job.desk, job.record(FileState.FAILED, reason, hint)
    with desk.reading:
        before = desk.files.get(record.path)
        desk.store.put_files([record])
        desk.files[record.path] = record
        if before is not None:
            _drop_if_unheld(desk, before.video_id)
    return Skipped(record.path, reason, hint)


def _defect(job: Job, error: Exception) -> Skipped:
    """A defect that one file brings to light must not keep the others from being indexed; its traceback is kept."""
    log = job.desk.options.cache / "workers.log"
    with (
        contextlib.suppress(OSError),
        open(log, "a", encoding="utf-8", errors="backslashreplace", opener=opener) as out,
    ):
        traceback.print_exception(error, file=out)
    return _fail(job, f"unexpected {type(error).__name__}", f"this is a defect of clamr; its traceback is in {log}")


def _forget(desk: Desk, record: FileRecord) -> Iterator[Event]:
    """A file is gone: the first run that misses it takes its video out of the index, the next sweeps what was kept.

    Until then it can come back, say on a drive that was away, without being decoded, heard or read again.
    """
    if desk.files.get(record.path) is not record:
        return
    with desk.reading:
        if record.state is FileState.INDEXED:
            desk.files[record.path] = replace(record, state=FileState.MISSING)
            desk.store.put_files([desk.files[record.path]])
            _drop_if_unheld(desk, record.video_id)
        else:
            desk.store.delete_files([record.path])
            del desk.files[record.path]
            if record.video_id and not any(other.video_id == record.video_id for other in desk.files.values()):
                desk.store.drop_extractions(record.video_id)
    if record.state is FileState.INDEXED:
        yield Removed(record.path, record.video_id)


def _drop_if_unheld(desk: Desk, video_id: str) -> None:
    """Take a video out of the index unless an indexed file still holds it."""
    if video_id in desk.videos and not desk.holders(video_id):
        desk.store.remove_videos([video_id])
        desk.videos.discard(video_id)
        desk.encoded.discard(video_id)
