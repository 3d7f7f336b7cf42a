"""The tasks of the pipeline: plain functions that run on a worker, see :mod:`clamr_cli.index.executors`.

Models stay loaded in the worker's process for the next video. Each task imports what it works with when it runs: the
process that decodes has no use for torch, and the one that only hands out the work for none of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clamr_cli.errors import MediaError
from clamr_cli.extract.options import AsrOptions, OcrOptions, TextLine
from clamr_cli.extract.sidecars import Captions
from clamr_cli.index.captions import CaptionSet
from clamr_cli.index.executors import Report
from clamr_cli.index.workdir import SAMPLE_RATE, DecodedMedia, StoredFrame, TrackLines, Workdir
from clamr_cli.media.files import Stamp
from clamr_cli.text import readable_part
from clamr_cli.types import Document, Encoder, MediaInfo, Segment, Span, TokenVectors, VideoFields

if TYPE_CHECKING:
    from clamr_cli.extract.asr import WhisperAsr
    from clamr_cli.extract.ocr_engines import TextEngine
    from clamr_cli.media.frames import SampledFrame

_LOG_LINES = 200
"""Lines that are stored of a subtitle track that is a log."""

_SURE_LANGUAGE = 0.6
"""Probability from which a detected language overrules what captions are named."""

ENCODE_BATCH = 8
"""Documents handed to an encoder at once; between batches it can report how far it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """The result of a stretch of a recogniser's work, which a later run can go on from. Stored as JSON.

    ``end`` is where the next stretch begins: a sample of the sound, or the number of a frame among those to be read.
    ``segments`` and ``language`` are those of speech, ``lines`` are what the frames show.
    """

    end: int
    segments: tuple[Segment, ...] = ()
    language: str = ""
    lines: tuple[tuple[Span, tuple[TextLine, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """The encoder to load: the arguments of ``encoders.create``."""

    name: str
    cache: Path
    device: str = "auto"
    threads: int = 0
    settings: tuple[tuple[str, Any], ...] = ()


def identify(_report: Report, path: str) -> str:
    """Hash the content of a file."""
    from clamr_cli.media.files import content_hash

    return content_hash(path)


def read_captions(_report: Report, captions: Captions, video: str, hint: str) -> tuple[list[Segment], list[str]]:
    """Read the lines of a subtitle file, and notices; ``hint`` is the language that it is probably in."""
    from clamr_cli.extract.sidecars import QUIET
    from clamr_cli.extract.subtitles import read_subtitle_file
    from clamr_cli.media.probe import probe

    notices: list[str] = []
    path = Path(captions.path or "")
    try:
        # Some subtitles count frames.
        fps = probe(video).fps if path.suffix.lower() == ".sub" else 0.0
        return read_subtitle_file(path, captions.language, notices, hint=hint, fps=fps), notices
    except MediaError:
        if path.suffix.lower() not in QUIET:
            raise
        return [], []


def read_metadata(
    report: Report, path: str, root: str, info: MediaInfo, without: Sequence[str]
) -> tuple[tuple[Segment, ...], VideoFields, list[str]]:
    """Read the metadata of a video, see :func:`clamr_cli.extract.metadata.read_metadata`, and report each sidecar."""
    from clamr_cli.extract import metadata

    return metadata.read_metadata(path, root, info, without=without, progress=lambda name: report(0.0, 0.0, name))


def read_language(_report: Report, path: str, root: str) -> str:
    """Read the short code of the spoken language that a sidecar names; empty where none does."""
    from clamr_cli.extract.metadata import spoken_language

    return spoken_language(path, root)


def decode(
    report: Report,
    path: str,
    folder: str,
    captions: CaptionSet,
    wanted: Collection[Literal["sound", "all sound", "text"]],
    stamp: Stamp | None,
) -> DecodedMedia:
    """Probe a file and bring its frames, sound and embedded subtitles into a working directory.

    What cannot be decoded is left out with a notice as long as something remains. ``sound`` is decoded where no
    captions stand for the speech, ``all sound`` in any case. ``stamp`` is the file's when its content was identified.
    Frames are the first half of the work, sound the second.
    """
    from clamr_cli.index.sound import write_sound
    from clamr_cli.media.files import replaced
    from clamr_cli.media.frames import sample_frames
    from clamr_cli.media.key_frames import pick_frames
    from clamr_cli.media.probe import probe

    info = probe(path)
    report(0.0, info.duration)
    workdir = Workdir(Path(folder))
    workdir.begin()
    notices: list[str] = []
    frames: list[StoredFrame] = []
    text: list[StoredFrame] = []
    try:
        samples = reporting(report, sample_frames(path, info), info, scale=0.5)
        for number, key in enumerate(pick_frames(samples, info.duration) if info.video_stream is not None else ()):
            frame = StoredFrame(number, key.frame.time, key.frame.span, key.shot)
            workdir.add_frame("frames", number, key.frame.jpeg)
            frames.append(frame)
            if "text" in wanted and key.text_jpeg is not None:
                workdir.add_frame("text", number, key.text_jpeg)
                text.append(frame)
            elif key.text_stays and text:
                # The text that was there is still there: what is read of it holds for this frame too.
                text[-1] = replace(text[-1], span=Span(text[-1].span.start, key.frame.span.end))
    except MediaError as error:
        notices.append(f"pictures left out: {error}")
    tracks = subtitle_tracks(path, info)
    captions.set_media(info, tracks)
    choice, _ = captions.choose(recognise=True)
    wants_sound = "all sound" in wanted or ("sound" in wanted and (choice.speech is None or choice.detect))
    count = 0
    if wants_sound:
        try:
            count = write_sound(
                path, info, workdir, captions.language, notices,
                lambda samples: report((info.duration + samples / SAMPLE_RATE) / 2, info.duration),
            )  # fmt: skip
        except MediaError as error:
            notices.append(f"speech left out: {error}")
    if not (frames or tracks or count) and notices:
        raise MediaError(notices[0].split(": ", 1)[1], "the file may be damaged; try to play it")
    if stamp is not None and replaced(path, stamp):
        raise MediaError("the file was changed while it was read", "index again when it is complete")
    if info.incomplete:
        notices.insert(0, readable_part(info))
    decoded = DecodedMedia(
        info, tuple(frames), tuple(text), (), count, tuple(notices), tracks=tracks, sound=wants_sound
    )
    workdir.finish(decoded)
    return decoded


def reporting(
    report: Report, samples: Iterable[SampledFrame], info: MediaInfo, *, scale: float = 1.0
) -> Iterator[SampledFrame]:
    """Report on the way that work goes on: a still picture gives one frame for hours."""
    for sample in samples:
        report(sample.time * scale, info.duration)
        yield sample


def subtitle_tracks(path: str, info: MediaInfo) -> tuple[TrackLines, ...]:
    """The lines of those subtitle tracks that may be wanted: the best of each language, and a sample of logs."""
    from clamr_cli.extract.sidecars import examined, rank, track_captions
    from clamr_cli.media.container import read_subtitle_tracks

    tracks = {track.index: track for track in info.subtitles}
    lines = read_subtitle_tracks(path, info)
    captions = [examined(track_captions(tracks[index]), lines[index]) for index in lines]
    captions.sort(key=lambda one: (one.is_part(info.duration), one.commentary, rank(one, one.language)))
    best: dict[object, TrackLines] = {}
    for one in captions:
        index, is_log = one.track or 0, one.content == "log"
        best.setdefault(
            is_log or one.language, TrackLines(index, tuple(lines[index][: _LOG_LINES if is_log else None]))
        )
    return tuple(sorted(best.values(), key=lambda track: track.index))


def detect_language(report: Report, folder: str, model: Path, options: AsrOptions) -> str:
    """Detect the language that is spoken in the sound; empty where nobody speaks or it is not clear."""
    audio = Workdir(Path(folder)).audio()
    report(0.0, len(audio) / SAMPLE_RATE)
    language, probability = _whisper(model, options).detect_language(audio)
    return language if probability >= _SURE_LANGUAGE else ""


def transcribe(
    report: Report, folder: str, model: Path, options: AsrOptions, seconds: int, parts: Sequence[Part]
) -> list[Segment]:
    """Recognise the speech of the sound, in stretches of at most some seconds, after the parts of earlier runs."""
    audio = Workdir(Path(folder)).audio()
    total = len(audio) / SAMPLE_RATE
    start, language = (parts[-1].end, parts[-1].language) if parts else (0, "")
    report(start / SAMPLE_RATE, total)
    recogniser = _whisper(model, options)
    segments = [segment for part in parts for segment in part.segments]
    for stretch in recogniser.transcribe(
        audio, language=language, start=start, seconds=seconds, progress=lambda time: report(time, total)
    ):
        segments += stretch.segments
        report(stretch.end / SAMPLE_RATE, total, Part(stretch.end, stretch.segments, stretch.language))
    return segments


@functools.lru_cache(maxsize=1)
def _whisper(model: Path, options: AsrOptions) -> WhisperAsr:
    from clamr_cli.extract.asr import WhisperAsr

    return WhisperAsr(model, options)


def read_text(
    report: Report,
    folder: str,
    frames: Sequence[StoredFrame],
    model: Path | None,
    options: OcrOptions,
    seconds: int,
    parts: Sequence[Part],
) -> list[Segment]:
    """Recognise the text in frames, in stretches of some seconds of video, after the parts of earlier runs."""
    from clamr_cli.extract.ocr import merge_lines, read_lines

    total, workdir = len(frames), Workdir(Path(folder))
    end = parts[-1].end if parts else 0
    report(end, total)
    engine = _text_engine(model, options)
    lines = [line for part in parts for line in part.lines]
    for _, group in itertools.groupby(frames[end:], key=lambda frame: frame.time // seconds):
        stretch = list(group)
        lines_of_stretch = []
        for span, frame_lines in read_lines(workdir.frames("text", stretch), engine):
            lines_of_stretch.append((span, tuple(frame_lines)))
            report(end + len(lines_of_stretch), total)
        end += len(stretch)
        lines += lines_of_stretch
        report(end, total, Part(end, lines=tuple(lines_of_stretch)))
    return merge_lines(lines, engine.source)


@functools.lru_cache(maxsize=1)
def _text_engine(model: Path | None, options: OcrOptions) -> TextEngine:
    from clamr_cli.extract.ocr_engines import make_engine

    return make_engine(model, options)


def encode(report: Report, choice: EncoderChoice, documents: Sequence[Document]) -> list[TokenVectors]:
    """Encode documents, in order."""
    report(0, len(documents))
    encoder = _encoder(choice)
    vectors: list[TokenVectors] = []
    for start in range(0, len(documents), ENCODE_BATCH):
        vectors += encoder.encode_documents(documents[start : start + ENCODE_BATCH])
        report(len(vectors), len(documents))
    return vectors


@functools.lru_cache(maxsize=1)
def _encoder(choice: EncoderChoice) -> Encoder:
    from clamr_cli import encoders

    settings = dict(choice.settings)
    return encoders.create(choice.name, cache=choice.cache, device=choice.device, threads=choice.threads, **settings)
