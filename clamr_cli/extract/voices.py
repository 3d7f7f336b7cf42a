"""The voices of a recording: windows of its speech, embedded and put together by likeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.types import Span, Voices

if TYPE_CHECKING:
    from clamr_cli.extract.asr import Samples
    from clamr_cli.extract.voice_encoder import VoiceEncoder

Float32 = NDArray[np.float32]

SAME_VOICE: Final = 0.4
"""Mean cosine of two groups of windows of a recording from which they are of one voice."""

SAME_SPEAKER: Final = 0.6
"""Cosine of the means of two voices from which they are one speaker."""

_SHORT_VOICE: Final = 3.0  # seconds; what is heard for less belongs to the voice that is most like it
_MOST_AT_ONCE: Final = 2_000  # windows that are compared each with each: half an hour of speech
_BLOCK_SECONDS: Final = 300
_PAUSE_MS: Final = 300  # of silence, which may part two speakers
_AROUND_MS: Final = 100
_BREATH: Final = 1.0  # seconds of silence between two turns of one voice that are no pause


def find_voices(audio: Samples, encoder: VoiceEncoder, progress: Callable[[float], None] = lambda _: None) -> Voices:
    """The voices of a recording [n] at 16 kHz, and who of them speaks when; ``progress`` is called with the seconds."""
    # It loads Whisper's libraries, which whoever only compares voices has no use for.
    from clamr_cli.extract.asr import SAMPLE_RATE, as_float, speech_stretches

    spans: list[Span] = []
    rows: list[Float32] = []
    block = _BLOCK_SECONDS * SAMPLE_RATE
    for start in range(0, len(audio), block):
        samples = as_float(audio[start : start + block])
        for begin, end in speech_stretches(samples, _PAUSE_MS, _AROUND_MS):
            first = (start + begin) / SAMPLE_RATE
            windows, vectors = encoder.windows(samples[begin:end])
            spans += [Span(first + span.start, first + span.end) for span in windows]
            rows.append(vectors)
            progress(first)
    voices = voices_of(spans, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32))
    return replace(voices, model=encoder.model)


def voices_of(spans: Sequence[Span], vectors: Float32) -> Voices:
    """The voices of windows of speech, by their unit vectors [n, d]; the numbers of the library are left open."""
    if not spans:
        return Voices(())
    parts = [vectors[start : start + _MOST_AT_ONCE] for start in range(0, len(vectors), _MOST_AT_ONCE)]
    centres = np.concatenate([_centres(part, cluster(part, SAME_VOICE)) for part in parts])
    if len(parts) > 1:
        centres = _centres(centres, cluster(centres, SAME_SPEAKER))
    seconds = np.array([span.duration for span in spans])
    while True:
        labels = (vectors @ centres.T).argmax(axis=1)
        heard = np.bincount(labels, seconds, len(centres))
        if heard.min() >= _SHORT_VOICE or len(centres) == 1:
            break
        centres = np.delete(centres, heard.argmin(), axis=0)
    labels = np.unique(labels, return_inverse=True)[1]
    turns: list[tuple[float, float, int]] = []
    for span, label in zip(spans, labels.tolist(), strict=True):
        if turns and turns[-1][2] == label and span.start - turns[-1][1] <= _BREATH:
            turns[-1] = (turns[-1][0], span.end, label)
        else:
            turns.append((span.start, span.end, label))
    rounded = tuple((round(start, 2), round(end, 2), label) for start, end, label in turns)
    return Voices(rounded, tuple(row.astype(np.float16).tobytes() for row in _centres(vectors, labels)))


def cluster(vectors: Float32, same: float) -> NDArray[np.int64]:
    """The group [n] of each unit vector [n, d]: by average linkage, while the mean cosine is at least ``same``."""
    from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]

    if len(vectors) < 2:
        return np.zeros(len(vectors), np.int64)
    groups: NDArray[np.int64] = fcluster(linkage(vectors, "average", "cosine"), 1.0 - same, "distance").astype(np.int64)
    return groups - 1


def _centres(vectors: Float32, labels: NDArray[np.int64]) -> Float32:
    """The mean direction of each group, [groups, d]."""
    sums = np.stack([vectors[labels == label].sum(axis=0) for label in range(int(labels.max()) + 1)])
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), np.float32)
