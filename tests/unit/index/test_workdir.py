import os
from pathlib import Path

import numpy as np
import pytest

from clamr_cli.errors import StoreError
from clamr_cli.index.workdir import DecodedMedia, StoredFrame, Workdir, sweep, work_area
from clamr_cli.types import MediaInfo, Segment, Span

MEDIA = MediaInfo("mp4", 2.0, 2.0, None, 64, 48, 0, 25.0, "h264", 0)


def test_what_goes_in_comes_out(tmp_path: Path):
    workdir = Workdir(tmp_path / "area" / "abc")
    workdir.begin()
    workdir.add_frame("frames", 0, b"jpeg")
    chunks = [(0, np.array([0.0, 1.0], np.float32)), (1, np.zeros(1, np.float32)), (0, np.array([-2.0], np.float32))]
    assert list(workdir.write_tracks(chunks)) == [2, 2, 3]
    assert workdir.use_track(0) == 3
    decoded = DecodedMedia(
        MEDIA, (StoredFrame(0, 0.5, Span(0, 2), 3),), (), (Segment(Span(0, 1), "hi"),), 3, ("left out",)
    )
    workdir.finish(decoded)
    again = Workdir(workdir.folder)
    assert again.decoded() == decoded
    assert [frame.jpeg for frame in again.frames("frames", decoded.frames)] == [b"jpeg"]
    assert again.audio().tolist() == [0, 32767, -32767]


def test_an_unfinished_workdir_is_worthless(tmp_path: Path):
    workdir = Workdir(tmp_path / "abc")
    workdir.begin()
    assert workdir.decoded() is None
    (workdir.folder / "decoded.json").write_bytes(b'{"media": {}}')
    assert workdir.decoded() is None


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write to the cache folder"):
        Workdir(tmp_path / "file" / "abc").begin()


def test_only_old_leftovers_are_swept(tmp_path: Path):
    for name in ("old", "new"):
        Workdir(tmp_path / name).begin()
    os.utime(tmp_path / "old", (0, 0))
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    sweep(tmp_path / "absent")


def test_workdirs_of_videos_that_are_indexed_wholly_are_left_over(tmp_path: Path):
    for name in ("aaaaaaaaaaaa0123-st", "bbbbbbbbbbbb0123-s", "aaaaaaaaaaaa0123-dense"):
        Workdir(tmp_path / name).begin()
    sweep(tmp_path, {"aaaaaaaaaaaa"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aaaaaaaaaaaa0123-dense", "bbbbbbbbbbbb0123-s"]


def test_the_folder_of_a_dead_run_is_swept_and_that_of_a_living_one_stays(tmp_path: Path):
    with work_area(tmp_path) as first, work_area(tmp_path) as second:
        (first / "run-dead").mkdir()
        (first / "run-dead" / ".lock").touch()
        (first / "run-by-an-older-clamr").mkdir()
        sweep(second)
        assert (first / "run-dead").is_dir()
        sweep(first)
        assert sorted(path.name for path in first.iterdir()) == sorted([second.name, "run-by-an-older-clamr"])


def test_two_runs_at_a_time_share_no_working_directories(tmp_path: Path):
    with work_area(tmp_path) as first:
        with work_area(tmp_path) as second:
            assert first != second
            Workdir(first / "abc").begin()
            Workdir(second / "abc").begin()
        assert not second.exists()
        assert (first / "abc").is_dir()
    with work_area(tmp_path) as third:
        # What an interrupted run had brought into its directories can be used again.
        assert third == first
        assert (third / "abc").is_dir()


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot make the cache folder"), work_area(tmp_path / "file"):
        pass
