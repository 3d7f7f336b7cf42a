"""Files that are taken for videos, their order, and what becomes of those that cannot be looked at."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.media.files import HEAD, may_hold_video
from clamr_cli.media.walk import Folders, Unreadable, VideoFile, discover

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(64)
MKV = b"\x1a\x45\xdf\xa3" + bytes(60)
M4A = b"\0\0\0\x18ftypM4A \0\0\2\0" + bytes(64)
GIF = b"GIF89a" + bytes(60)
TRANSPORT = (b"G" + bytes(187)) * 10
OGG_AUDIO = b"OggS" + bytes(24) + b"\x01vorbis" + bytes(60)
OGG_VIDEO = b"OggS" + bytes(24) + b"\x80theora" + bytes(60)


def put(root: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(targets, **options) -> list[str]:
    return [os.path.basename(item.path) for item in discover([str(target) for target in targets], **options)]


def test_content_decides_in_a_folder_whatever_the_name(tmp_path):
    put(tmp_path, aDOTtxt=MP4, bDOTdat=MKV, c=TRANSPORT, dDOTbin=OGG_VIDEO)
    put(tmp_path, eDOTm4a=M4A, fDOTgif=GIF, gDOTogx=OGG_AUDIO, hDOTtxt=b"hello", iDOTts=b"const x = 1", jDOTpart=MP4)
    assert names([tmp_path]) == ["a.txt", "b.dat", "c", "d.bin"]


@pytest.mark.parametrize("length", [188, 192, 204])
@pytest.mark.parametrize("missing", [1, 77, 187])
def test_a_transport_stream_may_begin_within_a_packet(length, missing):
    packets = b"".join(b"G" + bytes([number % 200 + 1]) * (length - 1) for number in range(40))
    assert may_hold_video(packets[missing:][:HEAD])
    assert may_hold_video((bytes(700) + packets)[:HEAD])
    assert may_hold_video((b"\1" * 2000 + packets)[:HEAD])
    assert not may_hold_video(packets[missing : missing + 900])


def sectors(stream: bytes) -> bytes:
    """A file of a Video CD: a RIFF header and raw sectors with 2324 bytes of a program stream each."""
    parts = [stream[at : at + 2324].ljust(2324, b"\0") for at in range(0, len(stream), 2324)]
    return b"RIFF\xff\xff\xff\0CDXAfmt " + bytes(28) + b"".join(bytes(24) + part + bytes(4) for part in parts)


PACK = b"\0\0\x01\xba\x44" + bytes(8) + b"\xf8" + b"\0\0\x01\xe0\x07\xec" + bytes(2028)
PACKETS = (b"\0\0\x01\xe0\x03\xfa" + bytes(1018)) * 4


@pytest.mark.parametrize(
    "content",
    [
        PACK,
        b"junk" * 9 + PACK,
        bytes(300) + PACK,
        bytes(9000) + PACK,
        PACKETS[500:],
        sectors(PACK),
        b"DHAV\xfd\0" + bytes(40),
        b"DAHUA" + bytes(40),
        b"RIFF\0\0\0\0AMV LIST",
        b"\0\0\1\x67\x64\0\x1f",
        b"\0\0\0\1\x46\1\x50",
        b"\0\0\0\0\1\xb3\x14\0\xf0",
        b"OggS" + bytes(24) + b"OVP80\1\1" + bytes(60),
        b"AV\1\0\x55\0\0\0",
        b"NSVf" + bytes(30),
        b"\0\0\0\0\1\xbc" + bytes(20),
        bytes(9000) + TRANSPORT * 3,
    ],
)
def test_videos_are_recognised_by_their_content(tmp_path, content):
    (tmp_path / "recording.dat").write_bytes(content)
    assert names([tmp_path]) == ["recording.dat"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ts", b"import { G } from './G';\n" * 300),
        ("a.mod", b"Tracker song".ljust(1080, b"\0") + b"M.K." + bytes(2000)),
        ("a.dat", b"\x01\x02\x03\0" * 2000),
        ("a.ico", b"\0\0\1\0\1\0\x10\x10" + bytes(80)),
        ("a.dat", bytes(90_000)),
        ("a.fasta", b"ACGTGGCA" * 900),
        ("a.txt", b"G" * 9000),
        ("a.zip", b"PK\3\4" + bytes(90)),
        ("a.swf", b"CWS\6" + bytes(90)),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(90)),
        ("a.wav", b"RIFF\0\0\0\0WAVEfmt "),
        ("a.ttf", b"\0\1\0\0" + bytes(90)),
        ("a.nut", b"print(1)"),
        ("a.bin", b"some \0\0\1\xe0" + b"x" * 3000),
    ],
)
def test_other_files_are_passed_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert names([tmp_path]) == []


@pytest.mark.parametrize(
    ("master", "copy"),
    [
        ("GX010777.MP4", "GL010777.LRV"), ("GH020001.mp4", "gl020001.lrv"), ("GOPR0042.MP4", "GOPR0042.LRV"),
        ("GP010042.MP4", "GP010042.LRV"), ("GS010001.360", "GL010001.LRV"), ("DJI_0007.MP4", "DJI_0007.LRF"),
        ("DJI_20240602142100_0042_D.MOV", "DJI_20240602142100_0042_D.LRF"), ("YDXJ0001.mp4", "YDXJ0001_thm.mp4"),
        ("VID_20231225_183000_00_001.insv", "LRV_20231225_183000_11_001.insv"),
        ("VID_20231225_183000_00_001.insv", "LRV_20231225_183000_01_001.lrv"), ("VIRB0001.MP4", "VIRB0001.GLV"),
        ("CLIP/C0001.MP4", "SUB/C0001S03.MP4"), ("A001.mov", "Proxy/A001.mov"), ("A001.mov", "proxies/A001_Proxy.mp4"),
        ("A001.MXF", "A001_Proxy.MP4"), ("A001C001.MXF", "A001C001_P.MP4"), ("GX010777.MP4", "GL010777.MP4"),
        ("GX010777.MP4", "LRV/GL010777.LRV"), ("VIDEO/0001AB.MXF", "PROXY/0001AB.MP4"),
        ("Original Media/x.mov", "Transcoded Media/Proxy Media/x.mov"),
        ("PRO_VID_20240602_142100_00_001.mp4", "PRO_LRV_20240602_142100_01_001.mp4"),
        ("240602_142100_001_FH.MP4", "240602_142100_001_FL.MP4"),
        ("20240602142100_0060.mp4", "20240602142100_0060_s.mp4"),
    ],
)  # fmt: skip
def test_the_small_copy_of_a_camera_is_passed_over_where_its_video_is(tmp_path, master, copy):
    for name, size in ((master, 900), (copy, 90)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MP4 + bytes(size))
    assert names([tmp_path]) == [Path(master).name]
    assert names([tmp_path / copy]) == [Path(copy).name]
    (tmp_path / master).unlink()
    assert names([tmp_path]) == [Path(copy).name]


def test_videos_that_only_look_like_small_copies_are_kept(tmp_path):
    both = {"GX010001.MP4": 9, "GL010002.LRV": 1, "talk.mp4": 1, "talk_proxy.mp4": 9, "B.braw": 99, "C0001S03.MP4": 1}
    both |= {"party.mp4": 9, "party_s.mp4": 1, "map.mp4": 9, "map_p.mp4": 1}
    for name, size in both.items():
        (tmp_path / name).write_bytes(MP4 + bytes(100 * size))
    put(tmp_path, Proxy__BDOTmp4=MP4, SUB__C0009S03DOTMP4=MP4)
    assert set(names([tmp_path])) == {*both, "B.mp4", "C0009S03.MP4"}


def test_a_broken_file_with_a_videos_name_is_found_so_that_it_can_be_recorded(tmp_path):
    put(tmp_path, emptyDOTmp4=b"", textDOTMKV=b"just text")
    assert names([tmp_path]) == ["empty.mp4", "text.MKV"]


def test_a_file_that_is_named_is_always_taken(tmp_path):
    put(tmp_path, DOThiddenDOTmp4=MP4, songDOTmp3=b"ID3" + bytes(40))
    found = list(discover([str(tmp_path / ".hidden.mp4"), str(tmp_path / "song.mp3")]))
    assert [(os.path.basename(item.path), item.root) for item in found if isinstance(item, VideoFile)] == [
        (".hidden.mp4", str(tmp_path)),
        ("song.mp3", str(tmp_path)),
    ]


def test_hidden_and_system_files_are_passed_over_and_the_order_is_steady(tmp_path):
    put(tmp_path, bDOTmp4=MP4, B__xDOTmp4=MP4, DOTcache__yDOTmp4=MP4, __MACOSX__zDOTmp4=MP4)
    (tmp_path / "$RECYCLE.BIN").mkdir()
    (tmp_path / "$RECYCLE.BIN" / "old.mp4").write_bytes(MP4)
    put(tmp_path, aDOTmp4=MP4)
    assert names([tmp_path]) == ["a.mp4", "b.mp4", "x.mp4"]
    item = next(discover([str(tmp_path)]))
    assert item == VideoFile(str(tmp_path / "a.mp4"), str(tmp_path), len(MP4), (tmp_path / "a.mp4").stat().st_mtime_ns)


@pytest.mark.parametrize("pattern", ["raw", "raw/*", "raw/", "./raw", "**/raw", "[q-s]aw"])
def test_excluded_folders_are_left_out(tmp_path, pattern):
    put(tmp_path, raw__aDOTmp4=MP4, keep__bDOTmp4=MP4)
    assert names([tmp_path], exclude=[pattern]) == ["b.mp4"]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("*.tmp.mp4\n", ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]),
        ("raw/\n", ["a.mp4", "x.tmp.mp4", "d.mp4"]),
        ("/b.mp4\n", ["a.mp4", "x.tmp.mp4", "b.mp4", "c.mp4", "d.mp4"]),
        ("raw/*\n!raw/b.mp4\n", ["a.mp4", "x.tmp.mp4", "b.mp4", "d.mp4"]),
        ("raw\n!raw/b.mp4\n", ["a.mp4", "x.tmp.mp4", "d.mp4"]),
        ("# *.mp4\n\n\\#x.mp4\n", ["a.mp4", "x.tmp.mp4", "b.mp4", "c.mp4", "d.mp4"]),
        ("**/deep/**\n", ["a.mp4", "x.tmp.mp4", "b.mp4", "d.mp4"]),
        ("*\n!*/\n!d.mp4\n", ["d.mp4"]),
        ("\ufeffcafe\u0301/  \r\n", ["a.mp4", "x.tmp.mp4", "b.mp4", "c.mp4"]),
    ],
)
def test_an_ignore_file_has_the_rules_of_git(tmp_path, lines, kept):
    put(tmp_path, aDOTmp4=MP4, xDOTtmpDOTmp4=MP4, raw__bDOTmp4=MP4, raw__deep__cDOTmp4=MP4, café__dDOTmp4=MP4)
    (tmp_path / ".clamrignore").write_bytes(lines.encode())
    assert sorted(names([tmp_path])) == sorted(kept)
    assert names([tmp_path / "raw" / "b.mp4"]) == ["b.mp4"]


def test_an_ignore_file_holds_for_its_folder_and_goes_before_those_above(tmp_path):
    put(tmp_path, aDOTmp4=MP4, raw__aDOTmp4=MP4, raw__bDOTmp4=MP4, raw__deep__bDOTmp4=MP4)
    (tmp_path / ".clamrignore").write_text("a.mp4\n")
    (tmp_path / "raw" / ".clamrignore").write_text("!a.mp4\n/b.mp4\n")
    found = [os.path.relpath(item.path, tmp_path) for item in discover([str(tmp_path)])]
    assert found == ["raw/a.mp4", "raw/deep/b.mp4"]
    assert names([tmp_path], exclude=["deep"]) == ["a.mp4"]


def test_an_ignore_file_may_be_utf_16_and_hold_any_character_of_names(tmp_path):
    put(tmp_path, aDOTmp4=MP4, bDOTmp4=MP4, **{"x\u2028yDOTmp4": MP4})
    (tmp_path / ".clamrignore").write_text("# of Windows\r\na.mp4\r\nx\u2028y.mp4\r\n", "utf-16", newline="")
    assert names([tmp_path]) == ["b.mp4"]


def test_an_invalid_ignore_file_is_an_error(tmp_path):
    put(tmp_path, aDOTmp4=MP4)
    (tmp_path / ".clamrignore").write_text("fine\n!\n")
    with pytest.raises(UsageError, match=r"invalid pattern in .*\.clamrignore, line 2: '!'"):
        names([tmp_path])
    (tmp_path / ".clamrignore").unlink()
    (tmp_path / ".clamrignore").mkdir()
    with pytest.raises(UsageError, match="it is not a file"):
        names([tmp_path])


def test_excluded_names_are_left_out_at_any_depth_and_when_named(tmp_path):
    put(tmp_path, aDOTtrailerDOTmp4=MP4, deep__bDOTtrailerDOTmp4=MP4, cDOTmp4=MP4)
    assert names([tmp_path, tmp_path / "a.trailer.mp4"], exclude=["*.trailer.mp4"]) == ["c.mp4"]


def test_globs_and_existing_names_that_look_like_globs(tmp_path):
    put(tmp_path, aDOTmp4=MP4, deep__er__bDOTmp4=MP4, cDOTtxt=b"text")
    (tmp_path / "[a].mp4").write_bytes(MP4)
    assert names([tmp_path / "**" / "*.mp4"]) == ["[a].mp4", "a.mp4", "b.mp4"]
    assert names([tmp_path / "[a].mp4"]) == ["[a].mp4"]


@pytest.mark.parametrize("target", ["nowhere.mp4", "*.avi", "folder/"])
def test_a_target_that_is_not_there_is_an_error_before_anything_is_found(tmp_path, target):
    put(tmp_path, aDOTmp4=MP4)
    with pytest.raises(UsageError):
        discover([str(tmp_path / "a.mp4"), str(tmp_path / target)])


def test_circles_end_and_each_real_file_comes_once(tmp_path):
    put(tmp_path, deep__aDOTmp4=MP4)
    (tmp_path / "deep" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again.mp4").symlink_to(tmp_path / "deep" / "a.mp4")
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    found = list(discover([str(tmp_path), str(tmp_path / "deep" / "a.mp4"), str(tmp_path / "deep")]))
    assert [item.path for item in found if isinstance(item, VideoFile)] == [str(tmp_path / "again.mp4")]
    assert [item.path for item in found if isinstance(item, Unreadable)] == [str(tmp_path / "self.mp4")]


def test_links_out_of_the_folder_are_followed_and_broken_ones_reported(tmp_path):
    put(tmp_path, elsewhere__aDOTmp4=MP4)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "gone.mp4").symlink_to(tmp_path / "nothing")
    gone, linked = discover([str(root)])
    assert isinstance(gone, Unreadable)
    assert gone.reason == "the link leads to nothing"
    assert linked.path == str(root / "link" / "a.mp4")


@pytest.mark.skipif(os.name == "nt", reason="these names are impossible on Windows")
@pytest.mark.parametrize(
    "name", [b"new\nline.mp4", "🎬 [red]x\u202e.mp4".encode(), b"\xff\xfe.mp4", b"esc\x1b[31m.mp4"]
)
def test_any_name_a_disk_can_hold_is_found_as_it_is(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(MP4)
    (item,) = discover([str(tmp_path)])
    assert os.fsencode(item.path) == path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_do_not_block_the_walk(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert list(discover([str(tmp_path)])) == []
    (item,) = discover([str(tmp_path / "pipe.mp4")])
    assert isinstance(item, Unreadable)


@pytest.fixture
def open_folder():
    """A folder anyone may enter, and a process that is not the superuser while the test runs."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        yield Path(name), (lambda: os.seteuid(65534)) if root else (lambda: None)
        if root:
            os.seteuid(0)
        for path in Path(name).rglob("*"):
            path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="permissions work otherwise on Windows")
def test_files_without_permission_are_reported_and_the_walk_goes_on(open_folder):
    root, become_nobody = open_folder
    put(root, aDOTmp4=MP4, lockedDOTmp4=MP4, noteDOTtxt=b"secret", private__bDOTmp4=MP4)
    for name in ("locked.mp4", "note.txt", "private"):
        (root / name).chmod(0)
    become_nobody()
    found = list(discover([str(root)]))
    assert [(type(item), os.path.basename(item.path)) for item in found] == [
        (VideoFile, "a.mp4"),
        (Unreadable, "locked.mp4"),
        (Unreadable, "private"),
    ]
    assert all("permission" in item.reason for item in found if isinstance(item, Unreadable))


@pytest.mark.parametrize("root", ["/mnt", "/media"])
def test_a_disk_that_vanished_from_where_disks_appear_is_away(root: str) -> None:
    absence = Folders().absence(f"{root}/no such disk/films/a.mp4", root)
    assert absence is not None
    assert (absence.gone, absence.missing) == (False, True)
