"""Disks and shares that are away: nothing of theirs is forgotten unless somebody says so."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clamr_cli.cli import main
from clamr_cli.index import scan
from clamr_cli.store import Store
from clamr_cli.types import FileState
from tests.clips import Clip
from tests.unit.cli.conftest import Clamr, Ended

NAMES = ("alpha", "bravo", "charlie", "disk [1]/delta", "disk [1]/echo")
PLAIN = ("--encoder", "hashed", "--no-ocr", "--no-speech")


@dataclass(frozen=True)
class Shelf:
    """Five indexed videos, two of them in a folder of their own, and the command line on their index."""

    place: Path
    clamr: Clamr

    @property
    def videos(self) -> Path:
        return self.place / "videos"

    @property
    def store(self) -> Store:
        return Store.open(self.place / "index")

    def __call__(self, *arguments: str) -> Ended:
        return self.clamr("--db", str(self.place / "index"), *arguments)

    def index(self, *arguments: str, code: int = 0) -> dict[str, list[dict[str, object]]]:
        """An index run, by default over all videos; its events by kind."""
        named = any(not argument.startswith("-") for argument in arguments)
        ended = self("index", *arguments, *([] if named else [str(self.videos)]), *PLAIN, "--json")
        assert ended.code == code, ended.err
        events: dict[str, list[dict[str, object]]] = {}
        for line in ended.out.splitlines():
            event = json.loads(line)
            events.setdefault(event["event"], []).append(event)
        return events

    def searchable(self) -> dict[str, bool]:
        """The names that a search finds, and whether they are offline."""
        ended = self("search", "clip", "--json", "--limit", "20")
        hits = [json.loads(line) for line in ended.out.splitlines()]
        return {Path(hit["path"]).stem: hit["offline"] for hit in hits}

    def status(self, name: str) -> int:
        return json.loads(self("status", "--json").out)[name]


def write(folder: Path, name: str) -> None:
    path = folder / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    Clip().text((Path(name).stem, "clip"), 1).write(path)


@pytest.fixture(scope="module")
def _indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("away")
    for name in NAMES:
        write(place / "videos", name)
    assert main(["--db", str(place / "index"), "index", str(place / "videos"), *PLAIN, "-q"]) == 0
    shutil.copytree(place, place.with_name("away-as-new"))
    return place


@pytest.fixture
def shelf(_indexed: Path, clamr: Clamr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Changes by a test are undone after it."""
    monkeypatch.setenv("CLAMR_CACHE", str(_indexed / "cache"))
    yield Shelf(_indexed, clamr)
    shutil.rmtree(_indexed)
    shutil.copytree(_indexed.with_name("away-as-new"), _indexed)


ALL = dict.fromkeys(("alpha", "bravo", "charlie", "delta", "echo"), False)


@pytest.mark.slow
def test_an_empty_mount_point_costs_nothing_however_often_it_is_indexed(shelf: Shelf) -> None:
    shelf.videos.rename(shelf.place / "unplugged")
    shelf.videos.mkdir()
    for _ in range(2):
        events = shelf.index()
        assert [(event["path"], event["files"]) for event in events["offline"]] == [(str(shelf.videos), 5)]
        assert "removed" not in events
        assert events["finished"][0]["offline"] == 5
    assert shelf.searchable() == dict.fromkeys(ALL, True)
    assert (shelf.status("videos"), shelf.status("offline"), shelf.status("missing")) == (5, 5, 0)
    shelf.videos.rmdir()
    (shelf.place / "unplugged").rename(shelf.videos)
    events = shelf.index()
    assert "progress" not in events
    assert {tuple(event["reused"]) for event in events["indexed"]} == {("decode", "speech", "ocr", "encode")}
    assert shelf.searchable() == ALL
    assert not any(file.missing_since for file in shelf.store.files())
    assert shelf.index()["finished"][0]["unchanged"] == 5


@pytest.mark.slow
def test_what_is_offline_is_marked_wherever_it_is_shown(shelf: Shelf) -> None:
    (shelf.videos / "disk [1]").rename(shelf.place / "unplugged")
    hits = [line.split("\t") for line in shelf("search", "clip").out.decode().splitlines()]
    assert {(Path(cells[8]).stem, cells[12]) for cells in hits} == {
        (name, "offline" if name in ("delta", "echo") else "") for name in ALL
    }
    assert shelf("search", "delta", "--table", "-n", "1").out.count(b"  offline") == 1
    assert shelf("search", "delta", "--csv", "-n", "1").out.splitlines()[1].endswith(b",offline")
    assert shelf("search", "delta", "--paths", "-n", "1").out == f"{shelf.videos}/disk [1]/delta.mp4\n".encode()
    listed = [line.split("\t") for line in shelf("ls").out.decode().splitlines()]
    assert {cells[4] for cells in listed} == {"indexed"}
    assert [Path(cells[3]).stem for cells in listed if cells[5] == "offline"] == ["delta", "echo"]
    assert shelf("ls", "--table").out.count(b"offline") == 2
    records = [json.loads(line) for line in shelf("ls", "--json").out.splitlines()]
    assert [record["offline"] for record in records] == [False, False, False, True, True]
    shown = json.loads(shelf("show", records[3]["video_id"], "--json").out)
    assert (shown["offline"], shown["files"][0]["offline"]) == (True, True)
    assert f"offline\t\t\t\t{shelf.videos}/disk [1]/delta.mp4" in shelf("show", records[3]["video_id"]).out.decode()
    assert b"offline" not in shelf("show", records[0]["video_id"]).out
    assert b"offline\t2 (clamr ls)\n" in shelf("status").out


