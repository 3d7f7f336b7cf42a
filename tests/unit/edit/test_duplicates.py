"""Ranges that videos share, by drawn fingerprints."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clamr_cli.edit.duplicates import (
    Overlap,
    Pair,
    Range,
    Side,
    certain,
    choose,
    compare_sound,
    differs_in_part,
    implied,
    overlap_of,
    overlaps,
    ranges_by_changes,
    superfluous,
)
from clamr_cli.media.prints import FLAT, MIRROR, Prints
from clamr_cli.types import AudioTrack, MediaInfo, Span, VideoFields, VideoRecord


def film(seed: int, seconds: float = 120.0) -> NDArray[np.uint64]:
    """Hashes twice a second: a shot every 3 seconds, in which some bits change."""
    draw = np.random.default_rng(seed)
    shots = np.repeat(draw.integers(2**63, size=int(seconds / 3) + 1, dtype=np.uint64), 6)[: int(seconds * 2)]
    return noisy(shots, seed + 1, 0.03)


def noisy(hashes: NDArray[np.uint64], seed: int, part: float) -> NDArray[np.uint64]:
    bits = np.random.default_rng(seed).random((len(hashes), 64)) < part
    return hashes ^ (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)


def levels_of_hashes(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Pictures of 16 by 16 levels in which each bit of a hash is a wave of its own."""
    x = (np.arange(16) + 0.5) * np.pi / 16
    waves = np.stack([np.outer(np.cos(y * x), np.cos(z * x)).ravel() for y in range(8) for z in range(8)])
    signs = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    levels = 128 + 10 * (2.0 * signs - 1) @ waves
    levels[hashes == FLAT] = 0
    return np.clip(levels, 0, 255).astype(np.uint8).reshape(-1, 16, 16)


def video(hashes: NDArray[np.uint64], step: float = 0.5) -> Prints:
    return Prints((np.arange(len(hashes)) * step).astype(np.float32), hashes, levels_of_hashes(hashes))


def found(*videos: Prints) -> list[Overlap]:
    lengths = [float(one.times[-1]) + 0.5 for one in videos]
    pairs = overlaps(videos, lengths)
    silence = [np.zeros((0, 8), np.uint8)] * len(videos)
    return [sure for pair in pairs if (sure := certain(pair, videos, lengths, silence)) is not None]


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


def test_both_sides_of_a_range_are_as_long() -> None:
    # The part begins between two hashes of the whole.
    part = video(film(1)[80:120])
    whole = replace(video(film(1)), times=video(film(1)).times + np.float32(0.3))
    for one in found(whole, part):
        (only,) = one.ranges
        assert only.b.start >= 0
        assert only.b.end <= 20
        assert only.a.duration * only.speed == pytest.approx(only.b.duration, abs=0.01)


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
    quick = video(noisy(film(4, 300), 9, 0.05), 0.5 * speed)
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


def test_where_the_picture_stays_the_sound_says_what_is_shared() -> None:
    stays = np.full(120, np.uint64(0x123456789ABCDEF))
    videos, lengths = [video(noisy(stays, 1, 0.02)), video(noisy(stays, 2, 0.02))], [60.0, 60.0]
    assert found(*videos) == []
    (pair,) = overlaps(videos, lengths)
    draw = np.random.default_rng(3)
    long, other = (draw.integers(80, 220, (900, 8)).astype(np.uint8) for _ in range(2))
    sounds = [long[:600], np.concatenate([other[:100], long[300:600] - 10, other[100:300]]).astype(np.uint8)]
    sure = certain(pair, videos, lengths, sounds)
    assert sure is not None
    (shared,) = sure.ranges
    assert close(shared.a, 30, 60)
    assert close(shared.b, 10, 40)
    assert shared.sound == "same"
    assert certain(pair, videos, lengths, [long[:600], other[:600]]) is None


