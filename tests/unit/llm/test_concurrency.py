"""Work in threads whose results come in the order of the work."""

import threading
import time
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.llm import map_ordered


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 6))
def test_results_come_in_order_whoever_is_quicker(delays, workers):
    def work(delay):
        time.sleep(delay / 1000)
        return delay * 2

    assert list(map_ordered(work, delays, workers=workers)) == [(delay, delay * 2) for delay in delays]


def test_so_many_work_at_once():
    together = threading.Barrier(4, timeout=20)
    assert [result for _, result in map_ordered(lambda _: together.wait() >= 0, range(8), workers=4)] == [True] * 8


def test_items_are_taken_only_a_little_ahead():
    taken = []
    results = map_ordered(lambda item: item, (taken.append(n) or n for n in count()), workers=3)
    assert [next(results)[0] for _ in range(20)] == list(range(20))
    results.close()
    assert len(taken) <= 20 + 3 * 3


def test_an_error_comes_in_its_turn():
    def work(item):
        if item == 2:
            raise KeyError(item)
        return item

    results = map_ordered(work, range(9), workers=4)
    assert [next(results)[1] for _ in range(2)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)


def test_whoever_stops_listening_does_not_wait_for_what_hangs():
    over = threading.Event()
    results = map_ordered(lambda item: item if item == 0 else over.wait(60), range(9), workers=2)
    assert next(results) == (0, 0)
    results.close()
    over.set()
