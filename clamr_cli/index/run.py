"""From files to searchable moments.

``index`` yields events as work is done. Files are worked on by a few threads, each driving one file through worker
processes; only the caller's thread writes, so the index has one writer and every write is whole. Whatever was finished
before an interruption stays, and the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clamr_cli import encoders, weights
from clamr_cli.errors import ClamrError, MediaError, ModelError, StoreError, Unreachable
from clamr_cli.events import Discovered, Finished, Indexed, Moved, Notice, Offline, Removed, Skipped
from clamr_cli.files import private_file
from clamr_cli.index.crew import outputs
from clamr_cli.index.desk import Desk
from clamr_cli.index.job import EncodeJob, Job
from clamr_cli.index.options import IndexOptions
from clamr_cli.index.outputs import Commit, Keep
from clamr_cli.index.register import Register, now
from clamr_cli.index.survey import Known, Survey, revisit, survey
from clamr_cli.media.presence import is_missing
from clamr_cli.media.walk import Found
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.events import Event
    from clamr_cli.store import Store
    from clamr_cli.types import EncoderInfo, FileRecord

__all__ = ["IndexOptions", "check_models", "index", "prune"]

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
    offline: int = 0

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
            case Offline():
                self.offline += event.files


def index(store: Store, targets: Sequence[str], options: IndexOptions) -> Iterator[Event]:
    """Make the videos of files, folders and globs searchable, and forget those that are gone.

    Files that may only be away with their disk are marked and stay (see :mod:`clamr_cli.media.presence`).

    Without targets, what the index holds is encoded with the encoder of the options where it lacks its vectors, and
    with ``retry_failed`` files that failed are tried again. Closing the iterator stops all work at once.

    Args:
        store: the index, opened for writing by nobody else.
        targets: paths or globs.
        options: how to extract and encode.

    Yields:
        Events in order: :class:`Discovered` first, :class:`Finished` last.

    Raises:
        UsageError: a target does not exist and the index knows nothing of it, or an option cannot be used.
        IndexLocked: another process writes to the index.
        ModelError: weights are absent or damaged.
        StoreError: the index or the cache cannot be written.
    """
    started = time.monotonic()
    encoder = encoders.describe(options.encoder, cache=options.cache, **dict(options.encoder_settings))
    with store.writer("clamr index"):
        damaged = [""] * store.drop_unreadable_records()
        if not targets or _has_few_vectors(store):
            damaged += store.drop_damaged() + [""] * store.drop_damaged_records()
        desk = Desk(store, options, encoder)
        known = Known(desk.register.files, desk.recipe.dump(), desk.encoded)
        retry, prune = options.retry_failed, options.prune
        plan = (
            survey(targets, known, exclude=options.exclude, retry_failed=retry, prune=prune)
            if targets
            else revisit(known, retry_failed=retry, prune=prune)
        )
        desk.moved = plan.moved
        if plan.work:
            check_models(options)
        if not _answered_by_others(store, encoder):
            _put_settings(store, options)
        jobs = _jobs(plan, desk, everything=not targets)
        tally = Tally()
        waiting = len(jobs) - len(plan.work)
        refused = len(plan.unreadable)
        yield Discovered(
            len(plan.work) + len(plan.unchanged) + len(plan.returned) + len(plan.failed) + refused,
            len(plan.unchanged) - waiting,
            len(jobs) + len(plan.returned) + refused,
            {job.found.path: job.found.size for job in jobs},
        )
        for line in (*store.repairs, *_lost(damaged)):
            yield Notice("", line)
        if plan.left_out:
            yield Notice("", _left_out(plan.left_out))
        for event in _run(plan, jobs, desk):
            tally.count(event)
            yield event
        if plan.failed:
            yield Notice("", f"{len(plan.failed)} failed before and did not change; --retry-failed tries them again")
        if store.coverage(encoder.fingerprint)[0] >= _answered_by_others(store, encoder):
            _put_settings(store, options)
        yield from _drop_earlier(store, encoder)
        store.finish()
        for problem in store.pack_all():
            yield Notice("", f"searches will be slower: {problem}")
        unchanged = len(plan.unchanged) - waiting
        seconds = time.monotonic() - started
        yield Finished(tally.indexed, unchanged, tally.moved, tally.removed, tally.failed, seconds, tally.offline)


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


def _drop_earlier(store: Store, encoder: EncoderInfo) -> Iterator[Event]:
    """Remove the vectors of earlier versions of an encoder, once its own answer from all videos."""
    old = [fingerprint for fingerprint in encoder.earlier if store.has_vectors(fingerprint)]
    searched, of = store.coverage(encoder.fingerprint) if old else (0, 0)
    if old and searched == of:
        for fingerprint in old:
            store.delete_vectors(fingerprint)
        yield Notice("", f"the vectors of an earlier version of {encoder.name} are no longer needed and were removed")


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


def _left_out(files: Sequence[FileRecord]) -> str:
    """What there is to say of indexed files that are there and would not be taken in any more."""
    names = ", ".join(file.path for file in files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
    return (
        f"left out by .clamrignore, --exclude or as a small copy of another video, but still in the index: {names}; "
        "forget with: clamr rm FILE"
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
        stored = desk.register.videos & desk.store.videos_described()
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
        desk.register.drop([record.path for record in plan.resolved])
        desk.register.put([replace(record, missing_since="", error="", hint="") for record in plan.back])
        yield from _returned(plan, desk)
        yield from _unreadable(plan, desk)
        for job, output in outputs(jobs, hands=desk.options.jobs, stopping=desk.stopping):
            match output:
                case Keep():
                    with desk.reading:
                        output.write(desk.store)
                case Commit():
                    _commit(desk, output)
                    yield output.event
                case MediaError():
                    yield _fail(job, output.what, output.hint, reached=not isinstance(output, Unreachable))
                case Exception() if not isinstance(output, ClamrError):
                    yield _defect(job, output)
                case BaseException():
                    raise output
                case _:
                    yield output
        yield from _settle(plan, desk)
        desk.sweep(desk.encoded)
    finally:
        desk.sweep()
        desk.stop()


def _commit(desk: Desk, commit: Commit) -> None:
    """Write a finished video. The file's record comes last: without it the next run does the rest again."""
    file, store = commit.file, desk.store
    with desk.reading:
        if commit.video is not None and (commit.moments is not None or file.video_id not in desk.register.videos):
            store.put_video(commit.video, commit.moments or ())
            desk.register.videos.add(file.video_id)
        if commit.vectors is not None:
            store.put_vectors(desk.encoder, commit.vectors)
            desk.encoded.add(file.video_id)
        before = desk.register.files.get(file.path)
        store.sync()
        desk.register.put([file])
        if before is not file:
            others = [record for record in desk.register.of_video(file.video_id) if record.path != file.path]
            desk.register.drop([record.path for record in others if _left(desk, record)])
        if before is not None:
            _drop_unheld(desk, before.video_id)


