"""Being told to end: an interruption while a command runs, and nothing of it is left when it is over."""

import signal

import pytest

from clamr_cli.cli.stopping import interruptible

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_interruptions_in_the_block_and_what_they_were_after_it(number: int) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible("SIGINT", heard=lambda: heard.append("yes")):
        signal.raise_signal(number)
    assert heard == ["yes"]
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_a_signal_that_is_not_there_is_no_trouble() -> None:
    with interruptible("SIGNOTHING"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
