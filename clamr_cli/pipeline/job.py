"""One file on its way through the stages: a generator of events and of things to be written."""

from __future__ import annotations

import dataclasses
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from clamr_cli import document
from clamr_cli.document import Material, Shot
from clamr_cli.errors import MediaError
from clamr_cli.events import Indexed, Moved, Notice, Progress
from clamr_cli.extract.sidecar import find_sidecars, read_metadata, sidecar_signature
from clamr_cli.extract.subtitles import read_subtitle_file
from clamr_cli.media.identity import stamp, video_id
from clamr_cli.media.walk import Found
from clamr_cli.pipeline.outputs import (
    Commit,
    Keep,
    Output,
    Take,
    frames_of,
    moment_of,
    segments_of,
    with_sound,
)
from clamr_cli.pipeline.pair import side_by_side
from clamr_cli.pipeline.stored import documents_of
from clamr_cli.stages import tasks
from clamr_cli.stages.options import Recipe
from clamr_cli.stages.spool import Decoded, Spool
from clamr_cli.types import Document, FileRecord, FileState, MomentRecord, Segment, VideoFields, VideoRecord
from clamr_cli.weights import locate

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from clamr_cli.events import Event
    from clamr_cli.executors import Worker
    from clamr_cli.media.identity import Stamp
    from clamr_cli.pipeline.desk import Desk
    from clamr_cli.types import TokenVectors

Stage = Literal["decode", "sample", "speech", "ocr", "encode"]

PROGRESS_INTERVAL = 0.2
"""Seconds between two progress events of a stage."""

PATIENCE = 5
"""Recognisers may be silent this many times longer than a decoder: they load models and work in long strokes."""


