"""The lines that are shown, their order, and how much of them."""

from clamr_cli.ask import Line, lines_near
from clamr_cli.types import Segment, Span
from tests.unit.ask.shown import material

SPEECH = [Segment(Span(10.0 * n, 10.0 * n + 8), f"sentence {n}") for n in range(10)]


def texts(lines: tuple[Line, ...]) -> list[str]:
    return [line.text for line in lines]


def at(*times: float) -> list[Span]:
    return [Span(time, time) for time in times]


def test_lines_around_the_frames_come_in_the_order_of_time():
    assert texts(lines_near(at(72.0, 13.0), SPEECH, around=3.0)) == ["sentence 1", "sentence 7"]
    assert texts(lines_near(at(9.0), SPEECH, around=2.0)) == ["sentence 0", "sentence 1"]
    assert texts(lines_near([Span(9.0, 25.0)], SPEECH, around=0.5)) == ["sentence 1", "sentence 2"]
    assert lines_near([], SPEECH, around=2.0) == ()


def test_what_stays_on_screen_stands_once_and_what_is_said_twice_stands_twice():
    ocr = [Segment(Span(t, t), "EXIT" if t < 5 else "Exit") for t in (1.0, 3.0, 9.0)]
    speech = [Segment(Span(1, 2), "no"), Segment(Span(8, 9), "no")]
    found = lines_near(at(1.0, 3.0, 9.0), speech, ocr, around=1.5)
    assert [(line.kind, line.text) for line in found] == [("written", "EXIT"), ("said", "no"), ("said", "no")]


def test_where_not_all_fit_the_best_frames_keep_theirs():
    assert texts(lines_near(at(55.0, 15.0, 85.0), SPEECH, around=2.0, most=25)) == ["sentence 1", "sentence 5"]


def test_a_line_is_one_line():
    (line,) = lines_near(at(0.0), [Segment(Span(0, 1), " two\nlines\t" + "x" * 900)], around=1.0)
    assert line.text.startswith("two lines x")
    assert len(line.text) == 600


def test_the_best_frames_are_kept_and_all_lines():
    assert [frame.time for frame in material(4).best(2).frames] == [40.5, 30.5]
    assert material(4).best(2).lines == material(4).lines
