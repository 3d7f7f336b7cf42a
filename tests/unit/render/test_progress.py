import io

import pytest
from rich.console import Console

from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Progress, Removed, Skipped
from clamr_cli.render.progress import (
    BarReporter,
    Estimate,
    PlainReporter,
    QuietReporter,
    about,
    line,
    reporter,
    summary,
)

RUN: tuple[Event, ...] = (
    Discovered(4, 1, 3),
    Progress("/v/a.mp4", "decode", 30.0, 60.0),
    Indexed("/v/a.mp4", "aa", 60.0, 2, (), {"decode": 1.5, "speech": 3.0}),
    Notice("/v/a.mp4", "no speech: it has no audio"),
    Moved("/v/new.mp4", "bb", "/v/old.mp4"),
    Skipped("/v/bad\n\x1b[2J.mp4", "it is empty", "copy it again"),
    Removed("/v/gone.mp4", "cc"),
    Offline("/v/usb \x1b[2J", 2, "the folder is empty"),
    Finished(1, 1, 1, 1, 1, 12.3),
)

OFFLINE = (
    "offline /v/usb \\x1b[2J: the folder is empty; 2 videos stay in the index; "
    "forget with: clamr index --prune $'/v/usb \\033[2J'"
)


def _played(kind: type[QuietReporter]) -> list[str]:
    stream = io.StringIO()
    times = iter(range(0, 1000, 10))
    target = PlainReporter(stream, lambda: float(next(times))) if kind is PlainReporter else kind(stream)
    with target as shown:
        for event in RUN:
            shown.show(event)
    return stream.getvalue().splitlines()


def test_plain_progress_is_a_line_for_each_video_and_change() -> None:
    assert _played(PlainReporter) == [
        "[1/3] indexed /v/a.mp4 (1:00, 2 moments, 4 s), about 60 s left",
        "note /v/a.mp4: no speech: it has no audio",
        "[2/3] moved /v/old.mp4 -> /v/new.mp4, about 25 s left",
        "[3/3] failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again",
        "removed /v/gone.mp4",
        OFFLINE,
        "1 video indexed, 1 unchanged, 1 moved, 1 removed, 1 failed in 12 s; see them with: clamr status --failed",
    ]


def test_plain_progress_says_how_far_a_long_video_is_now_and_then() -> None:
    stream = io.StringIO()
    now = 0.0
    with PlainReporter(stream, lambda: now) as shown:
        shown.show(Discovered(1, 0, 1))
        for now in map(float, range(0, 100, 5)):
            shown.show(Progress("/v/a\n.mp4", "decode", now, 100.0))
    assert stream.getvalue().splitlines() == [
        "[0/1] decode a\\n.mp4 30%, about 8 min left",
        "[0/1] decode a\\n.mp4 60%, about 7 min left",
        "[0/1] decode a\\n.mp4 90%, about 7 min left",
    ]


def test_quiet_progress_says_only_what_failed_and_what_is_offline() -> None:
    assert _played(QuietReporter) == ["failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again", OFFLINE]


def test_a_bar_leaves_failures_moves_and_the_summary_on_the_terminal() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, width=100, force_terminal=True, color_system=None, _environ={})
    with BarReporter(terminal) as shown:
        for event in RUN:
            shown.show(event)
    drawn = stream.getvalue()
    assert "failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again" in drawn
    assert "moved /v/old.mp4 -> /v/new.mp4" in drawn
    assert summary(Finished(1, 1, 1, 1, 1, 12.3)) in drawn


@pytest.mark.parametrize(
    ("terminal", "environment", "kind"),
    [(True, {"TERM": "xterm"}, BarReporter), (True, {"TERM": "dumb"}, PlainReporter), (False, {}, PlainReporter)],
)
def test_only_a_terminal_that_can_draw_gets_a_bar(terminal: bool, environment: dict[str, str], kind: type) -> None:
    target = Console(file=io.StringIO(), force_terminal=terminal, _environ=environment)
    assert type(reporter(target, quiet=False)) is kind


def test_the_time_left_follows_the_fraction_done() -> None:
    estimate = Estimate(started=100.0)
    assert estimate.left(110.0) is None
    estimate.take(Discovered(2, 0, 2))
    for stage in ("decode", "speech", "ocr", "encode"):
        estimate.take(Progress("/a", stage, 1.0, 2.0))
    assert estimate.done == pytest.approx(0.5)
    assert estimate.left(110.0) == pytest.approx(30.0)
    estimate.take(Indexed("/a", "id", 1.0, 1))
    assert estimate.done == 1.0
    assert estimate.left(110.0) == pytest.approx(10.0)


def test_progress_without_a_total_or_beyond_it_breaks_nothing() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(1, 0, 1))
    estimate.take(Progress("/a", "speech", 5.0, 0.0))
    estimate.take(Progress("/a", "ocr", 9.0, 3.0))
    assert 0.0 < estimate.done <= 1.0


def test_time_left_is_rough() -> None:
    assert [about(value) for value in (None, 0.2, 42.4, 600.0, 9000.0)] == [
        "",
        "about 1 s left",
        "about 42 s left",
        "about 10 min left",
        "about 2.5 h left",
    ]


def test_steps_and_counts_are_no_lines() -> None:
    assert line(Discovered(1, 0, 1)) is None
    assert line(Progress("/a", "decode", 0.0, 1.0)) is None
    assert line(Notice("", "nothing changed")) == "note: nothing changed"
