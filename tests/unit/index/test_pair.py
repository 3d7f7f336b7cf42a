import gc
import threading

import pytest

from clamr_cli.events import Notice
from clamr_cli.index.pair import side_by_side


def stage(name, count, result, *, meet=None, error=None):
    for number in range(count):
        if meet is not None:
            meet.wait(timeout=10)
        yield Notice(name, str(number))
    if error is not None:
        raise error
    return result


def drained(pair):
    outputs = []
    while True:
        try:
            outputs.append(next(pair))
        except StopIteration as end:
            return outputs, end.value


def test_both_results_come_back_with_all_outputs_in_each_ones_order():
    outputs, results = drained(side_by_side(stage("a", 3, 1), stage("b", 2, "two")))
    assert results == (1, "two")
    assert [one.text for one in outputs if one.path == "a"] == ["0", "1", "2"]
    assert [one.text for one in outputs if one.path == "b"] == ["0", "1"]


def test_the_two_run_at_the_same_time():
    meet = threading.Barrier(2)
    _, results = drained(side_by_side(stage("a", 4, 1, meet=meet), stage("b", 4, 2, meet=meet)))
    assert results == (1, 2)


def test_a_stage_waits_until_its_output_is_dealt_with():
    reached = []

    def careful():
        yield Notice("a", "keep")
        reached.append(True)

    pair = side_by_side(careful(), stage("b", 0, None))
    next(pair)
    assert not reached
    drained(pair)
    assert reached


def test_an_error_is_raised_once_the_other_stage_is_done():
    pair = side_by_side(stage("a", 1, None, error=ValueError("broken")), stage("b", 5, None))
    seen = []

    def read():
        for output in pair:
            seen.append(output.path)  # noqa: PERF401 -- what came before the error counts

    with pytest.raises(ValueError, match="broken"):
        read()
    assert seen.count("b") == 5


def test_closing_it_lets_the_threads_go():
    before = threading.active_count()
    pair = side_by_side(stage("a", 5, 1), stage("b", 5, 2))
    next(pair)
    pair.close()
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread() and "drive" in thread.name:
            thread.join(timeout=5)
    assert threading.active_count() <= before


def test_closing_it_closes_both_stages_without_waiting_for_the_garbage_collector():
    closed = {"a": threading.Event(), "b": threading.Event()}

    def holding(name):
        try:
            yield from stage(name, 5, None)
        finally:
            closed[name].set()

    gc.disable()
    try:
        pair = side_by_side(holding("a"), holding("b"))
        # Outputs of both are out, or on their way.
        next(pair)
        next(pair)
        pair.close()
        assert all(event.wait(timeout=5) for event in closed.values())
    finally:
        gc.enable()
