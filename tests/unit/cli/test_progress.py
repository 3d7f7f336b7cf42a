"""Long runs as people and programs see them: bars, lines, JSON events, interruptions."""

import io
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from rich.cells import cell_len
from rich.console import Console

from clamr_cli.cli import progress
from clamr_cli.cli.progress import RunView, Screen, follow, time_left

HOSTILE = "film\x1b[2J.mp4"


@dataclass(frozen=True)
class Step:
    done: int
    seconds: float = 0.12345
    sizes: dict[str, int] = field(default_factory=dict, repr=False)


class View(RunView[Step]):
    def __init__(self) -> None:
        self.steps = 0
        self.signals = 0

    def show(self, event: Step) -> None:
        self.steps += 1
        self.screen.bar(f"step {event.done}", event.done, 10)
        self.screen.line(f"note {HOSTILE}")

    def on_signal(self) -> None:
        self.signals += 1

    def interrupted(self) -> str:
        return f"interrupted: {self.steps} kept"

    @property
    def exit_code(self) -> int:
        return 3


class Events:
    """Ten steps; remembers that it was closed."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.steps = self._steps(interrupt_at)
        self.closed = 0

    def _steps(self, interrupt_at: int | None) -> Iterator[Step]:
        for number in range(10):
            if number == interrupt_at:
                signal.raise_signal(signal.SIGTERM)
            yield Step(number)

    def __iter__(self) -> Iterator[Step]:
        return self.steps

    def __next__(self) -> Step:
        return next(self.steps)

    def close(self) -> None:
        self.closed += 1


def terminal(width: int = 100) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, force_terminal=True, color_system=None, _environ={}), stream


def test_a_run_is_followed_to_its_end_and_its_iterator_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    events, view = Events(), View()
    assert follow(events, view) == 3
    assert (view.steps, events.closed) == (10, 1)
    assert capsys.readouterr().err.splitlines() == [r"note film\x1b[2J.mp4"] * 10


def test_events_are_json_lines_without_what_grows_with_the_library(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    follow(Events(), View(), json=True, quiet=True)
    out, err = capfdbinary.readouterr()
    assert [json.loads(line) for line in out.splitlines()][2] == {"event": "step", "done": 2, "seconds": 0.123}
    assert err == b""


def test_a_signal_ends_a_run_and_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    events, view = Events(interrupt_at=4), View()
    assert follow(events, view, quiet=True) == 130
    assert (view.steps, view.signals) == (4, 1)
    assert events.closed
    assert capsys.readouterr().err == "interrupted: 4 kept\n"


def test_a_signal_that_a_library_swallowed_ends_the_run_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(Events(), View(), quiet=True, received=[15]) == 130
    assert capsys.readouterr().err == "interrupted: 0 kept\n"


@pytest.mark.parametrize("must_be_read", [True, False])
def test_output_that_nobody_reads_interrupts_only_runs_that_must_be_read(must_be_read: bool) -> None:
    events, view = Events(), View()
    view.must_be_read = must_be_read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "record", lambda event: (_ for _ in ()).throw(BrokenPipeError()))
        if must_be_read:
            assert follow(events, view, json=True, quiet=True) == 130
        else:
            with pytest.raises(BrokenPipeError):
                follow(events, view, json=True, quiet=True)
    assert events.closed


def test_lines_come_now_and_then_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Screen(clock=lambda: now) as screen:
        for now in (0.0, 4.0, 12.0, 13.0, 30.0, 40.0):
            screen.bar(HOSTILE, now, 40)
    assert capsys.readouterr().err.splitlines() == [
        r"film\x1b[2J.mp4, about 28 s left",
        r"film\x1b[2J.mp4, about 10 s left",
        r"film\x1b[2J.mp4",
    ]


def test_a_run_may_know_the_time_left_and_when_a_line_is_due(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.bar("a", 1, 10, left=200.0, due=True)
        screen.bar("a", 2, 10, left=-1.0, due=True)
        screen.bar("a", 3, 10, due=False)
    assert capsys.readouterr().err.splitlines() == ["a, about 3 min left", "a"]


def test_quiet_shows_only_what_is_always_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(quiet=True) as screen:
        screen.bar("a", 1, 10, due=True)
        screen.line("note")
        screen.line("failed", always=True)
    assert capsys.readouterr().err == "failed\n"


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    "name", ["a.mp4", "\x1b[2J\n" * 20, "灯台の動画" * 20, "\U0001f41f" * 9], ids=["short", "control", "wide", "emoji"]
)
def test_a_bar_stays_whole_and_in_one_line_whatever_a_file_is_called(width: int, name: str) -> None:
    console, stream = terminal(width)
    now = 0.0
    with Screen(target=console, clock=lambda: now) as screen:
        screen.bar("0/10 videos", 0.0, 1.0)
        now = 90.0
        screen.bar("0/10 videos", 0.5, 1.0, detail=f"encode 50 % {name}")
        screen.line(f"[bold]failed {name}")
    shown = stream.getvalue()
    assert "[bold]failed" in shown
    assert "\x1b[2J" not in shown.replace("\x1b[2K", "")
    bars = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", shown).splitlines() if "0/10" in line]
    assert bars
    assert all(re.match(r"[━ ]{20} 0/10 videos", line) and cell_len(line) <= width for line in bars)
    assert "about 90 s left enc" in bars[-1]


def test_several_bars_stand_below_each_other() -> None:
    console, stream = terminal()
    with Screen(target=console) as screen:
        screen.bar("reading", 1, 2, key="decode")
        screen.bar("hearing", 1, 4, key="speech")
    assert "reading" in stream.getvalue()
    assert "hearing" in stream.getvalue()


def test_only_a_terminal_that_can_draw_gets_a_bar() -> None:
    for environment, force in (({"TERM": "dumb"}, True), ({}, False)):
        stream = io.StringIO()
        with Screen(target=Console(file=stream, force_terminal=force, _environ=environment)) as screen:
            screen.bar("a", 1, 2, due=True)
        assert stream.getvalue() == "a\n"


def test_a_long_wait_is_shown_and_a_short_one_is_not() -> None:
    for after, shown in ((0.0, True), (60.0, False)):
        console, stream = terminal()
        with progress.waiting("loading a model", after=after, target=console):
            deadline = time.monotonic() + 5
            while shown and "loading a model" not in stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
        assert ("loading a model" in stream.getvalue()) is shown
    stream = io.StringIO()
    with progress.waiting("loading a model", after=0.0, target=Console(file=stream)):
        pass
    assert stream.getvalue() == ""


def test_counting_passes_everything_on() -> None:
    assert list(progress.counted("writing frames", iter("abc"), 3, quiet=True)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (-1.0, ""), (0.2, "about 1 s left"), (99.0, "about 99 s left"), (100.0, "about 2 min left"),
        (5999.0, "about 100 min left"), (7200.0, "about 2.0 h left"),
    ],
)  # fmt: skip
def test_the_time_left_is_rough(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text
