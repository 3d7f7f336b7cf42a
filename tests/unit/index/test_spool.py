import os
from pathlib import Path

import numpy as np
import pytest

from clamr_cli.errors import StoreError
from clamr_cli.index.spool import Decoded, Room, Spool, Still, sweep
from clamr_cli.types import MediaInfo, Segment, Span

MEDIA = MediaInfo("mp4", 2.0, 2.0, None, 64, 48, 0, 25.0, "h264", 0)


def test_what_goes_in_comes_out(tmp_path: Path):
    spool = Spool(tmp_path / "spool" / "abc")
    spool.begin()
    spool.add_picture("frames", 0, b"jpeg")
    assert list(spool.write_audio([np.array([0.0, 1.0], np.float32), np.array([-2.0], np.float32)])) == [2, 3]
    decoded = Decoded(MEDIA, (Still(0, 0.5, Span(0, 2), 3),), (), (Segment(Span(0, 1), "hi"),), 3, ("left out",))
    spool.finish(decoded)
    again = Spool(spool.folder)
    assert again.decoded() == decoded
    assert [frame.jpeg for frame in again.pictures("frames", decoded.frames)] == [b"jpeg"]
    assert again.audio().tolist() == [0, 32767, -32767]


def test_an_unfinished_spool_is_worthless(tmp_path: Path):
    spool = Spool(tmp_path / "abc")
    spool.begin()
    assert spool.decoded() is None
    (spool.folder / "decoded.json").write_bytes(b'{"media": {}}')
    assert spool.decoded() is None


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write to the cache folder"):
        Spool(tmp_path / "file" / "abc").begin()


def test_only_old_leftovers_are_swept(tmp_path: Path):
    for name in ("old", "new"):
        Spool(tmp_path / name).begin()
    os.utime(tmp_path / "old", (0, 0))
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    sweep(tmp_path / "absent")


def test_spools_of_videos_that_are_indexed_wholly_are_left_over(tmp_path: Path):
    for name in ("aaaaaaaaaaaa0123-st", "bbbbbbbbbbbb0123-s", "aaaaaaaaaaaa0123-dense"):
        Spool(tmp_path / name).begin()
    sweep(tmp_path, {"aaaaaaaaaaaa"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aaaaaaaaaaaa0123-dense", "bbbbbbbbbbbb0123-s"]


def test_the_folder_of_a_dead_run_is_swept_and_that_of_a_living_one_stays(tmp_path: Path):
    first, second = Room.take(tmp_path), Room.take(tmp_path)
    dead = first.folder / "run-dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (first.folder / "run-by-an-older-clamr").mkdir()
    sweep(first.folder)
    assert sorted(path.name for path in first.folder.iterdir()) == sorted([second.folder.name, "run-by-an-older-clamr"])
    second.leave()
    first.leave()


def test_two_runs_at_a_time_share_no_spools(tmp_path: Path):
    first, second = Room.take(tmp_path), Room.take(tmp_path)
    assert first.folder != second.folder
    Spool(first.folder / "abc").begin()
    Spool(second.folder / "abc").begin()
    second.leave()
    assert not second.folder.exists()
    assert (first.folder / "abc").is_dir()
    first.leave()
    third = Room.take(tmp_path)
    # What an interrupted run had brought into its spools can be used again.
    assert third.folder == first.folder
    assert (third.folder / "abc").is_dir()
    third.leave()


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot make the cache folder"):
        Room.take(tmp_path / "file")
