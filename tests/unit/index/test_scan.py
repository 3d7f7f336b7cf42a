"""The work that an index run finds, from the files and the records of the index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.extract.sidecars import sidecar_signature
from clamr_cli.index.scan import Scan
from clamr_cli.types import FileRecord, FileState

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + bytes(64)
BEFORE = "2024-05-17T12:00:00+00:00"


@dataclass
class Library:
    """Files in a folder, and an index that knows them."""

    root: Path
    files: dict[str, FileRecord] = field(default_factory=dict)

    def add(self, *names: str, root: Path | None = None) -> None:
        """Write files, each with a content of its own, and record them as indexed."""
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(MP4 + str(path).encode())
            status = path.stat()
            self.files[str(path)] = FileRecord(
                str(path), str(root or self.root), name.encode().hex(), status.st_size, status.st_mtime_ns,
                FileState.INDEXED, sidecars=sidecar_signature(str(path)),
            )  # fmt: skip

    def mark(self, *names: str, **changes: str | FileState) -> None:
        """Change what is recorded of files."""
        for name in names:
            path = str(self.root / name)
            self.files[path] = replace(self.files[path], **changes)

    def look(self, *targets: str | Path, prune: bool = False) -> Scan:
        """An index run's view of targets, by default of the whole folder."""
        encoded = {record.video_id for record in self.files.values()}
        named = [str(target) for target in targets or (self.root,)]
        scan = Scan(self.files, "", encoded)
        scan.walk(named, prune=prune)
        return scan

    def names(self, paths: Collection[str]) -> set[str]:
        return {os.path.relpath(path, self.root) for path in paths}

    def gone(self, *targets: str | Path) -> set[str]:
        """Files that a run over the targets would forget."""
        settled = self.look(*targets).settled(self.files)
        return self.names([record.path for record, absence in settled if absence.gone])

    def away(self, *targets: str | Path) -> set[str]:
        """Files that a run over the targets would mark as offline."""
        settled = self.look(*targets).settled(self.files)
        return self.names([record.path for record, absence in settled if not absence.gone])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Three videos in a folder, two of them below it."""
    made = Library(tmp_path / "films")
    made.add("one.mp4", "deep/two.mp4", "deep/three.mp4")
    return made


@pytest.mark.parametrize(
    "target", ["~/films", "~/fil*", "{home}/films", "{home}/fil*", "{home}/films/", "{home}//films"]
)
def test_a_file_that_is_gone_is_noticed_however_its_folder_is_named(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    library = Library(tmp_path / "films")
    library.add("here.mp4", "gone.mp4", "../elsewhere/gone.mp4")
    library.files.pop(str(library.root / "here.mp4"))
    (library.root / "gone.mp4").unlink()
    (library.root / "../elsewhere/gone.mp4").unlink()
    found = library.look(target.format(home=tmp_path))
    assert [record.path for record, absence in found.settled(library.files) if absence.gone] == [
        str(library.root / "gone.mp4")
    ]
    assert [item.path for item in found.work] == [str(library.root / "here.mp4")]


def test_indexed_videos_that_the_walk_no_longer_takes_in_stay_and_are_named(library: Library) -> None:
    (library.root / ".clamrignore").write_text("deep/\n")
    library.add("A001.MOV", "A001_proxy.mp4")
    (library.root / "A001.MOV").write_bytes(MP4 * 9)
    assert library.gone() == library.away() == set()
    left_out = [record.path for record in library.look().left_out]
    assert library.names(left_out) == {"deep/two.mp4", "deep/three.mp4", "A001_proxy.mp4"}
    assert library.look(library.root / "one.mp4").left_out == []
    (library.root / ".clamrignore").write_text("")
    (library.root / "one.mp4").rename(library.root / "deep/one.mp4")
    (library.root / "one.mp4").symlink_to("deep/one.mp4")
    assert library.names([record.path for record in library.look().left_out]) == {"A001_proxy.mp4"}


@pytest.mark.parametrize("names", [["one.mp4"], ["deep/two.mp4"]])
def test_a_file_missing_from_a_folder_that_holds_others_is_gone(library: Library, names: list[str]) -> None:
    for name in names:
        (library.root / name).unlink()
    assert library.gone() == set(names)
    assert library.away() == set()


def test_a_folder_deleted_beside_others_is_gone_with_its_files(library: Library) -> None:
    library.add("four.mp4")
    shutil.rmtree(library.root / "deep")
    assert library.gone() == {"deep/two.mp4", "deep/three.mp4"}


def test_the_only_video_of_a_folder_with_other_files_is_gone(tmp_path: Path) -> None:
    library = Library(tmp_path / "films")
    library.add("one.mp4")
    (library.root / "notes.txt").touch()
    (library.root / "one.mp4").unlink()
    assert library.gone() == {"one.mp4"}


@pytest.mark.parametrize("junk", [[], [".DS_Store"], ["Thumbs.db", "desktop.ini"], ["lost+found/"], [".Trash-1000/x"]])
@pytest.mark.parametrize("folder", [".", "deep"])
def test_an_empty_folder_may_be_a_mount_point(library: Library, folder: str, junk: list[str]) -> None:
    away = {name for name in library.names(library.files) if folder == "." or name.startswith("deep/")}
    shutil.rmtree(library.root / folder)
    (library.root / folder).mkdir()
    for name in junk:
        path = library.root / folder / name
        path.mkdir(parents=True) if name.endswith("/") else path.parent.mkdir(exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    assert (library.gone(), library.away()) == (set(), away)


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_target_that_is_not_there_but_known_is_away_and_named(library: Library, below: str) -> None:
    library.root.rename(library.root.with_name("elsewhere"))
    found = library.look(library.root / below)
    assert {record.path for record, absence, _ in found.absent if not absence.gone} == {
        path for path in library.files if path.startswith(str(library.root / below))
    }
    assert [problem.path for problem in found.unreadable] == [str(library.root / below)]


def test_a_target_that_nobody_knows_is_a_mistake_also_beside_one_that_is_away(library: Library) -> None:
    library.root.rename(library.root.with_name("elsewhere"))
    with pytest.raises(UsageError, match="no-such"):
        library.look(library.root, library.root / "no-such")
    library.mark(*library.names(library.files), state=FileState.MISSING)
    with pytest.raises(UsageError):
        library.look(library.root)


def test_one_target_that_is_away_keeps_no_other_from_being_looked_at(library: Library, tmp_path: Path) -> None:
    other = Library(tmp_path / "other", library.files)
    other.add("kept.mp4", "gone.mp4")
    (other.root / "gone.mp4").unlink()
    library.root.rename(library.root.with_name("elsewhere"))
    assert other.gone(library.root, other.root) == {"gone.mp4"}


def test_a_named_file_that_is_not_there_is_never_gone(library: Library) -> None:
    (library.root / "one.mp4").unlink()
    found = library.look(library.root / "one.mp4")
    assert [problem.path for problem in found.unreadable] == [str(library.root / "one.mp4")]
    assert found.settled(library.files) == []


@pytest.mark.parametrize("glob", ["films/**/t*", "films/*/t*.mp4", "fil*/deep", "film[s]/deep/*"])
def test_a_glob_that_matches_nothing_any_more_is_away_with_what_it_matched(
    library: Library, glob: str, tmp_path: Path
) -> None:
    shutil.rmtree(library.root / "deep")
    found = library.look(tmp_path / glob)
    assert library.names([record.path for record, absence, _ in found.absent if not absence.gone]) == {
        "deep/two.mp4",
        "deep/three.mp4",
    }
    assert not any(absence.gone for _, absence, _ in found.absent)


def unreadable(folder: Path) -> None:
    """Make looking into a folder fail, for root too: a link that leads in a circle."""
    folder.rename(folder.with_name(f".{folder.name}"))
    folder.symlink_to(folder)


@pytest.mark.parametrize("folder", [".", "deep"])
def test_nothing_below_a_folder_that_cannot_be_read_is_gone(library: Library, folder: str) -> None:
    away = {name for name in library.names(library.files) if folder == "." or name.startswith("deep/")}
    unreadable((library.root / folder).resolve())
    found = library.look()
    assert [problem.path for problem in found.unreadable] == [os.path.normpath(library.root / folder)]
    assert library.names([record.path for record, absence, _ in found.absent]) == away
    assert not any(absence.gone or absence.missing for _, absence, _ in found.absent)


def test_a_link_to_a_disk_that_is_away_is_no_deleted_folder(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "films").symlink_to(disk)
    library = Library(tmp_path / "films")
    library.add("one.mp4", "two.mp4")
    shutil.rmtree(disk)
    assert (library.gone(), library.away()) == (set(), {"one.mp4", "two.mp4"})
    disk.mkdir()
    assert (library.gone(), library.away()) == (set(), {"one.mp4", "two.mp4"})
    (disk / "two.mp4").write_bytes(MP4)
    assert library.gone() == {"one.mp4"}


@pytest.mark.parametrize(
    ("count", "lost", "gone"), [(2, 1, 1), (3, 2, 0), (4, 2, 2), (4, 3, 0), (5, 3, 0), (12, 6, 6), (12, 7, 0)]
)
def test_more_than_half_of_a_target_at_once_is_a_disk_that_is_away(
    count: int, lost: int, gone: int, tmp_path: Path
) -> None:
    library = Library(tmp_path / "films")
    library.add(*(f"{number}.mp4" for number in range(count)))
    for number in range(lost):
        (library.root / f"{number}.mp4").unlink()
    assert (len(library.gone()), len(library.away())) == (gone, lost - gone)


def test_each_target_is_counted_for_itself(tmp_path: Path) -> None:
    library = Library(tmp_path / "films")
    library.add(*(f"large/{number}.mp4" for number in range(20)), *(f"small/{number}.mp4" for number in range(4)))
    for number in range(3):
        (library.root / "small" / f"{number}.mp4").unlink()
    assert len(library.gone()) == 3
    assert len(library.away(library.root / "large", library.root / "small")) == 3


def test_files_that_were_met_elsewhere_meanwhile_are_not_counted(tmp_path: Path) -> None:
    library = Library(tmp_path / "films")
    library.add(*(f"{number}.mp4" for number in range(6)))
    for number in range(5):
        (library.root / f"{number}.mp4").unlink()
    found = library.look()
    left = {path: record for path, record in library.files.items() if not path.endswith(("0.mp4", "1.mp4", "2.mp4"))}
    assert sum(absence.gone for _, absence in found.settled(library.files)) == 0
    assert sum(absence.gone for _, absence in found.settled(left)) == 2


def test_what_is_offline_stays_so_whatever_is_put_into_the_empty_mount_point(library: Library) -> None:
    (library.root / "deep/two.mp4").unlink()
    (library.root / "deep/three.mp4").unlink()
    library.mark("deep/two.mp4", "deep/three.mp4", missing_since=BEFORE)
    (library.root / "deep/new.mp4").write_bytes(MP4)
    assert (library.gone(), library.away()) == (set(), {"deep/two.mp4", "deep/three.mp4"})
    library.add("deep/two.mp4")
    library.mark("deep/two.mp4", missing_since=BEFORE)
    assert library.gone() == {"deep/three.mp4"}
    assert library.names([record.path for record in library.look().returned]) == {"deep/two.mp4"}


def test_an_unreadable_file_that_is_deleted_is_gone(library: Library) -> None:
    (library.root / "one.mp4").unlink()
    library.mark("one.mp4", missing_since=BEFORE, error="no permission to read the file")
    assert library.gone() == {"one.mp4"}


def test_a_folder_that_can_be_read_again_is_no_failure_any_more(library: Library) -> None:
    folder = str(library.root / "deep")
    library.files[folder] = FileRecord(folder, str(library.root), "", 0, 0, FileState.FAILED, "no permission")
    assert [record.path for record in library.look().resolved] == [folder]
    unreadable(library.root / "deep")
    assert library.look().resolved == []


@pytest.mark.parametrize("back", [[], ["deep/two.mp4"]])
def test_a_file_of_an_emptied_folder_was_moved_only_if_all_of_them_were(library: Library, back: list[str]) -> None:
    records = [library.files[str(library.root / name)] for name in ("deep/two.mp4", "deep/three.mp4")]
    for record in records:
        os.rename(record.path, library.root / f"moved {os.path.basename(record.path)}")
    for name in back:
        (library.root / f"moved {os.path.basename(name)}").unlink()
    found = library.look()
    assert [found.moved(record) for record in records] == [not back, not back]


def test_files_of_a_folder_that_was_renamed_were_moved(library: Library) -> None:
    library.root.rename(library.root.with_name("cinema"))
    found = library.look(library.root.with_name("cinema"))
    assert all(found.moved(record) for record in library.files.values())
    shutil.rmtree(library.root.with_name("cinema") / "deep")
    found = library.look(library.root.with_name("cinema"))
    assert not any(found.moved(record) for record in library.files.values())


def test_pruning_takes_a_target_that_is_not_there_for_no_failure(library: Library) -> None:
    library.root.rename(library.root.with_name("elsewhere"))
    found = library.look(library.root, prune=True)
    assert found.unreadable == []
    assert all(absence.missing for _, absence, _ in found.absent)
    assert len(found.absent) == 3


def test_shards_take_each_file_once_and_leave_the_others_as_they_are(tmp_path):
    library = Library(tmp_path)
    library.add(*(f"{number}.mp4" for number in range(60)))
    known, library.files = library.files, {}
    shares = []
    for number in range(1, 4):
        scan = Scan({})
        scan.walk([str(tmp_path)], shard=(number, 3))
        shares.append({file.path for file in scan.work})
    assert set.union(*shares) == set(known)
    assert sum(map(len, shares)) == 60
    assert all(shares)
    # An index of everything loses nothing by a run over a part of it.
    scan = Scan(known, "", {record.video_id for record in known.values()})
    scan.walk([str(tmp_path)], shard=(1, 3))
    assert {record.path for record in scan.unchanged} == shares[0]
    assert (scan.work, scan.absent, scan.left_out) == ([], [], [])
