"""Windows from scores, and the measures of them, against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.evaluate.qa import (
    Moment,
    average_precision,
    first_is_right,
    hit,
    mean_precision,
    overlap,
    propose,
    share_meeting,
)
from clamr_cli.types import Span


def spans(count: int) -> list[Span]:
    return [Span(2.0 * n, 2.0 * n + 2) for n in range(count)]


def moments(*pairs: tuple[float, float]) -> list[Moment]:
    return [Moment(Span(*pair), 1.0 / place) for place, pair in enumerate(pairs, 1)]


def windows(*pairs: tuple[float, float]) -> tuple[Span, ...]:
    return tuple(Span(*pair) for pair in pairs)


def test_a_plateau_is_a_moment():
    scores = np.zeros(20)
    scores[5:9] = 1.0
    (best, *_) = propose(spans(20), scores)
    assert best.span == Span(10.0, 18.0)


def test_a_stretch_of_good_frames_goes_before_a_single_one_that_is_a_little_better():
    scores = np.zeros(40)
    scores[3] = 1.1
    scores[20:26] = 1.0
    found = [moment.span for moment in propose(spans(40), scores)]
    assert found[:2] == [Span(40.0, 52.0), Span(6.0, 8.0)]


def test_one_weak_frame_does_not_part_a_moment():
    scores = np.zeros(20)
    scores[4:10] = 1.0
    scores[7] = 0.1
    assert propose(spans(20), scores)[0].span == Span(8.0, 20.0)
    scores[6] = 0.1
    assert Span(8.0, 12.0) in [moment.span for moment in propose(spans(20), scores)]


@pytest.mark.parametrize("scores", [[], [1.0], [2.0] * 9, [-np.inf] * 4, [np.nan, np.nan]])
def test_where_all_score_the_same_there_is_no_moment(scores):
    assert propose(spans(len(scores)), np.array(scores)) == []


@given(st.lists(st.floats(-10, 10, width=32) | st.just(-np.inf), max_size=30), st.integers(1, 12))
def test_moments_lie_in_the_video_apart_and_in_order(scores, most):
    found = propose(spans(len(scores)), np.array(scores, np.float32), most=most)
    assert len(found) <= most
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for place, one in enumerate(found):
        assert 0 <= one.span.start < one.span.end <= 2 * len(scores)
        assert all(overlap(one.span, other.span) < 0.7 for other in found[:place])


def test_overlap():
    assert overlap(Span(0, 10), Span(5, 15)) == pytest.approx(5 / 15)
    assert overlap(Span(0, 10), Span(0, 10)) == 1.0
    assert overlap(Span(0, 10), Span(10, 20)) == 0.0
    assert overlap(Span(3, 3), Span(3, 3)) == 0.0


def test_average_precision_by_hand():
    truth = windows((0, 10), (20, 30))
    # Right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    found = moments((0, 10), (50, 60), (20, 30))
    assert average_precision(found, truth, 0.5) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Wrong, right: precision 0, 1/2; interpolated 1/2 up to recall 1/2, then nothing.
    assert average_precision(moments((50, 60), (0, 10)), truth, 0.5) == pytest.approx(0.25)
    # A second window over the same moment is wrong: precision 1, 1/2, 2/3.
    found = moments((0, 10), (1, 10), (20, 30))
    assert average_precision(found, truth, 0.5) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # Overlap 8/10: right below that threshold and wrong above.
    found = moments((0, 8))
    assert [average_precision(found, windows((0, 10)), level) for level in (0.75, 0.8, 0.85)] == [1, 1, 0]
    assert mean_precision(found, windows((0, 10))) == pytest.approx(7 / 10)
    assert average_precision([], truth, 0.5) == 0.0
    assert average_precision(found, (), 0.5) == 0.0


def test_a_window_takes_the_free_one_that_it_overlaps_most():
    truth = windows((0, 10), (2, 12))
    found = moments((2, 12), (1, 11))
    assert average_precision(found, truth, 0.7) == 1.0


def test_recall_of_the_first_window():
    truth = windows((0, 10), (20, 30))
    assert first_is_right(moments((20, 26)), truth, 0.5)
    assert not first_is_right(moments((20, 26)), truth, 0.7)
    assert not first_is_right(moments((50, 60), (0, 10)), truth, 0.5)
    assert not first_is_right([], truth, 0.5)


def test_highlights():
    grades = {13: (4, 4, 2), 14: (0, 1, 3)}
    assert hit(26.0, grades)
    assert hit(27.9, grades)
    assert not hit(28.0, grades)
    assert not hit(99.0, grades)


def test_frames_that_show_windows():
    truth = windows((0, 10), (20, 30), (40, 40))
    assert share_meeting(truth, windows((4, 6), (6, 8), (24, 26))) == pytest.approx(2 / 3)
    assert share_meeting(truth, windows((10, 20))) == 0.0
    assert share_meeting(truth, windows((39, 41))) == pytest.approx(1 / 3)
    assert share_meeting(windows((4, 6), (6, 8), (12, 14), (29, 31)), truth) == pytest.approx(3 / 4)
    assert share_meeting(truth, []) == share_meeting([], truth) == 0.0
