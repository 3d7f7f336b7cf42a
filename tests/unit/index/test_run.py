"""Asynchronous work as a stream of events, and several things in work at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.events import Notice
from clamr_cli.index.pipeline import both, for_each
from clamr_cli.index.run import stream


class Idle:
    """An executor that runs nothing, and notes when it is stopped."""

    def __init__(self) -> None:
        self.stopped = 0

    async def run(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(3600)

    def stop(self) -> None:
        self.stopped += 1


def test_events_come_in_order_while_several_things_are_in_work() -> None:
    async def work(emit: Any) -> None:
        async def item(number: int) -> None:
            for step in range(5):
                emit(Notice(str(number), str(step)))
                await asyncio.sleep(0)

        await for_each(range(7), item, at_once=3)

    executor = Idle()
    events = [(event.path, event.text) for event in stream(executor, work) if isinstance(event, Notice)]
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
        events.extend(stream(executor, work))
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
    events = stream(executor, work)
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
        list(stream(executor, work))
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
