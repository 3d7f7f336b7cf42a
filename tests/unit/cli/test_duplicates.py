"""``clamr duplicates`` on an index of drawn fingerprints: what is printed, remembered and never proposed."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clamr_cli.index.documents import sound_print_key
from clamr_cli.index.prints import put_prints
from clamr_cli.media.prints import Prints
from clamr_cli.types import AudioTrack
from tests.unit.cli.conftest import Clamr, Ended
from tests.unit.edit.test_duplicates import levels_of_hashes
from tests.unit.store import samples

pytestmark = pytest.mark.slow


class Desk:
    """A film of a minute, 20 seconds of it, these with other sound, and the film's file once more."""

    def __init__(self, clamr: Clamr, place: Path) -> None:
        self.clamr, self.place = clamr, place
        draw = np.random.default_rng(5)
        hashes = np.repeat(draw.integers(2**63, size=30, dtype=np.uint64), 4)
        sound = draw.integers(80, 220, (600, 8)).astype(np.uint8)
        parts = {"film": (0, 60, 0), "part": (20, 40, 0), "dub": (20, 40, 300)}
        store = samples.new(place)
        with store.writer("clamr index"):
            for name, (start, end, shift) in parts.items():
                video = samples.video(name, duration=float(end - start))
                media = replace(video.media, audio=(AudioTrack(1, "aac"),))
                store.put_video(replace(video, media=media), [samples.moment(name)])
                times = (np.arange(2 * (end - start)) / 2).astype(np.float32)
                seen = Prints(times, hashes[2 * start : 2 * end], levels_of_hashes(hashes[2 * start : 2 * end]))
                put_prints(store, video.content_hash, seen.blobs())
                heard = np.roll(sound, shift, axis=0)[10 * start : 10 * end]
                store.put_extraction(sound_print_key(video.content_hash), {}, [heard.tobytes()])
            for path, name in (("film", "film"), ("film again", "film"), ("part", "part"), ("dub", "dub")):
                self.path(path).touch()
                store.put_files([replace(samples.file(str(self.path(path)), name), root=str(place))])

    def path(self, name: str) -> Path:
        return self.place / f"{name}.mp4"

    def __call__(self, *arguments: str) -> Ended:
        return self.clamr("--db", str(self.place / "index"), "duplicates", *arguments)

    def pairs(self, *arguments: str) -> dict[tuple[str, str], tuple[str, str, str | None]]:
        rows = [json.loads(line) for line in self("--json", *arguments).out.splitlines()]
        return {
            (Path(row["path_a"]).stem, Path(row["path_b"]).stem): (row["kind"], row["sound"], row["keep"])
            for row in rows
        }


@pytest.fixture
def desk(clamr: Clamr, tmp_path: Path) -> Desk:
    return Desk(clamr, tmp_path)


def test_a_part_need_not_be_kept_but_one_with_other_sound(desk: Desk) -> None:
    film = str(desk.path("film"))
    found = {tuple(sorted(names)): rest for names, rest in desk.pairs().items()}
    assert found == {
        ("film", "film again"): ("copy", "same", film),
        ("film", "part"): ("cut", "same", film),
        ("dub", "film"): ("cut", "other", None),
        ("dub", "part"): ("same", "other", None),
    }
    paths = desk("--paths")
    assert paths.code == 0
    assert paths.out.decode().splitlines() == [str(desk.path("film again")), str(desk.path("part"))]
    assert len(list(csv.DictReader(desk("--csv").out.decode().splitlines()))) == 4
    assert len(desk("--tsv", str(desk.place)).out.splitlines()) == 4


def test_nothing_is_printed_whose_other_file_is_away(desk: Desk) -> None:
    for name in ("film", "film again"):
        desk.path(name).unlink()
    assert (desk("--paths").code, desk("--paths").out) == (1, b"")
    assert len(desk.pairs()) == 4


def test_a_pair_that_is_none_is_remembered_until_it_is_taken_back(desk: Desk) -> None:
    pair = str(desk.path("film")), str(desk.path("part"))
    assert desk("--not-duplicate", *pair).code == 0
    assert {tuple(sorted(names)) for names in desk.pairs()} == {
        ("film", "film again"),
        ("dub", "film"),
        ("dub", "part"),
    }
    assert desk("--take-back", *pair).code == 0
    assert len(desk.pairs()) == 4
    assert desk("--take-back", *pair).code == desk("--not-duplicate", pair[0], pair[0]).code == 2
