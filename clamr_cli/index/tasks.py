"""The tasks that worker processes run: generator functions whose last item is the result, with :class:`Step` before it.

What a task needs to load (models) stays loaded in its process for the next video. Each task imports what it works with
when it runs: the process that decodes has no use for torch, and the one that only hands out the work for none of them.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clamr_cli.errors import MediaError
from clamr_cli.extract.ocr_lines import TextLine
from clamr_cli.index.executors.local import report
from clamr_cli.index.spool import SAMPLE_RATE, Decoded, Spool, Still, TrackLines
from clamr_cli.timeline import readable_part
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from clamr_cli.extract.asr import WhisperAsr
    from clamr_cli.extract.captions import Captions
    from clamr_cli.extract.ocr import OcrEngine
    from clamr_cli.extract.options import AsrOptions, OcrOptions
    from clamr_cli.index.sampling import Sampled
    from clamr_cli.media.frames import SampledFrame
    from clamr_cli.media.identity import Stamp
    from clamr_cli.types import Document, Encoder, MediaInfo, TokenVectors, VideoFields

_LOG_LINES = 200
"""Lines that are kept of a log."""

_SURE_LANGUAGE = 0.6
"""Probability from which a detected language overrules what captions are named."""

ENCODE_BATCH = 8
"""Documents handed to an encoder at once; between batches it can say how far it is."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a task is."""

    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Part:
    """The result of a stretch of a recogniser's work, which a later run can go on from.

    ``end`` is where the next stretch begins: a sample of the sound, or the number of a picture among those to be read.
    ``segments`` and ``language`` are those of speech, ``lines`` are what the pictures show.
    """

    end: int
    segments: tuple[Segment, ...] = ()
    language: str = ""
    lines: tuple[tuple[Span, tuple[TextLine, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What to take from a file beside its pictures and subtitles; ``language`` chooses among tracks.

    ``sound`` is taken where neither ``captions`` (of files) nor tracks stand for the speech, with ``all_sound`` in any
    case; ``spoken`` is the language that a sidecar names.
    """

    language: str = ""
    spoken: str = ""
    captions: tuple[Captions, ...] = ()
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


def read_captions(captions: Captions, video: str, hint: str = "") -> Iterator[tuple[list[Segment], list[str]]]:
    """The lines of a subtitle file, and notices.

    Args:
        captions: of the file.
        video: the file that it belongs to, whose frame rate counts where the subtitles count frames.
        hint: short code of the language that it is probably in.

    Raises:
        MediaError: it is none, or cannot be read.
    """
    from clamr_cli.extract.subtitles import QUIET, read_subtitle_file
    from clamr_cli.media.probe import probe

    notices: list[str] = []
    path = Path(captions.path or "")
    try:
        fps = probe(video).fps if path.suffix.lower() == ".sub" else 0.0
        yield read_subtitle_file(path, captions.language, notices, hint=hint, fps=fps), notices
    except MediaError:
        if path.suffix.lower() not in QUIET:
            raise
        yield [], []


def read_notes(
    path: str, root: str, info: MediaInfo, without: Sequence[str]
) -> Iterator[str | tuple[tuple[Segment, ...], VideoFields, list[str]]]:
    """What is noted about a video, after the path of each sidecar before it is read."""
    from clamr_cli.extract.sidecar import read_metadata

    yield read_metadata(path, root, info, without=without, progress=report)


def read_language(path: str, root: str) -> Iterator[str]:
    """The short code of the spoken language that a sidecar names, or an empty string."""
    from clamr_cli.extract.sidecar import spoken_language

    yield spoken_language(path, root)


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
    from clamr_cli.extract.captions import choose
    from clamr_cli.index.sound import write_sound
    from clamr_cli.media.identity import replaced
    from clamr_cli.media.probe import probe

    info = probe(path)
    # Pictures are the first half of the work, sound the second.
    yield Step(0.0, info.duration)
    spool = Spool(Path(folder))
    notices: list[str] = []
    spool.begin()
    frames: list[Still] = []
    text: list[Still] = []
    try:
        _pictures(path, info, spool, options, frames, text)
    except MediaError as error:
        notices.append(f"pictures left out: {error}")
    tracks = subtitle_tracks(path, info)
    captions = (*options.captions, *captions_of(Decoded(info, tracks=tracks)))
    spoken = spoken_in(info, captions, options.language, options.spoken)
    choice = choose(captions, spoken, sure=bool(options.language), audible=bool(info.audio), duration=info.duration)
    wants_sound = options.all_sound or (options.sound and (choice.speech is None or choice.detect))
    samples = 0
    if wants_sound:
        try:
            for samples in write_sound(path, info, spool, options.language, notices):
                yield Step((info.duration + samples / SAMPLE_RATE) / 2, info.duration)
        except MediaError as error:
            notices.append(f"speech left out: {error}")
            samples = 0
    if not (frames or tracks or samples) and notices:
        raise MediaError(notices[0].split(": ", 1)[1], "the file may be damaged; try to play it")
    if identified is not None and replaced(path, identified):
        raise MediaError("the file was changed while it was read", "index again when it is complete")
    if info.incomplete:
        notices.insert(0, readable_part(info))
    decoded = Decoded(info, tuple(frames), tuple(text), (), samples, tuple(notices), tracks=tracks, sound=wants_sound)
    spool.finish(decoded)
    yield decoded


def subtitle_tracks(path: str, info: MediaInfo) -> tuple[TrackLines, ...]:
    """The lines of those subtitle tracks that may be wanted: the best of each language, and a sample of logs."""
    from clamr_cli.extract.captions import examined, rank, track_captions
    from clamr_cli.media.subtitles import read_subtitle_tracks

    flags = {track.index: track for track in info.subtitles}
    lines = read_subtitle_tracks(path, info)
    captions = [examined(track_captions(flags[index]), lines[index]) for index in lines]
    captions.sort(key=lambda one: (one.is_part(info.duration), one.commentary, rank(one, one.language)))
    wanted: dict[object, TrackLines] = {}
    for one in captions:
        index, is_log = one.track or 0, one.content == "log"
        wanted.setdefault(
            is_log or one.language, TrackLines(index, tuple(lines[index][: _LOG_LINES if is_log else None]))
        )
    return tuple(sorted(wanted.values(), key=lambda track: track.index))


def captions_of(decoded: Decoded | Sampled) -> list[Captions]:
    """The subtitle tracks of a file as captions, those with pictures of text too."""
    from clamr_cli.extract.captions import Captions, examined, track_captions

    lines = {track.index: track.lines for track in decoded.tracks}
    tracks = [track for track in decoded.media.subtitles if track.index in lines or not track.text]
    captions = [track_captions(track) for track in tracks]
    captions = [examined(one, lines[one.track]) if one.track in lines else one for one in captions]
    if decoded.speech:
        # An earlier version chose among the tracks, and kept the lines of one.
        language = decoded.speech[0].language
        titles = [track for track in decoded.media.subtitles if track.text and track.language == language]
        one = track_captions(titles[0]) if len(titles) == 1 else Captions("subtitle track", track=-1, language=language)
        captions.append(examined(one, decoded.speech))
    return captions


def lines_of(decoded: Decoded | Sampled) -> dict[str, tuple[Segment, ...]]:
    """The lines of the subtitle tracks by the names that :func:`captions_of` gives them."""
    lines = {track.index: track.lines for track in decoded.tracks}
    return {
        one.name: lines.get(one.track if one.track is not None else -1, decoded.speech) for one in captions_of(decoded)
    }


def spoken_in(info: MediaInfo | None, captions: Iterable[Captions], language: str = "", noted: str = "") -> str:
    """The spoken language: what the owner says, else a sidecar, else the tag of the sound track."""
    from clamr_cli.extract.captions import known_language
    from clamr_cli.media.audio import choose_track

    track = choose_track(info, language) if info is not None else None
    return known_language(captions, language, noted, track.language if track is not None else "")


def detection_key(content: str, options: AsrOptions) -> str:
    """The name under which the detected language of a content is kept."""
    return f"{content}/speech/{options.version}/language"


def detect_language(folder: str, model: Path, options: AsrOptions) -> Iterator[Step | str]:
    """The language that is spoken in a spool's sound; empty where nobody speaks or it is not clear."""
    audio = Spool(Path(folder)).audio()
    report(Step(0.0, len(audio) / SAMPLE_RATE))
    language, probability = _whisper(model, options).detect_language(audio)
    yield language if probability >= _SURE_LANGUAGE else ""


def _pictures(
    path: str, info: MediaInfo, spool: Spool, options: DecodeOptions, frames: list[Still], text: list[Still]
) -> None:
    """Bring the pictures into the spool and note them in the lists, which keep what there was before an error."""
    from clamr_cli.media.frames import FrameOptions, sample_frames
    from clamr_cli.media.scenes import pick_frames

    if info.video_stream is None:
        return
    samples = _reporting(sample_frames(path, info, FrameOptions()), info.duration)
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
        report(Step(sample.time / 2, total))
        yield sample


@functools.lru_cache(maxsize=1)
def _whisper(model: Path, options: AsrOptions) -> WhisperAsr:
    from clamr_cli.extract.asr import WhisperAsr

    return WhisperAsr(model, options)


def hear(
    folder: str, model: Path, options: AsrOptions, seconds: int, done: Sequence[Part]
) -> Iterator[Step | Part | list[Segment]]:
    """Recognise the speech of a spool's sound, in stretches of at most some seconds, after those that are done."""
    audio = Spool(Path(folder)).audio()
    total = len(audio) / SAMPLE_RATE
    start, language = (done[-1].end, done[-1].language) if done else (0, "")
    report(Step(start / SAMPLE_RATE, total))
    recogniser = _whisper(model, options)
    segments = [segment for part in done for segment in part.segments]
    for stretch in recogniser.transcribe(
        audio, language=language, start=start, seconds=seconds, progress=lambda time: report(Step(time, total))
    ):
        segments += stretch.segments
        yield Part(stretch.end, stretch.segments, stretch.language)
    yield segments


@functools.lru_cache(maxsize=1)
def _text_engine(model: Path | None, options: OcrOptions) -> OcrEngine:
    from clamr_cli.extract.ocr import make_engine

    return make_engine(model, options)


def read(
    folder: str, stills: Sequence[Still], model: Path | None, options: OcrOptions, seconds: int, done: Sequence[Part]
) -> Iterator[Step | Part | list[Segment]]:
    """Recognise the text in a spool's pictures, in stretches of some seconds of video, after those that are done."""
    from clamr_cli.extract.ocr import read_lines
    from clamr_cli.extract.ocr_lines import merge_lines

    total, spool = len(stills), Spool(Path(folder))
    end = done[-1].end if done else 0
    report(Step(end, total))
    engine = _text_engine(model, options)
    lines = [seen for part in done for seen in part.lines]
    for _, group in itertools.groupby(stills[end:], key=lambda still: still.time // seconds):
        some = list(group)
        part = []
        for span, found in read_lines(spool.pictures("text", some), engine):
            part.append((span, tuple(found)))
            report(Step(end + len(part), total))
        end += len(some)
        lines += part
        yield Part(end, lines=tuple(part))
    yield merge_lines(lines, engine.source)


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
