# ruff: noqa: E501
"""Subtitle files are read whatever their encoding, markup and habits; what is none says so."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.extract.clean import clean
from clamr_cli.extract.subtitles import as_text, as_vtt, from_events, read_subtitle_file
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


def times_and_texts(path: Path, language: str = "") -> list[tuple[float, float, str]]:
    segments = read_subtitle_file(path, language)
    return [(round(one.span.start, 2), round(one.span.end, 2), one.text) for one in segments]


OLD = {
    "ru": ("cp1251 koi8_r cp866", "Где находится маяк, брат?"),
    "uk": ("cp1251 koi8_u", "Де її маяк і човен?"),
    "el": ("cp1253 iso8859_7", "Πού είναι ο φάρος;"),
    "tr": ("cp1254", "İşte deniz feneri, görüyor musun çocuğum? ışık"),
    "he": ("cp1255", "איפה המגדלור?"),
    "ar": ("cp1256", "أين المنارة؟"),
    "cs": ("cp1250 iso8859_2", "Kde je maják, šéfe? Že by už zhasl?"),
    "pl": ("cp1250 iso8859_2", "Gdzieś tam świeci jaśniejąca latarnia, że aż miło."),
    "sr": ("cp1250 cp1251", "Šta kažeš, je li to svetionik?"),
    "lt": ("cp1257", "Kur yra švyturys, žvejau?"),
    "vi": ("cp1258", "Đây là ngươi"),
    "ja": ("cp932 euc_jp iso2022_jp", "灯台はどこにありますか。カタカナ"),
    "ko": ("cp949", "등대는 어디에 있습니까"),
    "zh": ("gb18030", "灯塔在哪里？我们走吧。"),
    "th": ("cp874", "ประภาคารอยู่ที่ไหน"),
    "fr": ("cp1252", "Où est l’œil du phare déjà éteint\u00a0?"),
}


@pytest.mark.parametrize(
    ("language", "encoding"), [(one, page) for one, (pages, _) in OLD.items() for page in pages.split()]
)
def test_the_language_says_which_code_page_it_is(tmp_path: Path, language: str, encoding: str) -> None:
    line = OLD[language][1]
    if (language, encoding) == ("sr", "cp1251"):
        line = "Шта кажеш, је ли то?"
    body = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{line}\n\n" for n in range(1, 7))
    notices: list[str] = []
    segments = read_subtitle_file(written(tmp_path, "a.srt", body.encode(encoding)), language, notices)
    assert {segment.text for segment in segments} == {clean(line)}
    assert notices == []


def test_an_encoding_that_nothing_tells_is_guessed_and_said(tmp_path: Path) -> None:
    body = "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{OLD['ru'][1]}\n\n" for n in range(1, 7))
    notices: list[str] = []
    path = written(tmp_path, "a.srt", body.encode("cp1251"))
    assert read_subtitle_file(path, "", notices)[0].text == OLD["ru"][1]
    assert notices == ["a.srt does not say its encoding; read as cp1251"]
    path.write_bytes("\n".join([SRT] * 9).encode() + b"\xe9\n")
    assert read_subtitle_file(path)[0].text == "Über die Brücke"


FORMATS = {
    "whole seconds.srt": "1\n00:00:01 --> 00:00:02\nA\n\n2\n0:03-->0:04.5\nB &amp; C\n3\n00:00:05,000 --> 00:00:06,000\n7",
    "subviewer.sub": "[SUBTITLE]\n00:00:01.00,00:00:02.00\nA\n\n00:00:03.00,00:00:04.50\nB[br]& C\n\n0:00:05,0:00:06\n7\n",
    "youtube.sbv": "0:00:01.000,0:00:02.000\nA\n\n0:00:03.000,0:00:04.500\nB\n& C\n\n0:00:05.000,0:00:06.000\n7\n",
    "micro.sub": "{1}{1}10\n{10}{20}A\n{30}{45}{Y:i}B|& C\n{50}{60}7\n",
    "mpl.sub": "[10][20]A\n[30][45]/B|& C\n[50][60]7\n",
    "t.ttml": '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:p="http://www.w3.org/ns/ttml#parameter" p:frameRate="10"><body><div>'
    '<p begin="1s" end="2s">A</p><p begin="00:00:03.0" dur="1500ms">B<br/><span>&amp; C</span></p>'
    '<p begin="00:00:05:00" end="00:00:06:00">7</p></div></body></tt>',
    "y.srv1": '<?xml version="1.0"?><transcript><text start="1" dur="1">A</text><text start="3" dur="1.5">B\n&amp;amp; C</text>'
    '<text start="5" dur="1">7</text></transcript>',
    "y.srv3": '<timedtext format="3"><body><p t="1000" d="1000">A</p><p t="3000" d="1500"><s>B</s><s t="9"> &amp; C</s></p>'
    '<p t="4500" d="10" a="1">\n</p><p t="5000" d="1000">7</p></body></timedtext>',
    "y.json3": '{"events": [{"tStartMs": 1000, "dDurationMs": 1000, "segs": [{"utf8": "A"}]}, {"tStartMs": 3000, "dDurationMs": '
    '1500, "segs": [{"utf8": "B"}, {"utf8": " & C"}]}, {"tStartMs": 5000, "dDurationMs": 1000, "segs": [{"utf8": "7"}]}]}',
    "whisper.json": '{"text": "", "segments": [{"start": 1, "end": 2.0, "text": " A"}, {"start": 3, "end": 4.5, "text": " B & C"},'
    '{"start": 5, "end": 6, "text": "7"}]}',
    "whisper.tsv": "start\tend\ttext\n1000\t2000\tA\n3000\t4500\tB & C\n5000\t6000\t7\n",
    "korean.smi": "<SAMI><BODY><SYNC Start=1000><P Class=KRCC>A<SYNC Start=2000><P Class=KRCC>&nbsp;<SYNC Start=3000>"
    "<P Class=KRCC>B<br>&amp; C<SYNC Start=4500><P Class=KRCC>&nbsp;<SYNC Start=5000><P Class=KRCC>7<SYNC Start=6000>",
    "song.lrc": "[ar:X]\n[00:01.00]A\n[00:02]\n[00:03.00]<00:03.00>B <00:03.50>& C\n[00:04.50]\n[00:05.0]7\n[00:06.0]\n",
    "w.vtt": "WEBVTT FILE\nKind: captions\n\nSTYLE\n::cue {}\n\nREGION\nid:a\n\nfirst\n00:01.000 --> 00:02.000 line:0\n<c.red>A</c>\n\n"
    "NOTE 00:01 is\nno cue\n\n00:00:03.000 --> 00:00:04.500\nB<00:00:03.500> &amp; <b>C</b>\n\n3\n00:05.000 --> 00:06.000\n7\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_that_tools_write_give_the_same_lines(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, FORMATS[name])
    assert times_and_texts(path) == [(1, 2, "A"), (3, 4.5, "B & C"), (5, 6, "7")]


def spoken(path: Path) -> list[tuple[str, str]]:
    return [(line.speaker, line.text) for line in read_subtitle_file(path)]


def cues(*texts: str, head: str = "") -> str:
    return head + "".join(f"{n}\n00:00:{n:02}.000 --> 00:00:{n:02}.900\n{text}\n\n" for n, text in enumerate(texts))


def test_voices_of_webvtt_are_speakers_also_where_several_share_a_cue(tmp_path: Path) -> None:
    body = cues("<v.loud Grace Hopper>It works.</v>", "<v A&amp;B>Ship it.", "<v Al>No.\n<v Bo>Yes.", head="WEBVTT\n\n")
    path = written(tmp_path, "a.vtt", body)
    assert spoken(path) == [("Grace Hopper", "It works."), ("A&B", "Ship it."), ("Al", "No."), ("Bo", "Yes.")]
    first, second = (line.span for line in read_subtitle_file(path)[2:])
    assert (first.start, first.end, second.end) == (2.0, second.start, 2.9)
    assert spoken(written(tmp_path, "b.vtt", as_vtt(read_subtitle_file(path)))) == spoken(path)
    assert as_text(read_subtitle_file(path)).splitlines()[0] == "Grace Hopper: It works."


DRONE = tuple(f"ISO: {n}00 F: 2.{n}" for n in range(1, 5))
SAID: tuple[tuple[tuple[str, ...], list[tuple[str, str]]], ...] = (
    (("Ann Lee: Hi.", "Bo van Dyk: Yo."), [("Ann Lee", "Hi."), ("Bo van Dyk", "Yo.")]),  # a meeting
    (("ANN: Hi.\n- BO: Yo.", "What?", "ANN (sighs): No.", "x", "y"),
     [("ANN", "Hi."), ("BO", "Yo."), ("", "What?"), ("ANN", "No."), ("", "x"), ("", "y")]),
    (("- ANN: Hi.", "- Hm.", "- ANN: Yo."), [("ANN", "Hi."), ("", "- Hm."), ("ANN", "Yo.")]),
    (("田中：はい", "田中：いいえ"), [("田中", "はい"), ("田中", "いいえ")]),
    (("One thing: I left.", "Two", "3"), [("", "One thing: I left."), ("", "Two"), ("", "3")]),
    (("Note: a", "Note: b"), [("", "Note: a"), ("", "Note: b")]),
    (("Speaker 1: a", "Speaker 2: b"), [("", "a"), ("", "b")]),
    (DRONE, [("", text) for text in DRONE]),
    (("\x1b[31mEvil: a", "\x1b[31mEvil: b"), [("", "[31mEvil: a"), ("", "[31mEvil: b")]),
)  # fmt: skip


@pytest.mark.parametrize(("texts", "expected"), SAID, ids=range(len(SAID)))
def test_names_before_lines_are_speakers(
    tmp_path: Path, texts: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert spoken(written(tmp_path, "a.srt", cues(*texts))) == expected


def test_speakers_of_whisperx_and_of_hostile_names(tmp_path: Path) -> None:
    segment = {"start": 1, "end": 2, "text": "A"}
    names = ("Ann", "SPEAKER_00", "a\x1b]0;x\x07\u202eb" + "c" * 90, "")
    body = json.dumps({"segments": [segment | {"speaker": name} for name in names]})
    speakers = [speaker for speaker, _ in spoken(written(tmp_path, "a.json", body))]
    assert speakers == ["Ann", "", "a ]0;x", ""]


def test_of_several_languages_in_one_file_the_wanted_one_is_read(tmp_path: Path) -> None:
    body = "<SAMI><SYNC Start=1000><P Class=FRCC>Oui<SYNC Start=1000><P Class=ENCC>Yes</SAMI>"
    assert [text for _, _, text in times_and_texts(written(tmp_path, "a.smi", body), "en")] == ["Yes"]
    assert [text for _, _, text in times_and_texts(written(tmp_path, "a.smi", body))] == ["Oui"]


@pytest.mark.parametrize(("fps", "start"), [(25.0, 40.0), (0.0, 41.708)])
def test_frames_are_counted_at_the_rate_of_the_video(tmp_path: Path, fps: float, start: float) -> None:
    (line,) = read_subtitle_file(written(tmp_path, "a.sub", b"{1000}{1050}Hello there\n"), fps=fps)
    assert line.span.start == pytest.approx(start, abs=0.01)


def test_pictures_of_text_say_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="pictures of text"):
        read_subtitle_file(written(tmp_path, "a.sub", b"\0\0\1\xba" + bytes(4_000)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "1\n00:00:01,000 --> 00:00:02,000\n" + "<b" * 300_000,
        "1\n00:00:01,000 --> 00:00:02,000\n" + "{\\p1 " * 200_000,
        "".join(f"1\n00:00:0{n},000 --> 00:00:0{n + 1},000\n" + "x\ny\n" * 60_000 + "\n" for n in range(2)),
        "WEBVTT\n\n" + "<v " * 400_000,
        "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v a" * 200_000,
        "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v a>" * 100_000,
        "<SAMI>" + "<SYNC start=" * 100_000,
        "<SAMI>" + "<SYNC start=1>" * 50_000,
        "1:" * 500_000 + "\n00:00:01,000 --> 00:00:02,000\nA",
        "[1:1]" * 200_000,
        "{1}{1}" * 200_000,
        "\n" * 1_000_000 + "1\n00:00:01,000 --> 00:00:02,000\nA",
        "1\n00:00:01,000 --> 00:00:02,000\n" + "\n \n1\n" * 200_000,
        "{" * 500_000,
        "[" * 500_000,
        '{"segments": [{"start": 1' + "0" * 400 + ', "end": 2, "text": "A"}]}',
        "<tt>" * 100_000,
        "Dialogue: " * 100_000,
    ],
    ids=range(18),
)
def test_hostile_text_is_read_in_linear_time_or_refused(tmp_path: Path, body: str) -> None:
    # The suite's time limit ends what is quadratic here.
    with contextlib.suppress(MediaError):
        read_subtitle_file(written(tmp_path, "a.srt", body))


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


@pytest.mark.parametrize(
    "times",
    [
        "00:00:03 --> 00:00:05",
        "00:00:03.000000 --> 00:00:05.000000",
        "00: 00: 03, 000 --> 00: 00: 05, 000",
        "00:00:03,000 \u2192 00:00:05,000",
        "00:00:03,000 \u2013> 00:00:05,000",
    ],
)
def test_times_are_read_as_tools_and_people_write_them(tmp_path: Path, times: str) -> None:
    (segment,) = read_subtitle_file(written(tmp_path, "a.srt", f"1\n{times}\nHello.\n"))
    assert (segment.span, segment.text) == (Span(3, 5), "Hello.")


def test_a_line_that_begins_before_the_video_is_a_line_of_its_own(tmp_path: Path) -> None:
    content = "1\n-00:00:01,000 --> 00:00:02,000\nEarly.\n\n2\n00:00:03,000 --> 00:00:04,000\nLate.\n"
    segments = read_subtitle_file(written(tmp_path, "a.srt", content))
    assert [(segment.span, segment.text) for segment in segments] == [(Span(0, 2), "Early."), (Span(3, 4), "Late.")]


def test_a_scrolling_caption_that_begins_with_a_line_of_a_space_begins_when_it_is_said(tmp_path: Path) -> None:
    content = (
        "WEBVTT\n\n00:01.000 --> 00:03.000 align:start position:0%\n \nwe<00:01.500><c> sail</c>\n\n"
        "00:03.000 --> 00:03.010 align:start position:0%\nwe sail\n \n\n"
        "00:03.010 --> 00:05.000 align:start position:0%\nwe sail\nat<00:03.500><c> dawn</c>\n"
    )
    segments = read_subtitle_file(written(tmp_path, "a.en.vtt", content))
    assert [(segment.span.start, segment.text) for segment in segments] == [(1, "we sail"), (3.01, "at dawn")]


def test_json_with_chunks_is_read_and_json_of_something_else_is_one_clear_error(tmp_path: Path) -> None:
    chunks = '{"chunks": [{"timestamp": [1.0, 2.0], "text": " One"}, {"timestamp": [3.0, null], "text": " Two"}]}'
    assert [segment.text for segment in read_subtitle_file(written(tmp_path, "a.json", chunks))] == ["One", "Two"]
    for content in ('{"segments": "abc"}', '{"events": [1, 2]}', '{"chunks": [{"timestamp": 3}]}'):
        with pytest.raises(MediaError, match="damaged"):
            read_subtitle_file(written(tmp_path, "b.json", content))


def test_a_web_page_that_was_saved_as_subtitles_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="web page"):
        read_subtitle_file(written(tmp_path, "a.srt", "<!DOCTYPE html>\n<html><p begin='1s'>Are you human?</p></html>"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "language", "text"),
    [
        ("mac_roman", "fr", "Été à Paris, où êtes-vous déjà allé ?"),
        ("cp850", "de", "Über die Straße gehen wir später"),
        ("mac_roman", "", "Über die Straße gehen wir später, schöne Grüße"),
        ("cp850", "", "Über die Straße gehen wir später, schöne Grüße"),
        ("cp1254", "", "Bugün güneşli, ağaçların altında şarkı söylüyoruz"),
        ("cp1251", "en", "Сегодня мы говорим о погоде на острове"),
        ("cp1252", "", "Rødgrød med fløde på øen, hvad gør vi så"),
    ],
)
def test_old_code_pages_are_recognised_by_how_their_text_reads(
    tmp_path: Path, page: str, language: str, text: str
) -> None:
    content = f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode(page)
    (segment,) = read_subtitle_file(written(tmp_path, f"a.{language}.srt" if language else "a.srt", content))
    assert segment.text == text


def test_a_few_damaged_bytes_leave_a_short_file_utf_8(tmp_path: Path) -> None:
    content = "1\n00:00:01,000 --> 00:00:02,000\nGrüße\n\n2\n00:00:03,000 --> 00:00:04,000\nbad ".encode() + b"\xff\xe9"
    assert read_subtitle_file(written(tmp_path, "a.srt", content))[0].text == "Grüße"
