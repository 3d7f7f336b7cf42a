"""The tasks that worker processes run: generator functions whose last item is the result, with :class:`Step` before it.

What a task needs to load (models) stays loaded in its process for the next video. Each task imports what it works with
when it runs: the process that decodes has no use for torch, and the one that only hands out the work for none of them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clamr_cli.errors import MediaError
from clamr_cli.executors import report
from clamr_cli.stages.spool import SAMPLE_RATE, Decoded, Spool, Still
from clamr_cli.timeline import readable_part
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from clamr_cli.extract.asr import WhisperAsr
    from clamr_cli.extract.ocr import OcrEngine
    from clamr_cli.extract.options import AsrOptions, OcrOptions
    from clamr_cli.media.frames import SampledFrame
    from clamr_cli.media.identity import Stamp
    from clamr_cli.types import Document, Encoder, MediaInfo, Segment, TokenVectors

ENCODE_BATCH = 8
"""Documents handed to an encoder at once; between batches it can say how far it is."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a task is."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What to take from a file beside its pictures and subtitles; ``language`` chooses among tracks.

    ``sound`` is taken where no embedded subtitles say what is said, with ``all_sound`` in any case.
    """

    language: str = ""
    sound: bool = True
    all_sound: bool = False
    text: bool = True


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Which encoder to load, and how; the arguments of ``encoders.create``."""

    name: str
    cache: Path
    device: str = "auto"
    threads: int = 0
    settings: tuple[tuple[str, object], ...] = ()


def identify(path: str) -> Iterator[str]:
    """The content hash of a file."""
    from clamr_cli.media.identity import content_hash

    yield content_hash(path)


def decode(path: str, folder: str, options: DecodeOptions, identified: Stamp | None = None) -> Iterator[Step | Decoded]:
    """Probe a file and bring its pictures, sound and embedded subtitles into a spool.

    What cannot be decoded is left out with a notice as long as something remains.

    Args:
        path: the file.
        folder: of the spool; made anew.
        options: what to take.
        identified: the file's stamp when its content was identified, under which all this is to be kept.

    Raises:
        MediaError: the file gives nothing at all, or another one has taken its place.
    """
    from clamr_cli.media.identity import replaced
    from clamr_cli.media.probe import probe
    from clamr_cli.media.subtitles import embedded_subtitles

    info = probe(path)
    whole = 2 * info.duration
    yield Step(0.0, whole)
    spool, notices = Spool(Path(folder)), []
    spool.begin()
    frames: list[Still] = []
    text: list[Still] = []
    try:
        _pictures(path, info, spool, options, frames, text)
    except MediaError as error:
        notices.append(f"pictures left out: {error}")
    speech = tuple(embedded_subtitles(path, info, options.language))
    samples = 0
    if options.all_sound or (options.sound and not speech):
        try:
            for samples in _sound(path, info, spool, options):
                yield Step(info.duration + samples / SAMPLE_RATE, whole)
        except MediaError as error:
            notices.append(f"speech left out: {error}")
            samples = 0
    if not (frames or speech or samples) and notices:
        raise MediaError(notices[0].split(": ", 1)[1], "the file may be damaged; try to play it")
    if identified is not None and replaced(path, identified):
        raise MediaError("the file was changed while it was read", "index again when it is complete")
    if info.incomplete:
        notices.insert(0, readable_part(info))
    decoded = Decoded(info, tuple(frames), tuple(text), speech, samples, tuple(notices))
    spool.finish(decoded)
    yield decoded


def _pictures(
    path: str, info: MediaInfo, spool: Spool, options: DecodeOptions, frames: list[Still], text: list[Still]
) -> None:
    """Bring the pictures into the spool and note them in the lists, which keep what there was before an error."""
    from clamr_cli.media.frames import FrameOptions, sample_frames
    from clamr_cli.media.scenes import pick_frames

    if info.video_stream is None:
        return
    samples = _reporting(sample_frames(path, info, FrameOptions()), 2 * info.duration)
    for number, picked in enumerate(pick_frames(samples, info.duration)):
        still = Still(number, picked.time, picked.span, picked.shot)
        spool.add_picture("frames", number, picked.jpeg)
        frames.append(still)
        if options.text and picked.text_jpeg is not None:
            spool.add_picture("text", number, picked.text_jpeg)
            text.append(still)
        elif picked.text_stays and text:
            # The text that was there is still there: what is read of it holds for this frame too.
            text[-1] = replace(text[-1], span=Span(text[-1].span.start, picked.span.end))


def _reporting(samples: Iterable[SampledFrame], total: float) -> Iterator[SampledFrame]:
    """A still picture gives one frame for hours; say on the way that work goes on."""
    for sample in samples:
        report(Step(sample.time, total))
        yield sample


def _sound(path: str, info: MediaInfo, spool: Spool, options: DecodeOptions) -> Iterator[int]:
    from clamr_cli.media.audio import choose_track, read_audio

    track = choose_track(info, options.language)
    if track is not None:
        yield from spool.write_audio(read_audio(path, track, rate=SAMPLE_RATE))


@functools.lru_cache(maxsize=1)
def _whisper(model: Path, options: AsrOptions) -> WhisperAsr:
    from clamr_cli.extract.asr import WhisperAsr

    return WhisperAsr(model, options)


def hear(folder: str, model: Path, options: AsrOptions) -> Iterator[Step | list[Segment]]:
    """Recognise the speech of a spool's sound."""
    audio = Spool(Path(folder)).audio()
    total = len(audio) / SAMPLE_RATE
    report(Step(0.0, total))
    recogniser = _whisper(model, options)
    yield list(recogniser.transcribe(audio, language=options.language, progress=lambda t: report(Step(t, total))))


@functools.lru_cache(maxsize=1)
def _text_engine(model: Path | None, options: OcrOptions) -> OcrEngine:
    from clamr_cli.extract.ocr import make_engine

    return make_engine(model, options)


def read(
    folder: str, stills: Sequence[Still], model: Path | None, options: OcrOptions
) -> Iterator[Step | list[Segment]]:
    """Recognise the text in a spool's pictures."""
    from clamr_cli.extract.ocr import read_text

    report(Step(0, len(stills)))
    engine = _text_engine(model, options)
    pictures = Spool(Path(folder)).pictures("text", stills)
    yield read_text(pictures, engine, progress=lambda done: report(Step(done, len(stills))))


@functools.lru_cache(maxsize=1)
def _encoder(choice: EncoderChoice) -> Encoder:
    from clamr_cli import encoders

    settings: Mapping[str, object] = dict(choice.settings)
    return encoders.create(choice.name, cache=choice.cache, device=choice.device, threads=choice.threads, **settings)


def encode(choice: EncoderChoice, documents: Sequence[Document]) -> Iterator[Step | list[TokenVectors]]:
    """Encode documents, in order."""
    report(Step(0, len(documents)))
    encoder = _encoder(choice)
    vectors: list[TokenVectors] = []
    for start in range(0, len(documents), ENCODE_BATCH):
        vectors += encoder.encode_documents(documents[start : start + ENCODE_BATCH])
        yield Step(len(vectors), len(documents))
    yield vectors
