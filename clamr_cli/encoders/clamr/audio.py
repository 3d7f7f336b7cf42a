"""Raw audio to what the audio tower of Qwen2.5-Omni takes: log-mel features, 100 frames a second, four to a token."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE: Final = 16_000
"""Samples per second."""

LONGEST: Final = 30.0
"""Seconds of audio per document at most (CLaMR section 4); what is longer is cut."""

SECONDS_PER_TOKEN: Final = 0.04
_HOP: Final = 160
_BINS: Final = 128
_TAIL: Final = 400


def cut(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The part that is encoded."""
    return samples[: int(LONGEST * RATE)]


def token_count(samples: int) -> int:
    """Tokens that this many samples become; 750 for 30 seconds, 0 for less than 40 ms."""
    frames = -(-samples // _HOP)
    return max(0, ((frames - 1) // 2 + 1 - 2) // 2 + 1) if frames else 0


def features(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Log-mel features [128, frames] float32 of mono samples at 16 kHz, as Whisper computes them."""
    wave = samples.astype(np.float32) / 32768.0
    # Silence behind the end keeps the last frames as they are where audio is padded to a longer window.
    extracted = _extractor()(
        np.pad(wave, (0, _TAIL)), sampling_rate=RATE, return_tensors="np", padding="longest", truncation=False
    )
    frames = -(-len(wave) // _HOP)
    return np.asarray(extracted["input_features"][0][:, :frames], dtype=np.float32)


@cache
def _extractor() -> Any:  # noqa: ANN401 -- a class of transformers
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=_BINS, sampling_rate=RATE, hop_length=_HOP, n_fft=_TAIL)
