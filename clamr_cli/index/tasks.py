"""The tasks of a run: plain functions that run on a worker, see :mod:`clamr_cli.index.executors`.

Models stay loaded in the worker's process for the next video. Each task imports what it works with when it runs: the
process that decodes has no use for torch, and the one that only hands out the work for none of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli import locations
from clamr_cli.errors import MediaError
from clamr_cli.extract.options import AsrOptions, OcrOptions, TextLine
from clamr_cli.extract.sidecars import Captions
from clamr_cli.index.documents import CaptionSet
from clamr_cli.index.executors import Reporter
from clamr_cli.index.workdir import SAMPLE_RATE, DecodedMedia, StoredFrame, TrackLines, Workdir
from clamr_cli.media.files import Stamp
from clamr_cli.text import readable_part
from clamr_cli.types import (
    AudioTrack,
    Document,
    Encoder,
    MediaInfo,
    Segment,
    Span,
    TimeBase,
    TokenVectors,
    VideoFields,
    VoiceModel,
    Voices,
)

if TYPE_CHECKING:
    from clamr_cli.extract.asr import WhisperAsr
    from clamr_cli.extract.ocr_engines import TextEngine
    from clamr_cli.extract.voice_encoder import VoiceEncoder
    from clamr_cli.media.audio import Stretches
    from clamr_cli.media.clips import Joined, Piece
    from clamr_cli.media.frames import SampledFrame

_LOG_LINES: Final = 200
"""Lines that are stored of a subtitle track that is a log."""

_SURE_LANGUAGE: Final = 0.6
"""Probability from which a detected language overrules what captions are named."""

ENCODE_BATCH: Final = 8
"""Documents handed to an encoder at once; between batches it can report how far it is."""

_COPIED_FIRST: Final = 2**28
"""Bytes of a remote file up to which it is copied before it is identified; of a larger one 64 MiB are read twice."""

SAMPLING_VERSION: Final = "1"
"""Changes when sampling or thinning would give other candidates for the same file."""

_GAPS: Final = 2.0
"""Intervals between two keyframes up to which the keyframes alone are dense enough."""

_SAME: Final = 0.1
"""Difference (see :func:`clamr_cli.media.key_frames.image_difference`) that scaling may make to a stored thumbnail."""

_QUALITY: Final = 92

_BLOCK: Final = 300 * SAMPLE_RATE
"""Samples that are looked at at a time."""

_SILENT: Final = 32
"""The highest 16-bit sample of a track without sound."""

_NEARLY_MOST: Final = 0.8
"""Part of the most speech that makes a track that comes first the one to hear throughout."""

_OWN_PART: Final = 0.3
_OWN_SHORTEST: Final = SAMPLE_RATE
_OWN_LEAST: Final = 2 * SAMPLE_RATE
"""Least part of a track's speech where the others are silent: less is an echo, a copy or a translation."""

_WORTH_A_NOTICE: Final = 10 * SAMPLE_RATE
_HOP: Final = SAMPLE_RATE // 20
_COPY: Final = 0.6
"""Correlation of loudness over time from which a track is a copy of another."""

_MOST_GAIN: Final = 10.0


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
class SampledMedia:
    """The result of sampling, beside the frames, which lie in the working directory under ``frames``. Stored as JSON.

    ``thumbs`` are the candidates' thumbs [n, 8, 8, 3] uint8 as bytes, ``tracks`` are the embedded subtitles that may
    be wanted, ``notices`` say what was left out and why. ``speech`` is from embedded subtitles where an earlier
    version chose among them.
    """

    media: MediaInfo
    stills: tuple[StoredFrame, ...] = ()
    speech: tuple[Segment, ...] = ()
    notices: tuple[str, ...] = ()
    thumbs: bytes = field(default=b"", repr=False)
    tracks: tuple[TrackLines, ...] = ()


# --- files, sidecars and decoding -------------------------------------------------------------------------------------


def identify(report: Reporter, path: str, area: str) -> str:
    """Hash the content of a file. A remote one that is not large is first copied into an area, where it stays."""
    from clamr_cli.media.files import content_hash, media_error

    try:
        if area and locations.is_remote(path) and (entry := locations.look(path)).stat().st_size <= _COPIED_FIRST:
            path = str(locations.fetch(entry, Path(area), lambda _: report(0.0, 0.0)))
    except locations.RemoteError as error:
        raise media_error(error) from error
    return content_hash(path)


