"""One file on its way through the stages: a generator of events and of things to be written."""

from __future__ import annotations

import dataclasses
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from clamr_cli.errors import MediaError
from clamr_cli.events import Indexed, Moved, Notice, Progress
from clamr_cli.extract.captions import Captions, Choice, choose, examined, on_video, passed_over
from clamr_cli.extract.options import READABLE_BEFORE
from clamr_cli.extract.sidecar import find_sidecars, read_metadata, sidecar_signature
from clamr_cli.index import tasks
from clamr_cli.index.documents import Material, Shot
from clamr_cli.index.documents import documents as make_documents
from clamr_cli.index.executors.local import TaskFailed
from clamr_cli.index.options import Recipe
from clamr_cli.index.outputs import (
    Commit,
    Keep,
    Output,
    Take,
    frames_of,
    moment_of,
    segments_of,
    with_sound,
)
from clamr_cli.index.pair import side_by_side
from clamr_cli.index.spool import SAMPLE_RATE, Decoded, Spool
from clamr_cli.index.stored import documents_of
from clamr_cli.media.identity import stamp, video_id
from clamr_cli.media.walk import Found
from clamr_cli.types import Document, FileRecord, FileState, MomentRecord, Segment, VideoFields, VideoRecord
from clamr_cli.weights import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from clamr_cli.events import Event
    from clamr_cli.index.desk import Desk
    from clamr_cli.index.executors.local import Worker
    from clamr_cli.media.identity import Stamp
    from clamr_cli.types import MediaInfo, TokenVectors

Stage = Literal["decode", "sample", "speech", "ocr", "encode"]

PROGRESS_INTERVAL = 0.2
"""Seconds between two progress events of a stage."""

PATIENCE = 5
"""Recognisers may be silent this many times longer than a decoder: they load models and work in long strokes."""


