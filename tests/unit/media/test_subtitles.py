"""Lines of subtitles come as plain text, from the right track, in order and fast."""

from __future__ import annotations

import pytest

from clamr_cli.media.container import read_subtitle_tracks
from clamr_cli.media.probe import probe
from tests.unit.media.clips import Clip, plain

CELL = plain((9, 9, 9), (32, 32))
LINES = ((0.5, 1.2, "Hello there"), (1.5, 2.0, "General Kenobi"))


def read_all(clip, path):
    clip.write(path)
    return list(read_subtitle_tracks(str(path), probe(str(path))).values())


def read(clip, path):
    (lines,) = read_all(clip, path)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "name"), [("mov_text", "a.mp4"), ("subrip", "a.mkv"), ("ass", "a.mkv"), ("webvtt", "a.webm")]
)
def test_text_formats(tmp_path, codec, name):
    lines = LINES
    if codec == "ass":
        lines = tuple((a, b, f"{index},0,Default,,0,0,0,,{text}") for index, (a, b, text) in enumerate(LINES))
    clip = Clip(codec="libvpx-vp9" if name == "a.webm" else "libx264", subtitles=((codec, "eng", lines),))
    segments = read(clip, tmp_path / name)
    assert [(s.text, s.language, s.source) for s in segments] == [
        ("Hello there", "en", "embedded-subtitle"),
        ("General Kenobi", "en", "embedded-subtitle"),
    ]
    assert [(s.span.start, s.span.end) for s in segments] == [
        pytest.approx((0.5, 1.2), abs=0.02),
        pytest.approx((1.5, 2.0), abs=0.02),
    ]


def test_styling_drawings_and_control_characters_are_gone(tmp_path):
    texts = [
        r"0,0,Default,,0,0,0,,{\an8\i1}Up{\i0} here\Nand, there",
        r"1,0,Default,,0,0,0,,{\p1}m 0 0 l 100 0 100 100{\p0}",
        "2,0,Default,,0,0,0,,<i>old</i> \x1b[31mtags\u202e 1 < 2",
    ]
    lines = tuple((index * 0.5, index * 0.5 + 0.4, text) for index, text in enumerate(texts))
    segments = read(Clip(subtitles=(("ass", "eng", lines),)), tmp_path / "a.mkv")
    assert [segment.text for segment in segments] == ["Up here and, there", "old [31mtags 1 < 2"]


def test_all_tracks_with_lines_are_read_in_one_go(tmp_path):
    tracks = (("subrip", "fre", ()), ("subrip", "eng", LINES), ("subrip", "ger", ((0.1, 0.9, "Guten Tag"),)))
    found = read_all(Clip(subtitles=tracks), tmp_path / "a.mkv")
    assert [[s.text for s in lines] for lines in found] == [["Hello there", "General Kenobi"], ["Guten Tag"]]
    assert [lines[0].language for lines in found] == ["en", "de"]


def test_a_line_repeated_while_it_is_on_screen_is_one_line(tmp_path):
    lines = ((0.0, 0.5, "again"), (0.5, 1.0, "again"), (1.5, 1.9, "again"))
    segments = read(Clip(subtitles=(("subrip", "eng", lines),)), tmp_path / "a.mkv")
    assert [(s.span.start, s.span.end) for s in segments] == [(0.0, 1.0), (1.5, 1.9)]


def test_times_end_with_the_video(tmp_path):
    lines = ((0.0, 900.0, "for ever"), (500.0, 501.0, "never seen"))
    segments = read(Clip(seconds=4, subtitles=(("subrip", "eng", lines),)), tmp_path / "a.mkv")
    assert segments[0].span.end <= 901


def test_a_video_without_subtitles_gives_no_lines(plain_clip):
    assert read_subtitle_tracks(plain_clip, probe(plain_clip)) == {}


@pytest.mark.slow
def test_ten_thousand_lines_are_read(tmp_path):
    lines = tuple((number / 10, number / 10 + 0.09, f"line {number}") for number in range(10_000))
    clip = Clip(fps=1, seconds=1000, picture=lambda time: CELL, subtitles=(("subrip", "eng", lines),))
    segments = read(clip, tmp_path / "a.mkv")
    assert len(segments) == 10_000
    assert segments[-1].text == "line 9999"
