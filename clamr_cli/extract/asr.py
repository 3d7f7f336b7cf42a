"""Speech to text with Whisper, through faster-whisper: hours of sound in bounded memory, every word with its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from clamr_cli.errors import ModelError
from clamr_cli.extract.clean import clean
from clamr_cli.extract.options import AsrOptions
from clamr_cli.types import Segment, Span, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["SAMPLE_RATE", "AsrOptions", "WhisperAsr", "pieces"]

SAMPLE_RATE: Final = 16_000
"""Samples a second that Whisper expects."""

LONGEST_PIECE: Final = 600.0
"""Seconds recognised at once: spectrogram and voice detection of that much take some 100 MB."""

SEARCHED_FOR_QUIET: Final = 60.0
"""Seconds before that limit in which the quietest place to cut is looked for."""

_QUIET_WINDOW: Final = 0.5
_MOST_REPEATS: Final = 2
"""The same sentence more often than this in a row is Whisper's well-known loop on music and noise."""

_UNLIKELY: Final = -1.0
_PROBABLY_SILENT: Final = 0.6
_COMPRESSES_TOO_WELL: Final = 2.4
"""Whisper paper (arXiv 2212.04356), section 4.5: signs of a failed decoding, by probability, silence and repetition."""


class WhisperAsr:
    """A loaded Whisper model.

    Args:
        model: folder of a CTranslate2 Whisper model.
        options: device and threads.

    Raises:
        ModelError: the folder holds no such model, or the device cannot be used.
    """

    def __init__(self, model: Path, options: AsrOptions) -> None:
        self._options = options
        try:
            self._model = WhisperModel(
                str(model),
                device=options.device if options.device in ("cpu", "cuda") else "auto",
                compute_type=_compute_type(options),
                cpu_threads=options.threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            what = f"the speech model in {model} cannot be loaded ({' '.join(str(error).split())[:200]})"
            raise ModelError(what, "choose another with --asr-model, or --device cpu") from error

    def transcribe(
        self,
        audio: NDArray[np.int16] | NDArray[np.float32],
        *,
        language: str = "",
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Segment]:
        """Recognise speech, segment by segment.

        Args:
            audio: mono samples at 16 kHz, shape (n,): int16, or float32 in [-1, 1]. May be mapped from a file.
            language: two-letter code that is spoken; empty detects it once, from the first speech.
            progress: called with the seconds that are done.

        Yields:
            Segments in time order, with word times, ``source="whisper"``, the language, and the geometric mean of the
            token probabilities as confidence. Music, noise and silence give none.
        """
        repeats, before = 0, ""
        for start, end in pieces(audio):
            offset = start / SAMPLE_RATE
            found, info = self._model.transcribe(
                _as_float(audio[start:end]),
                language=language or None,
                beam_size=self._options.beam,
                vad_filter=True,
                word_timestamps=True,
                condition_on_previous_text=False,
            )
            for raw in found:
                if progress is not None:
                    progress(offset + raw.end)
                segment = _segment(raw, offset, info.language)
                if segment is None or _failed(raw):
                    continue
                repeats = repeats + 1 if segment.text == before else 0
                before = segment.text
                if repeats < _MOST_REPEATS:
                    language = info.language
                    yield segment
            if progress is not None:
                progress(end / SAMPLE_RATE)


def _compute_type(options: AsrOptions) -> str:
    """What CTranslate2 is to compute in: whole numbers on a CPU, half precision on a GPU, unless something is asked."""
    if options.compute_type != "auto":
        return options.compute_type
    on_gpu = options.device == "cuda" or (options.device == "auto" and ctranslate2.get_cuda_device_count() > 0)
    return "float16" if on_gpu else "int8"


def pieces(audio: NDArray[np.int16] | NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Sample ranges that tile the sound, each at most :data:`LONGEST_PIECE` long, cut where it is quietest."""
    longest, start = int(LONGEST_PIECE * SAMPLE_RATE), 0
    while len(audio) - start > longest:
        end = _quietest(audio, start + longest - int(SEARCHED_FOR_QUIET * SAMPLE_RATE), start + longest)
        yield start, end
        start = end
    if start < len(audio):
        yield start, len(audio)


def _quietest(audio: NDArray[np.int16] | NDArray[np.float32], first: int, last: int) -> int:
    """The middle of the window with the least energy between two samples."""
    width = int(_QUIET_WINDOW * SAMPLE_RATE)
    windows = (last - first) // width
    energy = np.square(_as_float(audio[first : first + windows * width])).reshape(windows, width).mean(axis=1)
    return first + int(energy.argmin()) * width + width // 2


def _as_float(audio: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy in memory as float32 in [-1, 1]."""
    scale = 1.0 / 32768.0 if audio.dtype == np.int16 else 1.0
    return np.asarray(audio, dtype=np.float32) * np.float32(scale)


def _failed(raw: Any) -> bool:  # noqa: ANN401 -- faster-whisper has no types
    silent = raw.no_speech_prob > _PROBABLY_SILENT and raw.avg_logprob < _UNLIKELY / 2
    return bool(silent or raw.avg_logprob < 2 * _UNLIKELY or raw.compression_ratio > _COMPRESSES_TOO_WELL)


def _segment(raw: Any, offset: float, language: str) -> Segment | None:  # noqa: ANN401
    """A segment with the words placed in its text; None where nothing was said."""
    text, words = _placed(raw.words or (), offset)
    if not text:
        text = clean(raw.text)
    if not text:
        return None
    span = _span(raw, offset)
    return Segment(span, text, "whisper", language, float(min(1.0, np.exp(raw.avg_logprob))), words)


def _placed(raw_words: Iterable[Any], offset: float) -> tuple[str, tuple[Word, ...]]:
    """The text that words make (their leading blanks are Whisper's), and where in it each is."""
    text, words = "", []
    for raw in raw_words:
        word = clean(raw.word)
        if not word:
            continue
        if text and raw.word[:1].isspace():
            text += " "
        words.append(Word(len(text), len(text) + len(word), _span(raw, offset)))
        text += word
    return text, tuple(words)


def _span(raw: Any, offset: float) -> Span:  # noqa: ANN401
    """The time of a segment or word, in plain floats (the library gives numpy's, which do not serialise)."""
    return Span(offset + float(raw.start), offset + float(max(raw.start, raw.end)))
