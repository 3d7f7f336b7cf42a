"""Preparing one video for questions: whatever is stored already serves, the rest is done now and stored.

Everything is stored by content and by everything that shapes it, in parts of :data:`PART` candidates, so that a
prepared video is read in well under a second, without any video file at hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from clamr_cli import encoders, locations
from clamr_cli.errors import IndexLocked, MediaError, StoreError, UsageError
from clamr_cli.events import Event
from clamr_cli.extract.sidecars import find_sidecars
from clamr_cli.files import absent_file
from clamr_cli.frames.values import PART, DenseOptions, Prepared, Surroundings, Target, Texts
from clamr_cli.index import tasks
from clamr_cli.index.documents import CaptionSet, Recipe, joined, language_key, segments_from
from clamr_cli.index.executors.local import LocalExecutor, Worker
from clamr_cli.index.pipeline import Work, encode, extract, for_each
from clamr_cli.index.run import iterate, stream
from clamr_cli.index.tasks import SampledMedia
from clamr_cli.index.workdir import DENSE, Workdir, sweep, work_area
from clamr_cli.media.files import content_hash, replaced, stamp, video_id
from clamr_cli.media.key_frames import THUMB
from clamr_cli.search.search import file_named, last_hit, video_named
from clamr_cli.store import Extraction, Store
from clamr_cli.types import DIMENSION, EncoderInfo, FileState, Frame, Segment, TokenVectors, VideoFields

Item = TypeVar("Item")

SHORTEST_INTERVAL: Final = 0.1

_VERSION: Final = "1"
"""Changes when the same candidates and texts would give other documents."""

_TWICE: Final = frozenset({"mini", "hashed"})
"""Encoders small enough for two processes: on a CPU these keep two cores busier than one process with two threads."""

_ARRAYS: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("vectors", "<f2", (DIMENSION,)),
    ("modality_ids", "u1", ()),
    ("spans", "<f4", (2,)),
    ("segments", "<i4", ()),
    ("offsets", "<i4", (2,)),
    ("input_ids", "<i4", ()),
)
"""The fields of :class:`TokenVectors` in order, how they are stored (vectors as float16), and the shape of a row."""


# --- the video that a user names --------------------------------------------------------------------------------------


def locate(store: Store, text: str) -> Target:
    """The video that a path names, or what :func:`clamr_cli.search.video_named` takes. A file goes before the rest.

    Raises:
        UsageError: there is neither, or the name is of several.
        MediaError: the file cannot be read.
    """
    if not text.strip() or "\0" in text:
        raise UsageError("no video was named", "give a file, or an id that clamr ls shows")
    path = locations.absolute(text) if locations.lexists(text) and last_hit(store, text) is None else ""
    if not path and absent_file(text):
        file = file_named(store.files(), text)
        if file is not None and locations.lexists(file.path):
            path = file.path
    if path:
        if os.path.isdir(path):
            raise UsageError(f"{path} is a folder", "name one video in it")
        # The hash of its content, if that was looked at before and has not changed since.
        content = state = None
        with contextlib.suppress(OSError):
            status = locations.stat(path)
            state = (status.st_size, status.st_mtime_ns)
        record, note = store.file(path), noted(store, path)
        if record is not None and record.state is FileState.INDEXED and (record.size, record.mtime_ns) == state:
            content = next((video.content_hash for video in store.videos([record.video_id])), None)
        if content is None and note is not None and (note.payload["size"], note.payload["mtime_ns"]) == state:
            content = str(note.payload["content_hash"])
        content = content or content_hash(path)
        return Target(path, video_id(content), content)
    try:
        identity = video_named(store, text)
    except UsageError as error:
        raise absent_file(text) or error from None
    paths = [record.path for record in store.files([identity]) if locations.is_file(record.path)]
    return Target(paths[0] if paths else "", identity, store.video(identity).content_hash)


def _note_key(path: str) -> str:
    return f"file/{hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()}"


def noted(store: Store, path: str) -> Extraction | None:
    """The record of a prepared file; None for one that never was prepared."""
    return None if "\0" in path else store.extraction(_note_key(path))


def forget(store: Store, path: str) -> None:
    """Forget what was prepared of a noted file; what the index needs stays. The caller is the index's one writer."""
    if (note := noted(store, path)) is not None:
        content = str(note.payload["content_hash"])
        store.drop_extractions(f"{content}/dense" if store.videos([video_id(content)]) else content)
        store.drop_extractions(_note_key(path))


# --- preparing --------------------------------------------------------------------------------------------------------


