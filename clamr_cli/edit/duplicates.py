"""Videos that show the same, wholly or in part, and the ranges where they do; by fingerprints alone.

1. Hashes of all videos that share enough bits at the same distance in time make two videos candidates.
2. Of two candidates every pair of hashes is compared. A histogram over offset and speed gives the line along which the
   most agree; the stretch of that line where they agree is a range. This is repeated for the rest.
3. Ranges are compared in sound, where both videos have it. Where they do not sound alike, the sound itself is searched
   for ranges, at all offsets.
4. A range of few different pictures without such sound counts if what changes in them is the same: their levels, about
   the mean of the range, tell its pictures apart by more than the two videos differ.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.files import readable_now
from clamr_cli.index.prints import (
    What,
    has_close_prints,
    make_prints,
    stored_close_prints,
    stored_levels,
    stored_prints,
    stored_sounds,
)
from clamr_cli.media.prints import CLOSE, CUT, FLAT, INTERVAL, LEVELS, MIRROR, SOUND_RATE, Prints
from clamr_cli.text import plural
from clamr_cli.types import FileRecord, FileState, Span, VideoRecord

if TYPE_CHECKING:
    from clamr_cli.store import Store

Kind = Literal["copy", "same", "cut", "part", "intro", "outro"]
Sound = Literal["same", "other", ""]

MOST_SPEED: Final = 0.055
"""Difference of speed at most: film at 25 frames a second is 4.3 % faster than at 23.976."""

_TABLES: Final = 8  # draws of bits by which candidates are looked for
_MORE_TABLES: Final = 24  # of a small library
_SMALL: Final = 200_000  # hashes of a small library at most
_USED_BITS: Final = 40  # the lowest frequencies, which change least
_NEIGHBOURS: Final = 24  # hashes with the same drawn bits that one is paired with at most
_OF_ONE: Final = 2  # hashes of one video with the same drawn bits that are used at most
_BIN: Final = 16.0  # seconds of offset that count as the same for candidates
_MOST_CANDIDATES: Final = 200_000
_COMPARISONS: Final = 4 * 10**9  # of two hashes, about half a minute, for which candidates are taken by their votes
_COMPARISONS_EACH: Final = 2000  # more of them for each hash of the library
_MOST_HEARD: Final = 20_000  # of those, whose pictures share no range, that are compared in sound
_HEARD_SECONDS: Final = 10**7  # of sound, a few minutes of work, up to which all pairs are
_NEAR: Final = 14  # differing bits up to which two hashes vote for an offset
_EVEN: Final = 21.0  # differing bits that speak neither for nor against the same picture
_MOST_DIFFERENT: Final = 18.0  # differing bits of a range at most, on average
_CHANGING: Final = 3.0  # bits by which a range must be more alike than its pictures are at other times of it
_CHANGING_BY: Final = 0.6  # the same, for each bit that differs
_PICTURES: Final = 3  # pictures of a range of which no two are alike, from which it is more than a still and its change
_CHANGING_FEW: Final = 2.5  # as above, of a range of few pictures
_MANY_PICTURES: Final = 8  # the same, from which they alone, without sound, show that nothing is lost with a file
_SHIFT: Final = 2.0  # seconds at most that pictures lie apart that are compared as being of other times
_COMPARED: Final = 400  # pictures of each video that are
_ALL_OF_IT: Final = 0.98  # share of a file from which nothing is lost with it
_SAME_SPEED: Final = 0.005
_GAP: Final = 2.0  # seconds of other pictures inside a range from which it is not the same throughout
_WINDOW: Final = 10 * SOUND_RATE  # of the sound, each of which is compared for that
_CELLS: Final = 1 << 22  # comparisons at a time
_MOST_POINTS: Final = 60_000
_OFF: Final = 0.6  # seconds between two pictures that count as simultaneous
_LONG_ENOUGH: Final = 20.0  # seconds from which the speed of a range can be told
_USUAL_SPEEDS: Final = (24 / 25, 25 / 24, 25 * 1.001 / 24, 24 / (25 * 1.001), 1.04, 1 / 1.04)
_LEAST: Final = 3.0  # seconds of a range at least
_EVIDENCE: Final = 2.5  # sum of agreement of a range at least: as many wholly equal pictures
_MOST_RANGES: Final = 24
_OF_THIRD: Final = 100  # ranges of a third video at most by which others are compared
_HINTS: Final = 3  # pictures that must agree for two videos to be looked at more closely
_HINT_BIN: Final = 4.0  # half the seconds of offset at which they must
_WHOLE: Final = 0.85  # share of a video from which all of it is covered
_EDGE: Final = 6.0  # seconds from the start or end of a video within which an intro or an outro lies
_SHORT: Final = 120.0  # seconds of a video that is decoded wholly without much cost
_SOUND_SAME: Final = 0.55
_SOUND_LAG: Final = 15  # steps of the sound by which ranges may be off
_QUIET: Final = 60  # level (of 255) up to which sound is silence
_LEAST_SOUND: Final = 2 * SOUND_RATE
_LAGS: Final = 3  # offsets of each speed at which signals are compared
_AGREED: Final = 1.5  # seconds of full correlation, less what speaks for neither, of a range of signals at least
_SURE: Final = 2.5  # the same, from which the sound is the same beyond doubt, and pictures need not be as alike
_STILL_ALIKE: Final = 22.0  # differing bits of pictures then; of unrelated ones they are about 32
_EVEN_SIGNAL: Final = 0.35  # correlation of two seconds that speaks neither for nor against the same signal
_SAME_LEVELS: Final = 0.55  # part of the pictures that is the same where the sound is beyond doubt
_SOME_LEVELS: Final = 0.2  # the same, where the hashes are alike
_LEVEL_OFF: Final = 12.0  # difference of two levels (of 256) that count as the same
_FEW: Final = 0.02  # part of the pictures that shows too little to be compared
_MARKED: Final = 14.0  # mean difference of levels from which something lies on a part of the picture
_UNMARKED: Final = 3.0  # mean difference of levels of the other parts at most
_LEVEL_RATE: Final = 4  # levels a second where their changes are compared, unless closely
_MOVED: Final = 2.0  # seconds of full correlation, less what speaks for neither, of a range that was looked at closely
_RIVAL: Final = 0.35  # part of it that agrees at another offset at most
_ALIKE: Final = 0.45  # difference of two videos at most, against that of other times
_ALIKE_BY: Final = 0.15  # the same, for each picture that is told apart but two
_ALIKE_TWO: Final = 0.06  # the same, of two pictures
_KEPT_LEVELS: Final = 256  # videos whose levels are kept in memory
_KEPT_CLOSE: Final = 32  # the same, where they are looked at closely
_LONGEST_CLOSE: Final = 900.0  # seconds of a video that is looked at closely
_NOISE: Final = 1.0  # difference of levels, on average, that compression alone makes


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of one video that another shows, too.

    ``speed`` is seconds of ``b`` for a second of ``a``; ``distance`` the mean number of differing bits of 64;
    ``change`` how many more differ between pictures of other times in the range, about 0 where the picture stays;
    ``pictures`` how many there are of which no two are alike, counted up to 8; ``throughout`` whether no two seconds of
    pictures and no ten of sound differ. ``sound`` is empty where it could not be compared.
    """

    a: Span
    b: Span
    speed: float
    distance: float
    change: float
    pictures: int = 0
    throughout: bool = False
    mirrored: bool = False
    sound: Sound = ""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The ranges that two videos share; ``a`` and ``b`` are their numbers, the shares parts of their lengths."""

    a: int
    b: int
    ranges: tuple[Range, ...]
    share_a: float
    share_b: float
    kind: Kind

    @property
    def share(self) -> float:
        """The greater share, which is that of the shorter video."""
        return max(self.share_a, self.share_b)

    @property
    def similarity(self) -> float:
        """Mean agreement of the pictures, 1 where they are equal, about 0 where they have nothing in common."""
        weights = [one.a.duration for one in self.ranges]
        return float(1 - np.average([one.distance for one in self.ranges], weights=weights) / 32)

    @property
    def sound(self) -> Sound:
        heard = {one.sound for one in self.ranges} - {""}
        return "other" if "other" in heard else "same" if heard else ""


# --- candidates -------------------------------------------------------------------------------------------------------


def candidates(videos: Sequence[Prints], chosen: Sequence[bool] | None = None) -> list[tuple[int, int, bool]]:
    """Pairs of videos that may share something, the most promising first, and whether one is mirrored.

    Hashes are sorted by drawn bits, some draws one after the other: memory peaks at about 360 bytes for each hash.
    ``chosen`` marks the videos of which one must be in every pair. How many there are is bounded by the time that a
    closer look at them takes.
    """
    hashes, times, owners = _changing(videos)
    if not len(hashes):
        return []
    count = len(videos)
    hashes = np.concatenate([hashes, hashes ^ MIRROR])
    times, owners = np.tile(times, 2), np.tile(owners, 2)
    turned = np.arange(len(hashes)) >= len(hashes) // 2
    draw = np.random.default_rng(20)
    width = int(np.clip(np.log2(len(hashes)) + 1, 12, 26))
    wanted = None if chosen is None else np.asarray(chosen, bool)
    keys = np.zeros(0, np.int64)
    amounts = np.zeros(0, np.int64)
    for _ in range(_MORE_TABLES if len(hashes) <= 2 * _SMALL else _TABLES):
        mask = np.bitwise_or.reduce(np.uint64(1) << draw.permutation(_USED_BITS)[:width].astype(np.uint64))
        masked = hashes & mask
        order = np.argsort(masked, kind="stable")
        # Of the hashes of one video with the same bits a few are enough.
        run = (masked[order][1:] == masked[order][:-1]) & (owners[order][1:] == owners[order][:-1])
        keep = np.ones(len(order), bool)
        keep[_OF_ONE:] = ~np.logical_and.reduce([run[_OF_ONE - 1 - k : len(run) - k] for k in range(_OF_ONE)])
        order = order[keep]
        masked = masked[order]
        found = []
        for step in range(1, _NEIGHBOURS + 1):
            places = np.flatnonzero(masked[step:] == masked[:-step])
            if not len(places):
                break
            first, second = order[places], order[places + step]
            # The plain hashes of one video are compared with the plain or the mirrored ones of another.
            keep = (owners[first] != owners[second]) & ~(turned[first] & turned[second])
            if wanted is not None:
                keep &= wanted[owners[first]] | wanted[owners[second]]
            first, second = first[keep], second[keep]
            a, b = np.minimum(owners[first], owners[second]), np.maximum(owners[first], owners[second])
            swap = owners[first] > owners[second]
            offset = np.where(swap, times[first] - times[second], times[second] - times[first])
            bins = np.floor(offset / _BIN).astype(np.int64) + 16_384
            mirrored = (turned[first] | turned[second]).astype(np.int64)
            found.append((((a.astype(np.int64) * count + b) * 2 + mirrored) << 15) | np.clip(bins, 0, 32_767))
        if found:
            new, amount = np.unique(np.concatenate(found), return_counts=True)
            keys, amounts = _added(keys, amounts, new, amount)
    pairs = keys >> 15
    by_votes = np.lexsort((keys, -amounts))
    _, firsts = np.unique(pairs[by_votes], return_index=True)
    best = pairs[by_votes[np.sort(firsts)][:_MOST_CANDIDATES]]
    a, b = np.divmod(best >> 1, count)
    # Of long videos nearly all pairs have some votes by chance.
    sizes = np.array([len(video.hashes) for video in videos])
    affordable = np.cumsum(sizes[a] * sizes[b]) <= _COMPARISONS + _COMPARISONS_EACH * int(sizes.sum())
    return list(
        zip(a[affordable].tolist(), b[affordable].tolist(), (best & 1)[affordable].astype(bool).tolist(), strict=True)
    )


def _added(
    keys: NDArray[np.int64], amounts: NDArray[np.int64], new: NDArray[np.int64], more: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of keys with further ones."""
    both, inverse = np.unique(np.concatenate([keys, new]), return_inverse=True)
    total = np.bincount(inverse, np.concatenate([amounts, more])).astype(np.int64)
    return both, total


