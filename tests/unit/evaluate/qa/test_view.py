"""Output of an evaluation of questions while it runs."""

from pathlib import Path

import pytest

from clamr_cli.cli.commands.eval_qa import QaView
from clamr_cli.cli.progress import INTERVAL, Screen
from clamr_cli.evaluate.qa import QuestionSettled
from clamr_cli.events import GaveUp, Notice, Progress, VideoDone


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(item: str, outcome: str = "answered", **more) -> QuestionSettled:
    return QuestionSettled({"id": item, "strategy": "clamr", "video": "v\x1b.mp4", "outcome": outcome, **more})


def view(videos: int, out: Path | None, *, quiet: bool = False, clock: Clock | None = None) -> QaView:
    """A view without a bar."""
    shown = QaView(videos, out)
    shown.screen = Screen(quiet=quiet, bars=False, clock=clock or Clock())
    return shown


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    shown = view(3, None, clock=clock)
    shown.show_preparation(Progress("/v", "speech", 5.0, 20.0))
    assert capfd.readouterr().err == ""
    clock.now = INTERVAL
    shown.show_preparation(Progress("/v", "encode", 30.0, 40.0))
    assert capfd.readouterr().err == "[0/3 videos] 0 results, encoding the frames: 75 %\n"
    shown.show(settled("a"))
    shown.show(VideoDone(1, worked=True))
    clock.now = 2 * INTERVAL
    shown.show(settled("b"))
    assert capfd.readouterr().err == "[1/3 videos] 2 results, about 40 s left\n"


def test_a_reason_of_a_video_is_read_once_and_every_failure_counted(capfd: pytest.CaptureFixture[str]) -> None:
    shown = view(1, Path("r.jsonl"), quiet=True)
    for item in ("a", "b"):
        shown.show(settled(item, "failed", reason="no such\x07 file"))
    shown.show(settled("c", "failed", reason="another"))
    shown.show(Notice("", "hidden"))
    shown.show(GaveUp(20))
    assert (shown.settled, shown.failed) == (3, 3)
    assert capfd.readouterr().err.splitlines() == [
        r"failed v\x1b.mp4, question a: no such\x07 file",
        r"failed v\x1b.mp4, question c: another",
        "stopped after 20 failures in a row; run the same command again to go on",
    ]


def test_notes_and_notices_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    shown = view(1, None)
    shown.show(Notice("", "the endpoint takes no seed"))
    shown.show_preparation(Notice("/v/a.mp4", "an odd clock"))
    note, notice = capfd.readouterr().err.splitlines()
    assert note == "note: the endpoint takes no seed"
    assert "an odd clock" in notice
