"""What a run says: how far it is and how long it will take, on stderr."""

from pathlib import Path

import pytest

from clamr_cli.cli.synth_talk import Talk
from clamr_cli.synth import GaveUp, Job, Judged, Outcome, Passed, Remark


def judged(outcome: Outcome, why: str = "") -> Judged:
    return Judged(Job("v_base_1", "v", "/v.mp4", None, 1), outcome, {"id": "v_base_1"}, why)


def test_progress_has_a_count_and_an_estimate_that_passes_over_what_was_done_before(capfd):
    now = [0.0]
    with Talk(10, Path("q.jsonl"), clock=lambda: now[0]) as talk:
        for video in range(1, 5):
            talk.show(Passed(video, asked=False))
        now[0] = 12.0
        talk.show(judged(Outcome.WRITTEN))
        now[0] = 20.0
        talk.show(Passed(5, asked=True))
    assert capfd.readouterr() == (
        "",
        "[4/10 videos] 1 query\n[5/10 videos] 1 query, about 100 s left\n".replace("100 s", "2 min"),
    )


@pytest.mark.parametrize(("out", "how"), [(Path("q.jsonl"), "run the same command again"), (None, "with --out FILE")])
def test_a_run_that_gave_up_says_how_to_go_on(capfd, out, how):
    with Talk(2, out) as talk:
        talk.show(GaveUp(20))
    assert capfd.readouterr().err.startswith(f"stopped after 20 failures in a row; {how}")


def test_quiet_says_only_what_failed(capfd):
    now = [0.0]
    with Talk(2, None, quiet=True, clock=lambda: now[0]) as talk:
        now[0] = 99.0
        talk.show(Remark("aside"))
        talk.show(judged(Outcome.FAILED, "no \x1b[2J answer"))
        talk.show(judged(Outcome.WRITTEN))
    assert capfd.readouterr() == ('{"id": "v_base_1"}\n', "failed v_base_1: no \\x1b[2J answer\n")
    assert (talk.failed, talk.settled) == (1, 2)
