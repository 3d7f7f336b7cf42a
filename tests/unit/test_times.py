"""Times as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.text import file_time, format_time, parse_time


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
