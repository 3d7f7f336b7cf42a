import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Progress, Removed, Skipped
from clamr_cli.render.progress import (
    BarReporter,
    Estimate,
    PlainReporter,
    QuietReporter,
    Unfinished,
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
        "[1/3] indexed /v/a.mp4 (1:00, 2 moments, 4 s), about 3 min left",
        "note /v/a.mp4: no speech: it has no audio",
        "[2/3] moved /v/old.mp4 -> /v/new.mp4, about 3 min left",
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


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "name", ["a.mp4", "\x1b[2J\n" * 20, "灯台の動画" * 20, "\U0001f41f" * 9], ids=["short", "control", "wide", "emoji"]
)
def test_a_bar_stays_whole_and_in_one_line_whatever_a_file_is_called(width: int, name: str) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, width=width, force_terminal=True, color_system=None, _environ={})
    now = 0.0
    with BarReporter(terminal, lambda: now) as shown:
        shown.show(Discovered(10, 0, 10))
        now = 90.0
        shown.show(Progress(f"/v/{name}", "encode", 30.0, 60.0))
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", stream.getvalue()).splitlines()
    bars = [one for one in lines if "0/10" in one]
    assert bars
    assert all(re.match(r"[━╸╺ ]{20} 0/10 videos", one) and cell_len(one) <= width for one in bars)
    assert "encode" in bars[-1]


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
    assert estimate.done == pytest.approx(0.25)
    assert estimate.left(110.0) == pytest.approx(30.0)
    estimate.take(Indexed("/a", "id", 2.0, 1))
    assert estimate.done == pytest.approx(0.5)
    assert estimate.left(110.0) == pytest.approx(10.0)
    estimate.take(Skipped("/b", "it is empty", ""))
    assert estimate.done == 1.0
    assert estimate.left(110.0) is None


def _whole(path: str, seconds: float, *stages: str) -> list[Event]:
    steps: list[Event] = [Progress(path, stage, part, seconds) for stage in stages for part in (0.0, seconds)]
    return [*steps, Indexed(path, path, seconds, 1)]


def test_a_long_video_weighs_more_than_a_short_one() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(3, 0, 3, {"/clip": 1_000, "/lecture": 100_000, "/other": 9_000}))
    for event in _whole("/clip", 60.0, "decode", "speech", "ocr", "encode"):
        estimate.take(event)
    assert estimate.left(10.0) == pytest.approx(10 * 109)
    # Its true length counts as soon as it is known: half of what its size made expect.
    estimate.take(Progress("/lecture", "decode", 0.0, 3_000.0))
    assert estimate.left(10.0) == pytest.approx(10 / 60 * (3_000 + 9_000 * 3_060 / 101_000))


def test_what_an_earlier_run_left_costs_nothing() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(1, 0, 1))
    estimate.take(Progress("/talk", "decode", 9_600.0, 9_600.0, 9_600.0))
    estimate.take(Progress("/talk", "ocr", 9_600.0, 9_600.0, 9_600.0))
    estimate.take(Progress("/talk", "speech", 6_600.0, 9_600.0, 6_600.0))
    assert estimate.done == 0.0
    assert estimate.left(5.0) is None
    estimate.take(Progress("/talk", "speech", 8_100.0, 9_600.0, 7_200.0))
    # As much speech again as this run has done, and the encoding of all.
    assert estimate.left(60.0) == pytest.approx(60 * (1_500 * 0.35 + 9_600 * 0.1) / (1_500 * 0.35))


def test_stages_that_no_video_has_are_not_waited_for() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(2, 0, 2))
    for event in _whole("/a", 6_000.0, "decode", "encode"):
        estimate.take(event)
    assert estimate.left(10.0) == pytest.approx(10.0, rel=0.05)


def test_a_short_clip_without_sound_is_no_measure_of_the_rest() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(3, 0, 3, {"/clip": 1, "/a": 600, "/b": 600}))
    for event in _whole("/clip", 0.1, "decode", "encode"):
        estimate.take(event)
    for event in _whole("/a", 60.0, "decode", "speech", "ocr", "encode")[:-1]:
        estimate.take(event)
    assert estimate.left(60.0) == pytest.approx(60.0, rel=0.05)


def test_no_time_is_told_from_the_first_moments_of_a_long_run() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(100, 0, 100))
    estimate.take(Progress("/a", "decode", 10.0, 3_600.0))
    assert estimate.left(8.0) is None
    estimate.take(Progress("/a", "decode", 400.0, 3_600.0))
    assert estimate.left(60.0) is not None


def test_an_interruption_names_what_is_stored_of_videos_in_work() -> None:
    unfinished = Unfinished()
    for event in _whole("/done.mp4", 9.0, "decode", "speech"):
        unfinished.take(event)
    unfinished.take(Progress("/v/new\n.mp4", "decode", 5.0, 9.0))
    assert unfinished.stored() == ""
    unfinished.take(Progress("/v/talk\x1b.mp4", "decode", 9_600.0, 9_600.0, 9_600.0))
    unfinished.take(Progress("/v/talk\x1b.mp4", "speech", 6_700.0, 9_600.0, 6_600.0))
    unfinished.take(Progress("/v/talk\x1b.mp4", "ocr", 30.0, 90.0, 20.0))
    assert unfinished.stored() == (
        "of talk\\x1b.mp4 decoding and 1:50:00 of 2:40:00 of speech and 20 of 90 pictures of on-screen text"
    )
    for name in "bcd":
        unfinished.take(Progress(f"/v/{name}.mp4", "decode", 1.0, 1.0, 1.0))
    assert unfinished.stored().endswith(", of b.mp4 decoding, and of 2 more")


def test_seconds_of_a_video_count_what_ran_side_by_side_once() -> None:
    seconds = {"decode": 2.0, "speech": 10.0, "ocr": 7.0, "encode": 1.0}
    assert line(Indexed("/a.mp4", "aa", 60.0, 2, (), seconds)) == "indexed /a.mp4 (1:00, 2 moments, 13 s)"


def test_progress_without_a_total_or_beyond_it_breaks_nothing() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(1, 0, 1))
    estimate.take(Progress("/a", "speech", 5.0, 0.0))
    estimate.take(Progress("/a", "ocr", 9.0, 3.0))
    assert 0.0 <= estimate.done <= 1.0


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
