"""``clamr index`` without targets, and the settings that it remembers for folders."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr, Ended
from tests.unit.media.clips import Clip

PLAIN = ("--no-ocr", "--no-speech")


@dataclass(frozen=True)
class Library:
    """Two folders of clips, one inside of the other, and the command line on their index."""

    place: Path
    clamr: Clamr

    @property
    def videos(self) -> Path:
        return self.place / "videos"

    def __call__(self, *arguments: str) -> Ended:
        return self.clamr("--db", str(self.place / "index"), *arguments)

    def index(self, *arguments: str) -> dict[str, int]:
        """The last event of an index run."""
        ended = self("index", *arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out.splitlines()[-1])

    def languages(self) -> dict[str, str]:
        """The language that the recipe of each file names."""
        files = Store.open(self.place / "index").files()
        return {Path(file.path).stem: json.loads(file.recipe)["media"].partition(":")[2] for file in files}

    def add(self, name: str) -> None:
        path = self.videos / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        Clip(seconds=1, tags={"title": name}).write(path)


@pytest.fixture
def library(clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("CLAMR_ENCODER", "hashed")
    library = Library(tmp_path, clamr)
    for name in ("one", "fr/deux"):
        library.add(name)
    return library


@pytest.mark.slow
def test_without_targets_all_known_folders_are_renewed(library: Library, tmp_path: Path) -> None:
    assert "clamr index DIR" in library("index").err
    Clip(seconds=1).write(tmp_path / "alone.mp4")
    Clip(seconds=1, tags={"title": "never named"}).write(tmp_path / "other.mp4")
    assert library.index(str(library.videos), str(tmp_path / "alone.mp4"), *PLAIN)["indexed"] == 3
    library.add("new")
    (library.videos / "one.mp4").unlink()
    last = library.index()
    assert (last["indexed"], last["removed"], last["unchanged"]) == (1, 1, 2)
    assert "other" not in library.languages()
    # A folder that was removed from the index is not renewed, one that went away stays.
    assert library("rm", str(library.videos), "--yes").code == 0
    assert library.index()["indexed"] == 0


@pytest.mark.slow
def test_settings_of_a_folder_are_remembered_until_they_are_reset(library: Library) -> None:
    library.index(str(library.videos / "fr"), "--language", "fr", *PLAIN)
    library.index(str(library.videos), *PLAIN)
    assert library.languages() == {"one": "", "deux": "fr"}
    library.add("fr/trois")
    ended = library("index", str(library.videos / "fr"), "--json")
    assert "language fr" in ended.err
    assert '"indexed": 1' in ended.out.decode().splitlines()[-1]
    assert library.index()["indexed"] == 0
    assert library.languages() == {"one": "", "deux": "fr", "trois": "fr"}
    library.index(str(library.videos), "--language", "de")
    assert library.languages() == {"one": "de", "deux": "fr", "trois": "fr"}
    library.index(str(library.videos / "fr"), "--reset", *PLAIN)
    assert set(library.languages().values()) == {"de", ""}


@pytest.mark.slow
def test_what_was_left_out_stays_left_out(library: Library) -> None:
    library.index(str(library.videos), "--exclude", "deux*", *PLAIN)
    assert library.index()["indexed"] == 0
    assert set(library.languages()) == {"one"}
    assert library.index(str(library.videos), "--reset", *PLAIN)["indexed"] == 1


@pytest.mark.slow
def test_an_index_of_an_earlier_version_renews_what_it_walked(library: Library) -> None:
    library.index(str(library.videos), *PLAIN)
    store = Store.open(library.place / "index")
    with store.writer("test"):
        store.put_folders({})
    library.add("new")
    assert library.index(*PLAIN)["indexed"] == 1
    shutil.rmtree(library.videos)
    assert library("index").code == 3


@pytest.mark.slow
def test_the_paces_of_a_run_are_kept_for_the_next_estimate(library: Library, home: Path) -> None:
    library.index(str(library.videos), *PLAIN)
    kept = home / "state" / "clamr" / "paces.json"
    ((kind, paces),) = json.loads(kept.read_text()).items()
    assert kind.startswith("hashed ")
    assert paces["decode"] > 0
    kept.write_text("damaged")
    library.add("new")
    library.index(*PLAIN)
    assert json.loads(kept.read_text())[kind]["decode"] > 0
