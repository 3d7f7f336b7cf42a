"""One ranking from one score per modality."""

import numpy as np
import pytest

from clamr_cli.evaluate import systems
from clamr_cli.types import MODALITY_IDS, Modality

NONE = -np.inf
# One query, four videos: both modalities, only the first, only the second, neither.
FIRST = np.array([[0.5, 0.9, NONE, NONE]], np.float32)
SECOND = np.array([[0.7, NONE, 0.1, NONE]], np.float32)
PARTS = {Modality.SPEECH: FIRST, Modality.OCR: SECOND}


def test_the_mean_is_over_what_a_video_has() -> None:
    assert systems.mean([FIRST, SECOND])[0].tolist() == pytest.approx([0.6, 0.9, 0.1, NONE])


def test_the_maximum_takes_the_best_and_says_which() -> None:
    assert systems.maximum([FIRST, SECOND])[0].tolist() == pytest.approx([0.7, 0.9, 0.1, NONE])
    speech, ocr = MODALITY_IDS[Modality.SPEECH], MODALITY_IDS[Modality.OCR]
    assert systems.best_modality(PARTS)[0].tolist() == [ocr, speech, ocr, 0]


def test_reciprocal_ranks_add_up_over_the_rankings_a_video_is_in() -> None:
    found = systems.reciprocal_ranks([FIRST, SECOND])[0].tolist()
    assert found == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, NONE])


def test_the_router_follows_the_label_and_takes_the_maximum_without_one() -> None:
    aims = [Modality.OCR, None, Modality.VIDEO]
    parts = {modality: np.repeat(values, 3, axis=0) for modality, values in PARTS.items()}
    routed = systems.routed(parts, aims)
    assert routed[0].tolist() == SECOND[0].tolist()
    assert routed[1].tolist() == pytest.approx([0.7, 0.9, 0.1, NONE])
    assert not np.isfinite(routed[2]).any()
