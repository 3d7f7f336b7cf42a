"""From files to searchable moments: many videos, resumable, with one writer.

:func:`index_async` yields events as work is done, :func:`index` does the same for callers without an event loop.
Several videos are in work at once, each in its own tasks on an executor. All coroutines run on the caller's thread, so
everything is written to the index there, and every write is whole. Whatever was finished before an interruption stays,
and the next run goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from clamr_cli import encoders, locations
from clamr_cli.errors import ClamrError, MediaError, StoreError, Unreachable, UsageError
from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Removed, Skipped, Stage
from clamr_cli.extract.sidecars import sidecar_signature
from clamr_cli.files import private_file
from clamr_cli.index import tasks
from clamr_cli.index.documents import (
    Recipe,
    Transcript,
    documents_of,
    documents_with,
    moment_of,
    spoken_segments,
    stored_transcript,
    transcript_key,
)
from clamr_cli.index.executors import Executor, WorkerLost
from clamr_cli.index.executors.local import LocalExecutor, ignore
from clamr_cli.index.pipeline import IndexOptions, Work, encode, for_each, index_video
from clamr_cli.index.scan import Register, Scan, now
from clamr_cli.index.speakers import Speakers, tells_speakers
from clamr_cli.index.workdir import sweep, work_area
from clamr_cli.media.walk import VideoFile, is_missing
from clamr_cli.text import plural
from clamr_cli.types import (
    EncoderInfo,
    FileRecord,
    FileState,
    MomentRecord,
    Segment,
    TimeBase,
    TokenVectors,
    VideoRecord,
    Voices,
)

if TYPE_CHECKING:
    from clamr_cli.store import Store

__all__ = ["IndexOptions", "correct", "index", "index_async", "iterate", "prune", "stream"]

Item = TypeVar("Item")

_FEW: Final = 1_000_000
"""Up to so many stored vectors (250 MB) every run compares with their checksums; one without targets compares all."""

_PER_MOMENT: Final = 50
"""As many vectors take as long to check as a moment does beside its vectors."""

_SHOWN: Final = 10
"""Names in a notice at most."""

_AT_ONCE: Final = 200
"""Records that are renewed in one step."""

_NOTED_EVERY: Final = 2.0
"""Seconds between two notes of how far a run is."""

_ATTEMPTS: Final = 3
"""Times that a video is worked on where its workers are lost."""

_STAGES: Final[tuple[Stage, ...]] = ("decode", "speech", "ocr", "encode")


def index(
    store: Store, targets: Sequence[str], options: IndexOptions, executor: Executor | None = None
) -> Iterator[Event]:
    """Index as :func:`index_async` does, where no event loop runs. Work goes on only while an event is waited for."""
    return iterate(index_async(store, targets, options, executor))


async def index_async(
    store: Store, targets: Sequence[str], options: IndexOptions, executor: Executor | None = None
) -> AsyncGenerator[Event, None]:
    """Make the videos of files, folders and globs searchable, and forget those that are gone.

    Files that may only be away with their disk are marked and stay (see :mod:`clamr_cli.media.walk`).

    Without targets, what the index has is encoded with the encoder of the options where it lacks its vectors, and
    with ``retry_failed`` files that failed are tried again. Closing the iterator (``aclose``) stops all work at once.

    Args:
        store: the index, opened for writing by nobody else.
        targets: paths or globs.
        options: how to extract and encode.
        executor: where tasks run, by default in processes of this machine; it is stopped at the end.

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
        # Rows that cannot be read go: the names of their videos, empty where a name is not known.
        damaged = [""] * store.drop_unreadable_records()
        try:
            is_small = sum(use.vectors + use.moments * _PER_MOMENT for use in store.encoders()) < _FEW
        except StoreError:
            is_small = True
        if not targets or is_small:
            damaged += store.drop_damaged() + [""] * store.drop_damaged_records()
        run = IndexRun(store, options, encoder, executor)
        scan = run.scan
        if targets:
            scan.walk(
                targets,
                exclude=lambda folder: options.of(folder).exclude,
                prune=options.prune,
                unfinished=options.unfinished,
                shard=options.shard,
            )
        else:
            scan.revisit(prune=options.prune)
        for used in {id(one): one for one in (options.of(file.path) for file in scan.work)}.values():
            used.check_models()
        if options.remembered is not None and options.remembered != store.folders():
            store.put_folders(options.remembered)
        if not _answered_by_others(store, encoder):
            _put_settings(store, options)
        files: list[VideoFile | FileRecord] = [*scan.work, *(() if targets else run.lacking_vectors())]
        unchanged = len(scan.unchanged) - (len(files) - len(scan.work))
        refused = len(scan.unreadable)
        total = len(scan.work) + len(scan.unchanged) + len(scan.returned) + len(scan.failed) + refused
        yield Discovered(
            total, unchanged, len(files) + len(scan.returned) + refused, {file.path: file.size for file in files}
        )
        for line in store.repairs:
            yield Notice("", line)
        if damaged:
            names = _listed(sorted(set(filter(None, damaged)))) or "some videos"
            again = "clamr index DIR makes them anew, and clamr index --encoder NAME the vectors of that encoder"
            yield Notice("", f"damaged rows of the index were removed ({names}): {again}")
        if scan.left_out:
            why = "left out by .clamrignore, --exclude or as a small copy of another video, but still in the index"
            names = _listed([file.path for file in scan.left_out])
            yield Notice("", f"{why}: {names}; forget with: clamr rm FILE")
        counts: Counter[type[Event]] = Counter()
        offline, duration, noted = 0, 0.0, -_NOTED_EVERY
        async with contextlib.aclosing(run.events(files)) as events:
            async for event in events:
                counts[type(event)] += 1
                if time.monotonic() - noted >= _NOTED_EVERY:
                    noted = time.monotonic()
                    store.note_run(_note(counts, len(files), run.executor.summary()))
                duration += event.duration if isinstance(event, Indexed) and event.seconds else 0.0
                offline += event.files if isinstance(event, Offline) else 0
                yield event
        if scan.failed:
            yield Notice("", f"{len(scan.failed)} failed before and did not change; --retry-failed tries them again")
        searched, of = store.coverage(encoder.fingerprint)
        if searched >= _answered_by_others(store, encoder):
            _put_settings(store, options)
        old = [fingerprint for fingerprint in encoder.earlier if store.has_vectors(fingerprint)]
        if old and searched == of:
            for fingerprint in old:
                store.delete_vectors(fingerprint)
            done = "are no longer needed and were removed"
            yield Notice("", f"the vectors of an earlier version of {encoder.name} {done}")
        for notice in _put_in_order(store):
            yield notice
        seconds = time.monotonic() - started
        yield Finished(
            counts[Indexed], unchanged, counts[Moved], counts[Removed], counts[Skipped], seconds, offline, duration
        )


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
        missing = [record for record in register.files.values() if is_missing(record.path)]
        total, removed = len(register.files), 0
        yield Discovered(total, total - len(missing), 0)
        for part in register.forget(missing, keep_extractions=False):
            for record in part:
                if record.state is not FileState.FAILED:
                    removed += 1
                    yield Removed(record.path, record.video_id)
        yield from _put_in_order(store)
        yield Finished(0, total - len(missing), 0, removed, 0, time.monotonic() - started)