def _changing(videos: Sequence[Prints]) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int32]]:
    """Hashes, times and numbers of the videos of all pictures that are not of one colour nor as the one before."""
    hashes, times, owners = [], [], []
    for number, video in enumerate(videos):
        keep = video.hashes != FLAT
        keep[1:] &= np.bitwise_count(video.hashes[1:] ^ video.hashes[:-1]) > 1
        hashes.append(video.hashes[keep])
        times.append(video.times[keep])
        owners.append(np.full(int(keep.sum()), number, np.int32))
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(0, np.int32)
    return np.concatenate(hashes), np.concatenate(times), np.concatenate(owners)


# --- ranges -----------------------------------------------------------------------------------------------------------


def shared_ranges(a: Prints, b: Prints, length_a: float, length_b: float, *, mirrored: bool = False) -> list[Range]:
    """The ranges that two videos share, by time in ``a``."""
    hashes_b = np.where(b.hashes == FLAT, FLAT, b.hashes ^ MIRROR) if mirrored else b.hashes
    rows, columns = _near_points(a.hashes, hashes_b)
    ranges: list[Range] = []
    while len(ranges) < _MOST_RANGES and len(rows) >= 2:
        ta, tb = a.times[rows].astype(np.float64), b.times[columns].astype(np.float64)
        speed, offset, votes = _best_line(rows, ta, columns, tb, min(length_a, length_b))
        if votes < 1.2:
            break
        found = _follow(a, b, hashes_b, speed, offset)
        if found is None:
            # Nothing along this line: its points vote no more.
            keep = np.abs(tb - speed * ta - offset) > 1.0
        else:
            one, start, end = found
            low, high = a.times[start] - 0.01, a.times[end] + 0.01
            in_b = (tb >= one.b.start - 0.5) & (tb <= one.b.end + 0.5)
            keep = ~((ta >= low) & (ta <= high) & in_b)
            on_line = np.abs(tb - speed * ta - offset) <= 1.0
            keep &= ~on_line
            ranges.append(_to_ends(replace(one, mirrored=mirrored), length_a, length_b))
        rows, columns = rows[keep], columns[keep]
    return _apart(ranges)


def _apart(ranges: Sequence[Range]) -> list[Range]:
    """Those ranges that are not mostly inside better ones, in either video, by time."""
    kept: list[Range] = []
    for one in sorted(ranges, key=lambda one: -one.a.duration * (1 - one.distance / 32)):
        inside = any(
            _common(one.a, other.a) > 0.5 * one.a.duration or _common(one.b, other.b) > 0.5 * one.b.duration
            for other in kept
        )
        if not inside:
            kept.append(one)
    return sorted(kept, key=lambda one: one.a)


def _common(one: Span, other: Span) -> float:
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))