def prepare(store: Store, target: Target, options: DenseOptions) -> Iterator[Event | Prepared]:
    """Prepare as :func:`prepare_async` does, where no event loop runs."""
    return iterate(prepare_async(store, target, options))


async def prepare_async(store: Store, target: Target, options: DenseOptions) -> AsyncGenerator[Event | Prepared, None]:
    """Make a video ready for questions; the last item is the :class:`Prepared` one.

    Closing the iterator stops all work at once; what was finished stays, and the next call goes on from there.

    Args:
        store: the index, where everything is stored by content; it need not have the video.
        target: see :func:`locate`.
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
    ready = await load_prepared(store, target, options)
    if ready is None:
        index = options.index.with_threads()
        processes = 2 if index.encoder in _TWICE and (os.cpu_count() or 1) > 1 else 1
        try:
            with store.writer("clamr frames"), work_area(index.cache) as folder:
                executor = LocalExecutor(index.cache / "workers.log", index.threads, encoders=processes)

                async def work(emit: Callable[[Event], None]) -> None:
                    work = Work(
                        store=store, options=index, executor=executor, folder=folder, emit=emit, path=target.path,
                        root=os.path.dirname(target.path), recipe=_recipe_of(options), content=target.content_hash,
                    )  # fmt: skip
                    await _prepare(work, target, options)

                try:
                    async with contextlib.aclosing(stream(executor, work)) as events:
                        async for event in events:
                            yield event
                    store.sweep()
                finally:
                    sweep(folder)
        except IndexLocked as error:
            hint = f"{error.hint}; what is prepared of a video is kept in the index, or in another one: --db DIR"
            raise IndexLocked(error.what, hint) from error
        ready = await load_prepared(store, target, options)
    if ready is None:
        raise StoreError("what was prepared is not all there", "run the command again")
    yield ready


async def _prepare(work: Work, target: Target, options: DenseOptions) -> None:
    """Do and store everything that is not stored yet."""
    if target.path:
        work.stamp = stamp(target.path)
    sampled = await _sample(work, target, options)
    texts, missing = await _stored_texts(work.store, target, sampled, options)
    if missing:
        _require_file(target)
        # What is known already must not be recognised again, with whatever it was recognised.
        work.options = replace(work.options, speech="speech" in missing, text="ocr" in missing, speakers=False)
        work.options.check_models()
        media, _, _ = await extract(work)
        if media.workdir is not None:
            media.workdir.remove()
        texts, _ = await _stored_texts(work.store, target, sampled, options)
    await _encode(work, sampled, texts, options)


async def _sample(work: Work, target: Target, options: DenseOptions) -> SampledMedia:
    """The candidates: stored ones, else sampled from the file now."""
    workdir = Workdir(work.folder / f"{work.content[:32]}{DENSE}")
    sampled = _load_samples(work.store, target, options)
    if sampled is not None:
        _note_file(work, target)
    else:
        _require_file(target)
        folder = os.fspath(workdir.folder)
        sampled = await work.run("sample", "decode", tasks.sample, target.path, folder, options.interval)
        for notice in sampled.notices:
            work.notice(notice)
        _note_file(work, target)
        name = _samples_key(work.content, options)
        for number, part in enumerate(_in_parts(sampled.stills)):
            jpegs = [frame.jpeg for frame in workdir.frames("frames", part)]
            work.store.put_extraction(_frames_key(name, number), {}, jpegs)
        # Last: whoever finds it finds the frames too.
        work.store.put_extraction(name, msgspec.to_builtins(replace(sampled, thumbs=b"")), [sampled.thumbs])
    # A run that was killed when all was stored has left it.
    workdir.remove()
    return sampled


def _note_file(work: Work, target: Target) -> None:
    """Note the file, so that its content need not be read again."""
    if target.path:
        status = locations.stat(target.path)
        # Nothing of a file that took its place may be stored under the old content.
        if locations.is_remote(target.path):
            # Its time of change stands for its content, and reading it again would cost more than it is worth.
            changed = work.stamp is not None and replaced(target.path, work.stamp)
        else:
            changed = content_hash(target.path) != target.content_hash
        if changed:
            raise MediaError("the file was changed while it was read", "ask again when it is complete")
        note = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "content_hash": target.content_hash}
        work.store.put_extraction(_note_key(target.path), note)


def _require_file(target: Target) -> None:
    if not target.path:
        raise MediaError(f"no file of video {target.video_id} is at hand any more", "name the file, or bring it back")


async def _encode(work: Work, sampled: SampledMedia, texts: Texts, options: DenseOptions) -> None:
    """Encode the parts whose vectors are not stored yet, as many at once as there are processes."""
    name = _samples_key(work.content, options)
    candidates, surroundings = _candidates_of(sampled), Surroundings(texts, options.context)
    names = _vectors_keys(name, options, texts, _describe_encoder(options), len(candidates))
    parts = dict(zip(names, _in_parts(range(len(candidates))), strict=True))
    missing = [key for key in names if not work.store.has_extraction(key)]
    done = dict.fromkeys(names, 0) | {key: len(part) for key, part in parts.items() if key not in missing}

    async def encode_part(key: str) -> None:
        documents = [
            surroundings.document(work.video_id, number, replace(candidates[number], jpeg=jpeg))
            for number, jpeg in zip(parts[key], _load_frames(work.store, name, parts[key]), strict=True)
        ]

        def report(count: float, _total: float, _part: Any = None, /) -> None:  # noqa: ANN401
            done[key] = int(count)
            work.progress("encode", sum(done.values()), len(candidates))

        vectors = list((await encode(work, documents, report)).values())
        blobs = [
            b"".join(np.ascontiguousarray(getattr(item, name), dtype=kind).tobytes() for item in vectors)
            for name, kind, _ in _ARRAYS
        ]
        work.store.put_extraction(key, {"counts": [len(item) for item in vectors]}, blobs)

    await for_each(missing, encode_part, at_once=2)


# --- speech and text, as far as stored --------------------------------------------------------------------------------


def _recipe_of(options: DenseOptions) -> Recipe:
    """The names of the results of an index run, of speech and text too where neither is to be recognised now."""
    return replace(options.index, speech=True, text=True).recipe


async def _stored_texts(
    store: Store, target: Target, sampled: SampledMedia, options: DenseOptions
) -> tuple[Texts, frozenset[str]]:
    """The texts that the store has of a video, and which of ``speech`` and ``ocr`` have yet to be recognised."""
    files = [file for file in store.files([target.video_id]) if file.state is FileState.INDEXED]
    moments = store.moments([target.video_id]) if files else []
    indexed = next((recipe for file in files if (recipe := Recipe.parse(file.recipe)) is not None), None)
    names, missing = _recipe_of(options), set()

    def recognised(stage: str) -> Sequence[Segment]:
        stored = store.extraction(names.key(target.content_hash, "text" if stage == "ocr" else "speech"))
        if stored is None and (options.index.text if stage == "ocr" else options.index.speech):
            missing.add(stage)
        return segments_from(stored) if stored is not None else ()

    # Subtitles that were named, else as the index has it, the owner's, embedded ones, else recognised.
    speech: Sequence[Segment] = joined([segment for moment in moments for segment in moment.speech])
    if target.subtitles:
        from clamr_cli.extract.subtitles import read_subtitle_file

        # They may be those of a longer video that this one was cut from.
        path, duration = Path(target.subtitles), sampled.media.duration
        named = read_subtitle_file(path) if path.stat().st_size else []
        speech = [one for one in named if one.span.start < duration or duration <= 0]
    elif not (speech or (indexed is not None and indexed.speech)):
        captions = await _read_captions(store, target, sampled, options)
        choice, _ = captions.choose(recognise=options.index.speech, sure=True)
        beside = captions.lines_of(choice.beside)
        if choice.speech is not None or not sampled.media.audio:
            speech = captions.lines_of(choice.speech) or beside
        else:
            speech = sorted((*recognised("speech"), *beside), key=lambda segment: segment.span)
    ocr: Sequence[Segment] = joined([segment for moment in moments for segment in moment.ocr])
    if not (ocr or (indexed is not None and indexed.text)) and sampled.stills:
        ocr = recognised("ocr")
    chapters = (Segment(one.span, one.title, "chapter") for one in sampled.media.chapters if one.title)
    return Texts(tuple(speech), tuple(ocr), tuple(chapters)), frozenset(missing)


async def _read_captions(store: Store, target: Target, sampled: SampledMedia, options: DenseOptions) -> CaptionSet:
    """The captions of a video, those files read that may stand for its speech, or beside it."""
    language = options.index.language
    captions = CaptionSet(list(find_sidecars(target.path, language).subtitles) if target.path else [], language)
    captions.set_media(sampled.media, sampled.tracks, sampled.speech)
    detected = store.extraction(language_key(target.content_hash, options.index.asr))
    captions.detected_language = str(detected.payload["language"]) if detected is not None else None
    while unread := captions.choose(recognise=options.index.speech, sure=True)[1]:
        # In a process that ends where the file stalls it.
        worker, timeout = Worker("sidecar reading", confined=True), options.index.time_limit
        try:
            spoken = captions.spoken()
            lines, _ = await worker.run(tasks.read_captions, unread, target.path, spoken, stall_timeout=timeout)
            captions.set_lines(unread, lines)
        except MediaError:
            # The run that recognises what is said in its place gives a notice.
            captions.set_lines(unread, None)
        finally:
            worker.stop()
    return captions


# --- a prepared video as the store has it -----------------------------------------------------------------------------


def _in_parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + PART] for start in range(0, len(items), PART)]


def _samples_key(content_hash: str, options: DenseOptions) -> str:
    """The name of the list of candidates, with which those of their frames and vectors begin."""
    return f"{content_hash}/dense/{tasks.SAMPLING_VERSION}:{options.interval:g}:{options.index.language}"


def _frames_key(samples: str, part: int) -> str:
    return f"{samples}/pictures/{part}"


def _vectors_keys(samples: str, options: DenseOptions, texts: Texts, encoder: EncoderInfo, count: int) -> list[str]:
    """The names of the vectors of all parts of so many candidates."""
    digest = hashlib.blake2b(msgspec.json.encode(texts), digest_size=12).hexdigest()
    name = f"{samples}/vectors/{_VERSION}:{options.context:g}:{digest}:{encoder.fingerprint}"
    return [f"{name}/{part}" for part in range(-(-count // PART))]


def _describe_encoder(options: DenseOptions) -> EncoderInfo:
    index = options.index
    return encoders.describe(index.encoder, cache=index.cache, **dict(index.encoder_settings))


def _load_samples(store: Store, target: Target, options: DenseOptions) -> SampledMedia | None:
    """The candidates of a video; None where they have yet to be sampled."""
    stored = store.extraction(_samples_key(target.content_hash, options))
    if stored is None:
        return None
    return replace(msgspec.convert(stored.payload, SampledMedia), thumbs=bytes(stored.blobs[0]))


def _candidates_of(sampled: SampledMedia) -> tuple[Frame, ...]:
    return tuple(Frame(frame.time, frame.span, b"") for frame in sampled.stills)


async def load_prepared(store: Store, target: Target, options: DenseOptions) -> Prepared | None:
    """A video that is wholly prepared; None where something has yet to be done."""
    sampled = _load_samples(store, target, options)
    if sampled is None:
        return None
    texts, missing = await _stored_texts(store, target, sampled, options)
    if missing:
        return None
    samples, encoder = _samples_key(target.content_hash, options), _describe_encoder(options)
    names = _vectors_keys(samples, options, texts, encoder, len(sampled.stills))
    parts = store.extractions(names)
    if len(parts) < len(names):
        return None
    counts = [count for name in names for count in parts[name].payload["counts"]]
    indptr = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)
    arrays = [
        np.frombuffer(b"".join(parts[name].blobs[number] for name in names), dtype=kind).reshape(int(indptr[-1]), *row)
        for number, (_, kind, row) in enumerate(_ARRAYS)
    ]
    videos = store.videos([target.video_id])
    return Prepared(
        target=target,
        media=sampled.media,
        fields=videos[0].fields if videos else VideoFields(sampled.media.tags.get("title", "")),
        encoder=encoder,
        candidates=_candidates_of(sampled),
        texts=texts,
        context=options.context,
        thumbs=np.frombuffer(sampled.thumbs, np.uint8).reshape(-1, THUMB, THUMB, 3),
        vectors=TokenVectors(*arrays),
        indptr=indptr,
        pictures_key=samples,
    )


def stills(store: Store, prepared: Prepared, numbers: Sequence[int]) -> list[bytes]:
    """The stored frames of candidates as JPEG, at most 448 pixels on the longer side, in the order of the numbers."""
    return _load_frames(store, prepared.pictures_key, numbers)


def _load_frames(store: Store, samples: str, numbers: Sequence[int]) -> list[bytes]:
    names = {number // PART: _frames_key(samples, number // PART) for number in numbers}
    parts = store.extractions(list(names.values()))
    return [bytes(parts[names[number // PART]].blobs[number % PART]) for number in numbers]


def slice_of(vectors: TokenVectors, start: int, end: int) -> TokenVectors:
    return TokenVectors(*(getattr(vectors, name)[start:end] for name, _, _ in _ARRAYS))