@pytest.mark.slow
def test_a_target_that_is_not_there_is_one_line_and_a_failure(shelf: Shelf) -> None:
    shelf.videos.rename(shelf.place / "unplugged")
    ended = shelf("index", str(shelf.videos), *PLAIN, "-q")
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
    assert "5 indexed videos stay in the index" in ended.err
    assert shelf.searchable() == dict.fromkeys(ALL, True)
    assert shelf("index", str(shelf.place / "vidoes"), *PLAIN).code == 2
    (shelf.place / "unplugged").rename(shelf.videos)
    shelf.index()
    assert shelf("status", "--failed").err == "no failed files\n"


@pytest.mark.slow
def test_a_folder_that_cannot_be_read_keeps_its_videos_and_is_listed_until_it_can(shelf: Shelf) -> None:
    folder = shelf.videos / "disk [1]"
    folder.rename(shelf.place / "unplugged")
    folder.symlink_to(folder)
    for _ in range(2):
        events = shelf.index(code=3)
        assert "removed" not in events
        assert "2 indexed videos stay in the index" in str(events["skipped"][0]["reason"])
    assert shelf.searchable() == {**ALL, "delta": True, "echo": True}
    assert shelf("status", "--failed").out.startswith(str(folder).encode())
    folder.unlink()
    (shelf.place / "unplugged").rename(folder)
    shelf.index()
    assert shelf.searchable() == ALL
    assert (shelf.status("failed"), shelf.status("offline")) == (0, 0)


@pytest.mark.slow
def test_a_file_that_cannot_be_read_stays_searchable_and_is_listed(shelf: Shelf) -> None:
    file = shelf.videos / "bravo.mp4"
    file.rename(shelf.place / "elsewhere.mp4")
    file.symlink_to(shelf.place / "unplugged/bravo.mp4")
    for _ in range(2):
        shelf.index(code=3)
    assert shelf.searchable() == {**ALL, "bravo": True}
    assert shelf.status("failed") == 1
    assert shelf("status", "--failed").out.startswith(str(file).encode())
    file.unlink()
    (shelf.place / "elsewhere.mp4").rename(file)
    shelf.index()
    assert shelf.searchable() == ALL
    assert shelf.status("failed") == 0


@pytest.mark.slow
def test_a_deleted_file_leaves_the_index_and_costs_nothing_when_it_comes_back(shelf: Shelf) -> None:
    file = shelf.videos / "bravo.mp4"
    file.rename(shelf.place / "trash.mp4")
    for _ in range(3):
        events = shelf.index()
    assert "offline" not in events
    assert sorted(shelf.searchable()) == sorted(ALL.keys() - {"bravo"})
    assert shelf.status("missing") == 1
    (shelf.place / "trash.mp4").rename(file)
    assert shelf.index()["indexed"][0]["reused"] == ["decode"]
    assert shelf.searchable() == ALL


@pytest.mark.slow
@pytest.mark.parametrize(("days", "kept"), [(None, True), (29, True), (31, False)])
def test_what_was_extracted_of_a_missing_file_is_kept_for_30_days(shelf: Shelf, days: int | None, kept: bool) -> None:
    extractions = shelf.status("extractions")
    (shelf.videos / "bravo.mp4").unlink()
    shelf.index()
    store = shelf.store
    (missing,) = [file for file in store.files() if file.state is FileState.MISSING]
    # An index of an earlier version does not say since when.
    since = "" if days is None else (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    with store.writer("tests"):
        store.put_files([replace(missing, missing_since=since)])
    # Any run does it, not only one over that folder.
    shelf.index(str(shelf.videos / "disk [1]"))
    assert (shelf.status("extractions") == extractions, shelf.status("missing")) == (kept, int(kept))
    assert kept or shelf.status("extractions") < extractions


def test_most_files_at_once_are_a_disk_that_is_away(shelf: Shelf) -> None:
    for name in ("alpha", "bravo", "charlie"):
        (shelf.videos / f"{name}.mp4").unlink()
    ended = shelf("index", str(shelf.videos), *PLAIN)
    assert ended.code == 0
    (line,) = [line for line in ended.err.splitlines() if line.startswith("offline")]
    assert "3 of its 5 files" in line
    assert f"clamr index --prune {shelf.videos}" in line
    assert len(shelf.searchable()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["{videos}"], []])
