"""Files that change while they are worked on, work that is cut off, and results of earlier versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clamr_cli.events import Event, Indexed, Progress, Skipped
from clamr_cli.extract.options import AsrOptions
from clamr_cli.extract.sidecars import sidecar_signature
from clamr_cli.index import tasks
from clamr_cli.index.executors import TaskFailed
from clamr_cli.index.executors.local import LocalExecutor
from clamr_cli.index.pipeline import IndexOptions
from clamr_cli.index.run import index
from clamr_cli.index.workdir import SAMPLE_RATE as SECOND
from clamr_cli.store import Store
from clamr_cli.types import Segment, Span
from tests.unit.media.clips import Clip, Sound, plain


class Meddling(LocalExecutor):
    """Does something when a video is about to be decoded."""

    def __init__(self, cache: Path, meddle: Callable[[], object]) -> None:
        super().__init__(cache / "workers.log", 1)
        self.meddle = meddle

    async def run(self, kind: Any, task: Any, *args: Any, **options: Any) -> Any:
        if task is tasks.decode:
            self.meddle()
        return await super().run(kind, task, *args, **options)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "index", create=True)


@pytest.fixture
def options(tmp_path: Path) -> IndexOptions:
    return IndexOptions(tmp_path / "cache", encoder="hashed", speech=False, text=False)


@pytest.mark.slow
def test_a_file_that_takes_the_place_of_another_is_not_stored_under_the_others_name(
    store: Store, options: IndexOptions, tmp_path: Path
) -> None:
    film, other = tmp_path / "film.mp4", tmp_path / "other.mp4"
    Clip(seconds=1).write(film)
    Clip(seconds=1, sounds=(Sound(),)).write(other)
    executor = Meddling(options.cache, lambda: os.replace(other, film))
    (skipped,) = [event for event in index(store, [str(film)], options, executor) if isinstance(event, Skipped)]
    assert "changed while it was read" in skipped.reason
    assert (store.catalog(), store.stats().extractions) == ([], 0)
    assert list(options.cache.rglob("decoded.json")) == []


@pytest.mark.slow
def test_sidecars_that_come_while_a_file_is_read_count_as_new_for_the_next_run(
    store: Store, options: IndexOptions, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    Clip(seconds=1).write(film)
    before = sidecar_signature(film)
    srt = "1\n00:00:00,000 --> 00:00:01,000\nHi.\n"
    executor = Meddling(options.cache, lambda: (tmp_path / "film.srt").write_text(srt))
    assert any(isinstance(event, Indexed) for event in index(store, [str(film)], options, executor))
    (file,) = store.files()
    assert file.sidecars == before != sidecar_signature(film)


class Dictating(LocalExecutor):
    """In place of speech recognition: hears something in every part, and dies after some of them."""

    def __init__(self, cache: Path, lasts: int) -> None:
        super().__init__(cache / "workers.log", 1)
        self.lasts = lasts
        self.begun: list[int] = []

    async def run(self, kind: Any, task: Any, *args: Any, on_report: Any, **options: Any) -> Any:
        if task is not tasks.transcribe:
            return await super().run(kind, task, *args, on_report=on_report, **options)
        parts = args[-1]
        self.begun = [part.end for part in parts]
        ends = [SECOND, 2 * SECOND, 3 * SECOND][len(parts) :]
        new = [tasks.Part(end, (Segment(Span(0, 1), f"until {end}"),), "en") for end in ends]
        for part in new[: self.lasts]:
            on_report(part.end / SECOND, 3.0, part)
        if self.lasts < len(new):
            raise TaskFailed("the process crashed")
        return [segment for part in (*parts, *new) for segment in part.segments]


@pytest.mark.slow
def test_recognition_that_is_cut_off_goes_on_from_its_last_part(
    store: Store, options: IndexOptions, tmp_path: Path
) -> None:
    film = tmp_path / "film.mkv"
    Clip(seconds=3, fps=2, sounds=(Sound(end=3, codec="flac"),)).write(film)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    options = replace(options, asr=AsrOptions(str(tmp_path)), speech=True, retry_failed=True)

    def run(lasts: int) -> tuple[list[Event], list[int], int]:
        executor = Dictating(options.cache, lasts)
        events = list(index(store, [str(film)], options, executor))
        return events, executor.begun, store.stats().extractions

    first, _, _ = run(lasts=1)
    assert any(isinstance(event, Skipped) for event in first)
    second, begun, stored = run(lasts=1)
    assert begun == [SECOND]
    assert [one.checkpoint for one in second if isinstance(one, Progress) and one.stage == "speech"] == [1.0, 2.0]
    third, begun, left = run(lasts=9)
    assert begun == [SECOND, 2 * SECOND]
    assert any(isinstance(event, Indexed) for event in third)
    (moment,) = store.moments()
    assert [segment.text for segment in moment.speech] == [f"until {number * SECOND}" for number in (1, 2, 3)]
    # The whole in place of two parts.
    assert left == stored - 1


@pytest.mark.slow
@pytest.mark.parametrize(("size", "again"), [((320, 180), False), ((1600, 900), True)])
def test_text_that_an_earlier_version_read_is_read_again_only_where_the_picture_was_too_large_for_it(
    store: Store, options: IndexOptions, tmp_path: Path, size: tuple[int, int], again: bool
) -> None:
    film = tmp_path / "film.mp4"
    Clip(picture=lambda time: plain((40, 40, 60), size), seconds=1).write(film)
    list(index(store, [str(film)], options))
    (video,) = store.videos()
    earlier = msgspec.structs.replace(options.recipe, text=options.ocr.version_before)
    said = [{"span": {"start": 0.0, "end": 1.0}, "text": "read before", "source": "easyocr"}]
    with store.writer("test"):
        store.put_extraction(earlier.key(video.content_hash, "text"), {"segments": said})
    events = index(store, [str(film)], replace(options, text=True))
    (indexed,) = [event for event in events if isinstance(event, Indexed)]
    assert ("ocr" in indexed.reused) != again
    assert ("read before" in str(store.moments())) != again
