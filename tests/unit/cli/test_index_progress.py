"""Index runs and preparations as people see them: the time left, lines, bars, interruptions."""

import io

import pytest
from rich.console import Console

from clamr_cli.cli.progress import Estimate, IndexView, PrepareView, Screen, event_line, follow
from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Progress, Removed, Skipped

FILM = "/v/film\x1b[2J.mp4"
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


def play(view: IndexView, events: tuple[Event, ...], *, quiet: bool = False, bars: bool = False) -> str:
    """What a view shows of events."""
    stream = io.StringIO()
    target = Console(file=stream, width=100, force_terminal=bars, color_system=None, _environ={})
    with Screen(target=target, quiet=quiet) as view.screen:
        view.start()
        for event in events:
            view.show(event)
    return stream.getvalue()


def test_without_a_terminal_there_is_a_line_for_each_video_and_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(iter(RUN), IndexView()) == 3
    lines = capsys.readouterr().err.splitlines()
    lines[:3] = [line.partition(", about")[0] for line in lines[:3]]
    assert lines == [
        "[1/3] indexed /v/a.mp4 (1:00, 2 moments, 4 s)",
        "note /v/a.mp4: no speech: it has no audio",
        "[2/3] moved /v/old.mp4 -> /v/new.mp4",
        "[3/3] failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again",
        "removed /v/gone.mp4",
        OFFLINE,
        "1 video indexed, 1 unchanged, 1 moved, 1 removed, 1 failed in 12 s; see them with: clamr status --failed",
    ]


def test_a_long_video_shows_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    view, stream = IndexView(), io.StringIO()
    with Screen(target=Console(file=stream), clock=lambda: now) as view.screen:
        view.show(Discovered(1, 0, 1))
        for now in map(float, range(0, 100, 5)):
            view.show(Progress("/v/a\n.mp4", "decode", now, 100.0))
    assert stream.getvalue().splitlines() == [
        "[0/1] decode 30 % a\\n.mp4, about 8 min left",
        "[0/1] decode 60 % a\\n.mp4, about 7 min left",
        "[0/1] decode 90 % a\\n.mp4, about 7 min left",
    ]


def test_quiet_shows_only_what_failed_and_what_is_offline(capsys: pytest.CaptureFixture[str]) -> None:
    follow(iter(RUN), IndexView(), quiet=True)
    failed = "failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again"
    assert capsys.readouterr().err.splitlines() == [failed, OFFLINE]


def test_a_bar_leaves_failures_moves_and_the_summary_on_the_terminal() -> None:
    shown = play(IndexView(), RUN, bars=True)
    assert "looking for videos" in shown
    assert "failed /v/bad\\n\\x1b[2J.mp4: it is empty: copy it again" in shown
    assert "moved /v/old.mp4 -> /v/new.mp4" in shown
    assert "indexed /v/a.mp4" not in shown
    assert event_line(RUN[-1]) in shown
    assert "decode 50 % a.mp4" in play(IndexView(), RUN[:2], bars=True)


def test_the_preparation_of_a_video_has_a_line_when_a_stage_begins(capsys: pytest.CaptureFixture[str]) -> None:
    view = PrepareView()
    steps = [Progress(FILM, "sample", done, 120.0) for done in (0.0, 30.0, 60.0)]
    events = [*steps, Notice(FILM, "frames left out: \x1b]0;x\x07"), Progress(FILM, "ocr", 0, 0), "prepared"]
    assert follow(iter(events), view) == 0  # type: ignore[arg-type]
    assert view.prepared == "prepared"
    assert capsys.readouterr().err.splitlines() == [
        "taking candidate frames: 0 %",
        r"note /v/film\x1b[2J.mp4: frames left out: \x1b]0;x\x07",
        "reading on-screen text: 100 %",
    ]


def test_the_stages_of_a_preparation_have_a_bar_each() -> None:
    view, stream = PrepareView(), io.StringIO()
    with Screen(target=Console(file=stream, force_terminal=True, width=100, _environ={})) as view.screen:
        view.show(Progress(FILM, "sample", 50.0, 100.0))
        view.show(Progress(FILM, "encode", 1, 4))
        view.show(Notice(FILM, "[bold]no speech"))
    shown = stream.getvalue()
    assert "taking candidate frames: 50 %" in shown
    assert "encoding the frames: 25 %" in shown
    assert "[bold]no speech" in shown


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
    view = IndexView()
    play(view, (*_whole("/done.mp4", 9.0, "decode", "speech"), Progress("/v/new\n.mp4", "decode", 5.0, 9.0)))
    assert view.interrupted() == "interrupted: 1 video kept; run the same command again to go on"
    stored = (
        Progress("/v/talk.mp4", "decode", 9_600.0, 9_600.0, 9_600.0),
        Progress("/v/talk.mp4", "speech", 6_700.0, 9_600.0, 6_600.0),
        Progress("/v/talk.mp4", "ocr", 30.0, 90.0, 20.0),
    )
    play(view, stored)
    assert view.interrupted() == (
        "interrupted: 1 video kept; "
        "of talk.mp4 decoding and 1:50:00 of 2:40:00 of speech and 20 of 90 frames of on-screen text; "
        "run the same command again to go on"
    )
    play(view, tuple(Progress(f"/v/{name}.mp4", "decode", 1.0, 1.0, 1.0) for name in "bcd"))
    assert ", of b.mp4 decoding, and of 2 more; " in view.interrupted()


def test_seconds_of_a_video_count_what_ran_side_by_side_once() -> None:
    seconds = {"decode": 2.0, "speech": 10.0, "ocr": 7.0, "encode": 1.0}
    assert event_line(Indexed("/a.mp4", "aa", 60.0, 2, (), seconds)) == "indexed /a.mp4 (1:00, 2 moments, 13 s)"


def test_progress_without_a_total_or_beyond_it_breaks_nothing() -> None:
    estimate = Estimate(started=0.0)
    estimate.take(Discovered(1, 0, 1))
    estimate.take(Progress("/a", "speech", 5.0, 0.0))
    estimate.take(Progress("/a", "ocr", 9.0, 3.0))
    assert 0.0 <= estimate.done <= 1.0


def test_steps_and_counts_are_no_lines() -> None:
    assert event_line(Discovered(1, 0, 1)) == ""
    assert event_line(Progress("/a", "decode", 0.0, 1.0)) == ""
    assert event_line(Notice("", "nothing changed")) == "note: nothing changed"