@pytest.mark.parametrize("left", ["nothing", "empty", "some"])
def test_pruning_forgets_at_once_what_is_missing(shelf: Shelf, arguments: list[str], left: str) -> None:
    shelf.index(str(shelf.videos))
    shutil.rmtree(shelf.videos)
    if left != "nothing":
        shelf.videos.mkdir()
    if left == "some":
        shutil.copy(shelf.place.with_name("away-as-new") / "videos/alpha.mp4", shelf.videos)
    ended = shelf("index", "--prune", *(part.format(videos=shelf.videos) for part in arguments), *_plain(arguments))
    assert ended.code == 0, ended.err
    assert sorted(shelf.searchable()) == (["alpha"] if left == "some" else [])
    assert (shelf.status("extractions") > 0, shelf.status("missing")) == (left == "some", 0)


def _plain(arguments: list[str]) -> tuple[str, ...]:
    return PLAIN if arguments else ()


@pytest.mark.slow
def test_pruning_one_folder_leaves_what_another_lost(shelf: Shelf) -> None:
    shutil.rmtree(shelf.videos / "disk [1]")
    (shelf.videos / "bravo.mp4").unlink()
    shelf.index("--prune", str(shelf.videos / "disk [1]"))
    assert shelf.searchable() == {"alpha": False, "bravo": True, "charlie": False}


@pytest.mark.slow
def test_rm_missing_takes_what_is_gone_and_offline_and_nothing_else(shelf: Shelf) -> None:
    assert shelf("rm", "--missing", "--yes").code == 1
    (shelf.videos / "bravo.mp4").unlink()
    shelf.index()
    (shelf.videos / "disk [1]").rename(shelf.place / "unplugged")
    (shelf.videos / "disk [1]").mkdir()
    shelf.index()
    ended = shelf("rm", "--missing", "--yes")
    assert (ended.code, ended.err.count("removed from the index: ")) == (0, 3)
    assert (sorted(shelf.searchable()), shelf.status("missing")) == (["alpha", "charlie"], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["{videos}/disk [1]", "{videos}/disk [1]/", "disk [1]", "./disk [1]//"])
@pytest.mark.parametrize("there", [True, False])
def test_rm_takes_a_folder_whether_it_is_there_or_not(
    shelf: Shelf, name: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf.videos)
    if not there:
        shutil.rmtree(shelf.videos / "disk [1]")
    assert shelf("rm", name.format(videos=shelf.videos), "--yes").code == 0
    assert shelf.searchable() == {"alpha": False, "bravo": False, "charlie": False}


@pytest.mark.parametrize("name", ["disk 1", "disk*", "dis", "disk [1", "%", "disk _1]"])
def test_rm_takes_names_of_folders_as_they_are(shelf: Shelf, name: str) -> None:
    assert shelf("rm", f"{shelf.videos}/{name}", "--yes").code == 2
    assert shelf.searchable() == ALL


@pytest.mark.slow
def test_a_video_that_another_file_holds_stays(shelf: Shelf) -> None:
    shutil.copy(shelf.videos / "disk [1]/delta.mp4", shelf.place / "copy.mp4")
    shelf.index(str(shelf.place / "copy.mp4"))
    assert shelf("rm", str(shelf.videos / "disk [1]"), "--yes").code == 0
    assert shelf.searchable() == {"alpha": False, "bravo": False, "charlie": False, "copy": False}
    assert {file.path for file in shelf.store.files() if "disk" in file.path} == set()


@pytest.mark.slow
def test_a_copy_of_a_file_on_a_disk_that_is_away_is_no_move(shelf: Shelf) -> None:
    disk = shelf.videos / "disk [1]"
    disk.rename(shelf.place / "unplugged")
    disk.mkdir()
    shutil.copy2(shelf.place / "unplugged/delta.mp4", shelf.videos / "kept.mp4")
    events = shelf.index()
    assert "moved" not in events
    assert shelf.searchable() == {"alpha": False, "bravo": False, "charlie": False, "kept": False, "echo": True}
    (shelf.videos / "kept.mp4").unlink()
    shelf.index()
    assert shelf.searchable() == {**ALL, "delta": True, "echo": True}


@pytest.mark.slow
def test_forgetting_that_is_cut_off_is_finished_by_the_next_run(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alpha", "bravo"):
        (shelf.videos / f"{name}.mp4").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(scan, "_AT_ONCE", 1)
        calls = iter((None, KeyboardInterrupt()))
        put = Store.put_files

        def cut_off(self: Store, files: object) -> None:
            if (error := next(calls, None)) is not None:
                raise error
            put(self, files)  # type: ignore[arg-type]

        patched.setattr(Store, "put_files", cut_off)
        assert shelf("index", str(shelf.videos), *PLAIN).code == 130
    states = {Path(file.path).stem: file.state for file in shelf.store.files()}
    assert (states["alpha"], states["bravo"]) == (FileState.MISSING, FileState.INDEXED)
    events = shelf.index()
    assert [Path(str(event["path"])).stem for event in events["removed"]] == ["bravo"]
    assert (sorted(shelf.searchable()), shelf.status("missing")) == (["charlie", "delta", "echo"], 2)
