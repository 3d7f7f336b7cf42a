"""Properties of every choice of frames, for any scores, times and pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.frames.rank import ALIKE, CLOSE, select
from clamr_cli.media.key_frames import THUMB, image_difference

STRATEGIES = ("top", "diverse", "windows")


def flat(level: int):
    return np.full((THUMB, THUMB, 3), level, np.uint8)


@st.composite
def videos(draw):
    """Scores, times and thumbs of a video; few levels of grey, so that many frames look alike."""
    count = draw(st.integers(1, 40))
    scores = draw(st.lists(st.floats(-3, 9, width=32), min_size=count, max_size=count))
    steps = draw(st.lists(st.sampled_from([0.5, 2.0, 16.0, 45.0]), min_size=count, max_size=count))
    levels = draw(st.lists(st.sampled_from([0, 10, 80, 200]), min_size=count, max_size=count))
    silent = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return np.array(scores, np.float32), np.cumsum(steps).tolist(), np.stack([flat(one) for one in levels]), silent


def repeat(one: int, other: int, times, thumbs, silent) -> bool:
    alike = image_difference(thumbs[one][None], thumbs[other])[0] <= ALIKE
    return bool(alike) and (abs(times[one] - times[other]) < CLOSE or silent[one] or silent[other])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(videos(), st.integers(1, 12), st.sampled_from(STRATEGIES))
def test_as_many_as_asked_for_each_once_best_first(video, k, strategy):
    scores, times, thumbs, silent = video
    chosen = select(scores, times, thumbs, k, strategy, silent=silent)
    assert len(chosen) == len(set(chosen)) == min(k, len(scores))
    rounded = [round(float(scores[n]), 5) for n in chosen]
    assert rounded == sorted(rounded, reverse=True)
    assert chosen == select(scores, times, thumbs, k, strategy, silent=silent)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(videos(), st.integers(1, 12), st.sampled_from(("top", "diverse")))
def test_no_two_near_duplicates_unless_all_others_are_too(video, k, strategy):
    scores, times, thumbs, silent = video
    chosen = select(scores, times, thumbs, k, strategy, silent=silent)
    pairs = [(one, other) for one in chosen for other in chosen if one < other]
    if any(repeat(one, other, times, thumbs, silent) for one, other in pairs):
        rest = set(range(len(scores))) - set(chosen)
        assert all(any(repeat(number, one, times, thumbs, silent) for one in chosen) for number in rest)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(videos(), st.integers(1, 12), st.sampled_from(STRATEGIES))
def test_the_best_frame_is_always_chosen_but_by_windows_that_is_its_window_s(video, k, strategy):
    scores, times, thumbs, silent = video
    chosen = select(scores, times, thumbs, k, strategy, silent=silent)
    best = float(np.round(scores.astype(np.float64), 5).max())
    if strategy != "windows":
        assert round(float(scores[chosen[0]]), 5) == best


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(videos(), st.integers(1, 12))
def test_windows_leave_no_window_empty_that_has_a_frame(video, k):
    scores, times, thumbs, silent = video
    duration = times[-1] + 1.0
    chosen = select(scores, times, thumbs, k, "windows", duration=duration, silent=silent)
    window = [min(int(time * k / duration), k - 1) for time in times]
    assert {window[number] for number in chosen} == set(window)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_has_nothing_that_may_answer_is_never_chosen(strategy):
    scores = np.array([-np.inf, 1.0, -np.inf, 2.0], np.float32)
    thumbs = np.stack([flat(60 * n) for n in range(4)])
    assert select(scores, [0.0, 2.0, 4.0, 6.0], thumbs, 4, strategy) == [3, 1]
    assert select(scores[:1], [0.0], thumbs[:1], 4, strategy) == []
    assert select([], [], thumbs[:0], 4, strategy) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_more_than_there_are_is_all_of_them_however_many(strategy):
    thumbs = np.stack([flat(60 * n) for n in range(4)])
    scores = np.array([3.0, 1.0, 4.0, 2.0], np.float32)
    assert select(scores, [0.0, 2.0, 4.0, 6.0], thumbs, 10**15, strategy, duration=8.0) == [2, 0, 3, 1]


def test_diverse_covers_what_top_leaves_out():
    # Six pictures in turn; the first minute answers best, another moment nearly as well, the rest not at all.
    times = [float(10 * n) for n in range(60)]
    thumbs = np.stack([flat(40 * (n % 6)) for n in range(60)])
    scores = np.array([5.0 if n < 6 else 4.6 if n == 40 else 3.0 for n in range(60)], np.float32)
    top = select(scores, times, thumbs, 6, "top")
    diverse = select(scores, times, thumbs, 6, "diverse")
    assert max(top) == 5
    assert 40 in diverse
    assert diverse[0] == top[0]


def test_a_lasting_picture_answers_again_only_with_other_words():
    thumbs = np.stack([flat(90)] * 3 + [flat(200)])
    times, scores = [0.0, 40.0, 80.0, 120.0], np.array([3.0, 2.9, 2.8, 0.1], np.float32)
    assert select(scores, times, thumbs, 3, "top") == [0, 1, 2]
    assert select(scores, times, thumbs, 2, "top", silent=[True] * 4) == [0, 3]
