from collections.abc import Iterator

import pytest

from clamr_cli.errors import MediaError
from clamr_cli.events import Notice
from clamr_cli.index.crew import Stop, outputs
from clamr_cli.index.outputs import Keep


class Scripted:
    """A job that yields what it is given; an exception is raised."""

    def __init__(self, *script: object) -> None:
        self.script = script

    def run(self) -> Iterator[object]:
        for item in self.script:
            if isinstance(item, BaseException):
                raise item
            yield item


def test_every_output_of_every_job_arrives():
    jobs = [Scripted(*(Notice(str(number), str(step)) for step in range(5))) for number in range(7)]
    seen = [(output.path, output.text) for _, output in outputs(jobs, hands=3, stopping=Stop())]
    assert sorted(seen) == sorted((str(number), str(step)) for number in range(7) for step in range(5))


def test_an_error_ends_its_job_and_no_other():
    jobs = [Scripted(MediaError("torn")), Scripted(Notice("b", "fine")), Scripted(Notice("c", "fine"))]
    seen = [output for _, output in outputs(jobs, hands=1, stopping=Stop())]
    assert [type(output).__name__ for output in seen] == ["MediaError", "Notice", "Notice"]


def test_a_job_waits_until_its_write_was_handled():
    handled: list[str] = []

    class Careful:
        def run(self) -> Iterator[Keep]:
            yield Keep("first", {})
            assert handled == ["first"]
            yield Keep("second", {})

    for _, output in outputs([Careful()], hands=1, stopping=Stop()):
        assert isinstance(output, Keep), output
        handled.append(output.key)
    assert handled == ["first", "second"]


@pytest.mark.timeout(30)
def test_stopping_ends_the_threads_even_in_the_middle_of_a_write():
    stopping = Stop()
    endless = Scripted(*(Keep(str(number), {}) for number in range(1000)))
    running = outputs([endless], hands=1, stopping=stopping)
    next(running)
    stopping.set()
    assert len(list(running)) <= 1


@pytest.mark.timeout(30)
def test_who_stops_can_wait_for_the_threads():
    stopping = Stop()
    endless = Scripted(*(Keep(str(number), {}) for number in range(1000)))
    running = outputs([endless, endless], hands=2, stopping=stopping)
    next(running)
    assert all(thread.is_alive() for thread in stopping.threads)
    running.close()
    stopping.set()
    stopping.wait_for_all(20.0)
    assert [thread.is_alive() for thread in stopping.threads] == [False, False]


def test_nothing_to_do_is_done_at_once():
    assert list(outputs([], hands=3, stopping=Stop())) == []
