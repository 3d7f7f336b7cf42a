"""What is said while an evaluation runs."""

from pathlib import Path

import pytest

from clamr_cli.cli.eval_qa_talk import INTERVAL, Talk
from clamr_cli.evaluate.qa.run import GaveUp, Passed, Remark, Settled
from clamr_cli.events import Notice, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(item: str, outcome: str = "answered", **more) -> Settled:
    return Settled({"id": item, "strategy": "clamr", "video": "v\x1b.mp4", "outcome": outcome, **more})


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Talk(3, None, clock=clock) as talk:
        talk.prepares(Progress("/v", "speech", 5.0, 20.0))
        assert capsys.readouterr().err == ""
        clock.now = INTERVAL
        talk.prepares(Progress("/v", "encode", 30.0, 40.0))
        assert capsys.readouterr().err == "[0/3 videos] 0 results, encoding the frames: 75 %\n"
        talk.show(settled("a"))
        talk.show(Passed(1, worked=True))
        clock.now = 2 * INTERVAL
        talk.show(settled("b"))
        assert capsys.readouterr().err == "[1/3 videos] 2 results, about 40 s left\n"


def test_a_reason_of_a_video_is_read_once_and_every_failure_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with Talk(1, Path("r.jsonl"), quiet=True) as talk:
        for item in ("a", "b"):
            talk.show(settled(item, "failed", reason="no such\x07 file"))
        talk.show(settled("c", "failed", reason="another"))
        talk.show(Remark("hidden"))
        talk.show(GaveUp(20))
    assert (talk.settled, talk.failed) == (3, 3)
    assert capsys.readouterr().err.splitlines() == [
        r"failed v\x1b.mp4, question a: no such\x07 file",
        r"failed v\x1b.mp4, question c: another",
        "stopped after 20 failures in a row; run the same command again to go on",
    ]


def test_remarks_and_notices_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Talk(1, None) as talk:
        talk.show(Remark("the endpoint takes no seed"))
        talk.prepares(Notice("/v/a.mp4", "an odd clock"))
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "note: the endpoint takes no seed"
    assert "an odd clock" in told[1]
