"""One video from its file to its vectors, reusing whatever is stored of the same content."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import msgspec

from clamr_cli import encoders
from clamr_cli.errors import MediaError, ModelError
from clamr_cli.events import Event, Notice, Progress, Stage
from clamr_cli.extract.options import READABLE_BEFORE, AsrOptions, OcrOptions
from clamr_cli.extract.sidecars import CaptionChoice, find_sidecars, passed_over, sidecar_signature
from clamr_cli.index import tasks
from clamr_cli.index.documents import (
    CaptionSet,
    Recipe,
    Shot,
    StoredStage,
    frames_from,
    language_key,
    moment_of,
    segments_from,
    split_video,
    stored_transcript,
    transcript_key,
    with_sound,
    with_speaker_names,
)
from clamr_cli.index.executors import Executor, Folder, Kind, Reporter, Result, TaskFailed
from clamr_cli.index.labels import label_documents, with_labels, without_labels
from clamr_cli.index.prints import put_prints
from clamr_cli.index.scan import now
from clamr_cli.index.speakers import Speakers
from clamr_cli.index.workdir import SAMPLE_RATE, DecodedMedia, Workdir
from clamr_cli.media.files import Stamp, stamp, video_id
from clamr_cli.media.walk import ancestors
from clamr_cli.store import VOICES_VERSION
from clamr_cli.types import (
    Document,
    Frame,
    MomentRecord,
    Segment,
    TokenVectors,
    VideoFields,
    VideoRecord,
    VoiceModel,
    Voices,
)
from clamr_cli.weights import locate, ocr_weights

if TYPE_CHECKING:
    from clamr_cli.store import Extraction, Store

First = TypeVar("First")
Second = TypeVar("Second")
Item = TypeVar("Item")

MEDIA_VERSION: Final = "1"
"""Changes when decoding, frame picking or subtitle reading would give other results for the same file."""

_PROGRESS_INTERVAL: Final = 0.2
"""Seconds between two progress events of a stage."""

_PATIENCE: Final = 5
"""Recognisers may be silent this many times longer than a decoder: they load models and work in long strokes."""

_MOST_STALLS: Final = 4
"""Sidecars of a video that may stall their reader before all of them are left out."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options of an index run."""

    cache: Path  # for weights, and for frames and sound on their way; nothing in it is ever the only copy
    encoder: str = "mini"  # a name of clamr_cli.encoders.TABLE
    encoder_settings: Mapping[str, object] = field(default_factory=dict)  # the encoder's own
    device: str = "auto"  # or cpu, cuda, mps
    exclude: tuple[str, ...] = ()  # globs of names or paths to leave out
    window: float = 60.0  # longest moment in seconds
    # Prefer audio and subtitle tracks of this language, and expect it in speech; empty means detect.
    language: str = ""
    asr: AsrOptions = field(default_factory=AsrOptions)
    ocr: OcrOptions = field(default_factory=OcrOptions)
    speech: bool = True  # recognise speech; subtitles are read in any case
    text: bool = True  # recognise on-screen text
    speakers: bool = False  # tell voices apart, over the whole library
    voice_model: VoiceModel = "campplus"  # by this model
    retry_failed: bool = False  # try files again that failed before though they have not changed
    prune: bool = False  # forget at once what is missing below the targets, with what was extracted of it
    time_limit: float = 120.0  # seconds without progress after which a decoder counts as hung
    jobs: int = 3  # videos in flight at once: while one is decoded another is transcribed and a third read
    threads: int = 0  # CPU threads of each recogniser; 0 is half the cores, since two of them work at a time
    # Seconds of speech, or of frames with text, that are recognised at a time and stored at once: what an interruption
    # can cost. Cuts lie where it is quiet.
    stretch: int = 600
    folders: Mapping[str, IndexOptions] = field(default_factory=dict)  # of single folders and files, by path
    remembered: Mapping[str, Mapping[str, object]] | None = None  # settings of folders that the index is to keep
    unfinished: frozenset[str] = frozenset()  # files that are still being written; they are left as they are
    shard: tuple[int, int] | None = None  # only the files of this part of so many, see clamr_cli.index.scan.in_shard

    def of(self, path: str) -> IndexOptions:
        """The options of a path: those of the innermost folder that has its own."""
        places = (path, *ancestors(path)) if self.folders else ()
        return next((self.folders[place] for place in places if place in self.folders), self)

    @property
    def recipe(self) -> Recipe:
        voices = VOICES_VERSION if self.voice_model == "campplus" else f"{VOICES_VERSION}:{self.voice_model}"
        return Recipe(
            media=f"{MEDIA_VERSION}:{self.language}",
            speech=f"{self.asr.version}:{self.language}" if self.speech else "",
            text=self.ocr.version if self.text else "",
            window=self.window,
            speakers=voices if self.speakers else "",
        )

    def with_threads(self) -> Self:
        """The same with a number of threads for every recogniser: together they should keep the cores busy."""
        threads = self.threads or max(1, (os.cpu_count() or 1) // 2)
        return replace(
            self,
            threads=threads,
            asr=replace(self.asr, threads=self.asr.threads or threads),
            ocr=replace(self.ocr, threads=self.ocr.threads or threads),
        )

    def check_models(self) -> None:
        """Check at once that no weights are missing, not after the first hour of work.

        Raises:
            ModelError: a recogniser's weights are absent or damaged.
        """
        required = {"--no-speech": self.asr.model} if self.speech else {}
        if self.text and self.ocr.engine == "easyocr":
            required["--no-ocr"] = ocr_weights(self.ocr.languages)
        if self.speakers:
            required["--no-speakers"] = self.voice_model
        for option, name in required.items():
            try:
                locate(name, self.cache)
            except ModelError as error:
                raise ModelError(error.what, f"{error.hint}, or index with {option}" if error.hint else "") from error


@dataclass(kw_only=True, eq=False)
class Work:
    """The work on one video: its file, its stored results, and how far it is."""

    store: Store  # the caller is its one writer
    options: IndexOptions  # with a number of threads
    executor: Executor
    folder: Path  # for working directories
    emit: Callable[[Event], None]
    path: str  # of the file; empty where only stored results are used
    root: str  # the folder that was asked for
    recipe: Recipe  # of the results
    content: str = ""  # the content hash, where it is known
    signature: str | None = None  # of its sidecars, when the content was identified
    stamp: Stamp | None = None  # of the file then
    speakers: Speakers | None = None  # of the library; None reads them where they are needed
    seconds: dict[str, float] = field(default_factory=dict)  # of work, by stage
    checkpoints: dict[str, float] = field(default_factory=dict)  # how much of a stage is stored
    _reused: set[str] = field(default_factory=set)
    _shown: dict[str, float] = field(default_factory=dict)

    @property
    def video_id(self) -> str:
        return video_id(self.content) if self.content else ""

    @property
    def reused(self) -> tuple[str, ...]:
        """The stages whose stored results were used, in the order of work."""
        return tuple(stage for stage in ("decode", "speech", "ocr", "encode") if stage in self._reused)

    def voices(self) -> Voices | None:
        """The voices of the content by the model that is asked for; None where it has not listened."""
        voices = self.store.voices_of(self.content)
        return voices if voices is not None and voices.model == self.options.voice_model else None

    async def identify(self) -> None:
        """Hash the file's content, after noting its state: what changes from here on is a change for the next run."""
        self.signature = sidecar_signature(self.path, self.root)
        self.stamp = stamp(self.path)
        area = os.fspath(self.folder) if self.executor.is_here else ""
        self.content = await self.run("decode", "decode", tasks.identify, self.path, area)

    async def run(
        self, stage: Stage, kind: Kind, task: Callable[..., Result], *args: object, on_report: Reporter | None = None
    ) -> Result:
        """Run a task and return its result; what it reports becomes events, or goes to ``on_report``."""
        started = 0.0

        def report(done: float, total: float, part: Any = None, /) -> None:  # noqa: ANN401
            nonlocal started
            started = started or time.monotonic()
            if on_report is not None:
                on_report(done, total, part)
            else:
                self.progress(stage, done, total)

        timeout = self.options.time_limit * (1 if kind in ("decode", "sidecars") else _PATIENCE)
        result = await self.executor.run(kind, task, *args, stall_timeout=timeout, on_report=report)
        # Waiting for a process, and for its start, is no work on this video.
        self.seconds[stage] = self.seconds.get(stage, 0.0) + (time.monotonic() - started if started else 0.0)
        return result

    def progress(self, stage: Stage, done: float, total: float) -> None:
        """Emit a progress event, unless there was one of this stage a moment ago."""
        now = time.monotonic()
        if now - self._shown.get(stage, 0.0) >= _PROGRESS_INTERVAL:
            self._shown[stage] = now
            self.emit(Progress(self.path, stage, done, total, self.checkpoints.get(stage, 0.0)))

    def stored(self, stage: Stage, total: float) -> None:
        """Emit that all of a stage's result is stored."""
        self.emit(Progress(self.path, stage, total, total, total))

    def reuse(self, stage: Stage, total: float) -> None:
        """Note that a stage's result was stored by an earlier run."""
        self._reused.add(stage)
        self.stored(stage, total)

    def notice(self, text: str) -> None:
        self.emit(Notice(self.path, text))

    def key(self, stage: StoredStage) -> str:
        return self.recipe.key(self.content, stage)

    def load(self, stage: StoredStage) -> Extraction | None:
        return self.store.extraction(self.key(stage))

    def has(self, stage: StoredStage) -> bool:
        return self.store.has_extraction(self.key(stage))


@dataclass(slots=True)
class DecodedVideo:
    """A decoded video; ``workdir`` is there only where it holds frames to be read and sound."""

    decoded: DecodedMedia
    frames: tuple[Frame, ...]
    workdir: Workdir | None

    @property
    def duration(self) -> float:
        return self.decoded.media.duration


async def index_video(
    work: Work, encoded: list[MomentRecord] | None = None
) -> tuple[VideoRecord, list[MomentRecord], dict[str, TokenVectors] | None]:
    """Take one video from its file to its vectors.

    ``work`` is identified; ``encoded`` are the moments, if the index has vectors of them. Returns the video, its
    moments, and their vectors by moment; None in their place if the index has those of equal moments already.

    Raises:
        MediaError: the file cannot be indexed.
        ModelError, StoreError: the run cannot go on.
    """
    media, (speech, language), ocr = await extract(work)
    if work.options.speakers:
        speech = await attribute(work, media, speech)
    metadata, fields = await read_metadata(work, media.decoded)
    metadata = (*metadata, *work.store.labels_of(work.content).segments(media.duration))
    shots = [Shot(frame, stored.shot) for frame, stored in zip(media.frames, media.decoded.frames, strict=True)]
    documents = split_video(work.video_id, media.duration, shots, speech, ocr, metadata, window=work.options.window)
    documents = with_speaker_names(documents)
    moments = [moment_of(document, work.video_id) for document in documents]
    vectors = None
    if moments == encoded:
        work.reuse("encode", media.duration)
    else:
        if encoders.accepts_audio(work.options.encoder) and media.workdir is not None and media.decoded.samples:
            documents = with_sound(documents, media.workdir.audio())
        vectors = await encode(work, documents)
    if media.workdir is not None:
        media.workdir.remove()
    fields = replace(fields, language=fields.language or language)
    return VideoRecord(work.video_id, work.content, media.decoded.media, fields, now()), moments, vectors


async def extract(work: Work) -> tuple[DecodedVideo, tuple[Sequence[Segment], str], Sequence[Segment]]:
    """Decode a video, and recognise its speech, the language of it, and its on-screen text, as the options say."""
    captions = await find_captions(work)
    media = await decode(work, captions)
    for notice in media.decoded.notices:
        work.notice(notice)
    # What is said and what is written have nothing to wait for in each other.
    speech, ocr = await both(transcribe(work, media, captions), read_text(work, media))
    return media, speech, ocr


async def both(first: Awaitable[First], second: Awaitable[Second]) -> tuple[First, Second]:
    """Await two things at once; if one fails, the other comes to its end first, so that nothing it finishes is lost."""
    results = await asyncio.gather(first, second, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


async def for_each(items: Iterable[Item], work: Callable[[Item], Coroutine[Any, Any, None]], *, at_once: int) -> None:
    """Await ``work(item)`` for all items in their order, some at once; if one fails, the others are cancelled."""
    remaining = iter(items)

    async def work_through() -> None:
        for item in remaining:
            await work(item)

    running = [asyncio.create_task(work_through()) for _ in range(at_once)]
    try:
        await asyncio.gather(*running)
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


# --- media ------------------------------------------------------------------------------------------------------------


async def decode(work: Work, captions: CaptionSet) -> DecodedVideo:
    """Frames, embedded subtitles and sound: stored ones where they suffice, else decoded now."""
    options = work.options
    needs_voices = options.speakers and work.voices() is None
    all_sound = encoders.accepts_audio(options.encoder) or needs_voices
    stored = work.load("media")
    if stored is not None:
        decoded = msgspec.convert(stored.payload, DecodedMedia)
        if decoded.media.time_base is None:  # stored by an earlier version
            base = await work.run("decode", "decode", tasks.read_time_base, work.path)
            decoded = replace(decoded, media=replace(decoded.media, time_base=base))
        media = decoded.media
        captions.set_media(media, decoded.tracks, decoded.speech)
        if work.recipe.text and max(media.width, media.height) <= READABLE_BEFORE and not work.has("text"):
            # What version 1 read of a video that was not too large for it: reading anew would rarely give more.
            earlier = msgspec.structs.replace(work.recipe, text=options.ocr.version_before)
            if (earlier_text := work.store.extraction(earlier.key(work.content, "text"))) is not None:
                work.store.put_extraction(work.key("text"), earlier_text.payload)
        needs_text = options.text and not work.has("text")
        needs_sound = all_sound and bool(media.audio)
        if not needs_sound and not await _lacks_speech(work, captions) and not needs_text:
            work.reuse("decode", media.duration)
            return DecodedVideo(decoded, frames_from(decoded, stored.blobs), None)
    choices = {"sound": options.speech, "text": options.text, "all sound": all_sound}
    wanted = [choice for choice, on in choices.items() if on]
    marks = "".join(choice[0] for choice in wanted)
    workdir = Workdir(work.folder / f"{work.content[:32]}-{marks}{options.language}")
    before = workdir.decoded()
    if before is not None:
        captions.set_media(before.media, before.tracks, before.speech)
    if before is None or (not before.sound and await _lacks_speech(work, captions)):
        files = CaptionSet(captions.files, captions.language, captions.noted_language)
        folder = Folder(workdir.folder)
        before = await work.run("decode", "decode", tasks.decode, work.path, folder, files, wanted, work.stamp)
        captions.set_media(before.media, before.tracks, before.speech)
    if before.prints:
        put_prints(work.store, work.content, before.prints)
        before = replace(before, prints=())
    frames = tuple(workdir.frames("frames", before.frames))
    work.store.put_extraction(work.key("media"), msgspec.to_builtins(before), [frame.jpeg for frame in frames])
    work.stored("decode", before.media.duration)
    return DecodedVideo(before, frames, workdir)


async def _lacks_speech(work: Work, captions: CaptionSet) -> bool:
    """Whether sound is needed that is not stored: to recognise what is said, or in which language."""
    if not work.options.speech or captions.media is None or not captions.media.audio:
        return False
    if work.store.has_extraction(transcript_key(work.content)):
        return False
    choice = await _choose(work, captions)
    return choice.detect or (choice.speech is None and not work.has("speech"))


# --- speech -----------------------------------------------------------------------------------------------------------


async def attribute(work: Work, media: DecodedVideo, speech: Sequence[Segment]) -> Sequence[Segment]:
    """Lines with the voices that say them, which are looked for if no earlier run did."""
    voices, model = work.voices(), work.options.voice_model
    if voices is None:
        voices = Voices((), model=model)
        if media.workdir is not None and media.decoded.samples:
            folder, weights = Folder(media.workdir.folder), locate(model, work.options.cache)
            # A part of the work on speech too small for a progress of its own.
            voices = await work.run(
                "speech",
                "speech",
                tasks.find_voices,
                folder,
                weights,
                model,
                work.options.threads,
                on_report=lambda *_: None,
            )
        if not voices.vectors:
            work.store.put_voices(work.content, voices)
    speakers = work.speakers or Speakers(work.store)
    return speakers.attribute(speech, speakers.numbered(work.content, voices))


async def find_captions(work: Work) -> CaptionSet:
    """Find the subtitle files and the language that a sidecar names, and read the files that seem best."""
    sidecars = find_sidecars(work.path, work.options.language, work.root)
    captions = CaptionSet(list(sidecars.subtitles), work.options.language)
    for link in sidecars.refused:
        work.notice(f"{link.name} was left out: a link that leads out of the folder")
    if captions.files and ".info.json" in sidecars.notes:
        try:
            captions.noted_language = await work.run("decode", "sidecars", tasks.read_language, work.path, work.root)
        except TaskFailed:
            captions.noted_language = ""  # read_metadata says why
    await _choose(work, captions)
    return captions


async def _choose(work: Work, captions: CaptionSet) -> CaptionChoice:
    """Choose the captions that stand for the speech, and read the files among them."""
    if captions.media is not None and captions.media.audio and work.options.speech:
        stored = work.store.extraction(language_key(work.content, work.options.asr))
        captions.detected_language = str(stored.payload["language"]) if stored is not None else None
    while True:
        choice, unread = captions.choose(recognise=work.options.speech)
        if unread is None:
            return choice
        lines, spoken = None, captions.spoken()
        try:
            lines, notices = await work.run("decode", "sidecars", tasks.read_captions, unread, work.path, spoken)
            for notice in notices:
                work.notice(notice)
        except MediaError as error:
            work.notice(f"a subtitle file was left out: {unread.name}: {error}")
        captions.set_lines(unread, lines)


async def transcribe(work: Work, media: DecodedVideo, captions: CaptionSet) -> tuple[Sequence[Segment], str]:
    """Speech and its language: as a person corrected it, by captions, else recognised, with a translation beside it."""
    if (transcript := stored_transcript(work.store, work.content)) is not None:
        work.reuse("speech", media.duration)
        return transcript.segments, transcript.language
    asr, samples = work.options.asr, media.decoded.samples
    folder = Folder(media.workdir.folder) if media.workdir is not None and samples else ""
    choice = await _choose(work, captions)
    if choice.detect:
        language = ""
        if folder:
            model = locate(asr.model, work.options.cache)
            language = await work.run("speech", "speech", tasks.detect_language, folder, model, asr)
        work.store.put_extraction(language_key(work.content, asr), {"language": language})
        choice = await _choose(work, captions)
    for line in passed_over(captions.all, choice, captions.spoken(), media.duration):
        work.notice(line)
    if choice.speech is not None:
        return captions.lines_of(choice.speech), choice.speech.language or captions.spoken()
    said: list[Segment] = []
    if work.options.speech and (stored := work.load("speech")) is not None:
        work.reuse("speech", media.duration)
        said = segments_from(stored)
    elif work.options.speech and folder:
        model = locate(asr.model, work.options.cache)
        said = await _in_parts(work, "speech", samples, SAMPLE_RATE, tasks.transcribe, folder, model, asr)
    elif work.options.speech:
        work.store.put_extraction(work.key("speech"), {"segments": []})
    beside = captions.lines_of(choice.beside)
    languages = [*(segment.language for segment in said), captions.spoken(), *(segment.language for segment in beside)]
    return sorted((*said, *beside), key=lambda segment: segment.span), next(filter(None, languages), "")


# --- on-screen text ---------------------------------------------------------------------------------------------------


async def read_text(work: Work, media: DecodedVideo) -> Sequence[Segment]:
    """On-screen text."""
    if not work.options.text:
        return ()
    stored = work.load("text")
    if stored is not None:
        work.reuse("ocr", media.duration)
        return segments_from(stored)
    frames, ocr = media.decoded.text, work.options.ocr
    if media.workdir is None or not frames:
        work.store.put_extraction(work.key("text"), {"segments": []})
        return ()
    folder, model = Folder(media.workdir.folder), ocr.locate(work.options.cache)
    return await _in_parts(work, "ocr", len(frames), 1, tasks.read_text, folder, frames, model, ocr)


async def _in_parts(
    work: Work, stage: Literal["speech", "ocr"], end: int, scale: int, task: Callable[..., list[Segment]], *args: object
) -> list[Segment]:
    """Recognise what earlier runs have not: each part is stored as soon as it is there, until the whole is.

    ``end`` is that of the last part, ``scale`` of it are one of the stage's progress. ``args`` are the arguments of the
    task before the length of a part and the parts that are there.
    """
    store, key = work.store, work.key("text" if stage == "ocr" else stage)
    # Parts of another decoding, with another end, do not count.
    name = f"{key}/part/{end}"
    parts: list[tasks.Part] = []
    while (stored := store.extraction(f"{name}/{len(parts)}")) is not None:
        parts.append(msgspec.convert(stored.payload, tasks.Part))
    work.checkpoints[stage] = parts[-1].end / scale if parts else 0.0

    def report(done: float, total: float, part: tasks.Part | None = None, /) -> None:
        if part is None:
            work.progress(stage, done, total)
        elif part.end < end:  # the last is stored with the whole
            store.put_extraction(f"{name}/{len(parts)}", msgspec.to_builtins(part))
            parts.append(part)
            work.checkpoints[stage] = part.end / scale
            work.emit(Progress(work.path, stage, work.checkpoints[stage], end / scale, work.checkpoints[stage]))

    work.emit(Progress(work.path, stage, work.checkpoints[stage], end / scale, work.checkpoints[stage]))
    segments = await work.run(stage, stage, task, *args, work.options.stretch, tuple(parts), on_report=report)
    store.put_extraction(key, {"segments": msgspec.to_builtins(segments)})
    if parts:
        store.delete_extractions([f"{name}/{number}" for number in range(len(parts))])
    work.stored(stage, end / scale)
    return segments


# --- metadata and vectors ---------------------------------------------------------------------------------------------


async def read_metadata(work: Work, decoded: DecodedMedia) -> tuple[tuple[Segment, ...], VideoFields]:
    """The metadata; sidecars are read in a process of their own, and one that stalls it is left out."""
    paths = [os.fspath(path) for path in find_sidecars(work.path, root=work.root).notes.values()]
    without: list[str] = []
    started: list[str] = []

    def report(_done: float, _total: float, path: str = "", /) -> None:
        started.append(path)

    while True:
        if len(without) == _MOST_STALLS:
            without = paths
        try:
            segments, fields, notices = await work.run(
                "decode", "sidecars" if set(paths) - set(without) else "decode", tasks.read_metadata,
                work.path, work.root, decoded.media, tuple(without), on_report=report,
            )  # fmt: skip
        except TaskFailed as error:
            if not started:
                raise
            work.notice(f"{os.path.basename(started[-1])} was left out: {error}")
            without.append(started[-1])
            started.clear()
        else:
            for notice in notices:
                work.notice(notice)
            return segments, fields


async def encode(
    work: Work, documents: Sequence[Document], on_report: Reporter | None = None
) -> dict[str, TokenVectors]:
    """The vectors of documents, by their ids.

    Tags and notes are encoded by themselves (:mod:`clamr_cli.index.labels`), so that they can change alone.
    """
    plain, labels = [without_labels(document) for document in documents], label_documents(documents)
    options, settings = work.options, sorted(work.options.encoder_settings.items())
    encoder = (options.encoder, options.cache, options.device, options.threads, *settings)
    if on_report is None:
        work.emit(Progress(work.path, "encode", 0, len(documents)))
    vectors = await work.run(
        "encode", "encode", tasks.encode, [*plain, *labels.values()], *encoder, on_report=on_report
    )
    of_labels = dict(zip(labels, vectors[len(documents) :], strict=True))
    return {
        document.id: with_labels(document, item, of_labels)
        for document, item in zip(documents, vectors[: len(documents)], strict=True)
    }