class Job:
    """Works on one file. Iterate over :meth:`run`; a :class:`Commit` ends it.

    Args:
        found: the file.
        desk: what the jobs share.
    """

    def __init__(self, found: Found, desk: Desk) -> None:
        self.found = found
        self.desk = desk
        self.recipe = desk.recipe
        self.content = ""
        self.sidecars: str | None = None
        self.stamp: Stamp | None = None
        self.subtitles: Sequence[Segment] | None = None
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    def run(self) -> Generator[Output, None, None]:
        """All stages in order.

        Raises:
            MediaError: the file cannot be indexed.
            ModelError, StoreError: the run cannot go on.
        """
        # Both before anything is read: what changes from here on must count as changed for the next run.
        self.sidecars = sidecar_signature(self.found.path)
        self.stamp = stamp(self.found.path)
        self.content = yield from self._task("decode", self.desk.decoder, tasks.identify, self.found.path)
        with self.desk.claim(video_id(self.content)):
            yield from self._index()

    def record(self, state: FileState, error: str = "", hint: str = "") -> FileRecord:
        """The file's record as it is to be kept."""
        identity = video_id(self.content) if self.content else ""
        found = self.found
        sidecars = sidecar_signature(found.path) if self.sidecars is None else self.sidecars
        return FileRecord(
            found.path, found.root, identity, found.size, found.mtime_ns, state, error, hint,
            sidecars, self.recipe.dump() if state is FileState.INDEXED else "",
        )  # fmt: skip

    def _index(self) -> Generator[Output, None, None]:
        identity, path = video_id(self.content), self.found.path
        holders = [record for record in self.desk.register.holders(identity) if record.path != path]
        standing = [record for record in holders if not self.desk.moved(record)]
        if standing and identity in self.desk.encoded and standing[0].recipe == self.recipe.dump():
            yield from self._second_copy(identity)
            return
        self.subtitles = yield from self._owner_subtitles()
        take = yield from self._take()
        yield from (Notice(path, notice) for notice in take.decoded.notices)
        material, fields = yield from self._material(take)
        documents = document.documents(identity, material, window=self.desk.options.window)
        moments = [moment_of(made, identity) for made in documents]
        if identity in self.desk.encoded and self._as_stored(identity, moments):
            self.reused.append("encode")
            vectors, changed = None, None
        else:
            vectors = yield from self._vectors(with_sound(documents, take) if self.desk.hears else documents)
            changed = moments
        media = take.decoded.media
        video = VideoRecord(identity, self.content, media, fields, datetime.now(UTC).isoformat(timespec="seconds"))
        event: Event = (
            Moved(path, identity, holders[0].path)
            if holders and not standing
            else Indexed(path, identity, media.duration, len(moments), self._reused(), self.seconds)
        )
        yield Commit(self.record(FileState.INDEXED), video, changed, vectors, event)
        if take.spool is not None:
            take.spool.remove()

    def _second_copy(self, identity: str) -> Generator[Output, None, None]:
        """The content is indexed under another name: only the file is recorded."""
        with self.desk.reading:
            video, moments = self.desk.store.video(identity), self.desk.store.moments([identity])
        yield Notice(self.found.path, "has the same content as an indexed file, and is found together with it")
        reused = ("decode", "speech", "ocr", "encode")
        event = Indexed(self.found.path, identity, video.media.duration, len(moments), reused)
        yield Commit(self.record(FileState.INDEXED), None, None, None, event)

    # --- the stages ---------------------------------------------------------------------------------------------------

    def _take(self) -> Generator[Output, None, Take]:
        """Pictures, embedded subtitles and sound: kept ones where they suffice, else decoded now."""
        key = self.recipe.key(self.content, "media")
        kept = self._kept(key)
        if kept is not None:
            decoded = msgspec.convert(kept[0], Decoded)
            if not self._needs_spool(decoded):
                self.reused.append("decode")
                return Take(decoded, frames_of(decoded, kept[1]), None)
        spool, decoded = yield from self._decode()
        frames = tuple(spool.pictures("frames", decoded.frames))
        yield Keep(key, msgspec.to_builtins(decoded), [frame.jpeg for frame in frames])
        return Take(decoded, frames, spool)

    def _decode(self) -> Generator[Output, None, tuple[Spool, Decoded]]:
        options = self.desk.options
        wanted = tasks.DecodeOptions(
            options.language, sound=self._wants_sound(), text=options.text, all_sound=self.desk.hears
        )
        marks = "".join(mark for mark, on in (("s", wanted.sound), ("t", wanted.text), ("a", wanted.all_sound)) if on)
        marks += options.language
        spool = Spool(self.desk.spools / f"{self.content[:32]}-{marks}")
        decoded = spool.decoded()
        if decoded is None:
            decoded = yield from self._task(
                "decode", self.desk.decoder, tasks.decode, self.found.path, os.fspath(spool.folder), wanted, self.stamp
            )
        return spool, decoded

    def _needs_spool(self, decoded: Decoded) -> bool:
        """Whether speech or text has yet to be recognised from sound and pictures that are not kept."""
        if self.desk.hears and decoded.media.audio:
            return True
        missing_speech = self._wants_sound() and not decoded.speech and decoded.media.audio and not self._has("speech")
        return bool(missing_speech) or (self.desk.options.text and not self._has("text"))

    def _wants_sound(self) -> bool:
        return self.desk.options.speech and self.subtitles is None

    def _owner_subtitles(self) -> Generator[Output, None, Sequence[Segment] | None]:
        """The first subtitle file beside the video that can be read; what the owner has is better than recognition."""
        for subtitle in find_sidecars(self.found.path, self.desk.options.language).subtitles:
            try:
                return read_subtitle_file(subtitle.path, subtitle.language)
            except MediaError as error:
                yield Notice(self.found.path, f"a subtitle file was left out: {error}")
        return None

    def _material(self, take: Take) -> Generator[Output, None, tuple[Material, VideoFields]]:
        media = take.decoded.media
        speech, text = yield from side_by_side(self._speech(take), self._text(take))
        metadata, fields, notices = read_metadata(self.found.path, self.found.root, media)
        yield from (Notice(self.found.path, notice) for notice in notices)
        heard = next((segment.language for segment in speech if segment.language), "")
        fields = dataclasses.replace(fields, language=fields.language or heard)
        shots = tuple(Shot(frame, still.shot) for frame, still in zip(take.frames, take.decoded.frames, strict=True))
        return Material(media.duration, shots, tuple(speech), tuple(text), tuple(metadata)), fields

    def _speech(self, take: Take) -> Generator[Output, None, Sequence[Segment]]:
        """What is said: the owner's subtitles, else embedded ones, else recognised."""
        if self.subtitles is not None:
            return self.subtitles
        if take.decoded.speech or not self.desk.options.speech:
            return take.decoded.speech
        kept = self._kept(self.recipe.key(self.content, "speech"))
        if kept is not None:
            self.reused.append("speech")
            return segments_of(kept[0])
        heard: list[Segment] = []
        if take.spool is not None and take.decoded.samples:
            asr = self.desk.asr
            model = locate(asr.model, self.desk.options.cache)
            heard = yield from self._task(
                "speech", self.desk.hearer, tasks.hear, os.fspath(take.spool.folder), model, asr
            )
        yield Keep(self.recipe.key(self.content, "speech"), {"segments": msgspec.to_builtins(heard)})
        return heard

    def _text(self, take: Take) -> Generator[Output, None, Sequence[Segment]]:
        """What is written on screen."""
        if not self.desk.options.text:
            return ()
        kept = self._kept(self.recipe.key(self.content, "text"))
        if kept is not None:
            self.reused.append("ocr")
            return segments_of(kept[0])
        seen: list[Segment] = []
        if take.spool is not None and take.decoded.text:
            ocr = self.desk.ocr
            model = ocr.locate(self.desk.options.cache)
            folder = os.fspath(take.spool.folder)
            seen = yield from self._task("ocr", self.desk.reader, tasks.read, folder, take.decoded.text, model, ocr)
        yield Keep(self.recipe.key(self.content, "text"), {"segments": msgspec.to_builtins(seen)})
        return seen

    def _vectors(self, documents: Sequence[Document]) -> Generator[Output, None, dict[str, TokenVectors]]:
        made = yield from self._task("encode", self.desk.encoding, tasks.encode, self.desk.choice, documents)
        return {document.id: vectors for document, vectors in zip(documents, made, strict=True)}

    def _reused(self) -> tuple[str, ...]:
        """The stages whose kept results served, in the order of work."""
        return tuple(stage for stage in ("decode", "speech", "ocr", "encode") if stage in self.reused)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _task(self, stage: Stage, worker: Worker, task: Any, *args: object) -> Generator[Output, None, Any]:  # noqa: ANN401
        """Run a task, pass its steps on as progress, and return its last item."""
        limit = self.desk.options.time_limit * (1 if worker is self.desk.decoder else PATIENCE)
        started = shown = 0.0
        result: Any = None
        for item in worker.run(task, *args, silence=limit):
            now = time.monotonic()
            started = started or now
            if not isinstance(item, tasks.Step):
                result = item
            elif now - shown >= PROGRESS_INTERVAL:
                shown = now
                yield Progress(self.found.path, stage, item.done, item.total)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + (time.monotonic() - started if started else 0.0)
        return result

    def _kept(self, key: str) -> tuple[Mapping[str, Any], Sequence[bytes]] | None:
        with self.desk.reading:
            kept = self.desk.store.extraction(key)
        return None if kept is None else (kept.payload, kept.blobs)

    def _has(self, stage: str) -> bool:
        with self.desk.reading:
            return self.desk.store.has_extraction(self.recipe.key(self.content, stage))

    def _as_stored(self, identity: str, moments: Sequence[MomentRecord]) -> bool:
        with self.desk.reading:
            return list(self.desk.store.moments([identity])) == list(moments)


class EncodeJob(Job):
    """Encodes a video that the index holds, from what is kept of it: the file itself need not be at hand.

    Args:
        record: the file's record in the index.
        desk: what the jobs share.
    """

    def __init__(self, record: FileRecord, desk: Desk) -> None:
        super().__init__(Found(record.path, record.root, record.size, record.mtime_ns), desk)
        self.kept_record = record
        self.recipe = Recipe.parse(record.recipe) or desk.recipe

    def run(self) -> Generator[Output, None, None]:
        """Encode the stored moments.

        Raises:
            MediaError: their pictures are no longer kept.
            ModelError, StoreError: the run cannot go on.
        """
        identity = self.kept_record.video_id
        with self.desk.claim(identity):
            if identity in self.desk.encoded:
                return
            with self.desk.reading:
                video, documents = documents_of(self.desk.store, self.kept_record, self.recipe)
            vectors = yield from self._vectors(documents)
            reused = ("decode", "speech", "ocr")
            done = Indexed(self.found.path, identity, video.media.duration, len(documents), reused, self.seconds)
            yield Commit(self.kept_record, None, None, vectors, done)