def read_time_base(_report: Reporter, path: str) -> TimeBase:
    """Read the exact frame rate and the timecode of a file."""
    from clamr_cli.media import probe

    return probe.read_time_base(path)


def read_prints(report: Reporter, path: str, info: MediaInfo, interval: float) -> list[bytes]:
    """Make the hashes of a file's pictures, as bytes."""
    from clamr_cli.media import prints

    return prints.read_prints(path, info, lambda time: report(time, info.duration), interval=interval).blobs()


def read_sound_print(report: Reporter, path: str, info: MediaInfo) -> list[bytes]:
    """Measure the energies of a file's sound, as bytes; empty where it has none."""
    from clamr_cli.media import prints

    if not info.audio:
        return [b""]
    return [prints.read_sound_print(path, info.audio, lambda time: report(time, info.duration)).tobytes()]


def read_captions(_report: Reporter, captions: Captions, video: str, hint: str) -> tuple[list[Segment], list[str]]:
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
    report: Reporter, path: str, root: str, info: MediaInfo, without: Sequence[str]
) -> tuple[tuple[Segment, ...], VideoFields, list[str]]:
    """Read the metadata of a video, and report each sidecar that is begun."""
    from clamr_cli.extract import metadata

    return metadata.read_metadata(path, root, info, without=without, progress=lambda name: report(0.0, 0.0, name))


def read_language(_report: Reporter, path: str, root: str) -> str:
    """Read the short code of the spoken language that a sidecar names; empty where none does."""
    from clamr_cli.extract.metadata import spoken_language

    return spoken_language(path, root)


