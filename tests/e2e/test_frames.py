"""A question about a long video finds the moments at which its answer is seen, said or written."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from tests.e2e import film
from tests.e2e.film import EVENTS, Event
from tests.e2e.harness import Clamr

K = 4
TOLERANCE = 2.0
"""Seconds: candidates are taken about every two seconds."""


@dataclass(frozen=True)
class Cinema:
    """The film, and the command line on an index that has prepared it but does not hold it."""

    path: Path
    clamr: Clamr
    first: list[dict[str, Any]]


@pytest.fixture(scope="module")
def cinema(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Cinema:
    place = tmp_path_factory.mktemp("cinema")
    path = film.write(place / "film.mp4")
    clamr = Clamr(place / "index", cache)
    return Cinema(path, clamr, clamr("frames", str(path), EVENTS[0].question, "-k", str(K), "--json").ok().records)


def found(cinema: Cinema, event: Event, *more: str) -> list[dict[str, Any]]:
    ended = cinema.clamr("frames", str(cinema.path), event.question, "-k", str(K), "--json", *more)
    # What is only shown may be found with too little confidence: the exit code says so.
    assert ended.code in (0, 1), ended.err
    return ended.records


def inside(event: Event, seconds: float) -> bool:
    return event.start - TOLERANCE <= seconds <= event.end + TOLERANCE


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_a_planted_moment_is_chosen_first(cinema: Cinema, event: Event) -> None:
    best = found(cinema, event)[0]
    assert inside(event, best["time"])
    assert inside(event, best["at"])
    assert best["modality"] == event.modality
    if event.modality != "video":
        assert best[event.modality]


@pytest.mark.parametrize("select", ["top", "diverse", "windows"])
def test_every_strategy_has_it_among_the_chosen(cinema: Cinema, select: str) -> None:
    for event in EVENTS[::3]:
        hits = found(cinema, event, "--select", select)
        assert len(hits) == K
        assert any(inside(event, hit["time"]) for hit in hits)


def test_as_many_frames_at_equal_distances_miss_most(cinema: Cinema) -> None:
    length = film.SCENES * film.SCENE
    uniform = [(number + 0.5) * length / K for number in range(K)]
    hit = [event for event in EVENTS if any(event.start <= at <= event.end for at in uniform)]
    assert len(hit) < len(EVENTS) / 2


def test_what_was_prepared_needs_neither_the_file_nor_the_writer(cinema: Cinema, tmp_path: Path) -> None:
    before = found(cinema, EVENTS[0])
    index = cinema.clamr.db
    stamps = {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}
    assert found(cinema, EVENTS[0]) == before == cinema.first
    assert {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()} == stamps


def test_asking_does_not_put_the_video_into_the_index(cinema: Cinema) -> None:
    assert cinema.clamr.listed() == []


def test_indexing_after_a_question_recognises_nothing_again(cinema: Cinema, tmp_path: Path) -> None:
    clamr = Clamr(Path(shutil.copytree(cinema.clamr.db, tmp_path / "index")), cinema.clamr.cache)
    event = clamr.index(str(cinema.path)).ok().events("indexed")[0]
    assert set(event["reused"]) >= {"decode", "speech", "ocr"}
    # And a question after that takes the words that the index has.
    by_id = clamr("frames", event["video_id"], EVENTS[5].question, "-k", "1", "--json", "--no-asr", "--no-ocr").ok()
    assert inside(EVENTS[5], by_id.records[0]["time"])


def test_pictures_clips_and_sheet_are_written(cinema: Cinema, tmp_path: Path) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    hits = found(cinema, EVENTS[1], "--out", str(out), "--sheet", str(sheet), "--around", "1.5s")
    listed = json.loads((out / "frames.json").read_bytes())
    assert [frame["file"] for frame in listed["frames"]] == [hit["file"] for hit in hits]
    assert {path.name for path in out.iterdir()} == {"frames.json"}.union(*({h["file"], h["clip"]} for h in hits))
    assert sheet.read_bytes().startswith(b"\x89PNG")
    for hit in hits:
        with av.open(str(out / hit["file"])) as picture:
            assert (picture.streams.video[0].width, picture.streams.video[0].height) == film.SIZE
        with av.open(str(out / hit["clip"])) as clip:
            assert clip.duration is not None
            assert 1.0 <= clip.duration / av.time_base <= 6.0
