"""Ranges that videos share, by drawn fingerprints."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clamr_cli.edit.duplicates import Overlap, Pair, Range, Side, compare_sound, overlaps, superfluous, without_stills
from clamr_cli.media.prints import FLAT, MIRROR, Prints
from clamr_cli.types import MediaInfo, Span, VideoFields, VideoRecord


def film(seed: int, seconds: float = 120.0) -> NDArray[np.uint64]:
    """Hashes twice a second: a shot every 3 seconds, in which some bits change."""
    draw = np.random.default_rng(seed)
    shots = np.repeat(draw.integers(2**63, size=int(seconds / 3) + 1, dtype=np.uint64), 6)[: int(seconds * 2)]
    return noisy(shots, seed + 1, 0.03)


def noisy(hashes: NDArray[np.uint64], seed: int, part: float) -> NDArray[np.uint64]:
    bits = np.random.default_rng(seed).random((len(hashes), 64)) < part
    return hashes ^ (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)


def video(hashes: NDArray[np.uint64], step: float = 0.5) -> Prints:
    return Prints((np.arange(len(hashes)) * step).astype(np.float32), hashes)


def found(*videos: Prints) -> list[Overlap]:
    lengths = [float(one.times[-1]) + 0.5 for one in videos]
    pairs = overlaps(videos, lengths)
    return [kept for pair in pairs if (kept := without_stills(pair, videos, lengths)) is not None]


def close(span: Span, start: float, end: float, by: float = 1.0) -> bool:
    return abs(span.start - start) <= by and abs(span.end - end) <= by


def test_a_copy_is_the_same() -> None:
    (pair,) = found(video(film(1)), video(noisy(film(1), 9, 0.1)))
    assert pair.kind == "same"
    assert close(pair.ranges[0].a, 0, 120)
    assert close(pair.ranges[0].b, 0, 120)


def test_a_part_says_where_it_is() -> None:
    (pair,) = found(video(film(1)), video(noisy(film(1)[80:120], 9, 0.1)))
    assert pair.kind == "cut"
    assert close(pair.ranges[0].a, 40, 60)
    assert close(pair.ranges[0].b, 0, 20)
    assert pair.share == pair.share_b == pytest.approx(1, abs=0.05)


def test_parts_in_another_order_are_ranges_of_their_own() -> None:
    compilation = np.concatenate([film(2)[100:130], film(3)[:40], film(2)[20:60]])
    pairs = {(pair.a, pair.b): pair for pair in found(video(film(2)), video(film(3)), video(compilation))}
    assert set(pairs) == {(0, 2), (1, 2)}
    first, second = pairs[0, 2].ranges
    assert close(first.a, 10, 30)
    assert close(first.b, 35, 55)
    assert close(second.a, 50, 65)
    assert close(second.b, 0, 15)


@pytest.mark.parametrize("speed", [0.96, 24 / 23.976 * 25 / 24])
def test_a_faster_copy_has_its_speed(speed: float) -> None:
    quick = Prints((np.arange(600) * 0.5 * speed).astype(np.float32), noisy(film(4, 300), 9, 0.05))
    (pair,) = found(video(film(4, 300)), quick)
    assert pair.kind == "same"
    assert pair.ranges[0].speed == pytest.approx(speed, abs=0.002)


def test_a_mirrored_copy_is_told() -> None:
    (pair,) = found(video(film(5)), video(noisy(film(5) ^ MIRROR, 9, 0.05)))
    assert pair.ranges[0].mirrored


def test_a_black_lead_in_does_not_count() -> None:
    led = np.concatenate([np.full(60, FLAT), film(6)])
    (pair,) = found(video(film(6)), video(led))
    assert pair.kind == "same"
    assert close(pair.ranges[0].b, 30, 150)


def test_a_shared_intro_is_no_copy() -> None:
    intro = film(7, 15)
    videos = [video(np.concatenate([intro, film(seed, 200)])) for seed in (20, 30, 40)]
    pairs = found(*videos)
    assert [(pair.a, pair.b, pair.kind) for pair in pairs] == [(0, 1, "intro"), (0, 2, "intro"), (1, 2, "intro")]
    assert all(pair.share < 0.1 and close(pair.ranges[0].a, 0, 15) for pair in pairs)


def test_unrelated_and_short_videos_do_not_collide() -> None:
    videos = [
        video(film(seed, seconds))
        for seed, seconds in zip(range(100, 900, 10), itertools.cycle((3, 5, 8, 60)), strict=False)
    ]
    assert found(*videos) == []


def test_a_picture_that_stays_is_no_copy_unless_it_sounds_alike() -> None:
    stays = np.full(60, np.uint64(0x123456789ABCDEF))
    videos = [video(noisy(stays, 1, 0.02)), video(noisy(stays, 2, 0.02))]
    assert found(*videos) == []
    lengths = [30.0, 30.0]
    for pair in overlaps(videos, lengths):
        heard = replace(pair, ranges=tuple(replace(one, sound="same") for one in pair.ranges))
        assert without_stills(heard, videos, lengths) is not None


def test_no_hashes_at_all() -> None:
    empty = Prints(np.zeros(0, np.float32), np.zeros(0, np.uint64))
    assert overlaps([], []) == overlaps([empty, video(np.full(9, FLAT))], [3.0, 4.5]) == []


def test_sound_is_compared_at_the_range() -> None:
    draw = np.random.default_rng(3)
    long = draw.integers(80, 220, (600, 8)).astype(np.uint8)
    one = Range(Span(20, 30), Span(0, 10), 1.0, 0.0, 9.0)
    quieter = (long[200:300] - 20).astype(np.uint8)
    assert compare_sound(one, long, quieter) == "same"
    assert compare_sound(one, long, long[400:500]) == "other"
    assert compare_sound(one, long, np.zeros((100, 8), np.uint8)) == ""
    assert compare_sound(one, long, np.zeros((0, 8), np.uint8)) == ""


def test_what_is_superfluous_is_in_a_file_that_stays() -> None:
    media = MediaInfo("mp4", 9.0, 9.0, 9.0, 64, 64, 0, 25.0, "h264", 0)
    sides = {name: Side(VideoRecord(name, name * 32, media, VideoFields()), f"/{name}", 1.0, 1.0) for name in "abc"}

    def pair(keep: str, drop: str) -> Pair:
        return Pair(sides[keep], sides[drop], "same", (), 1.0, "", sides[keep], "")

    # A circle: one of them must stay.
    assert superfluous([pair("a", "b"), pair("b", "c"), pair("c", "a")]) == ["/b"]
    assert superfluous([pair("a", "b"), pair("a", "c")]) == ["/b", "/c"]
    assert superfluous([replace(pair("a", "b"), keep=None)]) == []
