"""The small network sees drawn text where it is, and what is no text hardly ever."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clamr_cli.media.text_change import CELL, TextChange, TextWatch, text_map
from tests.unit.media.clips import moving, plain, written

SIZE = (960, 544)


def gray(picture):
    return np.asarray(Image.fromarray(picture).convert("L"))


@pytest.mark.parametrize("height", [12, 18, 28, 48, 90, 180])
@pytest.mark.parametrize("fill", [(255, 255, 255), (120, 120, 120), (0, 0, 0)])
def test_text_of_any_size_is_seen_where_it_is(height, fill):
    picture = written(plain((60, 60, 60), SIZE), "Marathon 2024", at=(48, 160), height=height, fill=fill)
    likely = text_map(gray(picture))
    assert likely.shape == (SIZE[1] // CELL, SIZE[0] // CELL)
    rows, _ = np.nonzero(likely > 0.8)
    assert len(rows) >= 3
    assert rows.min() * CELL >= 160 - height
    assert (rows.max() + 1) * CELL <= 160 + 2.5 * height


@pytest.mark.parametrize(
    "picture",
    [
        plain((128, 0, 0), SIZE),
        moving(1.0, SIZE),
        np.tile(np.linspace(0, 255, 960, dtype=np.uint8)[:, None], (544, 1, 3)),
    ],
    ids=["flat", "ball", "gradient"],
)
def test_pictures_without_text_are_not_taken_for_text(picture):
    assert text_map(gray(picture)).max() < 0.8


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 500), (33, 31)])
def test_small_and_narrow_pictures_are_taken(size):
    assert text_map(np.zeros(size, np.uint8)).shape == (max(1, size[0] // 8), max(1, size[1] // 8))


def test_a_text_that_fades_in_is_read_again_once_it_is_clear():
    watch = TextWatch(1.0, 4.0)
    empty = plain((40, 40, 40), SIZE)
    clear = written(empty, "Chapter One", at=(200, 200), height=60)
    faint = (empty * 0.7 + clear * 0.3).astype(np.uint8)
    news = [watch.look(2.0 * number, picture) for number, picture in enumerate((empty, faint, clear, clear, empty))]
    assert news == [TextChange.NONE, TextChange.READ, TextChange.READ, TextChange.SAME, TextChange.GONE]


def test_frames_that_follow_too_soon_are_read_later():
    watch = TextWatch(1.5, 4.0)
    one, two = (written(plain((40, 40, 40), SIZE), text, at=(200, 200), height=60) for text in ("First", "Other"))
    looks = ((0.0, one), (0.5, two), (1.6, two))
    assert [watch.look(time, picture) for time, picture in looks] == [
        TextChange.READ,
        TextChange.LATER,
        TextChange.READ,
    ]