def before_a_wall(seed: int, *, walks: bool = True) -> NDArray[np.uint8]:
    """20 seconds of levels: a small figure that walks about before a wall, and the grain of the recording."""
    draw = np.random.default_rng(seed)
    place = np.clip(8 + np.cumsum(draw.normal(size=(40, 2)), axis=0), 1, 13).astype(int)
    levels = np.random.default_rng(0).normal(128, 40, (16, 16)) + draw.normal(0, 0.5, (40, 16, 16))
    if walks:
        for picture, (y, x) in zip(levels, place, strict=True):
            picture[y : y + 2, x : x + 2] += 60
    return np.clip(levels, 0, 255).astype(np.uint8)


def pair_of_levels(*levels: NDArray[np.uint8]) -> Overlap | None:
    """What is certain of two videos whose hashes say nothing."""
    wall = np.full(40, np.uint64(0x123456789ABCDEF))
    videos = [replace(video(noisy(wall[: len(each)], seed, 0.02)), levels=each) for seed, each in enumerate(levels)]
    lengths = [len(each) / 2 for each in levels]
    (pair,) = overlaps(videos, lengths)
    return certain(pair, videos, lengths, [np.zeros((0, 8), np.uint8)] * 2)


def test_what_moves_before_a_picture_that_stays_says_what_is_shared() -> None:
    film = before_a_wall(1)
    part = np.clip(film[10:32] * 0.9, 0, 255).astype(np.uint8)
    part[:, 12:, 3:13] = 240  # a line of text
    pair = pair_of_levels(film, part)
    assert pair is not None
    assert close(pair.ranges[0].a, 5, 16)
    assert close(pair.ranges[0].b, 0, 11)
    assert pair.kind == "cut"
    # The same place at another time.
    assert pair_of_levels(film, before_a_wall(2)) is None
    assert pair_of_levels(before_a_wall(1, walks=False), before_a_wall(2, walks=False)) is None


def test_a_closer_look_finds_what_moves_hardly() -> None:
    # A figure that sways in two parts of a wall, ten pictures a second, and the same as a copy shows it.
    def swaying(seed: int) -> Prints:
        sway = np.convolve(np.random.default_rng(seed).normal(size=219), np.ones(20) / 5, "valid")
        levels = np.full((200, 16, 16), 128.0) + np.random.default_rng(seed + 9).normal(0, 0.2, (200, 16, 16))
        levels[:, 4:12, 6] += 6 * sway[:, None]
        levels[:, 4:12, 9] -= 6 * sway[:, None]
        wall = np.full(200, np.uint64(0x123456789ABCDEF))
        return Prints(np.arange(200, dtype=np.float32) / 10, wall, np.rint(np.clip(levels, 0, 255)).astype(np.uint8))

    one, copy, other = swaying(1), swaying(1), swaying(2)
    part = replace(copy, times=copy.times[:120], hashes=copy.hashes[60:180], levels=copy.levels[60:180])
    both = 20.0, 12.0
    (shared,) = ranges_by_changes(one, part, both, mirrored=False, close=True)
    assert close(shared.a, 6, 18, by=0.5)
    assert close(shared.b, 0, 12, by=0.5)
    assert ranges_by_changes(one, other, (20.0, 20.0), mirrored=False, close=True) == []
    # What recurs, such as what compression changes at each keyframe, says nothing of where it lies.
    beat = np.tile(one.levels[:20], (10, 1, 1))
    assert ranges_by_changes(*[replace(one, levels=beat)] * 2, (20.0, 20.0), mirrored=False, close=True) == []


def test_one_music_behind_other_pictures_is_no_copy() -> None:
    walls = [np.full(80, np.uint64(number)) for number in (0x123456789ABCDEF, 0xFEDC0A9876543219)]
    videos = [video(noisy(wall, seed, 0.02)) for seed, wall in enumerate(walls)]
    music = np.random.default_rng(3).integers(80, 220, (400, 8)).astype(np.uint8)
    (pair,) = overlaps(videos, [40.0, 40.0])
    assert pair.ranges == ()
    bare = [replace(each, levels=np.zeros((0, 16, 16), np.uint8)) for each in videos]
    assert certain(pair, bare, [40.0, 40.0], [music, music], videos.__getitem__) is None


