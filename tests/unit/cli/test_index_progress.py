"""Index runs and preparations as people see them: the time left, lines, bars, interruptions."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from clamr_cli.cli.progress import IndexView, PrepareView, Screen, event_line, follow
from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Progress, Removed, Skipped
from clamr_cli.index.estimate import Estimate

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
    """Output of a view for events."""
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
        "[0/1] decode 30 % a\\n.mp4, about 5 min left",
        "[0/1] decode 60 % a\\n.mp4, about 4 min left",
        "[0/1] decode 90 % a\\n.mp4, about 4 min left",
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
    assert "a.mp4: reading 50 %" in play(IndexView(), RUN[:2], bars=True)
    assert "indexed /v/a.mp4" in play(IndexView(verbose=True), RUN, bars=True)


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


PACE = {"decode": 0.05, "speech": 0.3, "ocr": 0.2, "encode": 0.1}
"""Seconds of work for a second of video."""


def _run(durations: dict[str, float], stored: dict[str, float], step: float = 0.1) -> list[tuple[float, Event]]:
    """The events of a run and when they come: each stage works on one video after the other.

    ``stored`` is the part of the speech that an earlier run has done.
    """
    events: list[tuple[float, Event]] = [
        (
            0.0,
            Discovered(
                len(durations), 0, len(durations), {path: int(9 * length) for path, length in durations.items()}
            ),
        )
    ]
    free = dict.fromkeys(PACE, 0.0)
    for path, seconds in durations.items():
        ready = 0.0
        spent: dict[str, float] = {}
        decoded = 0.0
        for stage in PACE:
            begin = max(free[stage], decoded if stage in ("speech", "ocr") else ready)
            done = {"speech": stored.get(path, 0.0), "decode": float(path in stored)}.get(stage, 0.0)
            events.append((begin, Progress(path, stage, done * seconds, seconds, done * seconds)))
            begin += 0.0 if stage == "decode" else 2.0 * (free[stage] == 0.0)  # its model
            part, end = done, begin
            while part < 1.0:
                moved = min(step, 1.0 - part)
                part, end = part + moved, end + moved * seconds * PACE[stage]
                events.append((end, Progress(path, stage, part * seconds, seconds, done * seconds)))
            decoded = end if stage == "decode" else decoded
            spent[stage], free[stage], ready = end - begin, end, max(ready, end)
        events.append((ready, Indexed(path, path, seconds, 1, (), spent)))
    return sorted(events, key=lambda one: one[0])


@pytest.mark.parametrize(
    ("durations", "stored"),
    [
        ({f"/{number}": 300.0 for number in range(6)}, {}),
        ({"/lecture": 3600.0}, {}),
        ({"/lecture": 3600.0}, {"/lecture": 0.7}),
        ({"/lecture": 3600.0, **{f"/{number}": 60.0 for number in range(20)}}, {"/lecture": 0.4}),
    ],
    ids=["alike", "long", "resumed", "mixed"],
)
def test_the_time_left_is_right_within_a_fifth_after_a_tenth_of_the_run(
    durations: dict[str, float], stored: dict[str, float]
) -> None:
    # An earlier run has measured how long the stages take, compared with each other.
    estimate, events = Estimate(PACE), _run(durations, stored)
    end, shown, wrong = events[-1][0], 0.0, []
    for now, event in events:
        estimate.take(event, now)
        assert shown <= estimate.done <= 1.0
        shown = estimate.done
        if 0.1 * end < now < 0.9 * end and estimate.left is not None:
            wrong.append(abs(now + estimate.left - end) / end)
    assert len(wrong) > 10
    assert max(wrong) <= 0.2
    assert (estimate.done, estimate.left) == (1.0, None)


def test_what_an_earlier_run_left_costs_nothing() -> None:
    estimate = Estimate()
    estimate.take(Discovered(1, 0, 1), 0.0)
    for stage in ("decode", "ocr"):
        estimate.take(Progress("/talk", stage, 9_600.0, 9_600.0, 9_600.0), 0.0)
    estimate.take(Progress("/talk", "speech", 6_600.0, 9_600.0, 6_600.0), 1.0)
    assert (estimate.done, estimate.left) == (0.0, None)
    estimate.take(Progress("/talk", "speech", 6_700.0, 9_600.0, 6_600.0), 30.0)
    estimate.take(Progress("/talk", "speech", 8_100.0, 9_600.0, 7_200.0), 170.0)
    # The rest of the speech at the pace of this run, and the encoding of all, which usually takes 10 of 35 parts.
    assert estimate.left == pytest.approx(150.0 + 960.0 * 10 / 35)


def test_stages_that_no_video_has_are_not_waited_for() -> None:
    estimate = Estimate()
    estimate.take(Discovered(2, 0, 2), 0.0)
    for stage in ("decode", "encode"):
        for part in (0.0, 6_000.0):
            estimate.take(Progress("/a", stage, part, 6_000.0), 0.0)
    estimate.take(Indexed("/a", "a", 6_000.0, 1, (), {"decode": 60.0, "encode": 60.0}), 120.0)
    assert estimate.left == pytest.approx(120.0, rel=0.05)


def test_no_time_is_told_from_the_first_moments_of_a_long_run() -> None:
    estimate = Estimate()
    estimate.take(Discovered(100, 0, 100), 0.0)
    for now in (0.0, 1.0, 5.0):
        estimate.take(Progress("/a", "decode", 10.0 * now, 3_600.0), now)
    assert estimate.left is None
    estimate.take(Progress("/a", "decode", 400.0, 3_600.0), 60.0)
    assert estimate.left is not None


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_file_in_work_has_a_line_and_the_bar_keeps_its_width(width: int) -> None:
    stream, now = io.StringIO(), 0.0
    target = Console(file=stream, width=width, force_terminal=True, color_system=None, _environ={})
    view = IndexView()
    name = "a very long name of a file of the holidays.mp4"
    with Screen(target=target, clock=lambda: now) as view.screen:
        view.show(Discovered(24, 0, 24))
        for now in (60.0, 70.0, 800.0):
            view.show(Progress(f"/v/{name}", "decode", now, 1000.0))
        view.show(Progress("/v/b.mp4", "speech", 0.0, 9.0))
        view.show(Progress("/v/灯台.mp4", "ocr", 3, 9))
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", stream.getvalue()).splitlines()
    bars = [line for line in frames if "0/24 videos" in line]
    assert re.fullmatch(r"[━ ]{20} 0/24 videos 13:20 about [\d.]+ (min|h) left *", bars[-1])
    assert any("a very long nam…days.mp4: reading 80 %" in line for line in frames)
    assert any("b.mp4: speech is starting" in line for line in frames)
    assert any("灯台.mp4: text 33 %" in line for line in frames)
    assert all(cell_len(line) <= width for line in frames)


def _whole(path: str, seconds: float, *stages: str) -> list[Event]:
    steps: list[Event] = [Progress(path, stage, part, seconds) for stage in stages for part in (0.0, seconds)]
    return [*steps, Indexed(path, path, seconds, 1)]


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
    estimate = Estimate()
    estimate.take(Discovered(1, 0, 1), 0.0)
    estimate.take(Progress("/a", "speech", 5.0, 0.0), 1.0)
    estimate.take(Progress("/a", "ocr", 9.0, 3.0), 2.0)
    assert 0.0 <= estimate.done <= 1.0


@pytest.mark.parametrize(("seconds", "shown"), [(467.0, "8.1"), (60.0, "63"), (9_000.0, "0.42")])
def test_the_last_line_says_how_much_video_it_was_and_how_fast(seconds: float, shown: str) -> None:
    event = Finished(24, 0, 0, 0, 0, seconds, 0, 3_780.0)
    assert event_line(event).startswith("24 videos indexed (1:03:00 of video) in ")
    assert event_line(event).endswith(f", {shown} x real time")
    assert 'try: clamr search "what you look for"' in play(IndexView(), (*RUN[:-1], event), bars=True)
    assert "try:" not in play(IndexView(), (*RUN[:-1], event))


def test_steps_and_counts_are_no_lines() -> None:
    assert event_line(Discovered(1, 0, 1)) == ""
    assert event_line(Progress("/a", "decode", 0.0, 1.0)) == ""
    assert event_line(Notice("", "nothing changed")) == "note: nothing changed"