def correct(
    store: Store,
    video_id: str,
    segments: Sequence[Segment] | None,
    options: IndexOptions,
    executor: Executor | None = None,
) -> Iterator[Event]:
    """Replace what is said in an indexed video by a person's correction, and encode it anew; its file is not needed.

    The correction is stored by content: index runs use it instead of what they recognise. Where this is interrupted,
    the next index run of the video's folder does the rest.

    Args:
        store: the index, opened for writing by nobody else.
        video_id: the video.
        segments: the correction; None for what stood there before the first one.
        options: as of :func:`index_async`; only what the encoder needs is used.
        executor: where the encoder runs, by default in a process of this machine.

    Yields:
        Events; the last is :class:`Indexed`, unless a notice says that an index run has to encode the video.

    Raises:
        UsageError, IndexLocked, ModelError, StoreError: as :func:`index_async`.
    """
    return iterate(_correct(store, video_id, segments, options, executor))


async def _correct(
    store: Store,
    video_id: str,
    segments: Sequence[Segment] | None,
    options: IndexOptions,
    executor: Executor | None,
) -> AsyncGenerator[Event, None]:
    encoder = encoders.describe(options.encoder, cache=options.cache, **dict(options.encoder_settings))
    with store.writer("clamr edit"):
        run = IndexRun(store, options, encoder, executor)
        video, moments, files = store.video(video_id), store.moments([video_id]), run.register.holders(video_id)
        if not files:
            raise UsageError(f"no indexed file holds the video {video_id}", "index its folder again")
        # Until all is written, the files count as changed: the next run of their folder does the rest.
        run.register.put([replace(file, sidecars="") for file in files])
        before = stored_transcript(store, video.content_hash)
        speakers = Speakers(store)
        heard = store.voices_of(video.content_hash) if tells_speakers(files[0]) else None
        voices = speakers.numbered(video.content_hash, heard or Voices(()))

        def unattributed(lines: Sequence[Segment]) -> tuple[Segment, ...]:
            # Who says a line by the voice is looked up each time.
            return tuple(speakers.unattributed(lines, voices))

        original = before.original if before is not None else unattributed(spoken_segments(store, video_id))
        language = before.language if before is not None else next((s.language for s in original if s.language), "")
        if segments is None:
            store.delete_extractions([transcript_key(video.content_hash)])
        else:
            segments = unattributed(segments)
            transcript = Transcript(segments, original, language)
            store.put_extraction(transcript_key(video.content_hash), msgspec.to_builtins(transcript))
        store.sync()
        try:
            lines = original if segments is None else segments
            documents = documents_with(store, files[0], speakers.attribute(lines, voices))
        except MediaError as error:
            yield Notice(files[0].path, f"the text is kept, but {error.what}: {error.hint}")
            return
        if encoders.accepts_audio(options.encoder):
            yield Notice(files[0].path, f"the text is kept; {encoder.name} needs the sound, too: index the file again")
            return

        async def work_on(emit: Callable[[Event], None]) -> None:
            work = Work(
                store=store, options=run.options, executor=run.executor, folder=options.cache, emit=emit,
                path=files[0].path, root=files[0].root, recipe=run.recipe_of(files[0].path),
            )  # fmt: skip
            new = [moment_of(document, video_id) for document in documents]
            vectors = await encode(work, documents) if new != moments or video_id not in run.encoded else {}
            store.put_video(video, new)
            store.put_vectors(encoder, vectors)
            store.sync()
            run.register.put(files)
            emit(Indexed(files[0].path, video_id, video.media.duration, len(new), (), work.seconds))

        async with contextlib.aclosing(stream(run.executor, work_on)) as events:
            async for event in events:
                yield event
        for notice in _put_in_order(store):
            yield notice
        others = {use.info.name for use in store.encoders()} - {encoder.name}
        for name in sorted(others):
            yield Notice(files[0].path, f"encode it with {name}, too: clamr index --encoder {name}")


