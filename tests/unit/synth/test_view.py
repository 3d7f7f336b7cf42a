"""Output of a synth run on stderr: its progress and the time left."""

from pathlib import Path

import pytest

from clamr_cli.cli.commands.synth import SynthView
from clamr_cli.cli.progress import Screen
from clamr_cli.events import GaveUp, Notice, VideoDone
from clamr_cli.synth import Outcome, QuerySettled
from clamr_cli.synth.prompts import PlannedQuery


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def view(videos: int, out: Path | None, *, quiet: bool = False, clock: Clock | None = None) -> SynthView:
    """A view without a bar."""
    shown = SynthView(videos, out)
    shown.screen = Screen(quiet=quiet, bars=False, interval=shown.interval, clock=clock or Clock())
    return shown


def settled(outcome: Outcome, reason: str = "") -> QuerySettled:
    return QuerySettled(PlannedQuery("v", "/v.mp4", None, 1), outcome, {"id": "v_base_1"}, reason)


def test_progress_has_a_count_and_an_estimate_that_passes_over_what_was_done_before(capfd):
    clock = Clock()
    shown = view(10, Path("q.jsonl"), clock=clock)
    for video in range(1, 5):
        shown.show(VideoDone(video, worked=False))
    clock.now = 12.0
    shown.show(settled(Outcome.WRITTEN))
    clock.now = 20.0
    shown.show(VideoDone(5, worked=True))
    assert capfd.readouterr() == ("", "[5/10 videos] 1 query, about 40 s left\n")


@pytest.mark.parametrize(("out", "how"), [(Path("q.jsonl"), "run the same command again"), (None, "with --out FILE")])
def test_a_run_that_gave_up_says_how_to_go_on(capfd, out, how):
    view(2, out).show(GaveUp(20))
    assert capfd.readouterr().err.startswith(f"stopped after 20 failures in a row; {how}")


def test_quiet_says_only_what_failed(capfd):
    clock = Clock()
    shown = view(2, None, quiet=True, clock=clock)
    clock.now = 99.0
    shown.show(Notice("", "aside"))
    shown.show(settled(Outcome.FAILED, "no \x1b[2J answer"))
    shown.show(settled(Outcome.WRITTEN))
    assert capfd.readouterr() == ('{"id": "v_base_1"}\n', "failed v_base_1: no \\x1b[2J answer\n")
    assert (shown.outcomes["failed"], shown.settled) == (1, 2)