def _left(desk: Desk, record: FileRecord) -> bool:
    """Whether a content that was met elsewhere is no longer where a file is recorded."""
    return desk.moved(record) if record.state is FileState.INDEXED else is_missing(record.path)


def _returned(plan: Survey, desk: Desk) -> Iterator[Event]:
    """Say which videos are back; nothing has to be done for them."""
    if not plan.returned:
        return
    durations = {facts.video_id: facts.duration for facts in desk.store.catalog()}
    moments = Counter(one.partition("#")[0] for one in desk.store.encoded(desk.encoder.fingerprint))
    for record in plan.returned:
        identity, reused = record.video_id, ("decode", "speech", "ocr", "encode")
        yield Indexed(record.path, identity, durations.get(identity, 0.0), moments[identity], reused)


def _unreadable(plan: Survey, desk: Desk) -> Iterator[Event]:
    """Record what could not be looked at, and say how many videos stay in the index nevertheless."""
    away = Counter(absence.folder for record, absence, _ in plan.absent if record.state is FileState.INDEXED)
    for problem in plan.unreadable:
        job = Job(Found(problem.path, os.path.dirname(problem.path), 0, 0), desk)
        if glob.has_magic(problem.path) and not os.path.lexists(problem.path):
            # A pattern is no path that anything could be recorded of.
            failure = Skipped(problem.path, problem.reason, problem.hint)
        else:
            failure = _fail(job, problem.reason, problem.hint, reached=False)
        count = away[problem.path]
        told = f"; {count} indexed {'video stays' if count == 1 else 'videos stay'} in the index" if count else ""
        yield replace(failure, reason=f"{failure.reason}{told}")