async def stream(
    executor: Executor, work: Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]]
) -> AsyncGenerator[Event, None]:
    """Run asynchronous work and yield its events; however that ends, no task of the executor goes on.

    ``work`` is called with a function that takes the events. Its errors are raised here.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    executor.start(events.put_nowait)
    task = asyncio.create_task(work(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        executor.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def iterate(items: AsyncGenerator[Item, None]) -> Iterator[Item]:
    """The items of an asynchronous generator. Its event loop turns only while the caller waits for the next item."""
    loop = asyncio.new_event_loop()

    async def following() -> Item | None:
        return await anext(items, None)

    try:
        while (item := loop.run_until_complete(following())) is not None:
            yield item
    finally:
        while True:
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            loop.call_soon(loop.stop)
            # An interrupted task passes its interruption on to all that wait for it.
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_forever()
            if not pending:
                break
        loop.run_until_complete(items.aclose())
        loop.close()


class IndexRun:
    """One run over the files of an index; the caller is its one writer. See :func:`index_async`."""

    def __init__(
        self, store: Store, options: IndexOptions, encoder: EncoderInfo, executor: Executor | None = None
    ) -> None:
        self.store, self.encoder = store, encoder
        self.options = options.with_threads()
        self.executor = executor or LocalExecutor(options.cache / "workers.log", self.options.threads)
        self._recipes: dict[str, Recipe] = {}
        self.register = Register(store)
        # Only what has its moments, all of them encoded: a table may have lost what was written last.
        self.encoded = store.videos_encoded(encoder.fingerprint) & self.register.videos
        self.scan = Scan(
            self.register.files,
            lambda path: self.recipe_of(path).dump(),
            self.encoded,
            retry_failed=options.retry_failed,
        )
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def recipe_of(self, path: str) -> Recipe:
        """The recipe of a path."""
        folder = os.path.dirname(path) if path not in self.options.folders else path
        if folder not in self._recipes:
            self._recipes[folder] = self.options.of(path).recipe
        return self._recipes[folder]

    def lacking_vectors(self) -> list[VideoFile | FileRecord]:
        """A file of each indexed video without vectors of the encoder, as a record if it need not be at hand."""
        files = {file.video_id: file for file in self.scan.unchanged if file.video_id not in self.encoded}
        # Sound is not stored, so an encoder that takes audio needs the file, and so does a video that a table has lost.
        needs_sound = encoders.accepts_audio(self.options.encoder)
        stored = set() if needs_sound else self.register.videos & self.store.videos_described()
        return [
            file if file.video_id in stored else VideoFile(file.path, file.root, file.size, file.mtime_ns)
            for file in files.values()
        ]

    async def events(self, files: Sequence[VideoFile | FileRecord]) -> AsyncGenerator[Event, None]:
        """Work on files and settle the rest of the scan; of a file that is a record only the vectors are made."""
        with work_area(self.options.cache) as folder:
            try:
                self.register.drop([record.path for record in self.scan.resolved])
                self.register.put([replace(file, missing_since="", error="", hint="") for file in self.scan.back])
                if self.scan.returned:  # nothing has to be done for videos that are back
                    durations = {facts.video_id: facts.duration for facts in self.store.catalog()}
                    moments = Counter(one.partition("#")[0] for one in self.store.encoded(self.encoder.fingerprint))
                    for file in self.scan.returned:
                        duration = durations.get(file.video_id, 0.0)
                        yield Indexed(file.path, file.video_id, duration, moments[file.video_id], _STAGES)
                for failure in self._unreadable():
                    yield failure

                async def work_on_all(emit: Callable[[Event], None]) -> None:
                    await self._read_time_bases(emit)
                    listens = any(self.options.of(file.path).speakers for file in files)
                    speakers = Speakers(self.store) if listens else None

                    async def work_on(file: VideoFile | FileRecord) -> None:
                        work = Work(
                            store=self.store, options=self.options.of(file.path).with_threads(),
                            executor=self.executor, folder=folder, emit=emit, path=file.path, root=file.root,
                            recipe=self.recipe_of(file.path), speakers=speakers,
                        )  # fmt: skip
                        await self._process(work, file)

                    await for_each(files, work_on, at_once=self.options.jobs)

                async with contextlib.aclosing(stream(self.executor, work_on_all)) as events:
                    async for event in events:
                        yield event
                for event in self._settle():
                    yield event
                sweep(folder, self.encoded)
            finally:
                sweep(folder)

    async def _read_time_bases(self, emit: Callable[[Event], None]) -> None:
        """Read the exact frame rates and timecodes that records of earlier versions lack, of files that are there."""
        files = {file.video_id: file for file in (*self.scan.unchanged, *self.scan.returned)}
        lacking = [files[one] for one in self.store.without_time_base() if one in files]
        if not lacking:
            return
        emit(Notice("", f"reading the exact frame rates and timecodes of {plural(len(lacking), 'video')}"))
        failed: list[str] = []
        for start in range(0, len(lacking), _AT_ONCE):
            bases: dict[str, TimeBase] = {}
            for file in lacking[start : start + _AT_ONCE]:
                try:
                    bases[file.video_id] = await self.executor.run(
                        "decode",
                        tasks.read_time_base,
                        file.path,
                        stall_timeout=self.options.time_limit,
                        on_report=ignore,
                    )
                except (MediaError, WorkerLost):
                    failed.append(os.path.basename(file.path))
            self.store.put_time_bases(bases)
        if failed:
            emit(Notice("", f"the next run tries again those that could not be read: {_listed(failed)}"))

    async def _process(self, work: Work, file: VideoFile | FileRecord) -> None:
        """Work on one file, and emit what became of it.

        Where its worker is lost, it is worked on again from what is stored of it, :data:`_ATTEMPTS` times in all. Nodes
        that were to be taken away do not count.
        """
        losses = 0
        try:
            while True:
                try:
                    if isinstance(file, FileRecord):
                        await self._encode_stored(work, file)
                    else:
                        await self._index_file(work, file)
                    return
                except WorkerLost as error:
                    losses += not error.announced
                    if losses == _ATTEMPTS:
                        raise MediaError(
                            f"{_ATTEMPTS} workers were lost over it; the last: {error.what}",
                            "it may need more memory than a worker has; --retry-failed tries it again",
                        ) from error
        except MediaError as error:
            work.emit(self._fail(work, file, error.what, error.hint, reached=not isinstance(error, Unreachable)))
        except ClamrError:
            raise
        except Exception as error:
            # A defect that one file brings to light must not keep the others from being indexed.
            log = self.options.cache / "workers.log"
            with (
                contextlib.suppress(OSError),
                open(log, "a", encoding="utf-8", errors="backslashreplace", opener=private_file) as out,
            ):
                traceback.print_exception(error, file=out)
            hint = f"this is a defect of clamr; its traceback is in {log}"
            work.emit(self._fail(work, file, f"unexpected {type(error).__name__}", hint))
        finally:
            locations.discard(file.path, work.folder)

    async def _index_file(self, work: Work, file: VideoFile) -> None:
        await work.identify()
        video_id, path = work.video_id, file.path
        # Two files of one content must not be worked on at once.
        async with self._locks[video_id]:
            record = _record(work, file, FileState.INDEXED, recipe=work.recipe.dump())
            holders = [other for other in self.register.holders(video_id) if other.path != path]
            copies = [other for other in holders if not self.scan.moved(other)]
            if copies and video_id in self.encoded and copies[0].recipe == record.recipe:
                work.notice("has the same content as an indexed file, and is found together with it")
                duration, moments = self.store.video(video_id).media.duration, self.store.moments([video_id])
                self._commit(record)
                work.emit(Indexed(path, video_id, duration, len(moments), _STAGES))
                return
            encoded = list(self.store.moments([video_id])) if video_id in self.encoded else None
            video, moments, vectors = await index_video(work, encoded)
            self._commit(record, video, None if vectors is None else moments, vectors)
            if holders and not copies:
                work.emit(Moved(path, video_id, holders[0].path))
            else:
                duration, count = video.media.duration, len(moments)
                work.emit(Indexed(path, video_id, duration, count, work.reused, work.seconds))

    async def _encode_stored(self, work: Work, record: FileRecord) -> None:
        """Encode a video from what is stored of it: the file itself need not be at hand."""
        async with self._locks[record.video_id]:
            if record.video_id in self.encoded:
                return
            video, documents = documents_of(self.store, record, work.recipe)
            for stage in _STAGES[:3]:
                work.reuse(stage, video.media.duration)
            vectors = await encode(work, documents)
            self._commit(record, vectors=vectors)
            duration = video.media.duration
            work.emit(Indexed(record.path, record.video_id, duration, len(documents), work.reused, work.seconds))

    def _commit(
        self,
        file: FileRecord,
        video: VideoRecord | None = None,
        moments: Sequence[MomentRecord] | None = None,
        vectors: dict[str, TokenVectors] | None = None,
    ) -> None:
        """Write a finished video; ``moments`` is None where they are as the index has them.

        The file's record comes last: without it the next run does the rest again.
        """
        store, register, video_id = self.store, self.register, file.video_id
        if video is not None and (moments is not None or video_id not in register.videos):
            store.put_video(video, moments or ())
            register.videos.add(video_id)
        if vectors is not None:
            store.put_vectors(self.encoder, vectors)
            self.encoded.add(video_id)
        before = register.files.get(file.path)
        store.sync()
        register.put([file])
        if before is not file:
            # Files of the same content that are no longer where they were recorded.
            others = [other for other in register.of_video(video_id) if other.path != file.path]
            moved = [each.path for each in others if each.state is FileState.INDEXED and self.scan.moved(each)]
            gone = [each.path for each in others if each.state is not FileState.INDEXED and is_missing(each.path)]
            register.drop([*moved, *gone])
        if before is not None:
            self._drop_unheld(before.video_id)

    def _drop_unheld(self, video_id: str) -> None:
        self.register.drop_unheld(video_id)
        if video_id not in self.register.videos:
            self.encoded.discard(video_id)

    def _fail(
        self, work: Work | None, file: VideoFile | FileRecord, reason: str, hint: str, *, reached: bool = True
    ) -> Skipped:
        """Record that a file could not be indexed. What the index had of its former content goes.

        A file that could not be ``reached`` keeps its video in the index: its content is not the reason.
        """
        record = _record(work, file, FileState.FAILED, reason, hint)
        before = self.register.files.get(record.path)
        if before is not None and before.state is not FileState.FAILED and not reached:
            same = (record.size, record.mtime_ns) in ((0, 0), (before.size, before.mtime_ns))
            if before.state is FileState.INDEXED and (same or not locations.exists(record.path)):
                record = replace(before, error=reason, hint=hint, missing_since=before.missing_since or now())
            elif before.state is FileState.MISSING:
                record = replace(record, video_id=before.video_id)
        if record.state is FileState.FAILED and not reached and locations.is_remote(record.path):
            # Networks come back by themselves: the next run tries it again, as if it had changed.
            record = replace(record, size=0, mtime_ns=0)
        self.register.put([record])
        if before is not None:
            self._drop_unheld(before.video_id)
        return Skipped(record.path, reason, hint)

    def _unreadable(self) -> Iterator[Event]:
        """Record what could not be looked at, and say how many videos stay in the index nevertheless."""
        away = Counter(absence.folder for record, absence, _ in self.scan.absent if record.state is FileState.INDEXED)
        for problem in self.scan.unreadable:
            if glob.has_magic(problem.path) and not locations.lexists(problem.path):
                # A pattern is no path that anything could be recorded of.
                failure = Skipped(problem.path, problem.reason, problem.hint)
            else:
                file = VideoFile(problem.path, os.path.dirname(problem.path), 0, 0)
                failure = self._fail(None, file, problem.reason, problem.hint, reached=False)
            count = away[problem.path]
            stay = f"; {count} indexed {'video stays' if count == 1 else 'videos stay'} in the index" if count else ""
            yield replace(failure, reason=f"{failure.reason}{stay}")

    def _settle(self) -> Iterator[Event]:
        """Forget what is gone, mark what may be away, and drop what was extracted of files that are gone for long."""
        files = self.register.files
        settled = self.scan.settled(files)
        if self.options.prune:
            going = [record for record, absence in settled if absence.missing]
            going += [record for record in self.scan.missing if files.get(record.path) is record]
        else:
            going = [record for record, absence in settled if absence.gone]
        for part in self.register.forget(going, keep_extractions=not self.options.prune):
            self.encoded &= self.register.videos
            yield from (Removed(r.path, r.video_id) for r in part if r.state is not FileState.FAILED)
        away = [
            (record, absence)
            for record, absence in settled
            if files.get(record.path) is record and record.state is FileState.INDEXED
        ]
        self.register.put([replace(record, missing_since=now()) for record, _ in away if not record.missing_since])
        self.register.sweep()
        reported = {problem.path for problem in self.scan.unreadable}
        counts = Counter((absence.folder, absence.reason, absence.missing) for _, absence in away)
        for (folder, reason, missing), count in counts.items():
            if folder not in reported:
                yield Offline(folder, count, reason, missing)


def _record(
    work: Work | None, file: VideoFile | FileRecord, state: FileState, error: str = "", hint: str = "", recipe: str = ""
) -> FileRecord:
    """A file's record as it is to be stored."""
    video_id, sidecars = (work.video_id, work.signature) if work is not None else ("", None)
    if sidecars is None:
        sidecars = sidecar_signature(file.path, file.root)
    return FileRecord(file.path, file.root, video_id, file.size, file.mtime_ns, state, error, hint, sidecars, recipe)


# --- the index before and after a run ---------------------------------------------------------------------------------


def _note(counts: Counter[type[Event]], total: int, workers: str) -> str:
    """Progress of a run in a line."""
    done = counts[Indexed] + counts[Moved] + counts[Skipped]
    failed = f", {counts[Skipped]} failed" if counts[Skipped] else ""
    return f"{min(done, total)} of {plural(total, 'video')}{failed}{'; ' if workers else ''}{workers}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _answered_by_others(store: Store, encoder: EncoderInfo) -> int:
    """From how many videos the vectors answer that an encoder of the same name and other settings made, at most.

    Until the new vectors answer from as many, searches go on with the old ones.
    """
    others = [use.info for use in store.encoders() if use.info.name == encoder.name and use.info != encoder]
    return max((store.coverage(other.fingerprint)[0] for other in others), default=0)


def _put_settings(store: Store, options: IndexOptions) -> None:
    if dict(options.encoder_settings) != store.encoder_settings(options.encoder):
        store.put_encoder_settings(options.encoder, options.encoder_settings)


def _put_in_order(store: Store) -> Iterator[Event]:
    store.finish()
    for problem in store.pack_all():
        yield Notice("", f"searches will be slower: {problem}")
