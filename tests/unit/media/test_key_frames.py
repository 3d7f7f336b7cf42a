"""Few frames for what stays, one at least for what changes, and a large one whenever text may have changed."""

from __future__ import annotations

import io
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clamr_cli.media.frames import SampledFrame
from clamr_cli.media.key_frames import THUMB, dedupe_frames, image_difference, pick_frames, thumbnail
from clamr_cli.types import Span
from tests.unit.media.clips import moving, plain, written

SIZE = (960, 540)
GRAIN = [np.random.default_rng(seed).normal(0, 3, (SIZE[1], SIZE[0], 1)).astype(np.int16) for seed in range(3)]


def photo(seed: int):
    """Soft coloured blotches: a picture without any text."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize(SIZE, Image.Resampling.BICUBIC))


def noisy(picture, time):
    """A picture with what a camera and a codec add: grain that differs from frame to frame."""
    grainy = np.clip(picture + GRAIN[int(time) // 2 % len(GRAIN)], 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grainy).save(buffer, "jpeg", quality=80)
    return np.asarray(Image.open(buffer))


def film(*stretches, step=2.0):
    """Samples of (seconds, picture or function of time) one after another."""
    start = 0.0
    for seconds, picture in stretches:
        for index in range(round(seconds / step)):
            time = start + index * step
            yield SampledFrame(time, picture(time) if callable(picture) else picture)
        start += seconds


def pick(*stretches, duration=None):
    duration = duration or sum(seconds for seconds, _ in stretches)
    return list(pick_frames(film(*stretches), duration))


def dedupe(*stretches):
    return [frame for frame, _ in dedupe_frames(film(*stretches), sum(seconds for seconds, _ in stretches))]


def read_at(picked):
    return [key.frame.time for key in picked if key.text_jpeg is not None]


@pytest.mark.slow
def test_a_still_picture_gives_one_frame_for_its_whole_time():
    (key,) = pick((60, lambda time: noisy(photo(1), time)))
    assert (key.frame.time, key.frame.span, key.shot, key.text_jpeg) == (0, Span(0, 60), 0, None)


@pytest.mark.slow
def test_each_shot_gives_a_frame_and_the_spans_tile_the_time_line():
    picked = pick((10, photo(1)), (6, photo(2)), (20, photo(3)), (4, photo(1)), duration=41)
    assert [key.frame.time for key in picked] == [0, 10, 16, 36]
    assert [key.shot for key in picked] == [0, 1, 2, 3]
    assert picked[0].frame.span.start == 0
    assert picked[-1].frame.span.end == 41
    assert all(before.frame.span.end == after.frame.span.start for before, after in pairwise(picked))


@pytest.mark.slow
def test_a_long_shot_that_moves_gives_about_ten_frames_a_minute():
    picked = pick((60, lambda time: moving(time, (480, 270))))
    assert 10 <= len(picked) <= 20
    assert {key.shot for key in picked} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("height", [12, 20, 40, 140])
@pytest.mark.parametrize("background", ["plain", "photo"])
def test_a_caption_is_read_when_it_comes_and_not_again_while_it_stays(height, background):
    empty = plain((60, 70, 60), SIZE) if background == "plain" else photo(4)
    text = written(empty, "Lagos", at=(100, 350), height=height, fill=(250, 250, 250))
    picked = pick(
        (4, lambda time: noisy(empty, time)), (8, lambda time: noisy(text, time)), (4, lambda time: noisy(empty, time))
    )
    assert read_at(picked) == [4]


@pytest.mark.parametrize("turns", [1, 3])
def test_text_of_a_picture_that_lies_on_its_side_is_read(turns):
    card = written(plain((60, 70, 60), SIZE), "Departures from platform nine", at=(80, 250), height=26)
    assert read_at(pick((6, np.ascontiguousarray(np.rot90(card, turns))))) == [0]


@pytest.mark.parametrize("ground", [40, 200])
def test_faint_text_is_read_with_more_contrast(ground):
    faint = written(plain((ground,) * 3, SIZE), "Departures", at=(80, 250), height=14, fill=(ground + 20,) * 3)
    (key,) = pick((6, faint))
    assert np.ptp(np.asarray(Image.open(io.BytesIO(key.text_jpeg)))) > 50


def test_a_caption_that_follows_another_is_read():
    base = photo(5)
    one, two = (written(base, text, at=(300, 480), height=30) for text in ("Now in Berlin", "Now in London"))
    assert read_at(pick((6, one), (6, two), (6, one))) == [0, 6, 12]


@pytest.mark.slow
def test_a_running_clock_is_read_again_and_again():
    def clock(time):
        return noisy(written(plain((30, 90, 40), SIZE), f"01:00:{int(time):02}", at=(780, 490), height=36), time)

    picked = pick((20, clock))
    assert read_at(picked) == list(range(0, 20, 2))


def test_the_end_of_a_text_is_marked():
    text = written(photo(6), "Breaking News", at=(100, 100), height=48)
    picked = pick((8, lambda time: noisy(text, time)), (8, lambda time: noisy(photo(6), time)))
    assert [(key.frame.time, key.text_jpeg is not None, key.text_stays) for key in picked] == [
        (0, True, False),
        (8, False, False),
    ]


@pytest.mark.slow
def test_a_text_that_stays_while_the_picture_moves_is_read_once():
    def logo(time):
        return noisy(written(moving(time, SIZE), "CHANNEL 7", at=(40, 30), height=36), time)

    picked = pick((30, logo))
    assert read_at(picked) == [0]
    assert len(picked) > 3
    assert all(key.text_stays for key in picked[1:])


def test_brighter_light_is_not_taken_for_new_text():
    slide = written(plain((200, 200, 200), SIZE), "Agenda of the meeting", at=(200, 300), height=60, fill=(20, 20, 20))
    darker = (slide * 0.8).astype(np.uint8)
    assert read_at(pick((8, slide), (8, darker))) == [0]


@pytest.mark.slow
def test_moving_shapes_are_not_read():
    assert read_at(pick((30, lambda time: noisy(moving(time, SIZE), time)))) == []


def test_short_black_between_shots_gives_no_frame():
    picked = pick((10, photo(1)), (2, plain((0, 0, 0), SIZE)), (10, photo(2)))
    assert [key.frame.time for key in picked] == [0, 12]
    assert picked[1].frame.span == Span(10, 22)


def test_a_video_that_is_black_throughout_still_gives_a_frame():
    (key,) = pick((20, plain((0, 0, 0), SIZE)))
    assert key.frame.span == Span(0, 20)


def test_pictures_to_read_text_from_are_larger_than_the_others():
    large = np.asarray(Image.fromarray(written(photo(1), "Hello world", height=60)).resize((1600, 900)))
    (key,) = pick((4, large))
    assert Image.open(io.BytesIO(key.frame.jpeg)).size == (448, 252)
    assert Image.open(io.BytesIO(key.text_jpeg)).size == (1280, 720)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("screen", "height", "wanted"),
    [
        ((2560, 1440), 17, (2560, 1440)),
        ((1920, 1080), 14, (1920, 1080)),
        ((3840, 2160), 26, (2666, 1500)),
        ((1080, 2400), 22, (1080, 2400)),
        ((1920, 1080), 60, (1280, 720)),
        ((1200, 700), 12, (1200, 700)),
    ],
)
def test_only_small_text_of_large_screens_is_kept_at_full_size(screen, height, wanted):
    picture = plain((25, 28, 34), screen)
    for row in range(9):
        picture = written(
            picture,
            "checksum of volume backup differs",
            at=(60, 60 + row * 2 * height),
            height=height,
            fill=(210, 210, 200),
        )

    def shrunk(side):
        scale = min(1.0, side / max(screen))
        return np.asarray(Image.fromarray(picture).resize([int(length * scale) for length in screen]))

    sample = SampledFrame(0.0, shrunk(1280), shrunk if max(screen) > 1280 else None)
    (key,) = pick_frames([sample], 2.0)
    assert Image.open(io.BytesIO(key.text_jpeg)).size == pytest.approx(wanted, abs=1)
    assert max(Image.open(io.BytesIO(key.frame.jpeg)).size) == 448


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (16, 16), (1280, 720)])
def test_pictures_of_any_shape_are_taken(size):
    assert len(pick((4, plain((1, 2, 3), size)))) == 1


def test_a_picture_that_changes_its_size_is_taken():
    picked = pick((4, plain((200, 10, 10), (640, 360))), (4, plain((10, 10, 200), (360, 640))))
    assert [key.frame.time for key in picked] == [0, 4]


def test_no_samples_give_no_frames():
    assert list(pick_frames([], 10.0)) == list(dedupe_frames([], 10.0)) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_length():
    pictures = [photo(1), written(photo(2), "Some text", height=50)]
    samples = (SampledFrame(2.0 * index, pictures[index // 3 % 2]) for index in range(60))
    picked = pick_frames(samples, 120)
    for _ in range(6):
        next(picked)
    tracemalloc.start()
    for _ in picked:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def test_every_scene_gives_a_candidate_and_a_still_one_no_more_than_it_must():
    scenes = [(20, plain((200, 30, 30))), (10, moving), (30, written(moving(1.0), "Platform nine"))]
    frames = dedupe(*scenes)
    assert [frame.time for frame in frames] == [0.0, 16.0, 20.0, 22.0, 24.0, 26.0, 28.0, 30.0, 46.0]
    assert frames[0].span == Span(0.0, 16.0)


def test_a_line_of_text_that_comes_and_goes_gives_candidates():
    scenes = [(6, moving(0.0)), (4, written(moving(0.0), "Departures", at=(20, 120))), (6, moving(0.0))]
    assert [frame.time for frame in dedupe(*scenes)] == [0.0, 6.0, 10.0]


def test_a_black_pause_gives_no_candidate():
    scenes = [(4, moving(0.0)), (2, plain((0, 0, 0))), (4, moving(3.0))]
    assert [frame.time for frame in dedupe(*scenes)] == [0.0, 6.0]


def test_a_plain_picture_that_lasts_is_a_candidate():
    scenes = [(6, plain((200, 20, 20))), (6, plain((20, 20, 200)))]
    assert [frame.time for frame in dedupe(*scenes)] == [0.0, 6.0]


def test_candidates_are_small_and_have_their_thumbnails():
    ((frame, thumb),) = dedupe_frames([SampledFrame(1.0, moving(0.0, (1280, 720)))], 5.0, side=100)
    picture = np.asarray(Image.open(io.BytesIO(frame.jpeg)))
    assert picture.shape == (56, 100, 3)
    assert frame.span == Span(0.0, 5.0)
    assert image_difference(thumbnail(picture)[None], thumb)[0] < 0.03


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 40, 90, 200]), min_size=1, max_size=30), st.floats(0, 9))
def test_spans_of_candidates_tile_the_time_line(levels, rest):
    samples = [SampledFrame(2.0 * n, moving(level / 40)) for n, level in enumerate(levels)]
    duration = 2.0 * (len(levels) - 1) + rest
    frames = [frame for frame, _ in dedupe_frames(samples, duration, longest=8.0)]
    assert frames[0].span.start == 0.0
    assert frames[-1].span.end == duration
    assert all(one.span.end == other.span.start for one, other in pairwise(frames))
    assert all(one.span.start <= one.time <= one.span.end for one in frames)
    assert all(one.span.duration <= 8.0 + 2.0 for one in frames[:-1])


@pytest.mark.parametrize(("level", "expected"), [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_the_difference_of_images_is_that_of_the_pixel_that_differs_most(level, expected):
    before = np.zeros((THUMB, THUMB, 3), np.uint8)
    after = before.copy()
    after[4, 5] = level
    assert image_difference(after[None], before)[0] == pytest.approx(expected, abs=1e-6)
