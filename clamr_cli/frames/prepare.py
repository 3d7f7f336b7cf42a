"""Preparing one video for questions: whatever is stored already serves, the rest is done now and stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clamr_cli.errors import IndexLocked, MediaError, StoreError, UsageError
from clamr_cli.events import Event
from clamr_cli.frames import stored
from clamr_cli.frames.texts import recipe_of, stored_texts
from clamr_cli.frames.values import DenseOptions, Prepared
from clamr_cli.index.pipeline import Work
from clamr_cli.index.sampling import SampledMedia
from clamr_cli.store import Store

if TYPE_CHECKING:
    from clamr_cli.frames.values import Target, Texts

SHORTEST_INTERVAL = 0.1

_TWICE = frozenset({"mini", "hashed"})
"""Encoders small enough for two processes: on a CPU these keep two cores busier than one process with two threads."""


def prepare(store: Store, target: Target, options: DenseOptions) -> Iterator[Event | Prepared]:
    """Make a video ready for questions; the last item is the :class:`Prepared` one.

    Closing the iterator stops all work at once; what was finished stays, and the next call goes on from there.

    Args:
        store: the index, where everything is stored by content; it need not have the video.
        target: see :func:`clamr_cli.frames.target.locate`.
        options: how to recognise, encode and how densely.

    Raises:
        UsageError: an option cannot be used.
        MediaError: the file cannot be used, or is needed and not at hand.
        IndexLocked: something has to be stored and another process writes to the index.
        ModelError: weights are absent or damaged.
        StoreError: the index or the cache cannot be written.
    """
    if not SHORTEST_INTERVAL <= options.interval < float("inf"):
        raise UsageError(
            f"candidates every {options.interval:g} seconds cannot be taken", f"give {SHORTEST_INTERVAL} or more"
        )
    if not 0 <= options.context < float("inf"):
        raise UsageError(f"{options.context:g} seconds around a frame make no sense", "give 0 or more")
    ready = stored.load(store, target, options)
    if ready is None:
        try:
            yield from _events(store, target, options)
        except IndexLocked as error:
            hint = f"{error.hint}; what is prepared of a video is kept in the index, or in another one: --db DIR"
            raise IndexLocked(error.what, hint) from error
        ready = stored.load(store, target, options)
    if ready is None:
        raise StoreError("what was prepared is not all there", "run the command again")
    yield ready


def _events(store: Store, target: Target, options: DenseOptions) -> Iterator[Event]:
    # Only here: a question about a prepared video must not wait for the imports of all the work there is.
    from clamr_cli.index.executors.local import LocalExecutor
    from clamr_cli.index.pipeline import Context, Work
    from clamr_cli.index.run import stream
    from clamr_cli.index.workdir import sweep, work_area

    index = options.index.with_threads()
    encoders = 2 if index.encoder in _TWICE and (os.cpu_count() or 1) > 1 else 1
    with store.writer("clamr frames"), work_area(index.cache) as folder:
        executor = LocalExecutor(index.cache / "workers.log", index.threads, encoders=encoders)

        async def work(emit: Callable[[Event], None]) -> None:
            context = Context(store, index, executor, folder, emit)
            root, recipe = os.path.dirname(target.path), recipe_of(options)
            await _prepare(Work(context, target.path, root, recipe, target.content_hash), target, options)

        try:
            yield from stream(executor, work)
            store.sweep()
        finally:
            sweep(folder)


async def _prepare(work: Work, target: Target, options: DenseOptions) -> None:
    """Everything that is not stored yet."""
    from clamr_cli.index.pipeline import extract
    from clamr_cli.media.files import stamp

    if target.path:
        work.stamp = stamp(target.path)
    sampled = await _sample(work, target, options)
    texts, missing = stored_texts(work.store, target, sampled, options)
    if missing:
        _require_file(target)
        # What is known already must not be recognised again, with whatever it was recognised.
        work.options = replace(work.options, speech="speech" in missing, text="ocr" in missing)
        work.options.check_models()
        media, _, _ = await extract(work)
        if media.workdir is not None:
            media.workdir.remove()
        texts, _ = stored_texts(work.store, target, sampled, options)
    await _encode(work, sampled, texts, options)


async def _sample(work: Work, target: Target, options: DenseOptions) -> SampledMedia:
    """The candidates: stored ones, else sampled from the file now."""
    from msgspec import to_builtins

    from clamr_cli.index import sampling
    from clamr_cli.index.workdir import DENSE, Workdir

    workdir = Workdir(work.context.folder / f"{work.content[:32]}{DENSE}")
    sampled = stored.load_samples(work.store, target, options)
    if sampled is not None:
        _note_file(work, target)
    else:
        _require_file(target)
        folder = os.fspath(workdir.folder)
        sampled = await work.run("sample", "decode", sampling.sample, target.path, folder, options.interval)
        for notice in sampled.notices:
            work.notice(notice)
        _note_file(work, target)
        name = stored.samples_key(work.content, options)
        for number, part in enumerate(stored.in_parts(sampled.stills)):
            jpegs = [frame.jpeg for frame in workdir.frames("frames", part)]
            work.store.put_extraction(stored.frames_key(name, number), {}, jpegs)
        # Last: whoever finds it finds the frames too.
        work.store.put_extraction(name, to_builtins(replace(sampled, thumbs=b"")), [sampled.thumbs])
    # A run that was killed when all was stored has left it.
    workdir.remove()
    return sampled


def _note_file(work: Work, target: Target) -> None:
    """Note the file, unless another has taken its place: nothing of that one may be stored under the old content."""
    from clamr_cli.frames.target import note, note_key
    from clamr_cli.media.files import content_hash

    if target.path:
        state = note(target)
        if content_hash(target.path) != target.content_hash:
            raise MediaError("the file was changed while it was read", "ask again when it is complete")
        work.store.put_extraction(note_key(target.path), state)


def _require_file(target: Target) -> None:
    if not target.path:
        raise MediaError(f"no file of video {target.video_id} is at hand any more", "name the file, or bring it back")


async def _encode(work: Work, sampled: SampledMedia, texts: Texts, options: DenseOptions) -> None:
    """Encode the parts whose vectors are not stored yet, as many at once as there are processes."""
    from clamr_cli.frames.documents import Surroundings
    from clamr_cli.index.pipeline import encode, for_each

    name = stored.samples_key(work.content, options)
    candidates, surroundings = stored.candidates_of(sampled), Surroundings(texts, options.context)
    names = stored.vectors_keys(name, options, texts, stored.describe_encoder(options), len(candidates))
    parts = dict(zip(names, stored.in_parts(range(len(candidates))), strict=True))
    missing = [key for key in names if not work.store.has_extraction(key)]
    done = dict.fromkeys(names, 0) | {key: len(part) for key, part in parts.items() if key not in missing}

    async def encode_part(key: str) -> None:
        documents = [
            surroundings.document(work.video_id, number, replace(candidates[number], jpeg=jpeg))
            for number, jpeg in zip(parts[key], stored.load_frames(work.store, name, parts[key]), strict=True)
        ]

        def report(count: float, _total: float, _part: Any = None, /) -> None:  # noqa: ANN401
            done[key] = int(count)
            work.progress("encode", sum(done.values()), len(candidates))

        vectors = await encode(work, documents, report)
        work.store.put_extraction(key, *stored.pack(list(vectors.values())))

    await for_each(missing, encode_part, at_once=2)
