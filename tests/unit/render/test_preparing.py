"""How far the preparation of a video is: a line now and then, or a bar for each stage."""

import io

from rich.console import Console

from clamr_cli.events import Notice, Progress
from clamr_cli.render.preparing import BarsReporter, LinesReporter, Stages, counted, preparing
from clamr_cli.render.progress import QuietReporter

FILM = "/v/film\x1b[2J.mp4"


def test_the_time_left_follows_the_pace_of_its_stage() -> None:
    stages = Stages()
    assert stages.left(Progress(FILM, "encode", 100, 300), 10.0) is None
    assert stages.left(Progress(FILM, "encode", 200, 300), 60.0) == 50.0
    assert stages.left(Progress(FILM, "sample", 1, 3), 60.0) is None
    assert stages.left(Progress(FILM, "encode", 300, 300), 90.0) is None


def test_a_line_comes_when_a_stage_begins_and_every_ten_seconds() -> None:
    stream, now = io.StringIO(), [0.0]
    with LinesReporter(stream, lambda: now[0]) as shown:
        for at, done in ((0.0, 0.0), (3.0, 30.0), (12.0, 60.0), (13.0, 70.0)):
            now[0] = at
            shown.show(Progress(FILM, "sample", done, 120.0))
        shown.show(Notice(FILM, "pictures left out: \x1b]0;x\x07"))
        shown.show(Progress(FILM, "ocr", 0, 0))
    assert stream.getvalue().splitlines() == [
        "taking candidate frames: 0 %",
        "taking candidate frames: 50 %, about 12 s left",
        r"note /v/film\x1b[2J.mp4: pictures left out: \x1b]0;x\x07",
        "reading what is written: 100 %",
    ]


def test_bars_are_drawn_on_terminals_only() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None, _environ={})
    shown = preparing(console, quiet=False)
    assert isinstance(shown, BarsReporter)
    with shown:
        shown.show(Progress(FILM, "sample", 50.0, 100.0))
        shown.show(Progress(FILM, "encode", 1, 4))
        shown.show(Notice(FILM, "[bold]no speech"))
    assert "taking candidate frames" in stream.getvalue()
    assert "[bold]no speech" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert isinstance(preparing(Console(file=io.StringIO()), quiet=False), LinesReporter)
    assert type(preparing(console, quiet=True)) is QuietReporter


def test_counting_passes_everything_on() -> None:
    for quiet in (True, False):
        console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={})
        assert list(counted(console, "writing pictures", iter("abc"), 3, quiet=quiet)) == ["a", "b", "c"]
