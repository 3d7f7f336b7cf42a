"""Candidates: all that changes, little of what stands still, and spans that tile the time line."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.media.candidates import ThinOptions, thin, thumb_of
from clamr_cli.media.frames import SampledFrame
from clamr_cli.media.images import THUMB, change
from clamr_cli.types import Span
from tests.unit.media.clips import moving, plain, written


def film(*stretches, step=2.0):
    start = 0.0
    for seconds, picture in stretches:
        for index in range(round(seconds / step)):
            time = start + index * step
            yield SampledFrame(time, picture(time) if callable(picture) else picture)
        start += seconds


def test_every_scene_gives_a_candidate_and_a_still_one_no_more_than_it_must():
    scenes = [(20, plain((200, 30, 30))), (10, moving), (30, written(moving(1.0), "Platform nine"))]
    found = list(thin(film(*scenes), 60.0))
    assert [one.time for one in found] == [0.0, 16.0, 20.0, 22.0, 24.0, 26.0, 28.0, 30.0, 46.0]
    assert found[0].span == Span(0.0, 16.0)


def test_a_line_of_text_that_comes_and_goes_is_a_change():
    scenes = [(6, moving(0.0)), (4, written(moving(0.0), "Departures", at=(20, 120))), (6, moving(0.0))]
    assert [one.time for one in thin(film(*scenes), 16.0)] == [0.0, 6.0, 10.0]


def test_a_black_pause_is_no_candidate():
    scenes = [(4, moving(0.0)), (2, plain((0, 0, 0))), (4, moving(3.0))]
    assert [one.time for one in thin(film(*scenes), 10.0)] == [0.0, 6.0]


def test_a_plain_picture_that_lasts_is_one():
    scenes = [(6, plain((200, 20, 20))), (6, plain((20, 20, 200)))]
    assert [one.time for one in thin(film(*scenes), 12.0)] == [0.0, 6.0]


def test_nothing_gives_nothing():
    assert list(thin([], 10.0)) == []


def test_pictures_are_small_and_thumbs_are_of_them():
    (one,) = thin([SampledFrame(1.0, moving(0.0, (1280, 720)))], 5.0, ThinOptions(side=100))
    import cv2

    picture = cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (56, 100, 3)
    assert one.span == Span(0.0, 5.0)
    assert change(thumb_of(picture)[None], one.thumb)[0] < 0.03


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 40, 90, 200]), min_size=1, max_size=30), st.floats(0, 9))
def test_spans_tile_the_time_line(levels, rest):
    samples = [SampledFrame(2.0 * n, moving(level / 40)) for n, level in enumerate(levels)]
    duration = 2.0 * (len(levels) - 1) + rest
    found = list(thin(samples, duration, ThinOptions(longest=8.0)))
    assert found[0].span.start == 0.0
    assert found[-1].span.end == duration
    assert all(one.span.end == other.span.start for one, other in pairwise(found))
    assert all(one.span.start <= one.time <= one.span.end for one in found)
    assert all(one.span.duration <= 8.0 + 2.0 for one in found[:-1])


@pytest.mark.parametrize(("level", "expected"), [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_change_is_the_difference_where_it_is_largest(level, expected):
    before = np.zeros((THUMB, THUMB, 3), np.uint8)
    after = before.copy()
    after[4, 5] = level
    assert change(after[None], before)[0] == pytest.approx(expected, abs=1e-6)
