"""Timecodes against those of OpenTimelineIO."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from opentimelineio import opentime

from clamr_cli.timecode import drops, frame_at, frame_number, frames_until, timecode

RATES = {
    "24000/1001": False,
    "24": False,
    "25": False,
    "30000/1001": True,
    "30": False,
    "50": False,
    "60000/1001": True,
}
BORDERS = [0, 1, 1799, 1800, 1801, 17981, 17982, 17983, 3599, 3600, 3601, 35963, 35964, 107892, 215784]


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("text", RATES)
def test_labels_are_those_of_the_standard(text, drop):
    rate = Fraction(text)
    assert bool(drops(rate)) == RATES[text]
    drop = drop and RATES[text]
    for number in (*BORDERS, *(random.Random(text).randrange(2_000_000) for _ in range(300))):
        label = timecode(number, rate, drop=drop)
        assert label == opentime.to_timecode(opentime.RationalTime(number, float(rate)), float(rate), drop_frame=drop)
        assert frame_number(label, rate) == number


def test_a_day_begins_anew():
    assert timecode(25 * 24 * 3600, Fraction(25)) == "00:00:00:00"
    day = frame_number("23:59:59;29", Fraction(30000, 1001)) + 1
    assert timecode(day, Fraction(30000, 1001), drop=True) == "00:00:00;00"
    assert frame_number("noon", Fraction(25)) == 0


@pytest.mark.parametrize("text", RATES)
def test_seconds_of_a_frame_name_that_frame(text):
    rate = Fraction(text)
    for number in range(0, 100_000, 997):
        for seconds in (float(number / rate), round(float(number / rate), 3)):
            assert frame_at(seconds, rate) == number
            assert frames_until(seconds, rate) == number
