from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from clamr_cli.cli.training import Course, TrainingReporter, line
from clamr_cli.train.options import Evaluated, Trained, TrainNote, TrainStep


def told(*events, quiet: bool = False, terminal: bool = False) -> str:
    stream = io.StringIO()
    clock = iter(range(0, 1000, 2))
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    with TrainingReporter(console, quiet=quiet, clock=lambda: float(next(clock))) as shown:
        for event in events:
            shown.show(event)
    return stream.getvalue()


def steps(count: int, loss: float = 1.0) -> list[TrainStep]:
    return [TrainStep(number, count, loss, 2.0) for number in range(1, count + 1)]


def test_a_long_run_has_twenty_lines_and_says_how_long_it_takes():
    lines = told(*steps(200)).splitlines()
    assert len(lines) == 20
    # Ten steps of two seconds each lie between two lines.
    assert lines[0] == "step 10/200: loss 1.0000, about 6 min left"
    assert lines[-1] == "step 200/200: loss 1.0000"


def test_a_short_run_has_a_line_for_each_step():
    assert len(told(*steps(3)).splitlines()) == 3


def test_evaluations_notes_and_the_end_are_lines_and_control_characters_are_escaped():
    assert line(Evaluated(7, 0.25)) == "step 7: loss of the development queries 0.2500"
    assert "\x1b" not in line(TrainNote("a \x1b[31mname"))
    assert line(Trained(Path("out"), {"loss": 0.5})) == "trained out (loss 0.5)"


def test_quiet_says_only_how_it_ended():
    assert told(*steps(40), Evaluated(40, 1.0), Trained(Path("out")), quiet=True) == "trained out\n"


def test_a_terminal_has_a_bar_and_keeps_what_matters():
    shown = told(*steps(4), Evaluated(4, 0.5), terminal=True)
    assert "step 4/4" in shown
    assert "loss of the development queries 0.5000" in shown


def test_the_loss_is_smoothed_from_the_first_step_on():
    course = Course()
    course.take(TrainStep(1, 10, 4.0, 1.0), 0.0)
    assert course.loss == 4.0
    course.take(TrainStep(2, 10, 2.0, 1.0), 1.0)
    assert 2.5 < course.loss < 3.1
    assert course.left(TrainStep(2, 10, 2.0, 1.0), 1.0) == 8.0
    assert course.left(TrainStep(10, 10, 2.0, 1.0), 9.0) is None
