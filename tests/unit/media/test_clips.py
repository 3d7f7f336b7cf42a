"""Single frames by time, and clips around them, out of all kinds of files."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.media.clips import copied_suffix, copy_clip, encode_clip
from clamr_cli.media.frames import frames_at, sample_frames
from clamr_cli.media.probe import probe
from clamr_cli.types import Span
from tests import clips
from tests.unit.media.clips import Clip as MediaClip
from tests.unit.media.clips import Sound

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")


def film(path: Path, **how) -> str:
    """Two seconds of each colour, with somebody who speaks."""
    clip = clips.Clip(**how)
    for colour in COLOURS:
        clip.colour(colour, 2)
    return os.fspath(clip.narration("bees", at=1).write(path))


@pytest.fixture(scope="module", params=["plain.mp4", "rare keys.mkv", "web.webm", "turned.mp4"])
def video(request, tmp_path_factory):
    how = {"rare keys.mkv": {"gop": 500}, "turned.mp4": {"rotation": 90, "size": (270, 480)}}
    return film(tmp_path_factory.mktemp("stills") / request.param, **how.get(request.param, {}))


def close(image, other) -> bool:
    return image.shape == other.shape and float(np.abs(image.astype(int) - other.astype(int)).mean()) < 3


def test_frames_at_times_are_those_of_sampling(video):
    info = probe(video)
    seen = {one.time: one.image for one in sample_frames(video, info, interval=1.0, longest_gap=1.0)}
    assert len(seen) >= 11
    found = dict(frames_at(video, info, list(seen), max_side=1280))
    assert list(found) == list(seen)
    assert all(image is not None and close(image, seen[time]) for time, image in found.items())


def test_pictures_are_made_smaller_and_never_larger(video):
    info = probe(video)
    ((_, small),) = frames_at(video, info, [3.0], max_side=100)
    ((_, large),) = frames_at(video, info, [3.0], max_side=10_000)
    assert max(small.shape) == 100
    assert large.shape[:2] == (info.height, info.width)


def test_there_is_no_frame_beyond_the_end(video):
    assert [image for _, image in frames_at(video, probe(video), [5.0, 500.0], max_side=64)][1] is None


def held(path: Path) -> tuple[list[str], float]:
    """The streams of a clip and the length of its picture."""
    info = probe(os.fspath(path))
    frames = list(sample_frames(os.fspath(path), info, interval=0.1, longest_gap=0.1))
    assert frames
    return ["video"] + ["audio"] * len(info.audio), frames[-1].time - frames[0].time


def test_copied_clips_hold_the_stretch_from_the_keyframe_before(video, tmp_path):
    info = probe(video)
    target = tmp_path / f"clip{copied_suffix(info)}"
    span = copy_clip(video, info, target, Span(4.5, 7.0))
    streams, seconds = held(target)
    assert streams == ["video", "audio"]
    assert span.start <= 4.5
    assert 6.5 <= span.end <= 7.0
    assert seconds == pytest.approx(span.duration, abs=0.3)
    ((_, first),) = frames_at(os.fspath(target), probe(os.fspath(target)), [0.0], max_side=64)
    ((_, source),) = frames_at(video, info, [span.start], max_side=64)
    assert close(first, source)


def test_exact_clips_hold_exactly_the_stretch(video, tmp_path):
    info = probe(video)
    target = tmp_path / "clip.mp4"
    encode_clip(video, info, target, Span(4.5, 7.0))
    streams, seconds = held(target)
    assert streams == ["video", "audio"]
    assert seconds == pytest.approx(2.5, abs=0.3)
    made = probe(os.fspath(target))
    assert (made.width, made.height, made.rotation) == (info.width, info.height, 0)
    for at, colour in ((0.5, 5.0), (2.0, 6.5)):
        ((_, copied),) = frames_at(os.fspath(target), made, [at], max_side=64)
        ((_, source),) = frames_at(video, info, [colour], max_side=64)
        assert float(np.abs(copied.astype(int) - source.astype(int)).mean()) < 12


def reordered(path: Path) -> str:
    """Sixteen seconds of pictures that differ, each decoded from later ones too, with a keyframe every four."""
    with av.open(os.fspath(path), "w") as target:
        options = {"preset": "medium", "bf": "3", "b-adapt": "0", "sc_threshold": "0"}
        stream = target.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.gop_size = 100
        for number in range(400):
            image = np.zeros((64, 128, 3), np.uint8)
            image[:, : number % 100 + 10] = number % 200 + 50
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return os.fspath(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.ts"])
@pytest.mark.parametrize("asked", [Span(0.0, 0.92), Span(3.0, 5.0), Span(8.3, 9.08)], ids=str)
def test_reordered_pictures_and_files_without_an_index_are_cut_exactly(name, asked, tmp_path):
    video = reordered(tmp_path / name)
    info = probe(video)
    target = tmp_path / f"clip{copied_suffix(info)}"
    span = copy_clip(video, info, target, asked)
    assert span.start <= asked.start
    with av.open(video) as source, av.open(os.fspath(target)) as clip:
        offset = (source.start_time or 0) / av.time_base
        whole = {round(one.time - offset, 2): one for one in source.decode(video=0)}
        shown = [(round(one.time + span.start, 2), one) for one in clip.decode(video=0)]
    expected = [time for time in whole if span.start <= time < asked.end]
    assert [time for time, _ in shown][: len(expected)] == expected
    assert len(shown) <= len(expected) + 3
    for time, one in shown[: len(expected)]:
        assert np.array_equal(one.to_ndarray(), whole[time].to_ndarray()), time
    exact = tmp_path / "exact.mp4"
    encode_clip(video, info, exact, asked)
    with av.open(os.fspath(exact)) as clip:
        times = [one.time for one in clip.decode(video=0)]
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(asked.duration - 0.04, abs=0.03)
    times = [0.0, 1.5, 5.0, 9.0, 11.96]
    assert all(image is not None for _, image in frames_at(video, info, times, max_side=128))


def test_an_exact_clip_begins_with_the_picture_that_is_on_screen(tmp_path):
    video = film(tmp_path / "slides.mkv", fps=1)
    encode_clip(video, probe(video), tmp_path / "clip.mp4", Span(4.3, 4.9))
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        first = next(clip.decode(video=0))
    assert first.time == 0.0
    red, green, blue = first.to_ndarray(format="rgb24").mean(axis=(0, 1))
    assert blue > 100 > max(red, green)


@pytest.mark.slow
def test_silent_videos_are_cut_too(tmp_path):
    path = os.fspath(clips.Clip().photo("cat", 6).write(tmp_path / "silent.mp4"))
    copy_clip(path, probe(path), tmp_path / "copy.mp4", Span(2.0, 4.0))
    encode_clip(path, probe(path), tmp_path / "exact.mp4", Span(2.0, 4.0))
    assert held(tmp_path / "copy.mp4")[0] == held(tmp_path / "exact.mp4")[0] == ["video"]


def test_a_file_that_changed_is_an_error(tmp_path):
    info = probe(film(tmp_path / "a.mp4"))
    with av.open(str(tmp_path / "b.m4a"), "w", format="mp4") as sound:
        stream = sound.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        sound.mux(stream.encode(frame))
        sound.mux(stream.encode(None))
    with pytest.raises(MediaError, match="changed"):
        list(frames_at(os.fspath(tmp_path / "b.m4a"), info, [1.0], max_side=64))
    with pytest.raises(MediaError):
        copy_clip(os.fspath(tmp_path / "b.m4a"), info, tmp_path / "c.mp4", Span(0.0, 1.0))


def test_a_codec_that_no_clip_can_hold_is_an_error_for_copies_only(tmp_path):
    path = MediaClip(codec="msmpeg4v2").write(tmp_path / "a.wmv")
    with pytest.raises(MediaError, match=r"cannot be cut out.*--exact"):
        copy_clip(path, probe(path), tmp_path / "copy.mkv", Span(0.0, 1.0))
    encode_clip(path, probe(path), tmp_path / "exact.mp4", Span(0.0, 1.0))
    assert held(tmp_path / "exact.mp4")[0] == ["video"]


def test_sound_alone_gives_no_exact_clip(tmp_path):
    path = MediaClip(picture=None, sounds=(Sound(),)).write(tmp_path / "a.m4a")
    with pytest.raises(MediaError, match="no frame"):
        encode_clip(path, probe(path), tmp_path / "exact.mp4", Span(0.0, 1.0))
