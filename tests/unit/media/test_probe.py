"""Headers are read, facts are measured where they lie, and broken files are told apart."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import av.error
import numpy as np
import pytest

from clamr_cli.errors import MediaError
from clamr_cli.languages import short_code
from clamr_cli.media.container import open_media, read_packets
from clamr_cli.media.probe import (
    choose_duration,
    clean_tags,
    clean_text,
    created,
    display_size,
    location,
    orientation,
    probe,
    read_time_base,
)
from clamr_cli.text import format_time, readable_part
from clamr_cli.types import TimeBase
from tests.unit.media.clips import Clip, Sound


def test_a_plain_clip_is_described(plain_clip):
    info = probe(plain_clip)
    assert (info.width, info.height, info.rotation, info.video_codec, info.video_stream) == (320, 180, 0, "h264", 0)
    assert info.duration == pytest.approx(2.0, abs=0.05)
    assert info.fps == 25
    assert info.audio == ()
    assert "mp4" in info.container


@pytest.mark.parametrize(("rotation", "size"), [(90, (180, 320)), (180, (320, 180)), (270, (180, 320))])
def test_rotation_gives_the_size_that_is_shown(tmp_path, rotation, size):
    info = probe(Clip(rotation=rotation).write(tmp_path / "a.mp4"))
    assert (info.rotation, (info.width, info.height)) == (rotation, size)


def test_wide_samples_are_squared(tmp_path):
    info = probe(Clip(aspect=Fraction(4, 3)).write(tmp_path / "a.mkv"))
    assert (info.width, info.height) == (427, 180)


def test_tracks_tell_language_and_default(tmp_path):
    sounds = (Sound(language="eng"), Sound(language="deu", default=True), Sound(language="und"))
    subtitles = (("subrip", "fre", ((0.0, 1.0, "Bonjour"),)),)
    info = probe(Clip(sounds=sounds, subtitles=subtitles).write(tmp_path / "a.mkv"))
    assert [(track.language, track.default, track.codec) for track in info.audio] == [
        ("en", False, "aac"),
        ("de", True, "aac"),
        ("", False, "aac"),
    ]
    (track,) = info.subtitles
    assert (track.language, track.codec, track.text) == ("fr", "subrip", True)


def test_cover_art_is_not_taken_for_a_video(tmp_path):
    info = probe(Clip(picture=None, sounds=(Sound(),), cover=True).write(tmp_path / "song.mp4"))
    assert (info.video_stream, info.video_codec, info.width) == (None, "", 0)
    info = probe(Clip(cover=True).write(tmp_path / "film.mp4"))
    assert (info.video_codec, info.width) == ("h264", 320)


def test_tags_are_lower_case_and_clean(tmp_path):
    tags = {"title": "A \x1b[31mred\u202e title\n", "comment": "x" * 9000, "creation_time": "2020-05-16T22:31:32"}
    info = probe(Clip(tags=tags).write(tmp_path / "a.mp4"))
    assert info.tags["title"] == "A [31mred title"
    assert len(info.tags["comment"]) == 5000
    assert info.created.startswith("2020-05-16T22:31:32")


@pytest.mark.slow
def test_a_live_recording_without_a_length_in_its_header_is_measured(tmp_path):
    info = probe(Clip(seconds=7, mux={"live": "1"}, sounds=(Sound(end=7.5),)).write(tmp_path / "a.mkv"))
    assert info.duration_from_header is None
    assert info.duration == pytest.approx(7.5, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_a_header_that_claims_too_much_is_overruled(tmp_path, name):
    path = tmp_path / name
    mux = {"movflags": "faststart"} if name.endswith("mp4") else {}
    Clip(seconds=40, fps=5, gop=10, mux=mux).write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = probe(str(path))
    assert info.duration_from_header == pytest.approx(40, abs=0.1)
    assert 10 < info.duration < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mux"),
    [
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mov", {"movflags": "faststart"}),
        ("a.mkv", {}),
        ("a.webm", {}),
        ("a.avi", {}),
        ("a.flv", {}),
        ("a.wmv", {}),
    ],
)
def test_a_download_that_was_cut_off_is_told_from_a_whole_file(tmp_path, name, mux):
    path = tmp_path / name
    codec = {"a.webm": "libvpx", "a.avi": "mpeg4", "a.flv": "flv", "a.wmv": "msmpeg4v2"}.get(name, "libx264")
    sounds = (
        ()
        if name == "a.webm"
        else (Sound(end=13, codec="mp3" if name in ("a.avi", "a.flv", "a.wmv") else "aac", rate=44100),)
    )
    Clip(codec=codec, seconds=12, fps=10, gop=10, mux=mux, sounds=sounds).write(path)
    content = path.read_bytes()
    assert not probe(str(path)).incomplete
    for share in (0.8, 0.4):
        path.write_bytes(content[: int(len(content) * share)])
        info = probe(str(path))
        assert info.incomplete
        assert info.duration == pytest.approx(12 * share, abs=3)
        assert f"only {format_time(info.duration_from_content)}." in readable_part(info)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.wmv", "a.flv"])
def test_a_file_that_was_made_at_its_full_size_and_not_filled_is_incomplete(tmp_path, name):
    path = tmp_path / name
    codec = {"a.wmv": "msmpeg4v2", "a.flv": "flv"}.get(name, "libx264")
    Clip(seconds=12, fps=10, gop=10, codec=codec, mux={"movflags": "faststart"} if name == "a.mp4" else {}).write(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert probe(str(path)).incomplete


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("a.mp4", Clip(seconds=3, sounds=(Sound(end=20),))),
        ("a.mkv", Clip(seconds=3, subtitles=(("subrip", "eng", ((0.0, 90.0, "to be continued"),)),))),
        ("a.ts", Clip(seconds=9, fps=10, sounds=(Sound(end=2),))),
        ("a.mp3", Clip(picture=None, sounds=(Sound(end=9, codec="mp3", rate=44100),))),
        ("a.mp4", Clip(seconds=3, cover=True, sounds=(Sound(end=3),))),
        ("a.mov", Clip(codec="mpeg4", times=(0.0, 0.1, 50.0), seconds=50)),
    ],
)
def test_a_file_whose_tracks_differ_in_length_is_complete(tmp_path, name, clip):
    path = clip.write(tmp_path / name)
    assert not probe(path).incomplete
    # Some cameras fill their files up to one size.
    with open(path, "ab") as file:
        file.write(bytes(200_000))
    assert not probe(path).incomplete


def test_a_transport_stream_starts_at_zero_whatever_its_clock_says(tmp_path):
    path = Clip(seconds=5, mux={"output_ts_offset": "5000"}).write(tmp_path / "a.ts")
    assert probe(path).duration == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"just text, nothing else\n" * 50, "not a media file"), (os.urandom(20_000), "not a media file")],
)
def test_files_that_are_not_videos_give_one_line_errors(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=reason) as caught:
        probe(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_index_is_reported(tmp_path, plain_clip):
    path = tmp_path / "cut.mp4"
    path.write_bytes(Path(plain_clip).read_bytes()[:3000])
    with pytest.raises(MediaError, match=r"cut off.*moov"):
        probe(str(path))


def test_a_missing_file_and_a_folder_are_reported(tmp_path):
    with pytest.raises(MediaError, match="gone"):
        probe(str(tmp_path / "nothing.mp4"))
    with pytest.raises(MediaError, match="folder"):
        probe(str(tmp_path))


def test_a_protected_video_is_reported(tmp_path):
    key = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    path = Clip(mux={"encryption_scheme": "cenc-aes-ctr", **key}).write(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="encrypted"):
        probe(path)


def test_a_playlist_opens_no_other_file(tmp_path, plain_clip):
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{plain_clip}\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match="not a media file"):
        probe(str(path))


@pytest.mark.parametrize("name", ["concat:x.mp4", "a\nb.mp4", "%03d [red]\u202e.mp4"])
def test_file_names_are_never_taken_for_protocols_or_patterns(tmp_path, plain_clip, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(Path(plain_clip).read_bytes())
    assert probe(name).width == 320


def test_a_file_whose_name_is_not_utf8_is_opened(tmp_path, plain_clip):
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.mp4")
    with open(path, "wb") as file:
        file.write(Path(plain_clip).read_bytes())
    assert probe(os.fsdecode(path)).width == 320


@pytest.mark.parametrize(
    ("right", "down", "shown"),
    [
        ((1, 0), (0, 1), (0, False)),
        ((0, 1), (-1, 0), (90, False)),
        ((-1, 0), (0, -1), (180, False)),
        ((0, -1), (1, 0), (270, False)),
        ((-1, 0), (0, 1), (0, True)),
        ((1, 0), (0, -1), (180, True)),
        ((0, 1), (1, 0), (270, True)),
        ((0, -1), (-1, 0), (90, True)),
        ((-65536, 457), (-457, -65530), (180, False)),
        ((0, 0), (0, 0), (0, False)),
    ],
)
def test_display_matrices_give_rotation_and_mirroring(right, down, shown):
    assert orientation((*right, 0, *down, 0, 0, 0, 1 << 30)) == shown
    assert orientation(()) == (0, False)


def test_absurd_sample_shapes_count_as_square():
    assert display_size(100, 50, Fraction(1000, 1)) == (100, 50)
    assert display_size(720, 576, Fraction(16, 11)) == (1047, 576)
    assert display_size(720, 576, None) == (720, 576)


@pytest.mark.parametrize(
    ("header", "content", "chosen"),
    [
        (10.0, 10.5, 10.0),
        (None, 4.0, 4.0),
        (10.0, None, 10.0),
        (3600.0, 12.0, 12.0),
        (1.0, 60.0, 60.0),
        (None, None, 0),
    ],
)
def test_the_header_wins_while_the_content_agrees(header, content, chosen):
    assert choose_duration(header, content) == chosen


def test_invalid_dates_and_locations_are_ignored():
    assert created({"creation_time": "1970-01-01T00:00:00Z", "date": "20190503"}) == "2019-05-03"
    assert created({"date": "last summer"}) == ""
    assert created({"date": "2019"}) == ""
    assert location({"location": "+52.5200+013.4050/"}) == "+52.5200+013.4050/"
    assert location({"location": "'; DROP TABLE videos"}) == ""


def test_tags_are_capped_and_the_empty_ones_left_out():
    assert clean_tags({"A\x00B": "x", "empty": " \n "}) == {"a b": "x"}
    assert len(clean_tags({f"k{number}": "v" for number in range(1000)})) == 100
    assert clean_text("می\u200cخواهم 👩\u200d🚀") == "می\u200cخواهم 👩\u200d🚀"


@pytest.mark.parametrize(
    ("tag", "code"), [("eng", "en"), ("fre", "fr"), ("zh-Hans", "zh"), ("und", ""), ("", ""), ("tlh", "tlh")]
)
def test_language_tags_become_short_codes(tag, code):
    assert short_code(tag) == code


def test_a_box_of_absurd_size_is_reported_as_damage(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\2\0" + b"\0\0\0\1mdat" + b"\xff" * 8 + bytes(100))
    with pytest.raises(MediaError, match="cut off"):
        probe(str(path))


def test_a_failing_disk_is_told_from_damage(tmp_path, plain_clip, monkeypatch):
    def broken(packets):
        raise av.error.OSError(errno.EIO, "Input/output error")

    path = str(tmp_path / "a.mp4")
    Path(path).write_bytes(Path(plain_clip).read_bytes())
    with open_media(path) as container:
        failing = SimpleNamespace(streams=container.streams, size=container.size, name=container.name, demux=broken)
        assert list(read_packets(failing, list(container.streams))) == []
        os.unlink(path)
        with pytest.raises(MediaError, match="gone"):
            list(read_packets(failing, list(container.streams)))


RATES = ["24000/1001", "24", "25", "30000/1001", "50", "60000/1001", "25/2"]


def film(path: Path, rate: str, timecode: str = "", stamps: list[int] | None = None) -> str:
    """Sixty frames with a rate of whole frames, or at the given stamps in milliseconds, and perhaps a timecode."""
    with av.open(os.fspath(path), "w") as target:
        if timecode:
            target.metadata["timecode"] = timecode
        stream = target.add_stream("mpeg2video" if path.suffix == ".mxf" else "libx264", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        base = Fraction(1, 1000) if stamps else 1 / Fraction(rate)
        stream.codec_context.time_base = base
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 4, np.uint8))
            frame.pts, frame.time_base = stamps[number] if stamps else number, base
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return os.fspath(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("rate", RATES)
def test_frame_rates_are_exact(tmp_path, rate, suffix):
    base = read_time_base(film(tmp_path / f"a{suffix}", rate))
    assert (base.rate, base.variable, base.timecode) == (rate, False, "")


@pytest.mark.parametrize(
    ("name", "rate", "stated", "timecode", "source"),
    [
        ("a.mov", "30000/1001", "01:00:00;00", "01:00:00;00", "tmcd"),
        ("a.mp4", "24000/1001", "01:02:03:04", "01:02:03:04", "tmcd"),
        ("a.mkv", "25", "10:00:00:00", "10:00:00:00", "tag"),
        ("a.mxf", "30000/1001", "01:00:00;00", "01:00:00;00", "tag"),
        ("b.mxf", "25", "01:00:00:00", "01:00:00:00", "tag"),
        ("b.mkv", "25", "01:00:00;00", "01:00:00:00", "tag"),
        ("c.mkv", "25", "noon", "", ""),
    ],
)
def test_timecodes_are_read_where_the_container_has_them(tmp_path, name, rate, stated, timecode, source):
    base = read_time_base(film(tmp_path / name, rate, stated))
    assert (base.rate, base.timecode, base.source) == (rate, timecode, source)
    assert base.drop_frame == (";" in timecode)


def test_samples_since_midnight_are_a_time_of_day(tmp_path):
    sound = Sound(rate=48_000)
    path = Clip(sounds=(sound,), tags={"time_reference": str(48_000 * 3600 * 10 + 24_000)}).write(tmp_path / "a.mkv")
    base = read_time_base(path)
    assert (base.timecode, base.source) == ("10:00:00:12", "time_reference")


def test_frames_that_are_not_evenly_spaced_are_told(tmp_path):
    stamps = [number * 33 + (number // 7) * 20 for number in range(60)]
    base = read_time_base(film(tmp_path / "phone.mp4", "30", stamps=stamps))
    assert base.variable
    assert base.rate == "30"
    assert float(Fraction(base.average)) == pytest.approx(27.8, abs=0.3)


def test_sound_alone_has_no_frame_rate(tmp_path):
    info = probe(Clip(picture=None, sounds=(Sound(),)).write(tmp_path / "a.m4a"))
    assert info.time_base == TimeBase()