def decode(
    report: Reporter,
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
    from clamr_cli.media.files import media_error, replaced

    try:
        # All of it is read, and some of it several times.
        with locations.local_copy(path, Path(folder).parent, lambda _: report(0.0, 0.0)) as copy:
            return _decode(report, copy, folder, captions, wanted, lambda: stamp is not None and replaced(path, stamp))
    except locations.RemoteError as error:
        raise media_error(error) from error


def _decode(
    report: Reporter,
    path: str,
    folder: str,
    captions: CaptionSet,
    wanted: Collection[Literal["sound", "all sound", "text"]],
    is_replaced: Callable[[], bool],
) -> DecodedMedia:
    from clamr_cli.media.frames import sample_frames
    from clamr_cli.media.key_frames import pick_frames
    from clamr_cli.media.prints import PrintMaker
    from clamr_cli.media.probe import probe

    info = probe(path)
    report(0.0, info.duration)
    maker = PrintMaker(info)
    workdir = Workdir(Path(folder))
    workdir.begin()
    notices: list[str] = []
    frames: list[StoredFrame] = []
    text: list[StoredFrame] = []
    try:
        samples = reporting(report, sample_frames(path, info, watch=maker.add), info, scale=0.5)
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
    if is_replaced():
        raise MediaError("the file was changed while it was read", "index again when it is complete")
    if info.incomplete:
        notices.insert(0, readable_part(info))
    decoded = DecodedMedia(
        info, tuple(frames), tuple(text), (), count, tuple(notices), tracks=tracks, sound=wants_sound,
        prints=tuple(maker.prints().blobs()),
    )  # fmt: skip
    workdir.finish(decoded)
    return decoded


def reporting(
    report: Reporter, samples: Iterable[SampledFrame], info: MediaInfo, *, scale: float = 1.0
) -> Iterator[SampledFrame]:
    """Report on the way that work goes on: a still picture gives one frame for hours."""
    for sample in samples:
        report(sample.time * scale, info.duration)
        yield sample


def subtitle_tracks(path: str, info: MediaInfo) -> tuple[TrackLines, ...]:
    """The lines of those subtitle tracks that may be wanted: the best of each language, and a sample of logs."""
    from clamr_cli.extract.sidecars import examined, rank, track_captions
    from clamr_cli.extract.subtitles import with_speakers
    from clamr_cli.media.container import read_subtitle_tracks

    tracks = {track.index: track for track in info.subtitles}
    lines = {index: with_speakers(segments) for index, segments in read_subtitle_tracks(path, info).items()}
    captions = [examined(track_captions(tracks[index]), lines[index]) for index in lines]
    captions.sort(key=lambda one: (one.is_part(info.duration), one.commentary, rank(one, one.language)))
    best: dict[object, TrackLines] = {}
    for one in captions:
        index, is_log = one.track or 0, one.content == "log"
        best.setdefault(
            is_log or one.language, TrackLines(index, tuple(lines[index][: _LOG_LINES if is_log else None]))
        )
    return tuple(sorted(best.values(), key=lambda track: track.index))


# --- sound ------------------------------------------------------------------------------------------------------------


def write_sound(
    path: str, info: MediaInfo, workdir: Workdir, language: str, notices: list[str], progress: Callable[[int], None]
) -> int:
    """Write the sound of a file's speech into a working directory, and return its number of samples.

    Of several tracks alike in language, the one with the most speech is heard, and the others where only they have
    speech: a moment is never heard twice, so that copies and translations do no harm. Where these tracks have no speech
    the remaining ones are tried. A file with one track costs nothing of that.

    ``language`` chooses among tracks; ``progress`` is called now and then with the number of samples that are done.
    """
    from clamr_cli.languages import track_groups
    from clamr_cli.media.audio import read_audio

    groups = track_groups(info, language)
    quiet = 0
    failure: MediaError | None = None
    for group in groups:
        try:
            for written in workdir.write_tracks(read_audio(path, group, speech=_find_speech)):
                progress(written)
        except MediaError as error:
            failure = error
            continue
        if len(groups) == len(group) == 1:
            return workdir.use_track(0)
        tracks = [workdir.track(number) for number in range(len(group))]
        speech = [_speech_of(track, progress) for track in tracks]
        if any(speech):
            shares = _share(speech)
            notices += _notices(info, groups[0], group, tracks, speech, shares)
            samples = _write_shares(workdir, tracks, speech, shares, progress)
            workdir.remove_tracks()
            return samples
        if not quiet:
            # Nobody speaks: the first track that has any sound is as good as another, unless there is speech elsewhere.
            quiet = workdir.use_track(next((n for n, track in enumerate(tracks) if not _is_silent(track)), 0))
    workdir.remove_tracks()
    if failure is not None and not quiet:
        raise failure
    return quiet


def _find_speech(samples: NDArray[np.float32]) -> Stretches:
    from clamr_cli.extract.asr import speech_stretches

    return speech_stretches(samples)


def _speech_of(track: NDArray[np.int16], progress: Callable[[int], None]) -> Stretches:
    """Find the speech of a track of any length."""
    stretches: list[tuple[int, int]] = []
    for start in range(0, len(track), _BLOCK):
        progress(len(track))
        block = track[start : start + _BLOCK]
        if not _is_silent(block):
            stretches += [(start + begin, start + end) for begin, end in _find_speech(_as_float(block))]
    return stretches


def _share(speech: Sequence[Stretches]) -> list[tuple[int, Stretches]]:
    """Each track's number and the stretches in which it is heard; the track for the rest of the time comes first."""
    from clamr_cli.media.audio import length, without

    amounts = [length(stretches) for stretches in speech]
    first = next(number for number, amount in enumerate(amounts) if amount >= _NEARLY_MOST * max(amounts))
    shares: list[tuple[int, Stretches]] = [(first, speech[first])]
    taken = list(speech[first])
    for number in sorted(range(len(speech)), key=lambda number: -amounts[number]):
        own = without(speech[number], taken, _OWN_SHORTEST) if number != first else []
        if length(own) >= max(_OWN_LEAST, _OWN_PART * amounts[number]):
            shares.append((number, own))
            taken = sorted([*taken, *own])
    return shares


def _write_shares(
    workdir: Workdir,
    tracks: Sequence[NDArray[np.int16]],
    speech: Sequence[Stretches],
    shares: Sequence[tuple[int, Stretches]],
    progress: Callable[[int], None],
) -> int:
    """Write the sound of the first share's track, and of the others in their stretches, as loud as its speech is."""
    from clamr_cli.media.audio import length

    first = shares[0][0]
    if len(shares) == 1:
        return workdir.use_track(first)
    loud: dict[int, float] = {}  # root mean square of each track's speech
    for number, _ in shares:
        parts = (_as_float(tracks[number][begin:end]) for begin, end in speech[number])
        total = sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)
        loud[number] = float(np.sqrt(total / max(1, length(speech[number]))))
    longest = max(map(len, tracks))

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, longest, _BLOCK):
            chunk = np.zeros(min(_BLOCK, longest - start), np.float32)
            base = _as_float(tracks[first][start : start + _BLOCK])
            chunk[: len(base)] = base
            for number, stretches in shares[1:]:
                gain = min(_MOST_GAIN, max(1 / _MOST_GAIN, loud[first] / max(1e-9, loud[number])))
                for begin, end in stretches:
                    low, high = max(begin, start), min(end, start + len(chunk))
                    if low < high:
                        chunk[low - start : high - start] = gain * _as_float(tracks[number][low:high])
            yield chunk

    for written in workdir.write_tracks((len(tracks), block) for block in blocks()):
        progress(written)
    return workdir.use_track(len(tracks))


