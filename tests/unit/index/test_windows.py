"""Windows tile the time line, and cuts fall into pauses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.index.documents import pauses, windows
from clamr_cli.types import Span

seconds = st.floats(0, 20_000, allow_nan=False)


@pytest.mark.slow
@given(
    duration=seconds,
    longest=st.floats(5, 600),
    pause_times=st.lists(st.tuples(seconds, st.floats(0, 5)), max_size=40),
    cuts=st.lists(seconds, max_size=40),
)
def test_windows_tile_the_video_and_are_neither_long_nor_short(duration, longest, pause_times, cuts):
    found = windows(duration, longest=longest, pauses=[Span(a, a + b) for a, b in pause_times], cuts=cuts)
    assert found[0].start == 0
    assert found[-1].end == duration
    assert all(before.end == after.start for before, after in pairwise(found))
    assert max(window.duration for window in found) <= longest * (1 + 1e-9)
    if duration > longest:
        assert min(window.duration for window in found) >= longest / 3 * (1 - 1e-9)
    else:
        assert len(found) == 1


def test_a_window_ends_in_the_middle_of_the_last_pause_that_fits():
    found = windows(100, pauses=[Span(30, 32), Span(50, 52), Span(61, 70)], cuts=[55])
    assert found == [Span(0, 51), Span(51, 100)]


def test_a_window_ends_at_a_cut_where_there_is_no_pause_and_at_the_limit_where_there_is_neither():
    assert windows(100, cuts=[10, 41]) == [Span(0, 41), Span(41, 100)]
    assert windows(150) == [Span(0, 60), Span(60, 120), Span(120, 150)]


def test_the_rest_of_a_video_is_no_sliver():
    assert windows(65) == [Span(0, 45), Span(45, 65)]


@pytest.mark.parametrize("duration", [0.0, -3.0, math.nan, math.inf])
def test_a_video_without_a_length_is_one_empty_window(duration):
    assert windows(duration) == [Span(0, 0)]


@pytest.mark.parametrize("longest", [0.0, -1.0, math.nan])
def test_impossible_windows_are_refused(longest):
    with pytest.raises(UsageError):
        windows(10, longest=longest)


def test_pauses_lie_between_speech_also_where_it_overlaps_or_is_unsorted():
    assert pauses([Span(5, 7), Span(1, 6), Span(7.1, 8)], 10) == [Span(0, 1), Span(8, 10)]
    assert pauses([], 10) == [Span(0, 10)]
    assert pauses([Span(0, 12)], 10) == []