def _near_points(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the hashes of ``a`` and ``b`` that are alike, at most some tens of thousands."""
    rows, columns = [], []
    valid = b != FLAT
    step = max(1, _CELLS // max(1, len(b)))
    for start in range(0, len(a), step):
        part = a[start : start + step]
        near = np.bitwise_count(part[:, None] ^ b[None, :]) <= _NEAR
        near &= valid & (part != FLAT)[:, None]
        row, column = np.divmod(np.flatnonzero(near), len(b))
        rows.append(row + start)
        columns.append(column)
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row, column = np.concatenate(rows), np.concatenate(columns)
    if len(row) > _MOST_POINTS:
        # Still pictures agree with each other everywhere; the pictures that agree with few say more.
        alike = np.bincount(row, minlength=len(a))[row] * np.bincount(column, minlength=len(b))[column]
        keep = np.sort(np.argsort(alike, kind="stable")[:_MOST_POINTS])
        row, column = row[keep], column[keep]
    return row, column


def _best_line(
    rows: NDArray[np.int64],
    ta: NDArray[np.float64],
    columns: NDArray[np.int64],
    tb: NDArray[np.float64],
    length: float,
) -> tuple[float, float, float]:
    """Speed and offset with the most votes, and their number. A picture that is like many has a part of a vote each."""
    weights = 1.0 / np.sqrt(np.bincount(rows)[rows] * np.bincount(columns)[columns])
    steps = int(min(MOST_SPEED * length, 30.0))
    best = (1.0, 0.0, 0.0)
    middle = float(np.average(ta, weights=weights))
    # Plain speed first: others must be better.
    for step in sorted(range(-steps, steps + 1), key=abs):
        speed = 1.0 + MOST_SPEED * step / max(1, steps)
        offsets = tb - middle - speed * (ta - middle)
        bins = np.floor(offsets * 2).astype(np.int64)
        low = int(bins.min())
        counts = np.convolve(np.bincount(bins - low, weights), np.ones(2), "full")
        top = int(np.argmax(counts))
        if counts[top] > best[2] * 1.1:
            best = (speed, (top + low) / 2 + middle - speed * middle, float(counts[top]))
    return best


def _follow(
    a: Prints, b: Prints, hashes_b: NDArray[np.uint64], speed: float, offset: float
) -> tuple[Range, int, int] | None:
    """The best stretch along a line, with the numbers of its first and last hash in ``a``; None where there is none."""
    ta, tb = a.times.astype(np.float64), b.times.astype(np.float64)
    result: tuple[Range, int, int] | None = None
    best = _EVIDENCE
    tried = [(speed, offset)]
    # The line is moved and turned as long as more agrees along it.
    for _ in range(5):
        improved = False
        for line in tried:
            distances, partners = _along(a, hashes_b, ta, tb, *line)
            off = np.abs(tb[partners] - line[0] * ta - line[1])
            gains = np.where(np.isnan(distances), 0.0, np.clip(1 - distances / _EVEN, -1, 1) - 0.2 * off)
            gains[partners < 0] = -4.0
            start, end, total = _best_stretch(gains)
            good = np.arange(start, end + 1)
            good = good[~np.isnan(distances[good])]
            gained = 1.0 if result is None else 1.001 if line[0] == result[0].speed else 1.015
            if total < best * gained or len(good) < 3:
                continue
            matched = good[distances[good] <= _EVEN]
            if len(matched) < 3 or ta[end] - ta[start] + INTERVAL < _LEAST:
                continue
            mean = float(distances[good].mean())
            if mean > _MOST_DIFFERENT:
                continue
            span_a = Span(float(ta[start]), float(ta[end]))
            span_b = Span(*(float(line[0] * ta[place] + line[1]) for place in (start, end)))
            result = Range(span_a, span_b, line[0], mean, 0.0), start, end
            best, improved = total, True
            fit = ta[matched], tb[partners[matched]], 1.0 / (1.0 + distances[matched])
        if not improved:
            break
        assert result is not None
        x, y, weights = fit
        speeds = {result[0].speed, 1.0}
        if np.ptp(x) >= _LONG_ENOUGH:
            slope = float(np.polyfit(x, y, 1, w=np.sqrt(weights))[0])
            speeds.update(each for each in (*_USUAL_SPEEDS, slope) if abs(each - 1) <= MOST_SPEED)
        tried = [(each, float(np.average(y - each * x, weights=weights))) for each in sorted(speeds)]
        speed, offset = result[0].speed, result[0].b.start - result[0].speed * result[0].a.start
        tried += [(speed, offset + step) for step in (-0.5, -0.25, -0.1, 0.1, 0.25, 0.5)]
    if result is None:
        return None
    one, start, end = result
    return _described(one, a, b, hashes_b), start, end


def _described(one: Range, a: Prints, b: Prints, hashes_b: NDArray[np.uint64]) -> Range:
    """A range with what its pictures say: ``distance``, ``change``, ``pictures`` and ``throughout``."""
    change, pictures = _changes(a, b.times, hashes_b, one)
    ta, tb = a.times.astype(np.float64), b.times.astype(np.float64)
    distances, _ = _along(a, hashes_b, ta, tb, one.speed, one.b.start - one.speed * one.a.start)
    agreed = ta[(ta >= one.a.start) & (ta <= one.a.end) & (distances <= _EVEN)]
    usual = float(np.median(np.diff(ta))) if len(ta) > 1 else INTERVAL
    throughout = bool(np.diff(agreed, prepend=one.a.start, append=one.a.end).max() <= _GAP + usual)
    return replace(one, change=change, pictures=pictures, throughout=throughout)


def _changes(a: Prints, times_b: NDArray[np.float32], hashes_b: NDArray[np.uint64], one: Range) -> tuple[float, int]:
    """``change`` and ``pictures`` of a range, by what lies in it alone."""
    pictures: list[NDArray[np.uint64]] = []
    times: list[NDArray[np.float64]] = []
    for moments, hashes, span in ((a.times, a.hashes, one.a), (times_b, hashes_b, one.b)):
        inside = np.flatnonzero((moments >= span.start - 0.01) & (moments <= span.end + 0.01) & (hashes != FLAT))
        pictures.append(hashes[inside])
        times.append(moments[inside].astype(np.float64))
    counted = min(_count_pictures(each) for each in pictures)
    first, second = (np.arange(0, len(each), max(1, -(-len(each) // _COMPARED))) for each in pictures)
    bits = np.bitwise_count(pictures[0][first][:, None] ^ pictures[1][second][None, :])
    apart = np.abs(one.b.start + one.speed * (times[0][first] - one.a.start)[:, None] - times[1][second][None, :])
    elsewhere = bits[apart > min(_SHIFT, one.b.duration / 3)]
    return (float(elsewhere.mean()) - one.distance if elsewhere.size else 0.0), counted


def _count_pictures(hashes: NDArray[np.uint64]) -> int:
    """The number of hashes of which no two are alike, at most 8: each stands for all that are like it."""
    count = 0
    while len(hashes) and count < _MANY_PICTURES:
        hashes = hashes[np.bitwise_count(hashes ^ hashes[0]) > _NEAR]
        count += 1
    return count


def _along(
    a: Prints,
    hashes_b: NDArray[np.uint64],
    ta: NDArray[np.float64],
    tb: NDArray[np.float64],
    speed: float,
    offset: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each hash of ``a`` the differing bits to the most similar one of ``b`` near its time, and which that is.

    NaN stands for pictures of one colour, and where ``b`` has no hash near; number -1 is outside of ``b``.
    """
    wanted = speed * ta + offset
    at = np.clip(np.searchsorted(tb, wanted) + np.arange(-2, 2)[:, None], 0, len(tb) - 1)
    off = np.abs(tb[at] - wanted)
    usable = (off <= _OFF) & (a.hashes != FLAT) & (hashes_b[at] != FLAT)
    bits = np.where(usable, np.bitwise_count(a.hashes ^ hashes_b[at]).astype(np.float64), np.inf)
    # Of pictures that are as similar the nearest in time.
    best = np.argmin(bits + 4 * off, axis=0)
    columns = np.arange(len(ta))
    distances, partners = bits[best, columns], at[best, columns]
    distances[np.isinf(distances)] = np.nan
    partners[(wanted < tb[0] - _OFF) | (wanted > tb[-1] + _OFF)] = -1
    return distances, partners


def _best_stretch(gains: NDArray[np.float64]) -> tuple[int, int, float]:
    """First and last place of the stretch with the greatest sum, and that sum."""
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    lows = np.minimum.accumulate(sums[:-1])
    rise = sums[1:] - lows
    end = int(np.argmax(rise))
    start = int(np.argmin(sums[: end + 1]))
    # Of equal sums the last start: pictures that say nothing belong to no range.
    start = end - int(np.argmin(sums[: end + 1][::-1])) if end >= start else start
    return start, end, float(rise[end])


def _to_ends(one: Range, length_a: float, length_b: float) -> Range:
    """A range out to where the pictures may still be the same: half the distance of two hashes, or an end nearby."""
    start, end = (
        min(one.a.start, one.b.start / one.speed),
        min(length_a - one.a.end, (length_b - one.b.end) / one.speed),
    )
    start, end = (max(0.0, room if room <= 2 * INTERVAL else INTERVAL / 2) for room in (start, end))
    # A line may leave the other video by the distance of two hashes.
    start_b, end_b = max(0.0, one.b.start - start * one.speed), min(length_b, one.b.end + end * one.speed)
    start_a = one.a.start + (start_b - one.b.start) / one.speed
    end_a = one.a.end + (end_b - one.b.end) / one.speed
    a, b = (start_a, min(length_a, end_a)), (start_b, end_b)
    return replace(one, a=Span(*(max(0.0, round(at, 3)) for at in a)), b=Span(*(max(0.0, round(at, 3)) for at in b)))


def may_share(a: Prints, b: Prints, *, mirrored: bool = False) -> bool:
    """Whether some pictures agree at about one offset, of videos whose hashes lie too far apart to be sure."""
    hashes_b = np.where(b.hashes == FLAT, FLAT, b.hashes ^ MIRROR) if mirrored else b.hashes
    rows, columns = _near_points(a.hashes, hashes_b)
    if len(rows) < _HINTS:
        return False
    bins = np.floor((b.times[columns] - a.times[rows]) / _HINT_BIN).astype(np.int64)
    for shift in (0, 1):
        places = (bins + shift) // 2
        for numbers in (rows, columns):
            # Each picture counts once at an offset.
            pairs = np.unique(np.stack([places, numbers], axis=1), axis=0)
            if np.unique(pairs[:, 0], return_counts=True)[1].max() < _HINTS:
                break
        else:
            return True
    return False


# --- pairs ------------------------------------------------------------------------------------------------------------


def overlaps(
    videos: Sequence[Prints],
    lengths: Sequence[float],
    *,
    chosen: Sequence[bool] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> list[Overlap]:
    """The pairs of videos that share a range, without regard to their sound.

    In a small library also the likeliest pairs that share none, or all, which may sound alike: their ranges are empty.

    Args:
        videos: their hashes.
        lengths: seconds of each.
        chosen: marks the videos of which one must be in every pair; all without.
        progress: called with how many candidates are compared, of how many.
    """
    pairs: dict[tuple[int, int], list[Range]] = {}
    todo = candidates(videos, chosen)
    is_small = sum(len(video.hashes) for video in videos) <= _SMALL
    for number, (a, b, mirrored) in enumerate(todo, 1):
        ranges = shared_ranges(videos[a], videos[b], lengths[a], lengths[b], mirrored=mirrored)
        if ranges or (is_small and number <= _MOST_HEARD):
            pairs[a, b] = _apart([*pairs.get((a, b), []), *ranges])
        if progress is not None and (number % 64 == 0 or number == len(todo)):
            progress(number, len(todo))
    if len(videos) * sum(lengths) <= _HEARD_SECONDS:
        shown = [number for number, video in enumerate(videos) if len(video.times)]
        for a, b in itertools.combinations(shown, 2):
            if chosen is None or chosen[a] or chosen[b]:
                pairs.setdefault((a, b), [])
    return [overlap_of(a, b, ranges, videos, lengths) for (a, b), ranges in sorted(pairs.items())]


def overlap_of(a: int, b: int, ranges: Sequence[Range], videos: Sequence[Prints], lengths: Sequence[float]) -> Overlap:
    """Two videos with their shares and the kind of what they share; what is of one colour outside is left out."""
    share_a = _share([one.a for one in ranges], videos[a], lengths[a])
    share_b = _share([one.b for one in ranges], videos[b], lengths[b])
    return Overlap(a, b, tuple(ranges), share_a, share_b, _kind(ranges, share_a, share_b, lengths[a], lengths[b]))


def _share(spans: Sequence[Span], video: Prints, length: float) -> float:
    covered = _covered(spans)
    steps = np.diff(video.times, append=np.float32(max(length, video.times[-1]))).astype(np.float64)
    times = video.times + steps / 2
    outside = ~np.any([(times >= span.start) & (times <= span.end) for span in spans], axis=0)
    flat = float(steps[outside & (video.hashes == FLAT)].sum())
    return min(1.0, covered / max(covered, length - flat, 1e-6))


def _covered(spans: Sequence[Span]) -> float:
    """Seconds that lie in at least one span."""
    covered, reached = 0.0, 0.0
    for span in sorted(spans):
        covered += max(0.0, span.end - max(span.start, reached))
        reached = max(reached, span.end)
    return covered


def _kind(ranges: Sequence[Range], share_a: float, share_b: float, length_a: float, length_b: float) -> Kind:
    if min(share_a, share_b) >= _WHOLE:
        return "same"
    if max(share_a, share_b) >= _WHOLE:
        return "cut"
    if len(ranges) == 1:
        if max(ranges[0].a.start, ranges[0].b.start) <= _EDGE:
            return "intro"
        if max(length_a - ranges[0].a.end, length_b - ranges[0].b.end) <= _EDGE:
            return "outro"
    return "part"


def compare_sound(one: Range, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Range:
    """A range that says whether it sounds alike in both videos, [n, 8] energies; not where one is silent or too short.

    The levels of each band are compared as they change over time, so that loudness and tone do not count.
    """
    times = np.arange(one.a.start, one.a.end, 1 / SOUND_RATE)
    first = np.round(times * SOUND_RATE).astype(np.int64)
    best = -1.0
    throughout = False
    compared = False
    # The pictures of a short range do not tell its speed; it turns about its middle.
    speeds = (one.speed,) if one.a.duration >= _LONG_ENOUGH else (one.speed, *_USUAL_SPEEDS)
    for speed, lag in itertools.product(speeds, range(-_SOUND_LAG, _SOUND_LAG + 1)):
        middle = (one.b.start + one.b.end) / 2
        places = middle + (times - (one.a.start + one.a.end) / 2) * speed
        second = np.round(places * SOUND_RATE).astype(np.int64) + lag
        inside = (first < len(a)) & (second < len(b)) & (second >= 0)
        if inside.sum() < _LEAST_SOUND:
            continue
        x, y = a[first[inside]].astype(np.float64), b[second[inside]].astype(np.float64)
        if min(x.max(), y.max()) <= _QUIET:
            continue
        compared = True
        alike = _correlation(x, y)
        if alike > best:
            best = alike
            windows = np.array_split(np.arange(len(x)), max(1, len(x) // _WINDOW))
            throughout = all(_sounds_alike(x[window], y[window]) for window in windows)
    if not compared:
        return replace(one, sound="")
    return replace(one, sound="same" if best >= _SOUND_SAME else "other", throughout=one.throughout and throughout)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = np.maximum(x, _QUIET), np.maximum(y, _QUIET)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    power = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / power if power else 0.0


def _sounds_alike(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether energies at the same times correlate, or both are silence."""
    return max(x.max(), y.max()) <= _QUIET or _correlation(x, y) >= _SOUND_SAME


def ranges_by_sound(
    a: Prints,
    b: Prints,
    lengths: tuple[float, float],
    sounds: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    with_levels: Callable[[], tuple[Prints, Prints]],
) -> list[Range]:
    """The ranges where two videos sound alike and their pictures do not differ, by time in ``a``.

    The changes of the energies are correlated at every offset, for which a picture that stays says nothing.
    ``with_levels`` is called where the levels of both are needed.
    """
    ranges: list[Range] = []
    x, y = (_changes_of_sound(sound) for sound in sounds)
    for speed, lag, span, agreed, _ in _stretches(x, y, SOUND_RATE):
        in_b = Span(*(min(max(0.0, moment * speed + lag), lengths[1]) for moment in (span.start, span.end)))
        found = Range(Span(span.start, min(lengths[0], span.end)), in_b, speed, 0.0, 0.0, sound="same")
        is_sure = agreed >= _SURE
        shown = [_shown(found, a, b, mirrored=mirrored) for mirrored in (False, True)]
        distance, count = min(shown)
        found = replace(found, distance=distance, mirrored=shown[1] < shown[0])
        if _looks_alike(found, *with_levels()) if is_sure else distance <= _MOST_DIFFERENT and count >= 3:
            hashes_b = _hashes(b, mirrored=found.mirrored)
            found = _described(_to_ends(found, *lengths), a, b, hashes_b)
            ranges.append(compare_sound(found, *sounds))
    return _apart(ranges)


def _hashes(video: Prints, *, mirrored: bool) -> NDArray[np.uint64]:
    """The hashes of a video, or of what a mirror shows of it."""
    return np.where(video.hashes == FLAT, FLAT, video.hashes ^ MIRROR) if mirrored else video.hashes


def _shown(one: Range, a: Prints, b: Prints, *, mirrored: bool) -> tuple[float, int]:
    """The differing bits of the pictures of a range on average, and how many pictures were compared."""
    ta, tb = a.times.astype(np.float64), b.times.astype(np.float64)
    distances, _ = _along(a, _hashes(b, mirrored=mirrored), ta, tb, one.speed, one.b.start - one.speed * one.a.start)
    shown = distances[(ta >= one.a.start) & (ta <= one.a.end) & ~np.isnan(distances)]
    return float(shown.mean()) if len(shown) else 0.0, len(shown)


def _stretches(
    x: NDArray[np.float64], y: NDArray[np.float64], rate: int, seconds: float = 2.0
) -> Iterator[tuple[float, float, Span, float, float]]:
    """The stretches where two signals [n, channels] of one rate correlate, the longest and most alike first.

    Each is speed, lag in seconds, the stretch of ``x``, how much agrees: seconds of full correlation, less what
    speaks for neither; and how much agrees at the best other lag. What was found is set to 0 in both signals.
    """
    window = np.ones(round(seconds * rate))
    for _ in range(_MOST_RANGES):
        likely: list[tuple[float, float, float, NDArray[np.int64], NDArray[np.int64]]] = []
        for speed, lag in _likely_lags(x, y, rate):
            places = np.arange(len(x))
            partners = np.round(places * speed + lag).astype(np.int64)
            inside = (partners >= 0) & (partners < len(y))
            places, partners = places[inside], partners[inside]
            if len(places) < _LEAST * rate:
                continue
            one, other = x[places], y[partners]
            products = np.stack([(one * other).sum(axis=1), (one * one).sum(axis=1), (other * other).sum(axis=1)])
            around = np.stack([np.convolve(row, window, "same")[: len(places)] for row in products])
            gains = around[0] / np.sqrt(np.maximum(around[1] * around[2], 1e-9)) - _EVEN_SIGNAL
            start, end, total = _best_stretch(np.where(np.minimum(around[1], around[2]) > 1e-6, gains, 0.0))
            likely.append((total / rate, speed, lag, places[start : end + 1], partners[start : end + 1]))
        best: tuple[float, float, float, NDArray[np.int64], NDArray[np.int64]] | None = None
        for each in likely:
            # Plain speed first: others must be better.
            if len(each[3]) >= _LEAST * rate and each[0] >= (1.05 * best[0] if best else _AGREED):
                best = each
        if best is None:
            return
        total, speed, lag, places, partners = best
        middle = (partners[0] + partners[-1]) / 2
        others = (each for each in likely if abs(each[1] / speed * (middle - lag) + each[2] - middle) > rate)
        rival = max((each[0] for each in others), default=0.0)
        x[places], y[partners] = 0.0, 0.0
        yield speed, lag / rate, Span(float(places[0]) / rate, float(places[-1] + 1) / rate), total, rival


def _likely_lags(x: NDArray[np.float64], y: NDArray[np.float64], rate: int) -> list[tuple[float, float]]:
    """Speeds and lags in steps at which two signals agree best, a few of each usual speed, plain speed first."""
    from scipy.fft import irfft, next_fast_len, rfft  # type: ignore[import-untyped]

    likely: list[tuple[float, float]] = []
    if min(len(x), len(y)) < _LEAST * rate:
        return likely
    for speed in (1.0, *_USUAL_SPEEDS):
        other = y[np.arange(0, len(y) - 1, speed).astype(np.int64)]
        size = next_fast_len(len(x) + len(other), real=True)
        agreed = irfft((np.conj(rfft(x, size, axis=0)) * rfft(other, size, axis=0)).sum(axis=1), size)
        lags = np.arange(1 - len(x), len(other))
        overlap = np.minimum(len(x), len(other) - lags) - np.maximum(0, -lags)
        scaled = np.where(overlap >= _LEAST * rate, agreed[lags] / np.sqrt(overlap), 0.0)
        for _ in range(_LAGS):
            top = int(np.argmax(scaled))
            likely.append((speed, float(lags[top] * speed)))
            scaled[max(0, top - rate // 2) : top + rate // 2 + 1] = 0.0
    return likely


def _changes_of_sound(sound: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The energies [n, 8] without silence, about their mean of two seconds, of spread 1 in each band."""
    levels = np.maximum(sound, _QUIET).astype(np.float64)
    if len(levels) < 2 * SOUND_RATE:
        return levels[:0]
    changes = _about_mean(levels, 2 * SOUND_RATE + 1)
    changes /= np.maximum(changes.std(axis=0), 1.0)
    return changes


def _about_mean(signal: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """A signal [n, channels] less its mean over a number of steps around."""
    sums = np.concatenate([np.zeros((1, signal.shape[1])), np.cumsum(signal, axis=0)])
    first = np.clip(np.arange(len(signal)) - steps // 2, 0, None)
    end = np.clip(np.arange(len(signal)) + steps // 2 + 1, None, len(signal))
    changes: NDArray[np.float64] = signal - (sums[end] - sums[first]) / (end - first)[:, None]
    return changes


# --- pictures that change a little ------------------------------------------------------------------------------------


def ranges_by_changes(
    a: Prints, b: Prints, lengths: tuple[float, float], *, mirrored: bool, close: bool = False
) -> list[Range]:
    """The ranges where what changes in the pictures is the same, by time in ``a``, though most of them stays.

    The hashes of such pictures agree at every offset. The changes of their levels are correlated as those of sound are.
    With ``close``, for fingerprints at a distance of :data:`CLOSE`, only ranges that are no chance: enough moves alike,
    and much less at other offsets, unlike a clock, or what compression changes at each keyframe of a still picture.
    """
    rate, parts, seconds = (round(1 / CLOSE), LEVELS, 1.0) if close else (_LEVEL_RATE, LEVELS // 2, 2.0)
    steps = round(2 * seconds * rate) + 1
    x, y = _changes_of_levels(a, rate, parts, steps), _changes_of_levels(b, rate, parts, steps, mirrored=mirrored)
    ranges: list[Range] = []
    for speed, lag, span, agreed, rival in _stretches(x, y, rate, seconds):
        if close and (agreed < _MOVED or rival > _RIVAL * agreed):
            continue
        in_b = Span(*(min(max(0.0, moment * speed + lag), lengths[1]) for moment in (span.start, span.end)))
        one = Range(Span(span.start, min(lengths[0], span.end)), in_b, speed, 0.0, 0.0, mirrored=mirrored)
        one = replace(one, distance=_shown(one, a, b, mirrored=mirrored)[0])
        if one.distance <= _MOST_DIFFERENT:
            ranges.append(_described(_to_ends(one, *lengths), a, b, _hashes(b, mirrored=mirrored)))
    return _apart(ranges)


def _changes_of_levels(
    video: Prints, rate: int, parts: int, steps: int, *, mirrored: bool = False
) -> NDArray[np.float64]:
    """The changes of the levels of parts of the pictures, so many along each side, some times a second, of spread 1.

    They are about the mean of some steps of one shot, so that a cut is no change; between two shots they are 0.
    """
    levels = video.levels.reshape(-1, parts, LEVELS // parts, parts, LEVELS // parts).mean(axis=(2, 4))
    signal = (levels[:, :, ::-1] if mirrored else levels).reshape(len(levels), -1)
    wanted = np.arange(0.0, float(video.times[-1]), 1 / rate)
    changes = np.zeros((len(wanted), signal.shape[1]))
    cuts = np.flatnonzero(np.abs(np.diff(signal, axis=0)).mean(axis=1) > CUT) + 1
    for first, end in itertools.pairwise([0, *cuts.tolist(), len(signal)]):
        inside = (wanted >= video.times[first]) & (wanted <= video.times[end - 1])
        if end - first > 1 and inside.any():
            shot = _at(video.times[first:end], signal[first:end], wanted[inside])
            changes[inside] = _about_mean(shot, steps)
    # Each moment counts as much, whether much moves in it or little, but for what compression alone makes.
    power = np.convolve((changes**2).mean(axis=1), np.full(2 * rate, 0.5 / rate), "same")
    changes /= np.sqrt(power[: len(changes), None] + _NOISE**2 / 4)
    return changes


def _at(times: NDArray[np.float32], values: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [n, channels] of ascending times at other ones, linearly between two."""
    place = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    part = np.clip((wanted - times[place]) / np.maximum(times[place + 1] - times[place], 1e-3), 0, 1)[:, None]
    between: NDArray[np.float64] = values[place] * (1 - part) + values[place + 1] * part
    return between


def _changes_alike(one: Range, a: Prints, b: Prints) -> tuple[float, int]:
    """The difference of two videos in a range, against that of other times, and the number of pictures it tells apart.

    The levels are compared about their mean of the range, without what stays: a logo, black bars, a brighter picture.
    Two pictures of a video are told apart that differ twice as much as the two videos do; counted up to 8.
    """
    from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

    inside = np.flatnonzero((a.times >= one.a.start) & (a.times <= one.a.end))
    inside = inside[:: max(1, -(-len(inside) // _COMPARED))]
    best = 1.0, 0
    if len(b.times) < 2 or len(inside) < 3:
        return best
    first = a.levels[inside].reshape(len(inside), -1).astype(np.float64)
    other = (b.levels[:, :, ::-1] if one.mirrored else b.levels).reshape(len(b.levels), -1).astype(np.float64)
    for shift in np.linspace(-_OFF, _OFF, 7):
        times = one.b.start + one.speed * (a.times[inside] - one.a.start) + shift
        there = (times >= b.times[0] - _OFF) & (times <= b.times[-1] + _OFF)
        if there.sum() < 3:
            continue
        x, y = first[there], _at(b.times, other, times[there])
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        y *= np.clip((x * y).sum() / max((y * y).sum(), 1e-9), 0.5, 2.0)
        differences = cdist(x, y, "cityblock") / x.shape[1]
        apart = np.abs(times[there][:, None] - times[there][None, :]) > min(_SHIFT, one.b.duration / 3)
        if not apart.any():
            continue
        same, elsewhere = float(np.diagonal(differences).mean()), float(differences[apart].mean())
        if same < best[0] * max(elsewhere, 1e-9):
            limit = max(2 * same, _NOISE)
            counts = [_count_apart(cdist(each, each, "cityblock") / x.shape[1] > limit) for each in (x, y)]
            best = same / max(elsewhere, 1e-9), min(counts)
    return best


def _count_apart(apart: NDArray[np.bool_]) -> int:
    """The number of pictures of which each two are apart [n, n], at most 8: each stands for all that are like it."""
    left, count = np.arange(len(apart)), 0
    while len(left) and count < _MANY_PICTURES:
        left = left[apart[left[0], left]]
        count += 1
    return count


def _looks_alike(one: Range, a: Prints, b: Prints) -> bool:
    """Whether the pictures of a range do not differ, of which something else says that they are the same."""
    return _same_levels(one, a, b) >= (_SOME_LEVELS if one.distance <= _STILL_ALIKE else _SAME_LEVELS)


def _same_levels(one: Range, a: Prints, b: Prints) -> float:
    """The part of the pictures of a range that shows the same, whatever a logo or a line of text covers of the rest."""
    inside = np.flatnonzero((a.times >= one.a.start) & (a.times <= one.a.end))
    wanted = one.b.start + one.speed * (a.times[inside] - one.a.start)
    partners = np.clip(np.searchsorted(b.times, wanted), 0, len(b.times) - 1)
    x, y = a.levels[inside].astype(np.float64), b.levels[partners].astype(np.float64)
    parts = [0.0]
    for other in (y, y[:, :, ::-1]):
        first, second = (each.reshape(len(each), -1) for each in (x, other))
        first, second = (each - np.median(each, axis=1, keepdims=True) for each in (first, second))
        spreads = [np.median(np.abs(each), axis=1, keepdims=True) + 2 for each in (first, second)]
        alike = np.abs(first * np.clip(spreads[1] / spreads[0], 0.5, 2.0) - second) < _LEVEL_OFF
        # What the one shows the other shows, too, where that has a logo and a line of text more.
        shown = [alike[np.abs(each) >= _LEVEL_OFF] for each in (first, second)]
        contained = max(float(each.mean()) if each.size > _FEW * alike.size else 1.0 for each in shown)
        parts.append(min(float(alike.mean()), contained) if alike.size else 0.0)
    return max(parts)


def differs_in_part(one: Range, a: Prints, b: Prints) -> bool:
    """Whether a small part of the pictures of a range differs, as where one video has a logo or text on them.

    The levels of each part are compared on average over time, and without what brightness and contrast change.
    """
    inside = np.flatnonzero((a.times >= one.a.start) & (a.times <= one.a.end))
    inside = inside[:: max(1, -(-len(inside) // _COMPARED))]
    if len(b.times) < 2 or not len(inside):
        return False
    x = a.levels[inside].reshape(len(inside), -1).astype(np.float64)
    wanted = one.b.start + one.speed * (a.times[inside] - one.a.start)
    y = _at(b.times, b.levels.reshape(len(b.levels), -1).astype(np.float64), wanted.astype(np.float64))
    x, y = x - np.median(x), y - np.median(y)
    clear = np.abs(x) >= _LEVEL_OFF
    contrast = float(np.clip(np.median(y[clear] / x[clear]), 0.5, 2.0)) if clear.any() else 1.0
    differences = contrast * x - y
    means = np.abs((differences - np.median(differences)).mean(axis=0))
    return bool(means.max() >= _MARKED and np.quantile(means, 0.75) <= _UNMARKED)


_ORDER: Final[tuple[Kind, ...]] = ("copy", "same", "cut", "part", "intro", "outro")


def _sure(one: Range, a: Prints, b: Prints) -> Range | None:
    """A range whose sound is compared, if it is no chance that the pictures agree; None otherwise."""
    if one.sound == "same":
        return one
    apart = _CHANGING_BY if one.pictures >= _MANY_PICTURES else _CHANGING_FEW
    if one.pictures >= _PICTURES and one.change >= max(_CHANGING, one.distance * apart):
        return one
    part, pictures = _changes_alike(one, a, b)
    if pictures < 2 or part > min(max(_ALIKE_BY * (pictures - 2), _ALIKE_TWO), _ALIKE):
        return None
    return replace(one, pictures=max(one.pictures, pictures))


def certain(
    overlap: Overlap,
    videos: Sequence[Prints],
    lengths: Sequence[float],
    sounds: Sequence[NDArray[np.uint8]],
    levelled: Callable[[int], Prints] | None = None,
    close: Callable[[int], Prints | None] | None = None,
) -> Overlap | None:
    """An overlap with its sound, without ranges that may agree by chance; None without any.

    Recordings of a camera that stands still, or of talks with slides of one design, look alike at every offset. Where
    both videos have sound, that gives the ranges of such pictures, elsewhere what changes in them, if it is enough.

    Args:
        overlap: two videos and the ranges that their hashes agree in.
        videos: the fingerprints of all.
        lengths: seconds of each.
        sounds: the energies of each, [n, 8].
        levelled: called with the number of a video whose levels are needed; ``videos`` have them without.
        close: called with the number of a video to be looked at closely, gives fingerprints at a distance of
            :data:`CLOSE` with their levels, None where there are none.
    """
    both, heard_by = (lengths[overlap.a], lengths[overlap.b]), (sounds[overlap.a], sounds[overlap.b])
    heard = [compare_sound(one, *heard_by) for one in overlap.ranges]
    a, b = videos[overlap.a], videos[overlap.b]

    def with_levels() -> tuple[Prints, Prints]:
        return (a, b) if levelled is None else (levelled(overlap.a), levelled(overlap.b))

    if any(one.sound != "same" for one in heard):
        a, b = with_levels()
    ranges = [sure for one in heard if (sure := _sure(one, a, b)) is not None]
    if not heard or any(one.sound != "same" for one in heard):
        ranges = _apart([*ranges, *ranges_by_sound(a, b, both, heard_by, with_levels)])
    if len(ranges) < len(heard):
        for mirrored in {one.mirrored for one in heard}:
            for one in ranges_by_changes(a, b, both, mirrored=mirrored):
                sure = _sure(compare_sound(one, *heard_by), a, b)
                ranges += [] if sure is None else [sure]
        ranges = _apart(ranges)
    if close is not None and len(ranges) < len(heard):
        close_a, close_b = close(overlap.a), close(overlap.b)
        if close_a is not None and close_b is not None:
            for mirrored in {one.mirrored for one in heard}:
                moved = ranges_by_changes(close_a, close_b, both, mirrored=mirrored, close=True)
                ranges += [compare_sound(one, *heard_by) for one in moved]
            ranges = _apart(ranges)
    return overlap_of(overlap.a, overlap.b, ranges, videos, lengths) if ranges else None


def implied(
    sure: Sequence[Overlap],
    videos: Sequence[Prints],
    lengths: Sequence[float],
    sounds: Sequence[NDArray[np.uint8]],
    levelled: Callable[[int], Prints],
) -> list[Overlap]:
    """The pairs not among ``sure`` of which both share the same with a third video, and look alike there.

    The arguments are those of :func:`certain`.
    """
    shared: defaultdict[int, list[tuple[int, Range]]] = defaultdict(list)
    for pair, one in ((each, one) for each in sure for one in each.ranges):
        shared[pair.a].append((pair.b, one))
        shared[pair.b].append((pair.a, replace(one, a=one.b, b=one.a, speed=1 / one.speed)))
    known = {(pair.a, pair.b) for pair in sure}
    new: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    thirds: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for third, others in shared.items():
        for (a, to_a), (b, to_b) in itertools.combinations(sorted(others[:_OF_THIRD], key=lambda other: other[0]), 2):
            common = max(to_a.a.start, to_b.a.start), min(to_a.a.end, to_b.a.end)
            if a == b or (a, b) in known or common[1] - common[0] < _LEAST:
                continue
            span_a, span_b = (
                Span(*(max(0.0, one.b.start + (moment - one.a.start) * one.speed) for moment in common))
                for one in (to_a, to_b)
            )
            mirrored = to_a.mirrored != to_b.mirrored
            found = Range(span_a, span_b, to_b.speed / to_a.speed, 0.0, 0.0, mirrored=mirrored)
            found = replace(found, distance=_shown(found, videos[a], videos[b], mirrored=mirrored)[0])
            if _looks_alike(found, levelled(a), levelled(b)):
                found = _described(found, videos[a], videos[b], _hashes(videos[b], mirrored=mirrored))
                new[a, b].append(compare_sound(found, sounds[a], sounds[b]))
                thirds[a, b].update([third, *[-1] * (min(to_a.pictures, to_b.pictures) >= _PICTURES)])
    return [
        overlap_of(a, b, _apart(ranges), videos, lengths) for (a, b), ranges in new.items() if len(thirds[a, b]) > 1
    ]


# --- in an index ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """A file of a pair, its video, and the part of it that the other shares. ``bitrate`` is in bits a second."""

    video: VideoRecord
    path: str
    bitrate: float
    share: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two files that show the same, wholly or in part.

    ``keep`` is the one to keep, None for both; ``reason`` says why. Nothing is deleted by anybody here.
    """

    a: Side
    b: Side
    kind: Kind
    ranges: tuple[Range, ...]
    similarity: float
    sound: Sound
    keep: Side | None
    reason: str

    @property
    def share(self) -> float:
        return max(self.a.share, self.b.share)

    @property
    def drop(self) -> Side | None:
        """The one that is not to be kept; None where both are."""
        return None if self.keep is None else self.b if self.keep is self.a else self.a

    @property
    def ids(self) -> tuple[str, str]:
        """The ids of both videos, the lesser first."""
        first, second = sorted((self.a.video.video_id, self.b.video.video_id))
        return first, second


@dataclass(frozen=True, slots=True)
class FindOptions:
    """Options of :func:`find_pairs`.

    ``share`` is the part of the shorter video that must be shared at least. ``thorough`` decodes all of every video
    whose hashes lie far apart, not only of short ones and of those that may have a copy.
    """

    cache: Path
    time_limit: float = 120.0
    share: float = 0.1
    thorough: bool = False


def find_pairs(
    store: Store,
    options: FindOptions,
    chosen: Collection[str] | None = None,
    *,
    progress: Callable[[str, float, float], None],
    note: Callable[[str], None],
) -> list[Pair]:
    """The pairs of an index, the surest first; fingerprints that it lacks are made from the files that are there.

    Args:
        store: the index.
        options: what counts, and how files are decoded.
        chosen: ids of videos, of which one must be in every pair; all without.
        progress: called with what is done, how much of it is, and of how much.
        note: called with a line on what was left out.

    Raises:
        IndexLocked: fingerprints have to be made, and another process writes to the index.
        StoreError: the index cannot be read or written.
    """
    indexed = [file for file in store.files() if file.state is FileState.INDEXED]
    there = readable_now(indexed)
    paths: dict[str, str] = {}
    for file in sorted(indexed, key=lambda file: (file.path not in there, len(file.path), file.path)):
        paths.setdefault(file.video_id, file.path)
    sizes = {file.path: file.size for file in indexed}
    videos = [video for video in store.videos() if video.video_id in paths]

    def make(lacking: list[VideoRecord], what: What, text: str) -> None:
        todo = [video for video in lacking if paths[video.video_id] in there]
        if away := len(lacking) - len(todo):
            note(f"{text}: {plural(away, 'video')} left out whose file is not there now")
        step = partial(progress, text)
        errors = make_prints(store, todo, paths, what, options.cache, time_limit=options.time_limit, progress=step)
        for video_id, error in errors.items():
            note(f"{paths[video_id]} left out: {error.what}")

    seen = [video for video in videos if video.media.video_stream is not None]
    prints = stored_prints(store, seen)
    if lacking := [video for video in seen if video.video_id not in prints]:
        make(lacking, "", "making fingerprints of pictures")
        prints = stored_prints(store, seen)
    dense = {video.video_id for video in seen if video.video_id in prints and not prints[video.video_id].is_sparse}

    def look_closer(suspects: Collection[str]) -> None:
        nonlocal prints
        lacking = [video for video in seen if video.video_id in suspects and video.video_id not in dense]
        lacking = [video for video in lacking if video.video_id in prints and paths[video.video_id] in there]
        if lacking:
            make(lacking, "/dense", "looking closer at some videos")
            dense.update(video.video_id for video in lacking)
            prints = stored_prints(store, seen)

    look_closer({video.video_id for video in seen if options.thorough or video.media.duration <= _SHORT})
    seen = [video for video in seen if video.video_id in prints and len(prints[video.video_id].times)]
    lengths = [video.media.duration for video in seen]
    wanted = None if chosen is None else [video.video_id in chosen for video in seen]
    compared = [prints[video.video_id] for video in seen]
    suspects = {
        seen[number].video_id
        for a, b, mirrored in candidates(compared, wanted)
        if (compared[a].is_sparse or compared[b].is_sparse) and may_share(compared[a], compared[b], mirrored=mirrored)
        for number in (a, b)
    }
    look_closer(suspects)
    compared = [prints[video.video_id] for video in seen]
    found = overlaps(compared, lengths, chosen=wanted, progress=partial(progress, "comparing videos"))
    no_duplicates = store.not_duplicates()

    def is_wanted(one: Overlap) -> bool:
        is_chosen = wanted is None or wanted[one.a] or wanted[one.b]
        return is_chosen and tuple(sorted((seen[one.a].video_id, seen[one.b].video_id))) not in no_duplicates

    found = list(filter(is_wanted, found))
    heard = [seen[number] for number in sorted({number for one in found for number in (one.a, one.b)})]
    heard = [video for video in heard if video.media.audio]
    sounds = stored_sounds(store, heard)
    if lacking := [video for video in heard if video.video_id not in sounds]:
        make(lacking, "sound", "making fingerprints of sound")
        sounds = stored_sounds(store, heard)
    energies = [sounds.get(video.video_id, np.zeros((0, 8), np.uint8)) for video in seen]
    levelled = lru_cache(_KEPT_LEVELS)(
        lambda n: replace(compared[n], levels=stored_levels(store, seen[n], len(compared[n].times)))
    )
    judged: list[Overlap | None] = []
    for number, one in enumerate(found, 1):
        if number % 64 == 0 or number == len(found):
            progress("comparing sound", number, len(found))
        judged.append(certain(one, compared, lengths, energies, levelled))
    # Where pictures are alike, and it is not sure that they are no others of the same place.
    longest = math.inf if options.thorough else _LONGEST_CLOSE
    unsure = [
        number
        for number, (one, sure) in enumerate(zip(found, judged, strict=True))
        if len(one.ranges) > len(sure.ranges if sure else ()) and max(lengths[one.a], lengths[one.b]) <= longest
    ]
    moving = [seen[number] for number in sorted({n for one in unsure for n in (found[one].a, found[one].b)})]
    lacking = [video for video in moving if not has_close_prints(store, video) and paths[video.video_id] in there]
    make(lacking, "/close", "looking closely at some videos")
    close = lru_cache(_KEPT_CLOSE)(lambda number: stored_close_prints(store, seen[number]))
    for step, number in enumerate(unsure, 1):
        progress("comparing what moves", step, len(unsure))
        judged[number] = certain(found[number], compared, lengths, energies, levelled, close)
    certainly = [sure for sure in judged if sure is not None]
    pairs: list[Pair] = []
    small = 0
    for sure in [*certainly, *filter(is_wanted, implied(certainly, compared, lengths, energies, levelled))]:
        if sure.share < options.share:
            small += 1
            continue
        a, b = (
            _side(seen[number], paths[seen[number].video_id], sizes, share)
            for number, share in ((sure.a, sure.share_a), (sure.b, sure.share_b))
        )
        silent = all(_is_silent(seen[number], sounds.get(seen[number].video_id)) for number in (sure.a, sure.b))
        keep, reason = choose(a, b, sure.kind, sure.ranges, silent=silent)
        if keep and any(differs_in_part(one, levelled(sure.a), levelled(sure.b)) for one in sure.ranges):
            keep, reason = None, "a part of the picture differs, as by a logo"
        pairs.append(Pair(a, b, sure.kind, sure.ranges, sure.similarity, sure.sound, keep, reason))
    pairs += _copies(indexed, videos, paths, sizes, chosen)
    if small:
        note(
            f"{plural(small, 'more pair')} share less than {options.share:.0%} of the shorter video; "
            "--share 0 shows all"
        )
    order = {kind: number for number, kind in enumerate(_ORDER)}
    return sorted(
        pairs,
        key=lambda pair: (order[pair.kind], -round(pair.share, 2), pair.sound == "other", pair.a.path, pair.b.path),
    )


def _is_silent(video: VideoRecord, energies: NDArray[np.uint8] | None) -> bool:
    """Whether a video has no sound, or nothing but silence."""
    heard = energies is not None and len(energies) > 0
    return not video.media.audio or (heard and energies is not None and int(energies.max()) <= _QUIET)


def _side(video: VideoRecord, path: str, sizes: Mapping[str, int], share: float) -> Side:
    return Side(video, path, 8 * sizes.get(path, 0) / max(video.media.duration, 0.1), share)


def _copies(
    files: Sequence[FileRecord],
    videos: Sequence[VideoRecord],
    paths: Mapping[str, str],
    sizes: Mapping[str, int],
    chosen: Collection[str] | None,
) -> Iterator[Pair]:
    """Files of one content: each with the one that stands for it in other pairs."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for file in files:
        held[file.video_id].add(file.path)
    for video in videos:
        others = sorted(held[video.video_id] - {paths[video.video_id]})
        if not others or (chosen is not None and video.video_id not in chosen):
            continue
        whole = Span(0.0, video.media.duration)
        ranges = (Range(whole, whole, 1.0, 0.0, 0.0, sound="same"),)
        first = _side(video, paths[video.video_id], sizes, 1.0)
        for path in others:
            second = _side(video, path, sizes, 1.0)
            yield Pair(first, second, "copy", ranges, 1.0, "same", first, "the same content; the shorter path")


def choose(a: Side, b: Side, kind: Kind, ranges: Sequence[Range], *, silent: bool) -> tuple[Side | None, str]:
    """The file to keep, and why; None for both, wherever the other might have anything more.

    ``silent`` says that neither has any sound.
    """
    if kind not in ("same", "cut") or max(a.share, b.share) < _ALL_OF_IT:
        return None, "each has more"
    if any(one.mirrored for one in ranges):
        return None, "one is mirrored"
    if any(abs(one.speed - 1) > _SAME_SPEED for one in ranges):
        return None, "one is faster"
    if any(one.sound == "other" for one in ranges):
        return None, "the sound differs"
    if any(one.sound != "same" for one in ranges) and not silent:
        return None, "the sound could not be compared"
    if silent and min(one.pictures for one in ranges) < _MANY_PICTURES:
        return None, "the picture changes too little to be sure"
    if not all(one.throughout for one in ranges):
        return None, "a stretch differs"
    pixels = [side.video.media.width * side.video.media.height for side in (a, b)]
    better = 0 if pixels[0] >= pixels[1] else 1
    sides = (a, b)
    sharper = pixels[better] > 1.1 * pixels[1 - better]
    shapes = [f"{side.video.media.width}x{side.video.media.height}" for side in (sides[better], sides[1 - better])]
    rates = [side.bitrate for side in sides]
    longer = 0 if a.video.media.duration >= b.video.media.duration else 1
    if min(a.share, b.share) < _ALL_OF_IT:
        # All of the one is in the other, which has more.
        longer = 0 if a.share <= b.share else 1
        if sharper and better != longer:
            return None, f"the part is sharper: {shapes[0]}, not {shapes[1]}"
        kept, reason = longer, "contains the other"
    elif sharper:
        kept, reason = better, f"sharper: {shapes[0]}, not {shapes[1]}"
    elif max(rates) > 1.1 * min(rates):
        kept = 0 if rates[0] >= rates[1] else 1
        reason = f"higher bitrate: {rates[kept] / 1000:.0f} kbit/s, not {rates[1 - kept] / 1000:.0f}"
    else:
        kept, reason = longer, "as good"
    dropped = sides[1 - kept].video.media
    # A black stretch that is no part of the shares may have sound.
    heard = _covered([one.b if kept == 0 else one.a for one in ranges])
    if not silent and heard < _ALL_OF_IT * dropped.duration:
        return None, "each has more"
    if len(dropped.audio) > len(sides[kept].video.media.audio):
        return None, "the other has more sound tracks"
    return sides[kept], reason


def superfluous(pairs: Sequence[Pair], there: frozenset[str]) -> list[str]:
    """The paths of files that need not be kept, in order: each has a file in its pairs that stays and is ``there``."""
    dropped: dict[str, None] = {}
    kept: set[str] = set()
    for pair in pairs:
        if pair.keep is None or pair.drop is None or not {pair.keep.path, pair.drop.path} <= there:
            continue
        if pair.keep.path not in dropped and pair.drop.path not in kept:
            dropped[pair.drop.path] = None
            kept.add(pair.keep.path)
    return list(dropped)