def _fail(job: Job, reason: str, hint: str, *, reached: bool = True) -> Skipped:
    """Record that a file could not be indexed. What the index had of its former content goes.

    Args:
        job: of the file.
        reason: what happened, as it is recorded.
        hint: what to do about it.
        reached: whether its content is the reason. A file that cannot be reached keeps its video in the index.
    """
    desk, record = job.desk, job.record(FileState.FAILED, reason, hint)
    with desk.reading:
        before = desk.register.files.get(record.path)
        if before is not None and before.state is not FileState.FAILED and not reached:
            same = (record.size, record.mtime_ns) in ((0, 0), (before.size, before.mtime_ns))
            if before.state is FileState.INDEXED and (same or not os.path.exists(record.path)):
                record = replace(before, error=reason, hint=hint, missing_since=before.missing_since or now())
            elif before.state is FileState.MISSING:
                record = replace(record, video_id=before.video_id)
        desk.register.put([record])
        if before is not None:
            _drop_unheld(desk, before.video_id)
    return Skipped(record.path, reason, hint)


def _defect(job: Job, error: Exception) -> Skipped:
    """A defect that one file brings to light must not keep the others from being indexed; its traceback is kept."""
    log = job.desk.options.cache / "workers.log"
    with (
        contextlib.suppress(OSError),
        open(log, "a", encoding="utf-8", errors="backslashreplace", opener=private_file) as out,
    ):
        traceback.print_exception(error, file=out)
    return _fail(job, f"unexpected {type(error).__name__}", f"this is a defect of clamr; its traceback is in {log}")


def _settle(plan: Survey, desk: Desk) -> Iterator[Event]:
    """Forget what is gone, mark what may be away, and drop what was extracted of files that are gone for long."""
    settled = plan.settled(desk.register.files)
    if desk.options.prune:
        going = [record for record, absence in settled if absence.missing]
        going += [record for record in plan.missing if desk.register.files.get(record.path) is record]
        yield from _forget(desk, going, keep_extractions=False)
    else:
        yield from _forget(desk, [record for record, one in settled if one.gone], keep_extractions=True)
    away = [(record, one) for record, one in settled if desk.register.files.get(record.path) is record]
    away = [(record, one) for record, one in away if record.state is FileState.INDEXED]
    with desk.reading:
        desk.register.put([replace(record, missing_since=now()) for record, _ in away if not record.missing_since])
        desk.register.sweep()
    told = {problem.path for problem in plan.unreadable}
    counts = Counter((one.folder, one.reason, one.missing) for _, one in away)
    for (folder, reason, missing), count in counts.items():
        if folder not in told:
            yield Offline(folder, count, reason, missing)


def _forget(desk: Desk, records: Sequence[FileRecord], *, keep_extractions: bool) -> Iterator[Event]:
    """Files are gone: their videos leave the index, and what was extracted of them is kept for a while if asked."""
    parts = desk.register.forget(records, keep_extractions=keep_extractions)
    while True:
        with desk.reading:
            part = next(parts, ())
        if not part:
            return
        desk.encoded &= desk.register.videos
        yield from (Removed(r.path, r.video_id) for r in part if r.state is not FileState.FAILED)


def _drop_unheld(desk: Desk, video_id: str) -> None:
    """Take a video out of the index unless an indexed file still holds it."""
    desk.encoded.difference_update(desk.register.drop_unheld([video_id]))


def prune(store: Store) -> Iterator[Event]:
    """Forget all files of an index that are missing now, with what was extracted of them.

    Yields:
        Events in order: :class:`Discovered` first, :class:`Finished` last.

    Raises:
        IndexLocked: another process writes to the index.
        StoreError: the index cannot be written.
    """
    started = time.monotonic()
    with store.writer("clamr index --prune"):
        register = Register(store)
        gone = [record for record in register.files.values() if is_missing(record.path)]
        total, removed = len(register.files), 0
        yield Discovered(total, total - len(gone), 0)
        for part in register.forget(gone, keep_extractions=False):
            for record in part:
                if record.state is not FileState.FAILED:
                    removed += 1
                    yield Removed(record.path, record.video_id)
        store.finish()
        yield from (Notice("", f"searches will be slower: {problem}") for problem in store.pack_all())
        yield Finished(0, total - len(gone), 0, removed, 0, time.monotonic() - started)
