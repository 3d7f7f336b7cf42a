"""Watched folders: what is due, what waits, what is left out; nothing here is indexed."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clamr_cli.events import Notice
from clamr_cli.index import watch as module
from clamr_cli.index.watch import Due, Watch, file_system

pytest.importorskip("watchfiles")
pytestmark = pytest.mark.slow
HEAD = b"\x00\x00\x00\x18ftypmp42"


def _video(path: Path, content: bytes = b"x", age: float = 3600.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEAD + content)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _video(tmp_path / "in" / "a.mp4")
    return tmp_path / "in"


@pytest.fixture
def watched(folder: Path) -> Iterator[Watch]:
    """A watch of the folder that took what was there."""
    with Watch([str(folder)], lambda _: ("*private*",), debounce=0.05, settle=0.4, poll=0.2, sweep=60.0) as watch:
        first = watch.wait()
        assert first == Due((str(folder),), frozenset())
        watch.done(first)
        yield watch


def _next(watch: Watch) -> Due | Notice:
    """What comes next; it must come, however slow the machine is."""
    found: list[Due | Notice] = []
    thread = threading.Thread(target=lambda: found.append(watch.wait()), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "nothing came"
    return found[0]


def _due(watch: Watch) -> Due:
    found = _next(watch)
    while isinstance(found, Notice):
        found = _next(watch)
    return found


def test_a_new_file_in_a_new_folder_is_due(watched: Watch, folder: Path) -> None:
    _video(folder / "deep" / "er" / "b.mp4")
    assert _due(watched) == Due((str(folder),), frozenset())


def test_a_folder_is_watched_once_and_the_next_takes_over(folder: Path, tmp_path: Path) -> None:
    def watch(target: Path) -> Watch:
        return Watch([str(target)], lambda _: (), lambda name: tmp_path / f"{Path(name).name}.lock", sweep=60.0)

    module_pause, other = 0.1, tmp_path / "other"
    _video(other / "b.mp4")
    with pytest.MonkeyPatch.context() as quick, watch(folder) as first:
        quick.setattr(module, "_LONGEST_WAIT", module_pause)
        assert _due(first).targets == (str(folder),)
        with watch(other) as beside, watch(folder) as second:
            assert _due(beside).targets == (str(other),)
            said = Notice("", f"{folder} is watched by another clamr: this one does when that one has ended")
            assert _next(second) == said
            comes: list[Due | Notice] = []
            thread = threading.Thread(target=lambda: comes.append(second.wait()), daemon=True)
            thread.start()
            thread.join(1)
            assert comes == []
            first.__exit__()
            thread.join(60)
            assert comes == [Notice("", f"{folder} is watched by this clamr now")]
            assert _due(second).targets == (str(folder),)


def test_what_is_not_done_comes_again(watched: Watch, folder: Path) -> None:
    _video(folder / "b.mp4")
    due = _due(watched)
    watched.again(due, 0.0)
    assert _due(watched) == due


def test_a_file_that_is_open_for_writing_waits_and_the_others_do_not(watched: Watch, folder: Path) -> None:
    with open(folder / "half.mp4", "wb") as half:
        half.write(HEAD)
        half.flush()
        assert isinstance(notice := _next(watched), Notice)
        assert "half.mp4 is still being written" in notice.text
        _video(folder / "b.mp4")
        due = _due(watched)
        assert due.unfinished == {str(folder / "half.mp4")}
        watched.done(due)
    assert _due(watched).unfinished == frozenset()


def test_a_file_that_grows_by_steps_is_taken_once_it_stopped(watched: Watch, folder: Path) -> None:
    path = folder / "steps.mp4"
    stop = threading.Event()

    def grow() -> None:
        for _ in range(8):
            with open(path, "ab") as file:
                file.write(HEAD * 10)
            stop.wait(0.15)

    writer = threading.Thread(target=grow)
    writer.start()
    due = _due(watched)
    assert not writer.is_alive() or due.unfinished
    writer.join()


def test_a_file_that_moved_is_due_at_once(watched: Watch, folder: Path) -> None:
    os.utime(folder / "a.mp4")
    watched.done(_due(watched))
    (folder / "a.mp4").rename(folder / "moved.mp4")
    assert _due(watched) == Due((str(folder),), frozenset())


def test_a_deleted_file_and_a_changed_sidecar_are_due(watched: Watch, folder: Path) -> None:
    (folder / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    watched.done(_due(watched))
    (folder / "a.mp4").unlink()
    assert _due(watched).targets == (str(folder),)


def test_what_is_left_out_is_not_watched(watched: Watch, folder: Path) -> None:
    (folder / ".clamrignore").write_text("skipped/\n")
    _video(folder / "skipped" / "b.mp4")
    _video(folder / "private stuff" / "c.mp4")
    _video(folder / ".hidden" / "d.mp4")
    _video(folder / "seen" / "e.mp4")
    watched.done(_due(watched))
    (root,) = watched._roots
    assert {Path(path).name for path in root.folders} == {"in", "seen"}
    assert set(root.known or ()) == {str(folder / "a.mp4"), str(folder / "seen" / "e.mp4")}


def test_a_root_that_vanishes_is_said_once_and_due_when_it_is_back(watched: Watch, folder: Path) -> None:
    folder.rename(folder.parent / "away")
    assert isinstance(gone := _next(watched), Notice)
    assert "is not there: nothing is forgotten" in gone.text
    (folder.parent / "away").rename(folder)
    assert _next(watched) == Notice("", f"{folder} is back")
    assert _due(watched) == Due((str(folder),), frozenset())


def _polled(folder: Path) -> str:
    """What is said of a folder that can only be looked at, after a new file was found there."""
    with Watch([str(folder)], lambda _: (), debounce=0.05, settle=0.2, poll=0.2) as watch:
        said = []
        for number in range(2):
            while isinstance(found := _next(watch), Notice):
                said.append(found.text)
            watch.done(found)
            _video(folder / f"{number}.mp4")
        while not said:
            found = _next(watch)
            assert isinstance(found, Notice)
            said.append(found.text)
    assert len(said) == 1
    return said[0]


def test_network_file_systems_are_looked_at_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "file_system", lambda _: "nfs4")
    assert "is on a file system that reports no changes (nfs4): it is looked at every" in _polled(folder)


def test_where_no_more_folders_can_be_watched_looks_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import watchfiles

    def refuse(*_: object, **__: object) -> Iterator[object]:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", refuse)
    assert "is more than this system lets programs watch" in _polled(folder)


def test_the_file_system_of_a_path_is_known() -> None:
    assert file_system("/proc/self") == "proc"
