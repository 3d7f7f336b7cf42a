"""Asynchronous work as a stream of events, and several things in work at once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.events import Discovered, Finished, Notice
from clamr_cli.index import tasks
from clamr_cli.index.executors import WorkerLost
from clamr_cli.index.pipeline import IndexOptions, both, for_each
from clamr_cli.index.run import index, index_async, iterate, stream
from clamr_cli.store import Store
from tests.unit.media.clips import Clip


class Idle:
    """An executor that runs nothing, and notes when it is stopped."""

    is_here = True

    def __init__(self) -> None:
        self.stopped = 0

    def start(self, emit: Any) -> None:
        pass

    def summary(self) -> str:
        return "nobody"

    async def run(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(3600)

    def stop(self) -> None:
        self.stopped += 1


class Inline(Idle):
    """An executor that runs tasks in this process."""

    async def run(self, kind: Any, task: Any, *args: Any, on_report: Any, **options: Any) -> Any:
        await asyncio.sleep(0.02)
        return task(on_report, *args)


def test_events_come_in_order_while_several_things_are_in_work() -> None:
    async def work(emit: Any) -> None:
        async def item(number: int) -> None:
            for step in range(5):
                emit(Notice(str(number), str(step)))
                await asyncio.sleep(0)

        await for_each(range(7), item, at_once=3)

    executor = Idle()
    events = [(event.path, event.text) for event in iterate(stream(executor, work)) if isinstance(event, Notice)]
    assert sorted(events) == [(str(number), str(step)) for number in range(7) for step in range(5)]
    assert [step for path, step in events if path == "4"] == list("01234")
    assert events.index(("1", "0")) < events.index(("0", "4"))
    assert executor.stopped == 1


def test_an_error_ends_the_stream_and_stops_the_executor() -> None:
    async def work(emit: Any) -> None:
        emit(Notice("a", "fine"))
        raise MediaError("torn")

    executor, events = Idle(), []
    with pytest.raises(MediaError, match="torn"):
        events.extend(iterate(stream(executor, work)))
    assert executor.stopped == 1


class Losing(Inline):
    """An executor whose worker is lost whenever a file of some name is identified, the first ``times`` times."""

    def __init__(self, name: str, times: int, *, announced: bool = False) -> None:
        super().__init__()
        self.name, self.left, self.announced = name, times, announced

    async def run(self, kind: Any, task: Any, *args: Any, on_report: Any, **options: Any) -> Any:
        if task is tasks.identify and args[0].endswith(self.name) and self.left:
            self.left -= 1
            raise WorkerLost("worker 7 on node n was lost", announced=self.announced)
        return await super().run(kind, task, *args, on_report=on_report, **options)


@pytest.mark.slow
def test_a_video_that_loses_its_workers_is_tried_three_times_and_stops_no_other(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    Clip(seconds=1).write(videos / "film.mp4")
    Clip(seconds=2).write(videos / "heavy.mp4")
    store = Store.open(tmp_path / "index", create=True)
    options = IndexOptions(tmp_path / "cache", encoder="hashed", speech=False, text=False)
    *_, finished = index(store, [str(videos)], options, Losing("heavy.mp4", 3))
    assert (finished.indexed, finished.failed) == (1, 1)
    (failed,) = (file for file in store.files() if file.failed)
    assert failed.error == "3 workers were lost over it; the last: worker 7 on node n was lost"
    again = replace(options, retry_failed=True)
    *_, finished = index(store, [str(videos)], again, Losing("heavy.mp4", 2))
    assert (finished.indexed, finished.failed) == (1, 0)
    other = Store.open(tmp_path / "other", create=True)
    # Nodes that were to be taken away say nothing of the file.
    *_, finished = index(other, [str(videos)], options, Losing("heavy.mp4", 5, announced=True))
    assert (finished.indexed, finished.failed) == (2, 0)


@pytest.mark.slow
def test_a_running_event_loop_takes_the_events_and_goes_on_with_its_own_work(tmp_path: Path) -> None:
    Clip(seconds=1).write(tmp_path / "film.mp4")
    store = Store.open(tmp_path / "index", create=True)
    options = IndexOptions(tmp_path / "cache", encoder="hashed", speech=False, text=False)
    ticks = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            ticks.append(1)

    async def serve() -> list[Any]:
        ticking = asyncio.create_task(tick())
        events = [event async for event in index_async(store, [str(tmp_path)], options, Inline())]
        ticking.cancel()
        return events

    async def watched() -> list[str]:
        options_of_two = replace(options, encoder_settings={"pool": 2})
        return [store.running() async for _ in index_async(store, [], options_of_two, Inline())]

    events = asyncio.run(serve())
    assert "0 of 1 video; nobody" in asyncio.run(watched())
    assert store.running() == ""
    assert isinstance(events[0], Discovered)
    assert isinstance(events[-1], Finished)
    assert events[-1].indexed == 1
    assert len(ticks) > 3
    (moment,) = store.moments()
    assert moment.video_id == store.catalog()[0].video_id


@pytest.mark.timeout(30)
def test_closing_the_asynchronous_stream_cancels_all_work_and_stops_the_executor() -> None:
    executor, ended = Idle(), []

    async def work(emit: Any) -> None:
        try:
            emit(Notice("a", ""))
            await executor.run()
        finally:
            ended.append("work")

    async def serve() -> None:
        async with contextlib.aclosing(stream(executor, work)) as events:
            assert await anext(events) == Notice("a", "")
        assert ended == ["work"]

    asyncio.run(serve())
    assert executor.stopped == 1


@pytest.mark.timeout(30)
def test_closing_the_stream_cancels_all_work_and_stops_the_executor() -> None:
    ended = []

    async def work(emit: Any) -> None:
        async def item(number: int) -> None:
            try:
                emit(Notice(str(number), ""))
                await executor.run()
            finally:
                ended.append(number)

        await for_each(range(9), item, at_once=2)

    executor = Idle()
    events = iterate(stream(executor, work))
    next(events)
    events.close()
    assert sorted(ended) == [0, 1]
    assert executor.stopped == 1


def test_an_interruption_in_the_middle_of_a_write_reaches_the_caller(capfd: pytest.CaptureFixture[str]) -> None:
    async def work(emit: Any) -> None:
        async def item(number: int) -> None:
            emit(Notice(str(number), ""))
            await asyncio.sleep(0)
            if number == 1:
                raise KeyboardInterrupt

        await for_each(range(3), item, at_once=3)

    executor = Idle()
    with pytest.raises(KeyboardInterrupt):
        list(iterate(stream(executor, work)))
    assert executor.stopped == 1
    assert capfd.readouterr().err == ""


def test_if_one_of_two_fails_the_other_comes_to_its_end() -> None:
    finished = []

    async def fail() -> None:
        raise ValueError("broken")

    async def finish() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        finished.append(True)

    async def work() -> None:
        await both(fail(), finish())

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(work())
    assert finished == [True]
