"""Clips of numbered frames: which frames they hold, when they are shown, and whether the sound goes with them."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.media.clips import Piece, copied_suffix, copy_clip, encode_clip, join, pictures
from clamr_cli.media.container import read_subtitle_tracks
from clamr_cli.media.probe import probe
from clamr_cli.types import Span
from tests.unit.media import numbered

JITTER = [number * 40 + (number % 3) * 9 for number in range(100)]


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60000/1001"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_exact_clips_begin_and_end_within_a_frame(tmp_path, rate, name):
    path = numbered.write(tmp_path / name, rate, 4, late=0.7 if name == "a.mkv" else 0.0)
    info, asked, frame = probe(path), Span(1.23, 2.87), 1 / Fraction(rate)
    assert info.time_base is not None
    offset = Fraction(info.time_base.start)
    span = encode_clip(path, info, tmp_path / "clip.mp4", asked)
    frames = numbered.frames(tmp_path / "clip.mp4")
    first, last = (number * frame + offset for _, number in (frames[0], frames[-1]))
    assert abs(first - Fraction(asked.start)) <= frame
    assert abs(last + frame - Fraction(asked.end)) <= frame
    assert [number for _, number in frames] == list(range(frames[0][1], frames[-1][1] + 1))
    assert all(abs(time - number * frame) < 0.001 for number, (time, _) in enumerate(frames))
    (beep,) = numbered.beeps(tmp_path / "clip.mp4")
    assert beep == pytest.approx(2 + info.time_base.start - span.start, abs=0.01)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_copied_clips_begin_at_a_keyframe_at_or_before(tmp_path, name):
    path = numbered.write(tmp_path / name, "25", 4, sounds=("eng", "deu"), text="Hello there")
    info = probe(path)
    target = tmp_path / f"clip{copied_suffix(info)}"
    span = copy_clip(path, info, target, Span(2.4, 3.2))
    frames = numbered.frames(target)
    assert frames[0][1] == round(span.start * 25) == 50
    assert frames[-1][1] in (79, 80, 81)
    made = probe(os.fspath(target))
    assert [track.language for track in made.audio] == ["en", "de"]
    assert [numbered.beeps(target, track) for track in (0, 1)] == [
        [pytest.approx(0.01, abs=0.02), pytest.approx(1.0, abs=0.01)]
    ] * 2
    assert [track.text for track in made.subtitles] == [True]


def test_exact_clips_keep_tracks_subtitles_and_timecode(tmp_path):
    path = numbered.write(
        tmp_path / "a.mp4", "30000/1001", 4, sounds=("eng", "deu"), text="Hello there", timecode="00:59:59;00"
    )
    encode_clip(path, probe(path), tmp_path / "clip.mp4", Span(2.0, 3.0))
    made = probe(os.fspath(tmp_path / "clip.mp4"))
    assert [track.language for track in made.audio] == ["en", "de"]
    assert made.time_base is not None
    assert made.time_base.timecode == "01:00:01;00"
    ((line,),) = read_subtitle_tracks(os.fspath(tmp_path / "clip.mp4"), made).values()
    assert (line.text, line.span.start, round(line.span.end, 2)) == ("Hello there", 0.0, 0.5)


@pytest.mark.parametrize("exact", [False, True])
def test_uneven_frames_stay_as_far_apart(tmp_path, exact):
    path = numbered.write(tmp_path / "phone.mp4", "25", stamps=JITTER)
    info = probe(path)
    assert info.time_base is not None
    assert info.time_base.variable
    span = (encode_clip if exact else copy_clip)(path, info, tmp_path / "clip.mp4", Span(1.02, 2.5))
    frames = numbered.frames(tmp_path / "clip.mp4")
    assert frames[0][1] == 25
    assert all(abs(time + span.start - JITTER[number] / 1000) < 0.002 for time, number in frames[1:])


@pytest.mark.parametrize("exact", [False, True])
def test_clips_stand_upright(tmp_path, exact):
    path = numbered.write(tmp_path / "turned.mp4", rotation=90, size=(192, 320))
    (encode_clip if exact else copy_clip)(path, probe(path), tmp_path / "clip.mp4", Span(1.0, 1.5))
    made = probe(os.fspath(tmp_path / "clip.mp4"))
    assert (made.width, made.height) == (192, 320)
    assert numbered.frames(tmp_path / "clip.mp4")[0][1] == 25


def in_sync(path, sources: list[tuple[int, float]], rate: float) -> bool:
    """Whether each beep comes with the frame of a whole second; ``sources`` are last frame numbers shown before."""
    frames = numbered.frames(path)
    shown = [next(number for time, number in reversed(frames) if time <= beep + 0.021) for beep in numbered.beeps(path)]
    return all(min(number % rate, rate - number % rate) <= 2.5 for number in shown)


@pytest.mark.parametrize("exact", [False, True])
def test_pieces_of_like_videos_follow_each_other(tmp_path, exact):
    one = numbered.write(tmp_path / "one.mp4", gop=12)
    two = numbered.write(tmp_path / "two.mp4", gop=12)
    spans = [Span(0.9, 2.2), Span(2.7, 3.3), Span(0.3, 1.6)]
    pieces = [Piece(path, probe(path), span) for path, span in zip((one, two, one), spans, strict=True)]
    done: list[float] = []
    joined = join(pieces, tmp_path / "all.mp4", exact=exact, progress=done.append)
    assert joined.encoded_because == ("--exact" if exact else "")
    frames = numbered.frames(tmp_path / "all.mp4")
    duration = probe(os.fspath(tmp_path / "all.mp4")).duration
    assert duration == pytest.approx(joined.parts[-1].target.end, abs=0.05)
    for part, asked in zip(joined.parts, spans, strict=True):
        assert part.source.start <= asked.start + 0.021
        assert part.source.duration == pytest.approx(part.target.duration, abs=0.001)
        inside = [
            (time, number) for time, number in frames if part.target.start - 0.001 <= time < part.target.end - 0.02
        ]
        assert all(abs(number / 25 - part.source.start - time + part.target.start) < 0.021 for time, number in inside)
        if exact:
            assert part.source.duration == pytest.approx(asked.duration, abs=0.041)
    assert in_sync(tmp_path / "all.mp4", [], 25)
    assert done == sorted(done)
    with av.open(os.fspath(tmp_path / "all.mp4")) as source:
        for stream in source.streams:
            source.seek(0)
            stamps = [packet.dts for packet in source.demux(stream) if packet.dts is not None]
            assert stamps == sorted(set(stamps))


@pytest.mark.slow
def test_pieces_that_differ_are_encoded_to_one_size_and_rate(tmp_path):
    paths = [
        numbered.write(tmp_path / "wide.mp4", "30000/1001", size=(320, 180)),
        numbered.write(tmp_path / "tall.mkv", "25", size=(192, 320), rotation=90, late=2.0),
        numbered.write(tmp_path / "mute.mp4", "25", size=(320, 240), sounds=()),
    ]
    pieces = [
        Piece(path, probe(path), span)
        for path, span in zip(paths, [Span(0.3, 2.6), Span(0.8, 2.0), Span(1, 2)], strict=True)
    ]
    joined = join(pieces, tmp_path / "all.mp4", exact=False)
    assert joined.encoded_because == "the sources differ in their size"
    made = probe(os.fspath(tmp_path / "all.mp4"))
    assert (made.width, made.height) == (320, 180)
    assert made.time_base is not None
    assert (made.time_base.rate, made.time_base.variable) == ("30000/1001", False)
    assert made.duration == pytest.approx(4.5, abs=0.07)
    frames = numbered.frames(tmp_path / "all.mp4")
    assert len(frames) == round(joined.parts[-1].target.end * 30000 / 1001)
    assert frames[0][1] == 9
    beeps = numbered.beeps(tmp_path / "all.mp4")
    second = joined.parts[1].target.start
    assert beeps == pytest.approx([0.7, 1.7, second + 0.2, second + 1.2], abs=0.03)
    jpegs = pictures(os.fspath(tmp_path / "all.mp4"), made, [0.5, 3.0], side=100)
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in jpegs)


def test_what_has_no_picture_is_not_joined(tmp_path):
    from tests.unit.media.clips import Clip, Sound

    path = Clip(picture=None, sounds=(Sound(),)).write(tmp_path / "a.m4a")
    with pytest.raises(MediaError, match="no picture"):
        join([Piece(path, probe(path), Span(0, 1))], tmp_path / "all.mp4", exact=False)
