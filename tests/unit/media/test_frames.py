"""Frames come upright, in order, densely enough, cheaply, and out of files in any condition."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamr_cli.errors import MediaError
from clamr_cli.media.frames import frames_at, sample_frames
from clamr_cli.media.probe import probe
from tests.unit.media.clips import Clip, Sound, moving, plain

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def sample(path, **options):
    return list(sample_frames(str(path), probe(str(path)), **options))


def shade(image) -> str:
    return "RGB"[int(image.reshape(-1, 3).mean(0).argmax())]


def title_at(start, end):
    return lambda time: plain(RED if start <= time < end else BLUE)


@pytest.mark.slow
@pytest.mark.parametrize("start", [1.3, 6.1, 11.9, 14.9])
def test_a_title_of_five_seconds_inside_a_group_of_twenty_is_never_missed(tmp_path, start):
    clip = Clip(picture=title_at(start, start + 5), seconds=24, fps=10, gop=200)
    frames = sample(clip.write(tmp_path / "a.mp4"))
    assert any(start <= frame.time < start + 5 and shade(frame.image) == "R" for frame in frames)


@pytest.mark.slow
@pytest.mark.parametrize("gop", [1, 10, 30, 40, 55, 300])
def test_times_are_dense_and_ordered_and_each_frame_is_what_is_shown_then(tmp_path, gop):
    def picture(time):
        return plain((round(time * 8) % 256, 100, 100))

    frames = sample(Clip(picture=picture, seconds=24, fps=10, gop=gop).write(tmp_path / "a.mp4"))
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert max(after - before for before, after in pairwise([*times, 24])) <= 4.1
    assert len(times) <= 24 / 2 * 2 + 1
    for frame in frames:
        assert abs(frame.image[..., 0].mean() - frame.time * 8) < 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx264", "a.ts", {"bf": "3", "preset": "fast"}),
        ("libx264", "a.mkv", {"x264-params": "open-gop=1:bframes=3", "preset": "fast"}),
        ("libx264", "b.ts", {"x264-params": "intra-refresh=1", "preset": "fast"}),
        ("libx265", "a.mp4", {"preset": "ultrafast", "x265-params": "log-level=none"}),
        ("libvpx", "a.webm", {"deadline": "realtime", "cpu-used": "16"}),
        ("libvpx-vp9", "a.webm", {"deadline": "realtime", "cpu-used": "8"}),
        ("libsvtav1", "a.mkv", {"preset": "12", "svtav1-params": "lp=1"}),
        ("mpeg4", "a.avi", {"bf": "2"}),
        ("mpeg2video", "a.mpg", {"bf": "2"}),
        ("mjpeg", "a.mov", {}),
    ],
)
def test_codecs_and_containers(tmp_path, codec, name, options):
    def picture(time):
        return plain(RED if time < 4 else GREEN if time < 8 else BLUE)

    clip = Clip(picture=picture, seconds=12, fps=12, codec=codec, gop=24, options=options)
    frames = sample(clip.write(tmp_path / name))
    for frame in frames:
        # Half a second either way: some containers start their clock with the first decoding time.
        expected = {shade(picture(max(0, frame.time + offset))) for offset in (-0.5, 0, 0.5)}
        assert shade(frame.image) in expected
    assert {shade(frame.image) for frame in frames} == {"R", "G", "B"}


@pytest.mark.slow
@pytest.mark.parametrize("gop", [12, 36, 84])
def test_intra_refresh_without_keyframes_is_decoded_in_sequence(tmp_path, gop):
    options = {"x264-params": "intra-refresh=1", "preset": "fast"}
    clip = Clip(picture=title_at(11, 15), seconds=24, fps=12, gop=gop, options=options)
    frames = sample(clip.write(tmp_path / "a.ts"))
    assert max(after - before for before, after in pairwise([frame.time for frame in frames])) < 3
    assert any(12 < frame.time < 15 and shade(frame.image) == "R" for frame in frames)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_upright(tmp_path, rotation):
    def picture(time):
        image = plain((10, 10, 10))
        image[:60, :100] = (250, 250, 250)
        return image

    (frame, *_) = sample(Clip(picture=picture, rotation=rotation).write(tmp_path / "a.mp4"))
    upright = np.rot90(picture(0), -rotation // 90)
    assert frame.image.shape == upright.shape
    assert np.abs(frame.image.astype(int) - upright).mean() < 8
    assert frame.image.flags.c_contiguous


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_frames_lie_as_the_display_matrix_lays_them(tmp_path, name, matrix):
    def corner(right, down):
        picture = plain((10, 10, 10), (160, 96))
        picture[slice(48, 96) if down else slice(0, 48), slice(80, 160) if right else slice(0, 80)] = (250, 250, 250)
        return picture

    path = Clip(lambda time: corner(0, 0), 0.4, matrix=matrix, aspect=Fraction(4, 3)).write(tmp_path / name)
    info = probe(path)
    (_, still), (frame, *_) = next(frames_at(path, info, [0.2], max_side=1000)), sample(path)
    # The stored picture is white to the upper left of its middle.
    right, down = -matrix[0] - matrix[2] > 0, -matrix[1] - matrix[3] > 0
    for image in (frame.image, still):
        assert image.shape[:2] == (info.height, info.width) == ((213, 96) if matrix[1] else (96, 213))
        height, width = image.shape[:2]
        assert image[height * (1 + 2 * down) // 4, width * (1 + 2 * right) // 4].mean() > 200
        assert image.mean() < 90


@pytest.mark.slow
def test_a_picture_of_absurd_size_is_an_error_before_it_takes_memory(tmp_path):
    Image.new("P", (12_000, 9_000)).save(
        tmp_path / "a.gif", save_all=True, append_images=[Image.new("P", (12_000, 9_000), 1)]
    )
    with pytest.raises(MediaError, match="67 megapixels"):
        probe(str(tmp_path / "a.gif"))
    info = dataclasses.replace(probe(Clip().write(tmp_path / "a.mp4")), width=16_384, height=8_192)
    with pytest.raises(MediaError, match="16384 x 8192"):
        list(sample_frames(str(tmp_path / "a.mp4"), info))


@pytest.mark.slow
def test_wide_samples_are_squared_and_large_frames_made_small(tmp_path):
    path = Clip(picture=lambda time: moving(time, (640, 480)), aspect=Fraction(4, 3)).write(tmp_path / "a.mkv")
    (frame, *_) = sample(path, max_side=320)
    assert frame.image.shape == (180, 320, 3)
    samples = sample_frames(path, probe(path), max_side=320)
    assert [next(samples).enlarge(side).shape for side in (640, 4000)] == [(360, 640, 3), (480, 853, 3)]
    (frame, *_) = sample(path)
    assert frame.image.shape == (480, 853, 3)
    assert frame.enlarge is None


def test_one_frame_is_enough(tmp_path):
    frames = sample(Clip(times=[0.0], seconds=0.04).write(tmp_path / "a.mp4"))
    assert [frame.time for frame in frames] == [0]


def test_a_frame_that_stays_for_long_is_taken_where_frames_are_few(tmp_path):
    times = [0.0, 0.1, 0.2, 9.7, 20.0, 20.1, 40.0]
    clip = Clip(picture=title_at(9, 12), times=times, gop=1000, seconds=45)
    frames = sample(clip.write(tmp_path / "a.mkv"))
    assert [round(frame.time, 1) for frame in frames if shade(frame.image) == "R"] == [9.7]


@pytest.mark.slow
def test_a_picture_that_begins_late_keeps_its_times(tmp_path):
    times = [6 + index / 10 for index in range(60)]
    path = Clip(times=times, gop=20, sounds=(Sound(end=12),), seconds=12).write(tmp_path / "a.mkv")
    frames = sample(path)
    assert frames[0].time == pytest.approx(6, abs=0.1)
    assert frames[-1].time > 9


@pytest.mark.slow
def test_damage_in_the_middle_costs_only_its_place(tmp_path):
    path = tmp_path / "a.ts"
    Clip(seconds=30, fps=10, gop=20).write(path)
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + 20_000] = np.random.default_rng(1).bytes(20_000)
    path.write_bytes(content)
    times = [frame.time for frame in sample(path)]
    assert times[0] < 1
    assert times[-1] > 27
    assert len(times) > 10


def test_a_picture_that_cannot_be_decoded_at_all_is_an_error(tmp_path):
    path = Path(Clip(seconds=6).write(tmp_path / "a.mp4"))
    info = probe(str(path))
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(MediaError, match="no frame"):
        list(sample_frames(str(path), info))


def test_a_file_that_became_another_is_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    info = probe(Clip().write(path))
    Clip(picture=None, sounds=(Sound(),)).write(path)
    with pytest.raises(MediaError, match="changed"):
        list(sample_frames(str(path), info))


def test_sound_alone_gives_no_frames(tmp_path):
    assert sample(Clip(picture=None, sounds=(Sound(),)).write(tmp_path / "a.mp4")) == []


def test_joined_recordings_whose_clock_starts_again_are_read_to_the_end(tmp_path):
    one = Path(Clip(picture=title_at(0, 99), seconds=6, fps=10, gop=20).write(tmp_path / "1.ts"))
    two = Path(Clip(picture=title_at(98, 99), seconds=6, fps=10, gop=20).write(tmp_path / "2.ts"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    shades = [shade(frame.image) for frame in sample(joined)]
    assert shades.count("R") >= 2
    assert shades.count("B") >= 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_slides_decoded_out_of_order_are_not_taken_for_joined_recordings(tmp_path, name):
    times = [0, 7, 14, 21, 30, 49, 56, 70, 77, 83]

    def slide(time):
        return plain((25 * sum(other <= time for other in times) - 20, 100, 100))

    clip = Clip(
        picture=slide, seconds=90, fps=10, gop=100, times=times, options={"preset": "fast", "bf": "3", "b-adapt": "0"}
    )
    frames = sample(clip.write(tmp_path / name))
    assert frames[-1].time >= 77
    for frame in frames:
        assert abs(frame.image[..., 0].mean() - slide(frame.time + 0.1)[0, 0, 0]) < 12


def test_a_wrong_length_does_not_lose_frames(tmp_path):
    path = Clip(seconds=10, fps=10, gop=20).write(tmp_path / "a.mp4")
    info = dataclasses.replace(probe(path), duration=0.0, fps=0.0)
    assert [frame.time for frame in sample_frames(path, info)][-1] >= 8


def test_the_length_of_joined_recordings_is_that_of_all(tmp_path):
    one = Path(Clip(seconds=6, fps=10, gop=20).write(tmp_path / "1.ts"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() * 3)
    assert probe(str(joined)).duration == pytest.approx(18, abs=1)
