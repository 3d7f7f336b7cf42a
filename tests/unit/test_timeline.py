"""Windows tile the time line, pauses are found, times are written and read."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.timeline import file_time, format_time, parse_time, pauses, windows
from clamr_cli.types import Span

seconds = st.floats(0, 20_000, allow_nan=False)


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0:00"), (59.99, "0:59"), (61, "1:01"), (3725.9, "1:02:05"), (-1, "0:00"), (math.nan, "0:00")],
)
def test_times_are_written_as_players_do(value, text):
    assert format_time(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "00-00-00.000"),
        (723.5, "00-12-03.500"),
        (3599.9996, "01-00-00.000"),
        (360000.001, "100-00-00.001"),
        (-1, "00-00-00.000"),
    ],
)
def test_times_in_file_names_sort_as_times_do(value: float, text: str) -> None:
    assert file_time(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("90", 90), ("1:30", 90), ("1:02:03", 3723), ("90s", 90), ("2m", 120), ("1h30m", 5400)],
        *[(" 1.5 ", 1.5), ("75:00", 4500), ("0:00.5", 0.5), ("1h5", 3605)],
    ],
)
def test_times_are_read(text, value):
    assert parse_time(text) == value


@pytest.mark.parametrize("text", ["", "abc", "-5", "1:75", "1:75:00", "1:2:3:4", "s", "h", "2m 5s", "nan", "1e3", "٣"])
def test_what_is_no_time_is_refused_by_name(text):
    with pytest.raises(UsageError, match="invalid time"):
        parse_time(text)


@given(st.integers(0, 1_000_000))
def test_written_times_read_back(value):
    assert parse_time(format_time(value)) == value
