"""Which files are taken for videos, in which order, and what becomes of those that cannot be looked at."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.media.walk import Found, Unreadable, discover

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


def test_a_broken_file_with_a_videos_name_is_found_so_that_it_can_be_recorded(tmp_path):
    put(tmp_path, emptyDOTmp4=b"", textDOTMKV=b"just text")
    assert names([tmp_path]) == ["empty.mp4", "text.MKV"]


def test_a_named_file_is_taken_hidden_or_not_of_any_kind(tmp_path):
    put(tmp_path, DOThiddenDOTmp4=MP4, songDOTmp3=b"ID3" + bytes(40))
    found = list(discover([str(tmp_path / ".hidden.mp4"), str(tmp_path / "song.mp3")]))
    assert [(os.path.basename(item.path), item.root) for item in found if isinstance(item, Found)] == [
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
    assert item == Found(str(tmp_path / "a.mp4"), str(tmp_path), len(MP4), (tmp_path / "a.mp4").stat().st_mtime_ns)


@pytest.mark.parametrize("pattern", ["raw", "raw/*", "raw/", "./raw", "**/raw", "[q-s]aw"])
def test_excluded_folders_are_left_out(tmp_path, pattern):
    put(tmp_path, raw__aDOTmp4=MP4, keep__bDOTmp4=MP4)
    assert names([tmp_path], exclude=[pattern]) == ["b.mp4"]


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
    assert [item.path for item in found if isinstance(item, Found)] == [str(tmp_path / "again.mp4")]
    assert [item.path for item in found if isinstance(item, Unreadable)] == [str(tmp_path / "self.mp4")]


def test_links_out_of_the_folder_are_followed_and_broken_ones_told(tmp_path):
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
def test_what_may_not_be_read_is_told_and_stops_nothing(open_folder):
    root, become_nobody = open_folder
    put(root, aDOTmp4=MP4, lockedDOTmp4=MP4, noteDOTtxt=b"secret", private__bDOTmp4=MP4)
    for name in ("locked.mp4", "note.txt", "private"):
        (root / name).chmod(0)
    become_nobody()
    found = list(discover([str(root)]))
    assert [(type(item), os.path.basename(item.path)) for item in found] == [
        (Found, "a.mp4"),
        (Unreadable, "locked.mp4"),
        (Unreadable, "private"),
    ]
    assert all("permission" in item.reason for item in found if isinstance(item, Unreadable))
