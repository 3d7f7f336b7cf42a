"""The time line of a video: windows, pauses and time codes. Pure.

All times are seconds from the start of the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from clamr_cli.errors import UsageError
from clamr_cli.types import MediaInfo, Span

SHORTEST_PAUSE = 0.3
"""Seconds of silence between two stretches of speech below which it is breath, not a pause."""

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")
_UNITS = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def windows(
    duration: float, *, longest: float = 60.0, pauses: Sequence[Span] = (), cuts: Sequence[float] = ()
) -> list[Span]:
    """Cut a video into consecutive windows that tile ``[0, duration]``.

    A cut falls in the middle of a speech pause where there is one, else at a shot cut, else at the limit. Of several
    pauses (or cuts) the latest is taken, so that windows stay long. No window is longer than ``longest``, and none is
    shorter than a third of it, unless the whole video is.

    Args:
        duration: seconds; a video of zero length gives one empty window.
        longest: seconds a window may last, at least one.
        pauses: stretches without speech, in any order.
        cuts: times of shot changes, in any order.

    Raises:
        UsageError: when ``longest`` is below one second or no number.
    """
    if not longest >= 1.0:
        raise UsageError(f"a window of {longest:g} seconds is too short", "give at least 1 second")
    duration = max(0.0, duration) if math.isfinite(duration) else 0.0
    middles = sorted((pause.start + pause.end) / 2 for pause in pauses)
    preferences = (middles, sorted(cuts))
    spans: list[Span] = []
    start = 0.0
    while duration - start > longest:
        end = _next_cut(start, duration, longest, preferences)
        spans.append(Span(start, end))
        start = end
    return [*spans, Span(start, duration)]


def _next_cut(start: float, duration: float, longest: float, preferences: Sequence[Sequence[float]]) -> float:
    shortest = longest / 3
    latest = start + longest
    if duration - latest < shortest:
        # The remainder must not become a sliver: leave it a third of a window.
        latest = duration - shortest
    for times in preferences:
        fitting = [time for time in times if start + shortest <= time <= latest]
        if fitting:
            return fitting[-1]
    return latest


def pauses(speech: Sequence[Span], duration: float) -> list[Span]:
    """The stretches of ``[0, duration]`` without speech that last at least :data:`SHORTEST_PAUSE`, in order."""
    silences: list[Span] = []
    end = 0.0
    for span in [*sorted(speech), Span(duration, duration)]:
        start = min(span.start, duration)
        if start - end >= SHORTEST_PAUSE:
            silences.append(Span(end, start))
        end = max(end, span.end)
    return silences


def format_time(seconds: float) -> str:
    """A time as people write it, ``m:ss`` or ``h:mm:ss``; fractions are cut off, as players do.

    >>> format_time(3725.9)
    '1:02:05'
    """
    whole = int(seconds) if math.isfinite(seconds) and seconds > 0 else 0
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def readable_part(media: MediaInfo) -> str:
    """A sentence on how much of an incomplete file can be read; empty where nothing is missing."""
    if not media.incomplete:
        return ""
    content, header = media.duration_from_content or 0.0, media.duration_from_header or 0.0
    part = f"only {format_time(content)}.{int(content * 10) % 10}"
    whole = f" of {format_time(header + 0.5)}" if header > content else ""
    return f"{part}{whole} can be read: the file may be incomplete"


def file_time(seconds: float) -> str:
    """A time as part of a file name, to the millisecond; names sort as times do.

    >>> file_time(723.5)
    '00-12-03.500'
    """
    whole, thousandths = divmod(round(max(0.0, seconds) * 1000), 1000)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}-{minutes:02}-{left:02}.{thousandths:03}"


def parse_time(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``1:30``, ``1:02:03``, ``2m`` or ``1h30m``.

    Raises:
        UsageError: when the text is none of these, or minutes or seconds of a clock time exceed 59.
    """
    cleaned = text.strip().lower()
    clock = _CLOCK.fullmatch(cleaned)
    if clock and cleaned.isascii():
        hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if seconds < 60 and (minutes < 60 or clock[1] is None):
            return hours * 3600 + minutes * 60 + seconds
    units = _UNITS.fullmatch(cleaned)
    if cleaned and units and cleaned.isascii():
        return sum(float(part or 0) * factor for part, factor in zip(units.groups(), (3600, 60, 1), strict=True))
    raise UsageError(f"invalid time: {text!r}", "write it like 90, 90s, 1:30, 1:02:03, 2m or 1h30m")
