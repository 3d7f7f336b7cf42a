"""Lists are read back: by OpenTimelineIO, pycmx, an XML parser, and by the rules of formats that have no reader."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import opentimelineio as otio
import pycmx
import pytest

from clamr_cli.edit import export
from clamr_cli.edit.selections import Selection
from clamr_cli.errors import UsageError
from clamr_cli.timecode import frame_number, timecode
from clamr_cli.types import AudioTrack, MediaInfo, Span, TimeBase
from tests.unit.cli.conftest import Clamr

CASES = [
    ("24000/1001", "01:00:00:00"),
    ("24", "10:20:30:12"),
    ("25", ""),
    ("30000/1001", "00:59:58;10"),
    ("30000/1001", "01:00:00:00"),
    ("50", "01:00:00:00"),
    ("60000/1001", "00:58:59;58"),
    ("60000/1001", "01:00:00:00"),
]
PATH = "/videos/café & <b>#1 100%.mov"
TEXT = 'She said "go" & <left>\x1b[31m'


def media(rate: str, timecode_: str = "", **more: object) -> MediaInfo:
    base = TimeBase(rate, rate, False, timecode_, "tmcd" if timecode_ else "")
    info = MediaInfo("mov,mp4", 100.0, 100.0, 100.0, 1920, 1080, 0, float(Fraction(rate)), "h264", 0, time_base=base)
    return replace(info, audio=(AudioTrack(1, "aac"),), **more)


def listed(rate: str, label: str) -> export.EditList:
    """Three shots of two files."""
    one = Selection(PATH, media(rate, label), Span(0, 0), "A title", "aa", 1, TEXT)
    two = Selection("/videos/café & other.mov", media(rate, label), Span(0, 0), "", "bb", 2, "")
    frame = 1 / Fraction(rate)
    spans = [Span(float(10 * frame), float(60 * frame)), Span(61.0, 75.5), Span(1.5, 2.0)]
    edits, notes = export.edit_list([one, two, one], spans, "My cut", drop=";" in label)
    assert notes == []
    return edits


def expected(edits: export.EditList) -> list[tuple[int, int, int, int]]:
    """Source in and out, record in and out, as frames."""
    return [
        (
            shot.zero + shot.first,
            shot.zero + shot.first + shot.count,
            edits.zero + shot.begin,
            edits.zero + shot.begin + shot.length,
        )
        for shot in edits.shots
    ]


def path_of(url: str) -> str:
    assert url.startswith("file:///")
    assert re.fullmatch(r"[\x21-\x7e]+", url)
    return unquote(urlparse(url).path)


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_shots_are_whole_frames(rate, label):
    edits = listed(rate, label)
    shot = edits.shots[0]
    assert (shot.first, shot.count, shot.length) == (10, 50, 50)
    assert shot.label(0) == (label or "00:00:00:00")
    assert edits.label(0) == ("01:00:00;00" if ";" in label else "01:00:00:00")
    assert edits.length == sum(shot.count for shot in edits.shots)


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_otio_comes_back(rate, label):
    edits = listed(rate, label)
    timeline = otio.adapters.read_from_string(export.as_otio(edits).decode(), "otio_json")
    assert [track.kind for track in timeline.tracks] == ["Video", "Audio"]
    for track in timeline.tracks:
        clips = list(track.find_clips())
        found = []
        for clip in clips:
            own, place = clip.source_range, clip.range_in_parent()
            assert own.start_time.rate == pytest.approx(float(Fraction(rate)), abs=1e-9)
            start = place.start_time + timeline.global_start_time
            found.append(
                (own.start_time.value, own.end_time_exclusive().value, start.value, (start + place.duration).value)
            )
            assert clip.media_reference.available_range.contains(own)
        assert found == expected(edits)
        assert [path_of(clip.media_reference.target_url) for clip in clips] == [s.selection.path for s in edits.shots]
    assert clips[0].metadata["clamr"]["text"].startswith('She said "go" & <left>')
    assert [clip.markers[0].name for clip in clips if clip.markers] == [edits.shots[0].note] * 2


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_edls_come_back(rate, label):
    edits, fraction = listed(rate, label), Fraction(rate)
    text = export.as_edl(edits).decode("ascii")
    parsed = pycmx.parse_cmx3600(io.StringIO(text))
    found = []
    for event in parsed.events:
        (edit,) = event.edits
        stamps = (edit.source_in, edit.source_out, edit.record_in, edit.record_out)
        found.append(tuple(frame_number(stamp, fraction) for stamp in stamps))
        assert edit.channels.video
        assert edit.channels.a1
    assert found == expected(edits)
    assert parsed.title == "My cut"
    assert [event.edits[0].clip_name for event in parsed.events] == names(edits)
    reels = [event.edits[0].source for event in parsed.events]
    assert all(re.fullmatch("[A-Z0-9]{1,8}", reel) for reel in reels)
    assert (reels[0] == reels[2], reels[0] == reels[1]) == (True, False)
    read = otio.adapters.read_from_string(text.replace("\r", ""), "cmx_3600", rate=float(fraction))
    (track, *_) = [track for track in read.tracks if track.kind == "Video"]
    assert [
        (clip.source_range.start_time.value, clip.source_range.end_time_exclusive().value)
        for clip in track.find_clips()
    ] == [pair[:2] for pair in expected(edits)]


def names(edits: export.EditList) -> list[str]:
    return [shot.name.replace("é", "e") for shot in edits.shots]


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_final_cut_xml_comes_back(rate, label):
    edits, fraction = listed(rate, label), Fraction(rate)
    text = export.as_fcp7(edits).decode()
    root = ElementTree.fromstring(text)
    rates = {(one.findtext("timebase"), one.findtext("ntsc")) for one in root.iter("rate")}
    assert rates == {(str(round(fraction)), "TRUE" if fraction.denominator == 1001 else "FALSE")}
    assert {path_of(url.text.replace("localhost", "")) for url in root.iter("pathurl")} == {
        s.selection.path for s in edits.shots
    }
    labels = {(one.findtext("string"), one.findtext("displayformat")) for one in root.iter("timecode")}
    own = label or "00:00:00:00"
    assert labels == {(own, "DF" if ";" in own else "NDF"), (edits.label(0), "DF" if edits.drop else "NDF")}
    ids = {one.get("id") for one in root.iter("clipitem")}
    assert {link.text for link in root.iter("linkclipref")} == ids
    read = otio.adapters.read_from_string(text, "fcp_xml")
    timeline = read if isinstance(read, otio.schema.Timeline) else next(iter(read))
    clips = list(timeline.tracks[0].find_clips())
    found = [(clip.source_range.start_time.value, clip.source_range.end_time_exclusive().value) for clip in clips]
    assert found == [pair[:2] for pair in expected(edits)]


def seconds(text: str) -> Fraction:
    assert re.fullmatch(r"\d+(/\d+)?s", text)
    return Fraction(text.removesuffix("s"))


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_fcpxml_has_exact_times(rate, label):
    edits, fraction = listed(rate, label), Fraction(rate)
    text = export.as_fcpxml(edits).decode()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n')
    root = ElementTree.fromstring(text)
    assert (root.tag, root.get("version")) == ("fcpxml", "1.10")
    assert [one.tag for one in root] == ["resources", "library"]
    (form,) = root.iter("format")
    assert 1 / seconds(form.get("frameDuration", "")) == fraction
    assets = {asset.get("id"): asset for asset in root.iter("asset")}
    sequence = root.find("library/event/project/sequence")
    assert sequence is not None
    assert sequence.get("tcFormat") == ("DF" if ";" in label else "NDF")
    assert seconds(sequence.get("tcStart", "")) * fraction == edits.zero
    found = []
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    for clip in root.iter("asset-clip"):
        asset = assets[clip.get("ref")]
        start, offset, duration = (seconds(clip.get(name, "")) for name in ("start", "offset", "duration"))
        assert seconds(asset.get("start", "")) <= start
        assert start + duration <= seconds(asset.get("start", "")) + seconds(asset.get("duration", ""))
        frames = (start * fraction, (start + duration) * fraction, offset * fraction, (offset + duration) * fraction)
        assert all(frame.denominator == 1 for frame in frames)
        found.append(tuple(map(int, frames)))
    assert found == expected(edits)
    assert {path_of(rep.get("src", "")) for rep in root.iter("media-rep")} == {
        shot.selection.path for shot in edits.shots
    }
    assert seconds(sequence.get("duration", "")) * fraction == edits.length


@pytest.mark.parametrize(("rate", "label"), CASES)
def test_markers_of_resolve_are_events_of_one_frame(rate, label):
    edits, fraction = listed(rate, label), Fraction(rate)
    text = export.as_resolve_markers(edits).decode("ascii")
    events = re.findall(r"^(\d{3})  001      V     C        (\S+) (\S+) (\S+) (\S+)\r$", text, re.MULTILINE)
    notes = re.findall(r"^ \|C:ResolveColorBlue \|M:([^|\r]*) \|D:(\d+)\r$", text, re.MULTILINE)
    assert len(events) == len(notes) == 3
    for (_, *stamps), shot in zip(events, edits.shots, strict=True):
        frames = [frame_number(stamp, fraction) for stamp in stamps]
        assert frames == [edits.zero + shot.begin, edits.zero + shot.begin + 1] * 2
    assert [int(length) for _, length in notes] == [shot.length for shot in edits.shots]


def test_playlists_start_where_they_should():
    edits = listed("25", "")
    lines = export.as_m3u8(edits).decode().splitlines()
    assert lines[:5] == [
        "#EXTM3U", "#EXTINF:2,A title: " + edits.shots[0].note, "#EXTVLCOPT:start-time=0.400",
        "#EXTVLCOPT:stop-time=2.400", lines[4],
    ]  # fmt: skip
    assert path_of(lines[4]) == PATH
    root = ElementTree.fromstring(export.as_xspf(edits))
    space = {"x": "http://xspf.org/ns/0/", "vlc": "http://www.videolan.org/vlc/playlist/0"}
    tracks = root.findall("x:trackList/x:track", space)
    assert [path_of(track.findtext("x:location", "", space)) for track in tracks] == [
        s.selection.path for s in edits.shots
    ]
    assert [one.text for one in tracks[1].findall("x:extension/vlc:option", space)] == [
        "start-time=61.000",
        "stop-time=75.500",
    ]


def test_subtitles_and_chapters_count_joined_time_or_that_of_one_video():
    edits = listed("25", "")
    assert "00:00:02,000 --> 00:00:16,520" in export.as_subrip(edits).decode()
    assert export.as_webvtt(edits).decode().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n")
    assert [line.split()[0] for line in export.as_chapters(edits).decode().splitlines()] == ["0:00", "0:02", "0:16"]
    with pytest.raises(UsageError, match="several videos"):
        export.as_subrip(edits, "video")
    one = replace(edits, shots=(edits.shots[0], edits.shots[2]))
    assert "00:00:01,500 --> 00:00:02,000" in export.as_subrip(one).decode()
    later = replace(one, shots=one.shots[1:])
    assert export.as_chapters(later).decode().splitlines()[0] == "0:00 Start"
    assert "00:00:01,500" not in export.as_subrip(one, "joined").decode()


def test_shot_lists_compute_nothing():
    hostile = Selection("/videos/=a.mp4", media("25"), Span(0, 0), "=1+1", "aa", 1, "@SUM(A1)\n\x1b[2J")
    edits, _ = export.edit_list([hostile], [Span(1.0, 2.0)], "x")
    (row,) = csv.DictReader(io.StringIO(export.as_shots(edits).decode()))
    assert (row["title"], row["text"], row["file"]) == ("'=1+1", "'@SUM(A1)\\n\\x1b[2J", "'=a.mp4")
    assert (row["source in"], row["record out"], row["frames"]) == ("00:00:01:00", "01:00:01:00", "25")
    rows = list(csv.reader(io.StringIO(export.as_losslesscut(edits).decode())))
    assert rows == [["1.000000", "2.000000", "'@SUM(A1) \\x1b[2J"]]
    with pytest.raises(UsageError, match="one video"):
        export.as_losslesscut(listed("25", ""))


def test_sources_that_differ_are_conformed_and_said():
    film, phone = media("24000/1001"), media("30")
    phone = replace(phone, time_base=replace(phone.time_base, variable=True, start=0.5))
    selections = [Selection("/v/film.mov", film, Span(0, 0)), Selection("/v/phone.mp4", phone, Span(0, 0))]
    edits, notes = export.edit_list(selections, [Span(0.0, 10.01), Span(1.5, 3.5)], "x")
    assert edits.rate == Fraction(24000, 1001)
    assert [(shot.first, shot.count, shot.length) for shot in edits.shots] == [(0, 240, 240), (30, 60, 48)]
    assert notes == [
        "phone.mp4 has a variable frame rate: its times are conformed to 30 frames a second",
        "the list has 23.976 frames a second; sources of 30 are conformed to it",
    ]
    timeline = otio.adapters.read_from_string(export.as_otio(edits).decode(), "otio_json")
    assert timeline.duration().to_seconds() == pytest.approx(12.01, abs=0.001)
    root = ElementTree.fromstring(export.as_fcpxml(edits))
    assert len(list(root.iter("format"))) == 2
    with pytest.raises(UsageError, match="no drop-frame"):
        export.edit_list(selections, [Span(0, 1), Span(0, 1)], "x", drop=True)


def test_reels_are_short_and_differ():
    paths = ["/v/a very long name.mov", "/w/A VERY long other.mov", "/v/日本.mp4", "/v/中国.mp4", "/v/bl.mov"]
    edits, _ = export.edit_list([Selection(path, media("25"), Span(0, 0)) for path in paths], [Span(0, 1)] * 5, "x")
    assert [shot.reel for shot in edits.shots] == ["AVERYLON", "AVERYLO2", "CLIP", "CLIP2", "BL2"]


def test_a_list_is_written_by_name_and_ending(clamr: Clamr, shelf: Path, tmp_path: Path):
    db = str(shelf / "index")
    for name in (
        "cut.otio",
        "cut.edl",
        "cut.xml",
        "cut.fcpxml",
        "cut.csv",
        "cut.m3u8",
        "cut.xspf",
        "cut.srt",
        "cut.vtt",
        "cut.txt",
    ):
        ended = clamr("--db", db, "export", str(tmp_path / name), "talk@0:01-0:02", "walk@1-3")
        assert ended.code == 0, ended.err
    assert len(os.listdir(tmp_path)) == 10
    assert "sources of 25 are conformed" in clamr("--db", db, "export", "edl", "talk@0-3", "walk@1-3").err
    ended = clamr("--db", db, "export", "edl", "talk@0:01-0:02", "--as-given")
    stamps = b"01:00:01;00 01:00:02;00 01:00:00;00 01:00:01;00"
    assert b"\r\n001  TALK     AA/V  C        " + stamps + b"\r\n* FROM CLIP NAME: talk.mp4\r\n" in ended.out
    ended = clamr("--db", db, "export", str(tmp_path / "markers.edl"), "talk@3-4", "--format", "resolve")
    assert "ResolveColorBlue" in (tmp_path / "markers.edl").read_text()
    assert clamr("--db", db, "export", str(tmp_path / "cut.edl"), "talk@3-4").code == 2
    assert clamr("--db", db, "export", "cut.doc", "talk@3-4").code == 2
    ended = clamr(
        "--db", db, "search", "tomatoes", "--floor", "0", "--export", str(tmp_path / "hits.fcpxml"), "-n", "1", "--json"
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["rank"] == 1
    assert "today we plant tomatoes" in (tmp_path / "hits.fcpxml").read_text()


@pytest.mark.slow
def test_formats_of_our_own_need_no_extra(shelf: Path):
    script = (
        "import sys; sys.modules['opentimelineio'] = None; from clamr_cli.cli import main\n"
        "codes = [main(['--db', sys.argv[1], 'export', form, 'talk@1-2']) for form in sys.argv[2:]]\n"
        "print(codes, file=sys.stderr)"
    )
    words = [str(shelf / "index"), *export.FORMATS]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    codes = dict(zip(export.FORMATS, json.loads(ended.stderr.splitlines()[-1]), strict=True))
    assert {form for form, code in codes.items() if code} == {"otio"}
    assert "this format needs an optional package: pip install" in ended.stderr


def test_the_timecode_of_a_list_begins_at_one_hour():
    for rate in ("24000/1001", "25", "30000/1001", "60000/1001"):
        for drop in (False, True):
            if not drop or rate in ("30000/1001", "60000/1001"):
                zero = export.EditList("", (), Fraction(rate), drop).zero
                assert timecode(zero, Fraction(rate), drop=drop) == ("01:00:00;00" if drop else "01:00:00:00")
