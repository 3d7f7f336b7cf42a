"""Whether files are there: quickly, whatever the disks do that they lie on."""

import os
import threading
from pathlib import Path

import pytest

from clamr_cli import files
from clamr_cli.files import readable_now
from clamr_cli.types import FileRecord, FileState


def record(path: Path, **more: str) -> FileRecord:
    return FileRecord(str(path), str(path.parent), "aa", 1, 1, FileState.INDEXED, **more)


@pytest.mark.slow
def test_a_hanging_share_does_not_delay_the_others_and_keeps_its_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.mp4").touch()
    share = tmp_path / "share"
    released = threading.Event()
    access = os.access

    def hanging(path: str, mode: int) -> bool:
        return released.wait() if path.startswith(str(share)) else access(path, mode)

    monkeypatch.setattr(os, "access", hanging)
    there = [record(share / f"{number}.mp4") for number in range(50)]
    away = [record(share / "away.mp4", missing_since="2024-05-17T12:00:00+00:00")]
    near = [record(tmp_path / "here.mp4"), record(tmp_path / "gone.mp4")]
    # One that is quick must be seen though it comes after a slow one.
    monkeypatch.setattr(files, "PATIENCE", 0.5)
    found = readable_now([*there, *away, *near])
    released.set()
    assert found == {file.path for file in (*there, near[0])}


@pytest.mark.parametrize("path", ["/nobody/\0.mp4", "/nobody/" + "x" * 300, "/nobody/\udcff.mp4", ""])
def test_impossible_file_names_are_not_readable_now(path: str) -> None:
    assert readable_now([FileRecord(path, "/nobody", "aa", 1, 1, FileState.INDEXED)]) == frozenset()


def test_a_file_with_a_recorded_error_is_not_readable_now(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert readable_now([record(tmp_path / "a.mp4", error="the disk reported a read error")]) == frozenset()
