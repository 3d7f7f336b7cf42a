"""Being told to end: an interruption while a command runs, and nothing of it is left when it is over."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from clamr_cli.cli.stopping import interruptible

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_interruptions_in_the_block_and_what_they_were_after_it(number: int) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible(heard=lambda: heard.append("yes")) as told:
        signal.raise_signal(number)
    assert heard == ["yes"]
    assert told == [number]
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_was_ignored_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible() as told:
            signal.raise_signal(number)
        assert told == []
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_in_another_thread_it_is_no_trouble() -> None:
    with ThreadPoolExecutor(1) as threads:

        def work() -> str:
            with interruptible():
                return "done"

        assert threads.submit(work).result() == "done"