def _notices(
    info: MediaInfo,
    wanted: Sequence[AudioTrack],
    group: Sequence[AudioTrack],
    tracks: Sequence[NDArray[np.int16]],
    speech: Sequence[Stretches],
    shares: Sequence[tuple[int, Stretches]],
) -> Iterator[str]:
    """Notices about the choice; that copies and translations are left out goes without saying."""
    from clamr_cli.media.audio import length

    numbers = {track.index: number for number, track in enumerate(info.audio, start=1)}
    names = [numbers[track.index] for track in group]
    heard = " and ".join(str(name) for name in sorted(names[number] for number, _ in shares))
    if group is not wanted:
        yield f"sound track {numbers[wanted[0].index]} has no speech: that of track {heard} was taken"
        return
    if len(shares) > 1:
        yield f"speech was taken from the sound tracks {heard}"
    first = shares[0][0]
    for number, stretches in enumerate(speech):
        is_left_out = number not in dict(shares) and length(stretches) >= _WORTH_A_NOTICE
        if is_left_out and not _is_copy(tracks[first], tracks[number]):
            yield f"sound track {names[number]} was left out: it has speech at the same time as track {names[first]}"


def _is_copy(first: NDArray[np.int16], second: NDArray[np.int16]) -> bool:
    """Whether two tracks are loud at the same moments, as those of one recording are."""
    count = min(len(first), len(second)) // _HOP * _HOP
    envelopes = []
    for track in (first, second):
        # Root mean square of each twentieth of a second, read in blocks: a track may be hours.
        blocks = (_as_float(track[start : min(count, start + _BLOCK)]) for start in range(0, count, _BLOCK))
        means = [np.square(block, dtype=np.float64).reshape(-1, _HOP).mean(axis=1) for block in blocks]
        envelopes.append(np.sqrt(np.concatenate(means)))
    return bool(np.corrcoef(envelopes)[0, 1] >= _COPY)


def _is_silent(track: NDArray[np.int16]) -> bool:
    blocks = (track[start : start + _BLOCK].astype(np.int32) for start in range(0, len(track), _BLOCK))
    return all(np.abs(block).max() <= _SILENT for block in blocks)


def _as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.asarray(samples, dtype=np.float32) / 32_768.0


# --- recognition and encoding -----------------------------------------------------------------------------------------


def detect_language(report: Reporter, folder: str, model: Path, options: AsrOptions) -> str:
    """Detect the language that is spoken in the sound; empty where nobody speaks or it is not clear."""
    audio = Workdir(Path(folder)).audio()
    report(0.0, len(audio) / SAMPLE_RATE)
    language, probability = _whisper(model, options).detect_language(audio)
    return language if probability >= _SURE_LANGUAGE else ""