def test_two_pieces_of_a_third_video_are_a_pair() -> None:
    film = before_a_wall(1)
    walls = [replace(video(np.full(len(part), np.uint64(5))), levels=part) for part in (film, film[:24], film[8:])]
    one = Range(Span(0, 12), Span(0, 12), 1.0, 0.0, 0.0, pictures=3)
    sure = [overlap_of(0, 1, [one], walls, [20, 12, 16])]
    sure += [overlap_of(0, 2, [replace(one, a=Span(4, 20), b=Span(0, 16))], walls, [20, 12, 16])]
    silence = [np.zeros((0, 8), np.uint8)] * 3
    (pair,) = implied(sure, walls, [20, 12, 16], silence, walls.__getitem__)
    assert (pair.a, pair.b) == (1, 2)
    assert close(pair.ranges[0].a, 4, 12)
    assert close(pair.ranges[0].b, 0, 8)
    # Evidence of two pictures alone, from one video, is not handed on.
    few = [overlap_of(each.a, each.b, [replace(each.ranges[0], pictures=2)], walls, [20, 12, 16]) for each in sure]
    assert implied(few, walls, [20, 12, 16], silence, walls.__getitem__) == []


def test_no_hashes_at_all() -> None:
    empty = Prints(np.zeros(0, np.float32), np.zeros(0, np.uint64))
    assert overlaps([], []) == overlaps([empty, video(np.full(9, FLAT))], [3.0, 4.5]) == []


def test_sound_is_compared_at_the_range() -> None:
    draw = np.random.default_rng(3)
    long = draw.integers(80, 220, (600, 8)).astype(np.uint8)
    one = Range(Span(20, 30), Span(0, 10), 1.0, 0.0, 9.0)
    quieter = (long[200:300] - 20).astype(np.uint8)
    assert compare_sound(one, long, quieter).sound == "same"
    assert compare_sound(one, long, long[400:500]).sound == "other"
    assert compare_sound(one, long, np.zeros((100, 8), np.uint8)).sound == ""
    assert compare_sound(one, long, np.zeros((0, 8), np.uint8)).sound == ""


def test_ten_seconds_of_other_sound_are_noticed() -> None:
    long = np.random.default_rng(3).integers(80, 220, (600, 8)).astype(np.uint8)
    one = Range(Span(0, 60), Span(0, 60), 1.0, 0.0, 9.0, throughout=True)
    changed = np.concatenate([long[:200], long[400:500], long[300:]])
    assert compare_sound(one, long, long).throughout
    heard = compare_sound(one, long, changed)
    assert (heard.sound, heard.throughout) == ("same", False)


def test_slides_alike_at_every_time_are_no_copy_unless_they_sound_alike() -> None:
    # Two talks: one title for all of the time, but for a second slide in the middle.
    title, other = np.uint64(0x123456789ABCDEF), np.uint64(0xFEDCBA9876543210)
    slides = np.concatenate([np.full(40, title), np.full(30, other), np.full(40, title)])
    videos = [video(noisy(slides, seed, 0.03)) for seed in (1, 2)]
    pairs = overlaps(videos, [55.0, 55.0])
    assert pairs
    assert all(one.pictures == 2 for pair in pairs for one in pair.ranges)
    assert found(*videos) == []


def test_what_differs_outside_of_a_range_makes_it_no_copy() -> None:
    still = np.full(20, np.uint64(0x123456789ABCDEF))
    videos = [video(np.concatenate([noisy(still, seed, 0.02), film(seed, 30)])) for seed in (50, 60)]
    assert overlaps(videos, [40.0, 40.0])
    assert found(*videos) == []


def test_a_scene_that_was_replaced_is_noticed() -> None:
    cut = film(8, 60)
    cut[50:62] = film(9, 6)
    ((same,), (other,)) = (
        [one for pair in found(video(film(8, 60)), video(copy)) for one in pair.ranges] for copy in (film(8, 60), cut)
    )
    assert (same.throughout, other.throughout) == (True, False)
    assert same.pictures == other.pictures == 8


