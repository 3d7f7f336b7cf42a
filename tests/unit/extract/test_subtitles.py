"""Subtitle files are read whatever their encoding, markup and habits; what is none says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.extract.subtitles import from_events, read_subtitle_file
from clamr_cli.types import Span

SRT = "1\n00:00:01,000 --> 00:00:02,500\nÜber die Brücke\n"


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_are_sniffed(tmp_path: Path, encoding: str) -> None:
    (segment,) = read_subtitle_file(written(tmp_path, "a.srt", SRT.encode(encoding)), "de")
    assert segment.text == "Über die Brücke"
    assert segment.span == Span(1.0, 2.5)
    assert (segment.source, segment.language) == ("subtitle", "de")


def test_the_language_is_in_the_name(tmp_path: Path) -> None:
    assert read_subtitle_file(written(tmp_path, "a.pt-BR.srt", SRT))[0].language == "pt"
    assert read_subtitle_file(written(tmp_path, "a.srt", SRT))[0].language == ""


def test_markup_entities_and_escape_sequences_go(tmp_path: Path) -> None:
    body = "1\n00:00:01,000 --> 00:00:02,000\n<i>Fish</i> &amp; {\\an8}<font color=red>chips</font>\x1b[31m 1 < 2\n"
    (segment,) = read_subtitle_file(written(tmp_path, "a.srt", body))
    assert segment.text == "Fish & chips [31m 1 < 2"


def test_scrolling_captions_are_said_once(tmp_path: Path) -> None:
    body = """WEBVTT

00:00:00.000 --> 00:00:02.500 align:start position:0%

hello<00:00:00.500><c> world</c>

00:00:02.500 --> 00:00:02.510
hello world

00:00:02.510 --> 00:00:05.000
hello world
this<00:00:03.000><c> is</c><00:00:03.500><c> fun</c>

00:00:05.000 --> 00:00:05.010
this is fun
"""
    segments = read_subtitle_file(written(tmp_path, "a.vtt", body))
    assert [segment.text for segment in segments] == ["hello world", "this is fun"]
    assert segments[1].span == Span(2.51, 5.01)


def test_a_refrain_sung_again_later_stays() -> None:
    segments = from_events([(0, 2, "la la"), (10, 12, "la la")])
    assert [segment.span for segment in segments] == [Span(0, 2), Span(10, 12)]


def test_ass_styles_drawings_and_comments_go(tmp_path: Path) -> None:
    lines = [
        "Dialogue: 0,0:00:04.00,0:00:05.00,Default,,0,0,0,,second",
        "Dialogue: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,{\\pos(1,2)\\b1}Bold\\Nnext {\\p1}m 0 0 l 1 1{\\p0}",
        "Comment: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,hidden",
    ]
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, "
    body = head + "MarginV, Effect, Text\n" + "\n".join(lines) + "\n"
    segments = read_subtitle_file(written(tmp_path, "a.ass", body))
    assert [segment.text for segment in segments] == ["Bold next", "second"]


@pytest.mark.parametrize("content", [b"", b"just words", bytes(range(256)) * 20, b"WEBVTT\n\n", b"{}"])
@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.ass"])
def test_what_is_no_subtitle_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(MediaError, match=name):
        read_subtitle_file(written(tmp_path, name, content))


def test_an_absent_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        read_subtitle_file(tmp_path / "absent.srt")


def test_backward_and_negative_times_give_valid_spans() -> None:
    segments = from_events([(5, 3, "backward"), (-2, -1, "early")])
    assert [segment.span for segment in segments] == [Span(0, 0), Span(5, 5)]


def test_ten_thousand_cues_are_all_read_in_order(tmp_path: Path) -> None:
    cues = [
        f"{n}\n{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02},000 --> 09:00:00,000\nline {n}\n" for n in range(10_000)
    ]
    segments = read_subtitle_file(written(tmp_path, "a.srt", "\n".join(reversed(cues))))
    assert len(segments) == 10_000
    assert segments[1234].text == "line 1234"
    assert segments[1234].span.start == 1234.0
