"""SMPTE timecodes: labels of frames, which at 29.97 and 59.94 may leave out numbers to keep up with the clock."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from clamr_cli.types import MediaInfo, TimeBase

_TIMECODE: Final = re.compile(r"(\d\d):(\d\d):(\d\d)([:;])(\d\d\d?)")
_DAY: Final = 24 * 3600
_SLACK: Final = Fraction(1, 1000)
"""Seconds that times may be off by: they are floats, and rounded to milliseconds in records."""

STANDARD_RATES: Final = (
    *(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120)),
    *(Fraction(whole) for whole in (24, 25, 30, 48, 50, 60, 100, 120)),
)
"""The frame rates of cameras and editing programs."""

DEFAULT_RATE: Final = Fraction(25)
"""The frame rate of what has no picture."""


def rate_of(media: MediaInfo) -> Fraction:
    """The frame rate to count a video's frames by; :data:`DEFAULT_RATE` without a picture."""
    base = media.time_base
    rate = Fraction(base.rate) if base is not None else Fraction(media.fps).limit_denominator(1001)
    return rate or DEFAULT_RATE


def common_rate(seconds: Mapping[Fraction, float]) -> Fraction:
    """The frame rate for a list or a video made of several: that of most seconds which editing programs know.

    Where there is none, it is the smallest of theirs that is a multiple of the fastest; ``seconds`` are by rate.

    >>> common_rate({Fraction(10): 60.0, Fraction(25): 5.0, Fraction(50): 1.0}), common_rate({Fraction(15): 1.0})
    (Fraction(25, 1), Fraction(30, 1))
    """
    known = [rate for rate in seconds if rate in STANDARD_RATES]
    if known:
        return max(known, key=lambda rate: seconds[rate])
    fastest = max(seconds, default=DEFAULT_RATE)
    multiples = (rate for rate in sorted(STANDARD_RATES) if rate >= fastest and (rate / fastest).denominator == 1)
    return next(multiples, DEFAULT_RATE if fastest < DEFAULT_RATE else fastest)


def drops(rate: Fraction) -> int:
    """The frame numbers that a drop-frame timecode leaves out a minute; 0 at rates that have none."""
    return round(rate) // 15 if rate.denominator == 1001 and round(rate) % 30 == 0 else 0


def timecode(frames: int, rate: Fraction, *, drop: bool = False) -> str:
    """The label of a frame, counted from 00:00:00:00; after a day it begins anew.

    >>> timecode(1800, Fraction(30000, 1001), drop=True)
    '00:01:00;02'
    """
    whole, dropped = max(1, round(rate)), drops(rate) if drop else 0
    if dropped:
        tens, left = divmod(frames % (_DAY * whole - 144 * 9 * dropped), 600 * whole - 9 * dropped)
        frames = tens * 600 * whole + left
        if left >= 60 * whole:
            frames += dropped * ((left - 60 * whole) // (60 * whole - dropped) + 1)
    seconds, frame = divmod(frames % (_DAY * whole), whole)
    digits = len(str(whole - 1)) if whole > 100 else 2
    mark = ";" if dropped else ":"
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frame:0{digits}}"


def frame_number(label: str, rate: Fraction) -> int:
    """The number of the frame that a timecode labels; 0 for what is no timecode.

    >>> frame_number("01:00:00;00", Fraction(30000, 1001))
    107892
    """
    match = _TIMECODE.fullmatch(label)
    if match is None:
        return 0
    hours, minutes, seconds, frames = (int(match[part]) for part in (1, 2, 3, 5))
    whole, dropped = max(1, round(rate)), drops(rate) if match[4] == ";" else 0
    passed = 60 * hours + minutes
    return (60 * passed + seconds) * whole + frames - dropped * (passed - passed // 10)


def start_frame(base: TimeBase | None, rate: Fraction) -> int:
    """The number that the timecode of a file gives to its first frame."""
    return frame_number(base.timecode, rate) if base is not None else 0


def frame_at(seconds: float, rate: Fraction) -> int:
    """The frame that is on screen at a second."""
    return math.floor(Fraction(seconds) * rate + _SLACK * rate)


def frames_until(seconds: float, rate: Fraction) -> int:
    """The number of frames that begin before a second."""
    return math.ceil(Fraction(seconds) * rate - _SLACK * rate)
