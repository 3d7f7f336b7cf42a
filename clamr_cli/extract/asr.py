"""Speech recognition with faster-whisper: samples in, segments with word times out, lazily and in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from clamr_cli.errors import ModelError, UsageError
from clamr_cli.extract.clean import clean, fingerprint
from clamr_cli.extract.options import AsrOptions
from clamr_cli.languages import short_code
from clamr_cli.types import Segment, Span, Word

Samples = NDArray[np.int16] | NDArray[np.float32]
"""[n] mono samples at 16 kHz, int16 or float32 in [-1, 1]; may be a memory map of hours."""

SAMPLE_RATE: Final = 16_000

LONGEST_STRETCH: Final = 600  # seconds of sound that are recognised at a time

_SEARCH_SECONDS: Final = 30
_HOP: Final = SAMPLE_RATE // 10
_NEEDED: Final = ("model.bin", "config.json", "tokenizer.json")

# Guards against what Whisper makes up where nobody speaks (https://arxiv.org/abs/2212.04356, section 4.5).
_COMPRESSION: Final = 2.4
_LEAST_LOGPROB: Final = -1.0
_DOUBTFUL_SILENCE: Final = 0.6
_DOUBTFUL_LOGPROB: Final = -0.6
_MOST_REPEATS: Final = 2

_LONGEST_SEGMENT: Final = 15.0
_WHISPER_CODES: Final = {"nb": "no", "jv": "jw"}  # that Whisper's tokenizer has under another name
_SILENCE_MS: Final = 1_000  # that ends a stretch of speech
_AROUND_MS: Final = 400
_WINDOW_SECONDS: Final = 30  # that Whisper reads at once

# Where the spoken language is detected: a greeting or a quotation is in one place, the main language in most.
_PLACES: Final = 5
_PLACE_SECONDS: Final = 5
_BLOCK_SECONDS: Final = 60
_MOST_BLOCKS: Final = 10
_ENOUGH_SPEECH: Final = 5.0
_CLEAR_PROBABILITY: Final = 0.8
_LEAST_FRAMES: Final = 1500  # of 10 ms, that Whisper reads then
_MOST_FRAMES: Final = 100 * _WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Stretch:
    """The speech of a stretch of a recording: its last sample, the language asked for, its segments."""

    end: int
    language: str
    segments: tuple[Segment, ...] = ()


class WhisperAsr:
    """A loaded Whisper model, from the folder of a CTranslate2 model that is complete with its tokenizer.

    Raises:
        ModelError: the folder lacks a file, or cannot be loaded on that device.
    """

    def __init__(self, model: Path, options: AsrOptions) -> None:
        self.options = options
        missing = [name for name in _NEEDED if not (model / name).is_file()]
        if missing:
            # Without its tokenizer faster-whisper would fetch one from the hub.
            raise ModelError(f"{model} lacks {', '.join(missing)}", "give the folder of a CTranslate2 Whisper model")
        devices = {"auto": ("cuda", "cpu") if ctranslate2.get_cuda_device_count() else ("cpu",), "mps": ("cpu",)}
        failure: Exception | None = None
        for device in devices.get(options.device, (options.device,)):
            compute = options.compute_type
            if compute == "auto":
                compute = "float16" if device == "cuda" else "int8"
            try:
                whisper = WhisperModel(str(model), device=device, compute_type=compute, cpu_threads=options.threads)
                if device == "cuda":
                    # Missing CUDA libraries show only when something is computed.
                    whisper.encode(np.zeros((whisper.feature_extractor.mel_filters.shape[0], 3000), dtype=np.float32))
            except (RuntimeError, ValueError, OSError) as error:
                failure = error
            else:
                self._model = whisper
                return
        raise ModelError(f"the speech model {model} cannot be loaded ({failure})", "try --device cpu, or another model")

    def detect_language(self, audio: Samples) -> tuple[str, float]:
        """The language that most of the speech is in, and its probability; ``("", 0.0)`` where nobody speaks.

        Speech is taken from up to five places spread over the recording, and each votes with its probabilities and its
        length. Two clear votes for one language, with none for another, end the vote.
        """
        if not self._model.model.is_multilingual:
            return "en", 1.0
        votes: Counter[str] = Counter()
        leaders: list[tuple[str, float]] = []
        for speech in _places_of_speech(audio):
            features = self._model.feature_extractor(speech)[:, :_MOST_FRAMES]
            # Whisper usually reads 30 s, most of which would be silence here; of half of it the language is the same.
            silence = max(0, _LEAST_FRAMES - features.shape[1])
            encoded = self._model.encode(np.pad(features, ((0, 0), (0, silence))))
            shares = [(token[2:-2], share) for token, share in self._model.model.detect_language(encoded)[0]]
            for code, share in shares:
                votes[code] += share * len(speech)
            leaders.append(max(shares, key=lambda each: each[1]))
            if len({code for code, _ in leaders}) == 1 and sum(p >= _CLEAR_PROBABILITY for _, p in leaders) == 2:
                break
        if not votes:
            return "", 0.0
        language, most = votes.most_common(1)[0]
        return language, most / votes.total()

    def transcribe(
        self,
        audio: Samples,
        *,
        language: str = "",
        start: int = 0,
        seconds: int = LONGEST_STRETCH,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Stretch]:
        """Transcribe a recording with word times, stretch by stretch in time order.

        A stretch depends on nothing before it but the language: recognition that was interrupted goes on from the end
        of the last stretch, in its language, and gives what it would have given.

        Args:
            audio: the recording.
            language: what is spoken, any ISO 639 tag; empty for the options', else it is detected for the whole.
            start: sample to begin at, 0 or the end of a stretch.
            seconds: length of a stretch at most.
            progress: called with the seconds of audio that are done.

        Raises:
            UsageError: a language that the model does not know.
        """
        tag = language or self.options.language
        spoken = short_code(tag) or tag.lower()
        spoken = _WHISPER_CODES.get(spoken, spoken)
        if spoken and spoken not in (supported := sorted(set(self._model.supported_languages))):
            raise UsageError(f"the speech model does not know the language {tag!r}", f"it knows {' '.join(supported)}")
        spoken = spoken or self.detect_language(audio)[0]
        for first, end in pieces(audio, seconds, start):
            ctranslate2.set_random_seed(0)
            raw_segments, info = self._model.transcribe(
                as_float(audio[first:end]),
                language=spoken or None,
                beam_size=self.options.beam,
                # Where greedy search fails it is rarely speech: one more guess each, not five.
                temperature=(0.0, 0.4, 0.8),
                best_of=1,
                compression_ratio_threshold=_COMPRESSION,
                log_prob_threshold=_LEAST_LOGPROB,
                no_speech_threshold=_DOUBTFUL_SILENCE,
                # Text of the window before as a prompt is what makes a loop go on for minutes.
                condition_on_previous_text=False,
                word_timestamps=True,
                vad_filter=True,
                vad_parameters={"min_silence_duration_ms": _SILENCE_MS},
            )
            segments: list[Segment] = []
            if info.duration_after_vad > 0:
                for seconds_done, some in credible_segments(raw_segments, first / SAMPLE_RATE, info.language):
                    segments += some
                    if progress is not None:
                        progress(min(end, first + int(seconds_done * SAMPLE_RATE)) / SAMPLE_RATE)
            if progress is not None:
                progress(end / SAMPLE_RATE)
            yield Stretch(end, spoken, tuple(segments))


def pieces(audio: Samples, seconds: int = LONGEST_STRETCH, start: int = 0) -> Iterator[tuple[int, int]]:
    """First and last sample of pieces of at most ``seconds``, cut where it is quietest in the last 30 s of each.

    A piece depends only on where it starts.
    """
    length = seconds * SAMPLE_RATE
    while len(audio) - start > length:
        latest = start + length
        earliest = max(start + length // 2, latest - _SEARCH_SECONDS * SAMPLE_RATE)
        samples = as_float(audio[earliest:latest])
        hops = len(samples) // _HOP
        energy = np.square(samples[: hops * _HOP]).reshape(hops, _HOP).mean(axis=1)
        width = min(5, hops)  # half a second
        quietest = int(np.convolve(energy, np.ones(width), mode="valid").argmin())
        end = earliest + int((quietest + width / 2) * _HOP)
        yield start, end
        start = end
    if start < len(audio):
        yield start, len(audio)


def speech_stretches(
    samples: NDArray[np.float32], silence_ms: int = _SILENCE_MS, around_ms: int = _AROUND_MS
) -> list[tuple[int, int]]:
    """The first and the last sample of each stretch of speech in mono sound at 16 kHz, in order.

    Stretches are parted by so much silence, and have a little of it around them, both in milliseconds.
    """
    options = VadOptions(min_silence_duration_ms=silence_ms, speech_pad_ms=around_ms)
    return [(each["start"], each["end"]) for each in get_speech_timestamps(samples, options)]


def _places_of_speech(audio: Samples) -> Iterator[NDArray[np.float32]]:
    """Speech of at most a window from each of the places where the language is detected.

    Each place is an equal part of the recording, searched from its middle on and then from its start; those around the
    quarters come first, the beginning last.
    """
    count = max(1, min(_PLACES, len(audio) // (_PLACE_SECONDS * SAMPLE_RATE)))
    borders = [len(audio) * number // count for number in range(count + 1)]
    quarters = (count // 4 or 1, 3 * count // 4)
    block = _BLOCK_SECONDS * SAMPLE_RATE
    for place in sorted(range(count), key=lambda place: (place not in quarters, place == 0, place)):
        first, last = borders[place], borders[place + 1]
        middle = (first + last) // 2 if last - first > block else first
        parts: list[NDArray[np.float32]] = []
        for start in [*range(middle, last, block), *range(first, middle, block)][:_MOST_BLOCKS]:
            samples = as_float(audio[start : min(start + block, last)])
            parts += [samples[begin:end] for begin, end in speech_stretches(samples)]
            if sum(map(len, parts)) >= _ENOUGH_SPEECH * SAMPLE_RATE:
                break
        if parts:
            yield np.concatenate(parts)[: _WINDOW_SECONDS * SAMPLE_RATE]


def credible_segments(
    raw_segments: Iterable[Any], offset: float, language: str
) -> Iterator[tuple[float, list[Segment]]]:
    """Of each segment of faster-whisper, where it ends in seconds, and our segments of it.

    There are none of it if it was rather made up than heard: by its probabilities, or because the same is said over
    and over. Long ones are split. ``offset`` seconds are added to the times.
    """
    last, repeats = "", 0
    for raw in raw_segments:
        segments: list[Segment] = []
        # The text is made of the words, so that their offsets are exact.
        text, words = "", []
        for word in raw.words or ():
            if spelled := clean(word.word):
                text += " " if text and word.word[:1].isspace() else ""
                span = Span(offset + float(word.start), offset + max(float(word.start), float(word.end)))
                words.append(Word(len(text), len(text) + len(spelled), span))
                text += spelled
        text = text or clean(raw.text)
        is_doubtful = raw.no_speech_prob > _DOUBTFUL_SILENCE and raw.avg_logprob < _DOUBTFUL_LOGPROB
        is_made_up = raw.compression_ratio > _COMPRESSION or raw.avg_logprob < _LEAST_LOGPROB or is_doubtful
        if (key := fingerprint(text)) and not is_made_up:
            repeats = repeats + 1 if key == last else 1
            last = key
            if repeats <= _MOST_REPEATS:
                start = words[0].span.start if words else offset + float(raw.start)
                end = words[-1].span.end if words else offset + float(raw.end)
                confidence = round(min(1.0, math.exp(raw.avg_logprob)), 3)
                span = Span(start, max(start, end))
                segments += split_long(Segment(span, text, "whisper", language, confidence, tuple(words)))
        yield raw.end, segments


def split_long(segment: Segment, seconds: float = _LONGEST_SEGMENT) -> Iterator[Segment]:
    """A segment cut into parts of at most ``seconds``, at ends of sentences and pauses; word offsets stay exact."""
    words = segment.words
    if segment.span.duration <= seconds or len(words) < 2:
        yield segment
        return

    def fitness(index: int) -> float:
        """Quality of a cut before word ``index``: a pause, an end of a sentence, not far from the middle."""
        before, after = words[index - 1], words[index]
        mark = segment.text[before.end - 1]
        sentence = 1.0 if mark in ".?!。？！" else 0.4 if mark in ",;:、，" else 0.0
        middle = abs((before.span.end + after.span.start) / 2 - (segment.span.start + segment.span.end) / 2)
        return max(0.0, after.span.start - before.span.end) + sentence - 2.0 * middle / segment.span.duration

    cut = max(range(1, len(words)), key=fitness)
    for part in (words[:cut], words[cut:]):
        begin = part[0].start
        moved = tuple(Word(word.start - begin, word.end - begin, word.span) for word in part)
        span = Span(part[0].span.start, max(part[0].span.start, part[-1].span.end))
        text = segment.text[begin : part[-1].end]
        yield from split_long(replace(segment, span=span, text=text, words=moved), seconds)


def as_float(samples: Samples) -> NDArray[np.float32]:
    """Samples as float32 in [-1, 1]."""
    if samples.dtype == np.int16:
        return np.asarray(samples, dtype=np.float32) / 32_768.0
    return np.asarray(samples, dtype=np.float32)
