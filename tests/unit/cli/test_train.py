"""Output of a training run."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from clamr_cli.cli.commands.train import TrainView
from clamr_cli.cli.progress import Screen
from clamr_cli.train.run import Evaluated, Trained, TrainNote, TrainStep


def shown(*events, quiet: bool = False, terminal: bool = False) -> str:
    stream = io.StringIO()
    clock = iter(range(0, 10_000, 2))
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    view = TrainView(Path("out"), "mini")
    with Screen(quiet=quiet, clock=lambda: float(next(clock)), target=console) as view.screen:
        for event in events:
            view.show(event)
    return stream.getvalue()


def steps(count: int, *losses: float) -> list[TrainStep]:
    return [TrainStep(number, count, losses[number - 1] if losses else 1.0, 2.0) for number in range(1, count + 1)]


def test_a_long_run_has_twenty_lines_and_tells_the_time_left():
    lines = shown(*steps(200)).splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("step 10/200: loss 1.0000, about ")
    assert lines[0].endswith("left")
    assert lines[-1] == "step 200/200: loss 1.0000"


def test_a_short_run_has_a_line_for_each_step_and_each_stage_begins_anew():
    lines = shown(*steps(3), *steps(2, 7.0, 7.0)).splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("step 1/2: loss 7.0000")


def test_the_loss_is_smoothed_from_the_first_step_on():
    first, second = shown(*steps(2, 4.0, 2.0)).splitlines()
    assert "loss 4.0000" in first
    assert 2.5 < float(second.partition("loss ")[2]) < 3.1


def test_evaluations_notes_and_the_end_are_lines_and_control_characters_are_escaped():
    text = shown(Evaluated(7, 0.25), TrainNote("a \x1b[31mname"), Trained(Path("out"), {"loss": 0.5}))
    assert "step 7: loss of the development queries 0.2500\n" in text
    assert "\x1b" not in text
    assert text.endswith("trained out (loss 0.5)\n")


def test_what_is_encoded_has_the_time_left():
    notes = [TrainNote("encoding images", number * 64, 6400) for number in range(20)]
    lines = shown(*notes).splitlines()
    assert lines
    assert all(line.startswith("encoding images: ") and line.endswith(" left") for line in lines)
    assert " of 6,400, about " in lines[0]


def test_quiet_prints_only_the_result():
    assert shown(*steps(40), Evaluated(40, 1.0), Trained(Path("out")), quiet=True) == "trained out\n"


def test_a_terminal_has_a_bar_and_keeps_what_matters():
    text = shown(*steps(4), Evaluated(4, 0.5), terminal=True)
    assert "step 4/4" in text
    assert "loss of the development queries 0.5000" in text