_MEDIA = MediaInfo("mp4", 120.0, 120.0, 120.0, 64, 64, 0, 25.0, "h264", 0)
_TRACK = AudioTrack(1, "aac")
_WHOLE = Range(Span(0, 120), Span(0, 120), 1.0, 2.0, 20.0, pictures=8, throughout=True, sound="same")


def side(name: str, share: float = 1.0, **media: object) -> Side:
    info = replace(_MEDIA, **{"audio": (_TRACK,), **media})  # type: ignore[arg-type]
    return Side(VideoRecord(name, name * 32, info, VideoFields()), f"/{name}", 1000.0, share)


def test_one_of_two_equal_files_need_not_be_kept() -> None:
    a, b = side("a"), side("b", width=128, height=128)
    assert choose(a, b, "same", [_WHOLE], silent=False) == (b, "sharper: 128x128, not 64x64")
    quiet = replace(_WHOLE, sound="")
    assert choose(a, b, "same", [quiet], silent=True)[0] is b


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sound": "other"}, "the sound differs"),
        ({"sound": ""}, "the sound could not be compared"),
        ({"mirrored": True}, "one is mirrored"),
        ({"speed": 1.04}, "one is faster"),
        ({"throughout": False}, "a stretch differs"),
        ({"a": Span(0, 110), "b": Span(0, 110)}, "each has more"),
    ],
)
def test_both_are_kept_where_one_may_have_more(change: dict[str, object], reason: str) -> None:
    one = replace(_WHOLE, **change)  # type: ignore[arg-type]
    assert choose(side("a"), side("b"), "same", [one], silent=False) == (None, reason)


def test_both_are_kept_where_the_pictures_alone_say_too_little() -> None:
    few = replace(_WHOLE, sound="", pictures=4)
    assert choose(side("a"), side("b"), "same", [few], silent=True)[0] is None
    assert choose(side("a", 0.9), side("b", 0.9), "same", [_WHOLE], silent=False) == (None, "each has more")
    assert choose(side("a"), side("b", width=128, height=128, audio=()), "same", [_WHOLE], silent=False)[0] is None


def test_a_logo_on_one_of_two_copies_is_noticed_whichever_it_is() -> None:
    plain = video(film(1))
    changed = plain.levels.copy()
    changed[:, 1:3, 12:15] = 230  # a logo
    changed[::3, 13:15, 4:12] = 250  # subtitles, now and then
    marked = replace(plain, levels=changed)
    for a, b in ((plain, marked), (marked, plain)):
        assert differs_in_part(_WHOLE, a, b)
    noise = np.random.default_rng(0).normal(0, 4, plain.levels.shape)
    darker = replace(plain, levels=np.clip(20 + 0.8 * plain.levels + noise, 0, 255).astype(np.uint8))
    assert not differs_in_part(_WHOLE, plain, darker)
    assert differs_in_part(_WHOLE, darker, marked)
    assert not differs_in_part(_WHOLE, video(film(2)), plain)  # all of it differs
    assert not differs_in_part(_WHOLE, plain, video(film(1)[:1]))


def test_what_is_superfluous_is_in_a_file_that_stays() -> None:
    sides = {name: side(name) for name in "abc"}

    def pair(keep: str, drop: str) -> Pair:
        return Pair(sides[keep], sides[drop], "same", (), 1.0, "", sides[keep], "")

    # A circle: one of them must stay.
    there = frozenset(("/a", "/b", "/c"))
    assert superfluous([pair("a", "b"), pair("b", "c"), pair("c", "a")], there) == ["/b"]
    assert superfluous([pair("a", "b"), pair("a", "c")], there) == ["/b", "/c"]
    assert superfluous([replace(pair("a", "b"), keep=None)], there) == []
    # A file whose better copy is on a disk that is away is the only one at hand.
    assert superfluous([pair("a", "b"), pair("c", "b")], frozenset(("/b", "/c"))) == ["/b"]
    assert superfluous([pair("a", "b")], frozenset(("/b",))) == []