_MOST_STALLS = 4
"""Sidecars of a video that may stall their reader before all of them are left out."""


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
        # Subtitle files beside the video, their lines once they are read, and the language that a sidecar names.
        self.captions: list[Captions] = []
        self.lines: dict[str, Sequence[Segment]] = {}
        self.noted_language = ""
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []
        self.checkpoints: dict[str, float] = {}

    def run(self) -> Generator[Output, None, None]:
        """All stages in order.

        Raises:
            MediaError: the file cannot be indexed.
            ModelError, StoreError: the run cannot go on.
        """
        # Both before anything is read: what changes from here on must count as changed for the next run.
        self.sidecars = sidecar_signature(self.found.path, self.found.root)
        self.stamp = stamp(self.found.path)
        self.content = yield from self._task("decode", self.desk.decoder, tasks.identify, self.found.path)
        with self.desk.claim(video_id(self.content)):
            yield from self._index()

    def record(self, state: FileState, error: str = "", hint: str = "") -> FileRecord:
        """The file's record as it is to be kept."""
        identity = video_id(self.content) if self.content else ""
        found = self.found
        sidecars = sidecar_signature(found.path, found.root) if self.sidecars is None else self.sidecars
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
        yield from self._list_captions()
        take = yield from self._take()
        yield from (Notice(path, notice) for notice in take.decoded.notices)
        material, fields = yield from self._material(take)
        documents = make_documents(identity, material, window=self.desk.options.window)
        moments = [moment_of(made, identity) for made in documents]
        if identity in self.desk.encoded and self._as_stored(identity, moments):
            yield self._reuse("encode", take.decoded.media.duration)
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
            yield from self._text_as_before(decoded.media)
            if not (yield from self._needs_spool(decoded)):
                yield self._reuse("decode", decoded.media.duration)
                return Take(decoded, frames_of(decoded, kept[1]), None)
        spool, decoded = yield from self._decode()
        frames = tuple(spool.pictures("frames", decoded.frames))
        yield Keep(key, msgspec.to_builtins(decoded), [frame.jpeg for frame in frames])
        yield self._all_kept("decode", decoded.media.duration)
        return Take(decoded, frames, spool)

    def _text_as_before(self, media: MediaInfo) -> Generator[Output, None, None]:
        """Keep what version 1 read of a video that was not too large for it: reading anew would rarely give more."""
        before = msgspec.structs.replace(self.recipe, text=self.desk.options.ocr.version_before)
        if not self.recipe.text or max(media.width, media.height) > READABLE_BEFORE or self._has("text"):
            return
        kept = self._kept(before.key(self.content, "text"))
        if kept is not None:
            yield Keep(self.recipe.key(self.content, "text"), kept[0])

    def _decode(self) -> Generator[Output, None, tuple[Spool, Decoded]]:
        options = self.desk.options
        wanted = tasks.DecodeOptions(
            options.language, self.noted_language, tuple(self.captions),
            sound=options.speech, text=options.text, all_sound=self.desk.hears,
        )  # fmt: skip
        marks = "".join(mark for mark, on in (("s", wanted.sound), ("t", wanted.text), ("a", wanted.all_sound)) if on)
        marks += options.language
        spool = Spool(self.desk.spools / f"{self.content[:32]}-{marks}")
        decoded = spool.decoded()
        if decoded is None or (not decoded.sound and (yield from self._lacks_speech(decoded))):
            decoded = yield from self._task(
                "decode", self.desk.decoder, tasks.decode, self.found.path, os.fspath(spool.folder), wanted, self.stamp
            )
        return spool, decoded

    def _needs_spool(self, decoded: Decoded) -> Generator[Output, None, bool]:
        """Whether speech or text has yet to be recognised from sound and pictures that are not kept."""
        if self.desk.hears and decoded.media.audio:
            return True
        return (yield from self._lacks_speech(decoded)) or (self.desk.options.text and not self._has("text"))

    def _lacks_speech(self, decoded: Decoded) -> Generator[Output, None, bool]:
        """Whether sound is needed that is not kept: to recognise what is said, or in which language."""
        if not self.desk.options.speech or not decoded.media.audio:
            return False
        choice, _ = yield from self._choose(decoded)
        return choice.detect or (choice.speech is None and not self._has("speech"))

    # --- captions -----------------------------------------------------------------------------------------------------

    def _list_captions(self) -> Generator[Output, None, None]:
        """Find the subtitle files and the language that a sidecar names, and read the files that seem best."""
        path, root = self.found.path, self.found.root
        sidecars = find_sidecars(path, self.desk.options.language, root)
        self.captions = list(sidecars.subtitles)
        for link in sidecars.refused:
            yield Notice(path, f"{link.name} was left out: a link that leads out of the folder")
        if self.captions and "info_json" in sidecars.notes:
            try:
                self.noted_language = yield from self._task(
                    "decode", self.desk.sidecars, tasks.read_language, path, root
                )
            except TaskFailed:
                self.noted_language = ""  # reading the notes tells of it
        yield from self._choose(None)

    def _choose(self, decoded: Decoded | None) -> Generator[Output, None, tuple[Choice, str]]:
        """What stands for the speech, and the spoken language as far as it is known; reads the files that it takes.

        Args:
            decoded: what the video itself holds, where that is known.
        """
        options = self.desk.options
        inside, audible, duration = [], options.speech, 0.0
        if decoded is not None:
            inside = tasks.captions_of(decoded)
            self.lines |= tasks.lines_of(decoded)
            audible, duration = options.speech and bool(decoded.media.audio), decoded.media.duration
        detected = (
            self._kept(tasks.detection_key(self.content, self.desk.asr)) if audible and decoded is not None else None
        )
        heard = str(detected[0]["language"]) if detected is not None else ""
        while True:
            captions = [*self.captions, *inside]
            spoken = heard or tasks.spoken_in(
                decoded.media if decoded is not None else None, captions, options.language, self.noted_language
            )
            choice = choose(
                captions, spoken, sure=bool(options.language) or detected is not None, audible=audible,
                duration=duration,
            )  # fmt: skip
            unread = [one for one in (choice.speech, choice.beside) if one in self.captions and one.content == "unread"]
            if not unread:
                return choice, spoken
            for one in unread:
                yield from self._read_captions(one, spoken)

    def _read_captions(self, captions: Captions, spoken: str) -> Generator[Output, None, None]:
        """Read a subtitle file and note what it holds; a notice where that fails."""
        place = self.captions.index(captions)
        self.captions[place] = dataclasses.replace(captions, content="none")
        try:
            result = yield from self._task(
                "decode", self.desk.sidecars, tasks.read_captions, captions, self.found.path, spoken
            )
        except MediaError as error:
            yield Notice(self.found.path, f"a subtitle file was left out: {captions.name}: {error}")
            return
        lines, notices = result
        yield from (Notice(self.found.path, notice) for notice in notices)
        self.lines[captions.name] = lines
        self.captions[place] = examined(captions, lines)

    def _detect_language(self, take: Take) -> Generator[Output, None, None]:
        """Detect and keep which language is spoken, where the choice of captions depends on it."""
        language = ""
        if take.spool is not None and take.decoded.samples:
            asr = self.desk.asr
            model = locate(asr.model, self.desk.options.cache)
            folder = os.fspath(take.spool.folder)
            language = yield from self._task("speech", self.desk.hearer, tasks.detect_language, folder, model, asr)
        yield Keep(tasks.detection_key(self.content, self.desk.asr), {"language": language})

    # --- material -----------------------------------------------------------------------------------------------------

    def _material(self, take: Take) -> Generator[Output, None, tuple[Material, VideoFields]]:
        media = take.decoded.media
        (speech, language), text = yield from side_by_side(self._speech(take), self._text(take))
        metadata, fields = yield from self._metadata(take)
        fields = dataclasses.replace(fields, language=fields.language or language)
        shots = tuple(Shot(frame, still.shot) for frame, still in zip(take.frames, take.decoded.frames, strict=True))
        return Material(media.duration, shots, tuple(speech), tuple(text), tuple(metadata)), fields

    def _metadata(self, take: Take) -> Generator[Output, None, tuple[tuple[Segment, ...], VideoFields]]:
        """What is noted; sidecars are read in a process of their own, and one that stalls it is left out."""
        path, root, media = self.found.path, self.found.root, take.decoded.media
        without: list[str] = []
        while set(find_sidecars(path, root=root).notes) and len(without) < _MOST_STALLS:
            reading = ""
            try:
                for item in self.desk.sidecars.run(
                    tasks.read_notes, path, root, media, tuple(without), silence=self.desk.options.time_limit
                ):
                    if isinstance(item, str):
                        reading = item
                        continue
                    segments, fields, notices = item
                    yield from (Notice(path, notice) for notice in notices)
                    return segments, fields
            except TaskFailed as error:
                if not reading:
                    raise
                yield Notice(path, f"{os.path.basename(reading)} was left out: {error}")
                without.append(reading)
        everything = [os.fspath(note) for note in find_sidecars(path, root=root).notes.values()]
        segments, fields, _ = read_metadata(path, root, media, without=everything)
        return segments, fields

    def _speech(self, take: Take) -> Generator[Output, None, tuple[Sequence[Segment], str]]:
        """What is said, and in which language: by captions, else recognised, with a translation beside it."""
        choice, spoken = yield from self._choose(take.decoded)
        if choice.detect:
            yield from self._detect_language(take)
            choice, spoken = yield from self._choose(take.decoded)
        everything = [*self.captions, *tasks.captions_of(take.decoded)]
        for line in passed_over(everything, choice, spoken, take.decoded.media.duration):
            yield Notice(self.found.path, line)
        if choice.speech is not None:
            lines = on_video(self.lines[choice.speech.name], take.decoded.media.duration)
            return lines, choice.speech.language or spoken
        said = list((yield from self._recognised(take)) if self.desk.options.speech else ())
        language = next((segment.language for segment in said if segment.language), "")
        beside = self.lines[choice.beside.name] if choice.beside is not None else ()
        beside = on_video(beside, take.decoded.media.duration)
        language = language or spoken or next((segment.language for segment in beside if segment.language), "")
        return sorted((*said, *beside), key=lambda segment: segment.span), language

    def _recognised(self, take: Take) -> Generator[Output, None, Sequence[Segment]]:
        """What is recognised as said, now or by an earlier run."""
        kept = self._kept(self.recipe.key(self.content, "speech"))
        if kept is not None:
            yield self._reuse("speech", take.decoded.media.duration)
            return segments_of(kept[0])
        if take.spool is None or not take.decoded.samples:
            yield Keep(self.recipe.key(self.content, "speech"), {"segments": []})
            return ()
        asr = self.desk.asr
        model = locate(asr.model, self.desk.options.cache)
        folder, samples = os.fspath(take.spool.folder), take.decoded.samples
        return (yield from self._in_parts("speech", samples, SAMPLE_RATE, tasks.hear, folder, model, asr))

    def _text(self, take: Take) -> Generator[Output, None, Sequence[Segment]]:
        """What is written on screen."""
        if not self.desk.options.text:
            return ()
        kept = self._kept(self.recipe.key(self.content, "text"))
        if kept is not None:
            yield self._reuse("ocr", take.decoded.media.duration)
            return segments_of(kept[0])
        stills = take.decoded.text
        if take.spool is None or not stills:
            yield Keep(self.recipe.key(self.content, "text"), {"segments": []})
            return ()
        ocr = self.desk.ocr
        model = ocr.locate(self.desk.options.cache)
        folder = os.fspath(take.spool.folder)
        return (yield from self._in_parts("ocr", len(stills), 1, tasks.read, folder, stills, model, ocr))

    def _in_parts(
        self,
        stage: Literal["speech", "ocr"],
        end: int,
        scale: int,
        task: Any,  # noqa: ANN401
        *args: object,
    ) -> Generator[Output, None, Sequence[Segment]]:
        """Recognise what earlier runs have not: each part is kept as soon as it is there, until the whole is.

        Args:
            stage: which one.
            end: of the last part.
            scale: how much of a part's end is one of the stage's progress.
            task: the recogniser's.
            args: its arguments before the length of a part and the parts that are there.
        """
        key = self.recipe.key(self.content, "text" if stage == "ocr" else stage)
        # Parts of another decoding, with another end, do not count.
        name = f"{key}/part/{end}"
        parts: list[tasks.Part] = []
        while (stored := self._kept(f"{name}/{len(parts)}")) is not None:
            parts.append(msgspec.convert(stored[0], tasks.Part))
        self.checkpoints[stage] = parts[-1].end / scale if parts else 0.0

        def keep(part: tasks.Part) -> Generator[Output, None, None]:
            if part.end < end:  # the last is kept with the whole
                yield Keep(f"{name}/{len(parts)}", msgspec.to_builtins(part))
                parts.append(part)
                self.checkpoints[stage] = part.end / scale
                yield Progress(self.found.path, stage, self.checkpoints[stage], end / scale, self.checkpoints[stage])

        worker = self.desk.hearer if stage == "speech" else self.desk.reader
        segments = yield from self._task(stage, worker, task, *args, self.desk.options.stretch, tuple(parts), part=keep)
        names = [f"{name}/{number}" for number in range(len(parts))]
        yield Keep(key, {"segments": msgspec.to_builtins(segments)}, parts=names)
        yield self._all_kept(stage, end / scale)
        return segments  # type: ignore[no-any-return]

    def _vectors(self, documents: Sequence[Document]) -> Generator[Output, None, dict[str, TokenVectors]]:
        made = yield from self._task("encode", self.desk.encoding, tasks.encode, self.desk.choice, documents)
        return {document.id: vectors for document, vectors in zip(documents, made, strict=True)}

    def _reused(self) -> tuple[str, ...]:
        """The stages whose kept results served, in the order of work."""
        return tuple(stage for stage in ("decode", "speech", "ocr", "encode") if stage in self.reused)

    def _reuse(self, stage: Stage, duration: float) -> Progress:
        """Note that a stage's result was kept by an earlier run."""
        self.reused.append(stage)
        return self._all_kept(stage, duration)

    def _all_kept(self, stage: Stage, total: float) -> Progress:
        return Progress(self.found.path, stage, total, total, total)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _task(
        self,
        stage: Stage,
        worker: Worker,
        task: Any,  # noqa: ANN401
        *args: object,
        part: Callable[[tasks.Part], Generator[Output, None, None]] | None = None,
    ) -> Generator[Output, None, Any]:
        """Run a task, pass its steps on as progress, deal with its parts, and return its last item."""
        limit = self.desk.options.time_limit * (1 if worker in (self.desk.decoder, self.desk.sidecars) else PATIENCE)
        started = shown = 0.0
        result: Any = None
        for item in worker.run(task, *args, silence=limit):
            now = time.monotonic()
            started = started or now
            if isinstance(item, tasks.Part) and part is not None:
                yield from part(item)
            elif not isinstance(item, tasks.Step):
                result = item
            elif now - shown >= PROGRESS_INTERVAL:
                shown = now
                yield Progress(self.found.path, stage, item.done, item.total, self.checkpoints.get(stage, 0.0))
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
            yield from (self._all_kept(stage, video.media.duration) for stage in ("decode", "speech", "ocr"))
            vectors = yield from self._vectors(documents)
            reused = ("decode", "speech", "ocr")
            done = Indexed(self.found.path, identity, video.media.duration, len(documents), reused, self.seconds)
            yield Commit(self.kept_record, None, None, vectors, done)
