"""Wild time stamps and clocks that jump cost their own place only, in every container; legal gaps stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.languages import choose_track
from clamr_cli.media import audio
from clamr_cli.media.audio import read_audio
from clamr_cli.media.frames import sample_frames
from clamr_cli.media.probe import probe
from tests.unit.media.clips import Clip, Sound, plain, restamp

HOUR = 3600.0
COLOURS = ((220, 30, 30), (30, 200, 30), (30, 30, 220))
SECONDS, FPS = 12, 10


def third(time):
    """Red for 4 s, green for 4 s, blue for 4 s; in the green ones there is a tone."""
    return plain(COLOURS[min(2, int(time // 4))], (96, 64))


def wild(offset, first=50, count=1, *, turn=False):
    """``count`` pictures from number ``first`` on claim another time, with ``turn`` for decoding too."""

    def change(kind, number, pts, dts):
        if kind == "video" and first <= number < first + count:
            return pts + offset, dts + offset if turn else dts
        return pts, dts

    return change


def jump(offset, start, end=1e9):
    """All clocks are off by so much between two times."""
    return lambda kind, number, pts, dts: (pts + offset, dts + offset) if start <= dts < end else (pts, dts)


FAULTS = {
    "none": wild(0),
    "one ahead": wild(3 * HOUR),
    "one a little ahead": wild(20),
    "two ahead": wild(3 * HOUR, count=2),
    "a keyframe ahead": wild(3 * HOUR, first=40),
    "thirty ahead": wild(3 * HOUR, count=30),
    "the first": wild(HOUR, first=0),
    "the first, back": wild(-HOUR, first=0, turn=True),
    "the first two": wild(HOUR, first=0, count=2),
    "the last": wild(HOUR, first=119),
    "the last two": wild(3 * HOUR, first=118, count=2, turn=True),
    "all but the first": wild(HOUR, first=1, count=119, turn=True),
    "the sound": lambda kind, number, pts, dts: (pts, dts) if kind == "video" else (pts + HOUR, dts + HOUR),
    "many": lambda kind, number, pts, dts: (
        (pts + HOUR * (number % 5 + 1), dts) if kind == "video" and number % 17 == 3 else (pts, dts)
    ),
    "all late": jump(5 * HOUR, -99),
    "all jump": jump(3 * HOUR, 6),
    "around the clock": jump(2**33 / 90_000 - 6, -99),
}
MADE = {"h264": ("libx264", "aac", {"preset": "fast", "bf": "2", "b-adapt": "0"}), "mpeg2": ("mpeg2video", "mp2", {})}
MADE["vp8"] = ("libvpx", "libopus", {"deadline": "realtime", "cpu-used": "16"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    def make(codec, *, silent=False):
        path = folder / f"{codec}-{silent}.{'webm' if codec == 'vp8' else 'mp4'}"
        if not path.exists():
            video, sound, options = MADE[codec]
            rate = 48_000 if sound == "libopus" else 44_100
            sounds = () if silent else (Sound(end=12, codec=sound, rate=rate, loud=(4.0, 8.0)),)
            Clip(third, SECONDS, FPS, video, 20, options, sounds=sounds).write(path)
        return path

    folder = tmp_path_factory.mktemp("whole")
    return make


def check(path, *, silent=False):
    info = probe(path)
    frames = list(sample_frames(path, info))
    assert info.duration == pytest.approx(SECONDS, abs=1.5)
    assert not info.incomplete
    assert 7.9 < frames[-1].time < SECONDS + 1
    assert {int(frame.image.reshape(-1, 3).mean(0).argmax()) for frame in frames} == {0, 1, 2}
    for frame in frames:
        near = {min(2, max(0, int((frame.time + offset) // 4))) for offset in (-0.6, 0, 0.6)}
        assert int(frame.image.reshape(-1, 3).mean(0).argmax()) in near, frame.time
    if not silent:
        sound = np.concatenate([chunk for _, chunk in read_audio(path, [choose_track(info)])])
        loud = np.flatnonzero(np.abs(sound) > 0.1) / 16_000
        assert len(sound) / 16_000 == pytest.approx(SECONDS, abs=1.5)
        assert (loud[0], loud[-1]) == (pytest.approx(4, abs=0.7), pytest.approx(8, abs=0.7))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.ts", "h264"), ("a.flv", "h264"), ("a.webm", "vp8")]
)
def test_a_wild_stamp_costs_its_own_place_only(tmp_path, whole, name, codec, fault):
    check(restamp(whole(codec), tmp_path / name, FAULTS[fault]))


@pytest.mark.parametrize(
    "fault", ["one ahead", "the first", "thirty ahead", "the last", "the last two", "all but the first"]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv"])
def test_a_wild_stamp_costs_its_own_place_only_without_sound(tmp_path, whole, name, fault):
    check(restamp(whole("h264", silent=True), tmp_path / name, FAULTS[fault]), silent=True)


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
@pytest.mark.parametrize(
    ("before", "after"), [(0, 0), (3 * HOUR, 0), (0, 3 * HOUR), (5 * HOUR, 2 * HOUR), (90_000, 99)]
)
def test_a_clock_that_is_set_anew_goes_on(tmp_path, whole, codec, before, after):
    parts = []
    for offset, change in (
        (before, lambda kind, number, pts, dts: (pts, dts) if dts < 5.8 else None),
        (after, lambda kind, number, pts, dts: (pts - 6, dts - 6) if dts >= 5.8 else None),
    ):
        parts.append(restamp(whole(codec), tmp_path / "part.ts", change, output_ts_offset=str(offset)))
        parts[-1] = Path(parts[-1]).read_bytes()
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    check(str(tmp_path / "a.ts"))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("stays", [30, 600, 1100])
def test_a_long_slide_is_not_taken_for_damage(tmp_path, name, stays):
    times = [0.0, 0.5, 1.0, 1.0 + stays, 1.5 + stays, 2.0 + stays]
    path = Clip(third, stays + 2, FPS, times=times, gop=100).write(tmp_path / name)
    info = probe(path)
    assert info.duration == pytest.approx(stays + 2, abs=1)
    assert [frame.time for frame in sample_frames(path, info)][-1] > stays


@pytest.mark.parametrize("every", [60, 300])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_a_time_lapse_is_not_taken_for_damage(tmp_path, every, b_frames):
    times = [every * number for number in range(40)]
    clip = Clip(third, times[-1], FPS, times=times, options={"bf": b_frames, "b-adapt": "0"})
    info = probe(path := clip.write(tmp_path / "a.mp4"))
    assert times[-1] <= info.duration <= times[-1] + every + 1
    assert [frame.time for frame in sample_frames(path, info)] == pytest.approx(times)


def test_silence_that_fills_gaps_has_an_end(tmp_path, monkeypatch):
    path = Clip(third, 8, FPS, sounds=(Sound(end=8, gap=(2, 6)),)).write(tmp_path / "a.mkv")
    monkeypatch.setattr(audio, "MOST_SILENCE", 3)
    with pytest.raises(MediaError, match="gaps"):
        list(read_audio(path, [choose_track(probe(path))]))
    monkeypatch.setattr(audio, "MOST_SILENCE", 5)
    chunks = [chunk for _, chunk in read_audio(path, [choose_track(probe(path))])]
    assert sum(map(len, chunks)) == pytest.approx(8 * 16_000, rel=0.02)
