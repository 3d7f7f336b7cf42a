"""What becomes of a file that changes while it is worked on, and of work that is cut off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clamr_cli import encoders
from clamr_cli.errors import MediaError
from clamr_cli.events import Progress
from clamr_cli.extract.options import AsrOptions
from clamr_cli.extract.sidecar import sidecar_signature
from clamr_cli.index import tasks
from clamr_cli.index.crew import outputs
from clamr_cli.index.desk import Desk
from clamr_cli.index.executors.local import TaskFailed, Worker
from clamr_cli.index.job import Job
from clamr_cli.index.options import IndexOptions, Recipe
from clamr_cli.index.outputs import Commit, Keep
from clamr_cli.index.spool import SAMPLE_RATE as SECOND
from clamr_cli.media.walk import Found
from clamr_cli.store import Store
from clamr_cli.types import Segment, Span
from tests.unit.media.clips import Clip, Sound, plain


class Meddling(Worker):
    """A worker during whose reading of a video something happens to the file."""

    meddle: Callable[[], object]

    def run(self, task: Callable[..., Iterator[Any]], *args: object, silence: float) -> Iterator[Any]:
        if task is tasks.decode:
            self.meddle()
        yield from super().run(task, *args, silence=silence)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    options = IndexOptions(tmp_path / "cache", encoder="hashed", speech=False, text=False)
    store = Store.open(tmp_path / "index", create=True)
    made = Desk(store, options, encoders.describe("hashed", cache=options.cache))
    made.decoder = Meddling("decoding")
    yield made
    made.stop()


def _run(desk: Desk, path: Path, meddle: Callable[[], object]) -> list[Any]:
    assert isinstance(desk.decoder, Meddling)
    desk.decoder.meddle = meddle
    status = path.stat()
    job = Job(Found(str(path), str(path.parent), status.st_size, status.st_mtime_ns), desk)
    return [output for _, output in outputs([job], hands=1, stopping=desk.stopping)]


def test_a_file_that_takes_the_place_of_another_is_not_kept_under_the_others_name(desk: Desk, tmp_path: Path) -> None:
    film, other = tmp_path / "film.mp4", tmp_path / "other.mp4"
    Clip(seconds=1).write(film)
    Clip(seconds=1, sounds=(Sound(),)).write(other)
    *_, last = found = _run(desk, film, lambda: os.replace(other, film))
    assert isinstance(last, MediaError)
    assert "changed while it was read" in last.what
    assert not [output for output in found if isinstance(output, Keep | Commit)]
    assert list(desk.spools.glob("*/decoded.json")) == []


def test_sidecars_that_come_while_a_file_is_read_count_as_new_for_the_next_run(desk: Desk, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    Clip(seconds=1).write(film)
    before = sidecar_signature(film)
    *_, last = _run(desk, film, lambda: (tmp_path / "film.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHi.\n"))
    assert isinstance(last, Commit)
    assert last.file.sidecars == before != sidecar_signature(film)


class Dictating(Worker):
    """In place of a recogniser: hears or reads something in every part, and dies after some of them."""

    lasts: int
    done: Sequence[tasks.Part]

    def run(self, task: Callable[..., Iterator[Any]], *args: object, silence: float) -> Iterator[Any]:
        *_, self.done = args  # type: ignore[assignment]
        ends = [SECOND, 2 * SECOND, 3 * SECOND] if task is tasks.hear else [1, 2, 3]
        new = [tasks.Part(end, (Segment(Span(0, 1), f"until {end}"),), "en") for end in ends[len(self.done) :]]
        yield from new[: self.lasts]
        if self.lasts < len(new):
            raise TaskFailed("the process crashed")
        yield [segment for part in (*self.done, *new) for segment in part.segments]


def _parts(desk: Desk, path: Path, *, lasts: int) -> tuple[list[Any], list[int]]:
    """What a job gives whose recogniser dies after some parts, and the parts that it was given to go on from."""
    desk.hearer = Dictating("speech recognition")
    desk.hearer.lasts = lasts
    status = path.stat()
    job = Job(Found(str(path), str(path.parent), status.st_size, status.st_mtime_ns), desk)
    given = []
    for _, output in outputs([job], hands=1, stopping=desk.stopping):
        given.append(output)
        if isinstance(output, Keep):
            with desk.reading:
                output.write(desk.store)
    return given, [part.end for part in desk.hearer.done]


def test_recognition_that_is_cut_off_goes_on_from_its_last_part(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    Clip(seconds=3, fps=2, sounds=(Sound(end=3, codec="flac"),)).write(film)
    options = IndexOptions(tmp_path / "cache", "hashed", asr=AsrOptions(str(tmp_path)), text=False)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    store = Store.open(tmp_path / "index", create=True)
    desk = Desk(store, options, encoders.describe("hashed", cache=options.cache))
    try:
        with store.writer("test"):
            first, _ = _parts(desk, film, lasts=1)
            assert isinstance(first[-1], TaskFailed)
            second, begun = _parts(desk, film, lasts=1)
            assert isinstance(second[-1], TaskFailed)
            assert begun == [SECOND]
            assert [p.checkpoint for p in second if isinstance(p, Progress) and p.stage == "speech"] == [2.0]
            third, begun = _parts(desk, film, lasts=9)
            assert begun == [SECOND, 2 * SECOND]
            *_, whole = [output for output in third if isinstance(output, Keep)]
            assert isinstance(whole, Keep)
            assert [one["text"] for one in whole.payload["segments"]] == [f"until {n * SECOND}" for n in (1, 2, 3)]
            assert len(whole.parts) == 2
            assert not store.extractions(whole.parts)
            assert store.has_extraction(whole.key)
    finally:
        desk.stop()


@pytest.mark.parametrize(("size", "again"), [((320, 180), False), ((1600, 900), True)])
def test_text_that_an_earlier_version_read_is_read_again_only_where_the_picture_was_too_large_for_it(
    desk: Desk, tmp_path: Path, size: tuple[int, int], again: bool
) -> None:
    film = tmp_path / "film.mp4"
    Clip(picture=lambda time: plain((40, 40, 60), size), seconds=1).write(film)
    assert isinstance(desk.decoder, Meddling)
    desk.decoder.meddle = lambda: None
    store = desk.store

    def index(options: IndexOptions) -> Commit:
        desk.options, desk.recipe = options, Recipe.of(options)
        status = film.stat()
        job = Job(Found(str(film), str(tmp_path), status.st_size, status.st_mtime_ns), desk)
        for _, output in outputs([job], hands=1, stopping=desk.stopping):
            if isinstance(output, Keep):
                store.put_extraction(output.key, output.payload, output.blobs)
        assert isinstance(output, Commit)
        return output

    with store.writer("index"):
        first = index(desk.options)
        before = msgspec.structs.replace(Recipe.of(desk.options), text=desk.options.ocr.version_before)
        said = [{"span": {"start": 0.0, "end": 1.0}, "text": "read before", "source": "easyocr"}]
        store.put_extraction(before.key(first.video.content_hash, "text"), {"segments": said})
        last = index(replace(desk.options, text=True))
    assert ("ocr" in last.event.reused) != again
    assert ("read before" in str(last.moments)) != again
