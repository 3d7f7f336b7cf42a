"""Segments for browsers carry the time of the index, whatever the container's stamps are, and meet without a gap."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.media import streaming
from clamr_cli.media.probe import probe
from clamr_cli.media.streaming import Way
from tests.clips import Clip

pytestmark = pytest.mark.slow


def ignore(*_: object) -> None:
    pass


def steps(path: Path, form: str, codec: str, *, start: float = 0.0, options: dict[str, str] | None = None) -> Path:
    """Six seconds of which each has its own grey, and a click at the beginning of each second."""
    with av.open(str(path), "w", format=form) as target:
        film: Any = target.add_stream(codec, rate=10, options=options or {})
        film.width, film.height, film.pix_fmt, film.codec_context.gop_size = 64, 48, "yuv420p", 10
        voice: Any = target.add_stream("mp2", rate=48_000, layout="stereo")
        for number in range(60):
            grey = np.full((48, 64, 3), 40 + 30 * (number // 10), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey)
            frame.pts, frame.time_base = number + round(10 * start), Fraction(1, 10)
            target.mux(film.encode(frame))
            time = (np.arange(4800) + 4800 * number) / 48_000
            click = np.where(time % 1 < 0.05, 0.5 * np.sin(2 * np.pi * 880 * time), 0) * 32_000
            sound = av.AudioFrame.from_ndarray(
                np.repeat(click.astype(np.int16), 2)[None], format="s16", layout="stereo"
            )
            sound.sample_rate, sound.pts = 48_000, round(48_000 * start) + 4800 * number
            sound.time_base = Fraction(1, 48_000)
            target.mux(voice.encode(sound))
        target.mux(film.encode(None))
        target.mux(voice.encode(None))
    return path


def segments(path: Path, way: Way, folder: Path) -> tuple[bytes, list[tuple[float, float, bytes]]]:
    """The header and all segments with their beginnings and ends."""
    info = probe(str(path))
    streaming.write_init(ignore, str(path), info, way, str(folder / "init"))
    starts = (
        streaming.segment_starts(ignore, str(path), info)
        if way == "remux"
        else [float(start) for start in range(0, round(info.duration), 2)]
    )
    made = []
    for start, end in pairwise([*starts, info.duration]):
        streaming.write_segment(ignore, str(path), info, way, start, end, str(folder / "part"))
        made.append((start, end, (folder / "part").read_bytes()))
    return (folder / "init").read_bytes(), made


def beginnings(segment: bytes) -> dict[int, int]:
    """The start of each track in its timescale, as the segment says it."""
    return {
        struct.unpack_from(">I", box, box.find(b"tfhd") + 8)[0]: struct.unpack_from(">Q", box, box.find(b"tfdt") + 8)[0]
        for name, moof in streaming._boxes(segment)
        if name == b"moof"
        for name_inside, box in streaming._boxes(moof, 8)
        if name_inside == b"traf"
    }


@pytest.mark.parametrize(
    ("form", "codec", "start"),
    [("mpegts", "mpeg2video", 3.0), ("avi", "mpeg4", 0.0), ("matroska", "libx264", 0.0)],
)
def test_encoded_pictures_and_clicks_are_at_their_second(tmp_path: Path, form: str, codec: str, start: float) -> None:
    options = {"bf": "2"} if codec == "libx264" else {}
    path = steps(tmp_path / "a", form, codec, start=start, options=options)
    init, made = segments(path, "transcode", tmp_path)
    for begin, _, segment in made:
        assert beginnings(segment)[1] == round(90_000 * begin)
    with av.open(io.BytesIO(init + b"".join(segment for *_, segment in made))) as film:
        frames = [(frame.time, float(frame.to_ndarray(format="gray").mean())) for frame in film.decode(video=0)]
    assert len(frames) >= 58
    # Up to a frame at the beginning of a second may still show the one before: sound begins first in some containers.
    wrong = [time for time, grey in frames if time % 1 > 0.15 and abs((grey - 40) / 30 - int(time)) > 0.4]
    assert wrong == []
    with av.open(io.BytesIO(init + b"".join(segment for *_, segment in made))) as film:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    loud = np.abs(sound) > 0.2
    onsets = [n / 48_000 for n in np.flatnonzero(loud) if not loud[max(0, n - 9600) : n].any()]
    assert len(onsets) == 6
    assert all(abs(onset - round(onset)) < 0.1 for onset in onsets)
    assert np.ptp(np.diff(onsets)) < 0.03


def test_copied_packets_begin_with_the_keyframe_of_their_segment(tmp_path: Path) -> None:
    path = steps(tmp_path / "a", "matroska", "libx264", options={"bf": "2", "x264-params": "keyint=10:scenecut=0"})
    init, made = segments(path, "remux", tmp_path)
    assert [begin for begin, *_ in made] == [0.0, 4.0]
    assert streaming.codec_string(init).startswith("avc1.")
    for begin, _, segment in made:
        assert beginnings(segment)[1] == round(90_000 * begin)
        with av.open(io.BytesIO(init + segment)) as film:
            greys = [float(frame.to_ndarray(format="gray").mean()) for frame in film.decode(video=0)]
        assert abs((greys[0] - 40) / 30 - begin) < 0.4
    with av.open(io.BytesIO(init + b"".join(segment for *_, segment in made))) as film:
        assert sum(1 for _ in film.decode(video=0)) == 60


def test_a_video_without_sound_and_one_without_a_picture_are_encoded(tmp_path: Path) -> None:
    silent = Clip(size=(64, 48)).colour("red", 3).write(tmp_path / "silent.mkv")
    spoken = Clip().narration("bees", at=0).write(tmp_path / "spoken.m4a")
    for path, kind in ((silent, "video"), (spoken, "audio")):
        init, made = segments(path, "transcode", tmp_path)
        with av.open(io.BytesIO(init + made[0][2])) as film:
            assert [stream.type for stream in film.streams] == [kind]


def test_ways_are_those_of_browsers(tmp_path: Path) -> None:
    def ways(path: Path) -> tuple[bool, bool]:
        playable = streaming.inspect(ignore, str(path), probe(str(path)))
        assert playable.transcode
        return bool(playable.direct), bool(playable.remux)

    clip = Clip(size=(64, 48)).colour("red", 1).narration("bees", at=0)
    assert ways(clip.write(tmp_path / "a.mp4")) == (True, True)
    assert ways(clip.write(tmp_path / "a.mkv")) == (False, True)
    assert ways(clip.write(tmp_path / "a.webm")) == (True, True)
    assert ways(steps(tmp_path / "a.avi", "avi", "mpeg4")) == (False, False)
    # What browsers take is the first track of sound; here the second is meant.
    two = Clip(size=(64, 48)).colour("red", 1).track("de", "Kommentar").track("en", default=True)
    assert ways(two.write(tmp_path / "b.mp4")) == (False, True)


def test_a_video_with_one_keyframe_cannot_be_cut_into_copied_segments(tmp_path: Path) -> None:
    path = Clip(size=(64, 48), fps=2, gop=600).colour("red", 40).write(tmp_path / "a.mkv")
    with pytest.raises(MediaError, match="cannot be cut"):
        streaming.segment_starts(ignore, str(path), probe(str(path)))


def test_the_size_is_upright_even_and_at_most_720p(tmp_path: Path) -> None:
    path = Clip(size=(64, 48), rotation=90).colour("red", 1).write(tmp_path / "a.mov")
    info = probe(str(path))
    assert streaming.encoded_size(info) == (64, 48)
    assert streaming.encoded_size(replace(info, width=3840, height=2160)) == (1280, 720)
    assert streaming.encoded_size(replace(info, width=1080, height=1921)) == (720, 1280)