def transcribe(
    report: Reporter, folder: str, model: Path, options: AsrOptions, seconds: int, parts: Sequence[Part]
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


def find_voices(report: Reporter, folder: str, weights: Path, model: VoiceModel, threads: int) -> Voices:
    """Find the voices of the sound; the numbers of the library are left open."""
    from clamr_cli.extract import voices

    audio = Workdir(Path(folder)).audio()
    total = len(audio) / SAMPLE_RATE
    report(0.0, total)
    return voices.find_voices(audio, _voice_encoder(weights, model, threads), lambda time: report(time, total))


@functools.lru_cache(maxsize=1)
def _voice_encoder(weights: Path, model: VoiceModel, threads: int) -> VoiceEncoder:
    from clamr_cli.extract.voice_encoder import VoiceEncoder

    return VoiceEncoder(weights, model, threads)


@functools.lru_cache(maxsize=1)
def _whisper(model: Path, options: AsrOptions) -> WhisperAsr:
    from clamr_cli.extract.asr import WhisperAsr

    return WhisperAsr(model, options)


def read_text(
    report: Reporter,
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


def encode(
    report: Reporter,
    documents: Sequence[Document],
    name: str,
    cache: Path,
    device: str,
    threads: int,
    *settings: tuple[str, Any],
) -> list[TokenVectors]:
    """Encode documents, in order, with the encoder of this name and settings."""
    report(0, len(documents))
    encoder = _encoder(name, cache, device, threads, settings)
    vectors: list[TokenVectors] = []
    for start in range(0, len(documents), ENCODE_BATCH):
        vectors += encoder.encode_documents(documents[start : start + ENCODE_BATCH])
        report(len(vectors), len(documents))
    return vectors


@functools.lru_cache(maxsize=1)
def _encoder(name: str, cache: Path, device: str, threads: int, settings: tuple[tuple[str, Any], ...]) -> Encoder:
    from clamr_cli import encoders

    return encoders.create(name, cache=cache, device=device, threads=threads, **dict(settings))


# --- candidates for questions about one video -------------------------------------------------------------------------


def sample(report: Reporter, path: str, folder: str, interval: float) -> SampledMedia:
    """Probe a file and bring its candidate frames, densely sampled and thinned, into a working directory."""
    from clamr_cli.media.frames import sample_frames
    from clamr_cli.media.key_frames import FRAME_SIDE, dedupe_frames
    from clamr_cli.media.probe import probe

    info = probe(path)
    report(0.0, info.duration)
    workdir = Workdir(Path(folder))
    workdir.begin()
    frames: list[StoredFrame] = []
    thumbs: list[bytes] = []
    notices = [readable_part(info)] if info.incomplete else []
    try:
        samples = sample_frames(path, info, interval=interval, longest_gap=_GAPS * interval, max_side=FRAME_SIDE)
        candidates = dedupe_frames(reporting(report, samples, info), info.duration)
        for number, (frame, thumb) in enumerate(candidates):
            workdir.add_frame("frames", number, frame.jpeg)
            frames.append(StoredFrame(number, frame.time, frame.span))
            thumbs.append(thumb.tobytes())
    except MediaError as error:
        if not (frames or info.audio):
            raise
        notices.append(f"pictures left out: {error}")
    tracks = subtitle_tracks(path, info)
    return SampledMedia(info, tuple(frames), (), tuple(notices), b"".join(thumbs), tracks)


def take_frames(
    report: Reporter, path: str, info: MediaInfo, times: Sequence[float], thumbs: Sequence[bytes], side: int
) -> None:
    """Report the frames at some times as JPEG, in their order; None for one that is not what it was when prepared.

    ``thumbs`` are the thumbs at each of them then, [8, 8, 3] uint8 as bytes; ``side`` are pixels at most.
    """
    import numpy as np

    from clamr_cli.media.frames import frames_at
    from clamr_cli.media.key_frames import THUMB, image_difference, thumbnail, to_jpeg

    frames = zip(frames_at(path, info, times, max_side=side), thumbs, strict=True)
    for number, ((_, image), thumb) in enumerate(frames, start=1):
        before = np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB, 3)
        same = image is not None and float(image_difference(thumbnail(image)[None], before)[0]) <= _SAME
        report(number, len(times), to_jpeg(image, _QUALITY) if same and image is not None else None)


def cut_clip(report: Reporter, path: str, info: MediaInfo, target: str, span: Span, exact: bool) -> Span:
    """Cut one clip, encoded anew if ``exact``; returns the stretch that it holds."""
    from clamr_cli.media.clips import copy_clip, encode_clip

    if exact:
        return encode_clip(path, info, Path(target), span, lambda done: report(done, span.duration))
    return copy_clip(path, info, Path(target), span)


def join_clips(report: Reporter, pieces: Sequence[Piece], target: str, exact: bool) -> tuple[Joined, list[bytes]]:
    """Join stretches of videos in one file; returns its parts and a JPEG of the middle of each."""
    from clamr_cli.media import clips
    from clamr_cli.media.probe import probe

    total = sum(piece.span.duration for piece in pieces)
    joined = clips.join(pieces, Path(target), exact=exact, progress=lambda done: report(done, total))
    middles = [(part.target.start + part.target.end) / 2 for part in joined.parts]
    return joined, clips.pictures(target, probe(target), middles, side=640)


def probe_file(_report: Reporter, path: str) -> MediaInfo:
    """Read the facts of a file."""
    from clamr_cli.media.probe import probe

    return probe(path)
