"""Lines over time become segments: jitter is one line, a clock is many, a gap of one picture is none."""

from __future__ import annotations

from clamr_cli.extract.ocr import in_reading_order, merge_lines, same_text
from clamr_cli.extract.options import Box, TextLine
from clamr_cli.types import Span

HERE = Box(10, 10, 200, 40)
THERE = Box(10, 300, 200, 330)


def seen(*pictures: list[tuple[str, float, Box]]) -> list[tuple[str, float, float]]:
    lines = [(Span(2.0 * n, 2.0 * n + 2), [TextLine(*line) for line in picture]) for n, picture in enumerate(pictures)]
    return [(segment.text, segment.span.start, segment.span.end) for segment in merge_lines(lines, "easyocr")]


def test_the_same_line_is_one_segment_with_its_best_reading() -> None:
    lines = [[("Breaking News", 0.6, HERE)], [("Breaking Newe", 0.5, HERE)], [("Breaking News!", 0.9, HERE)]]
    assert seen(*lines) == [("Breaking News!", 0.0, 6.0)]


def test_a_running_clock_is_a_line_for_every_time() -> None:
    assert seen([("01:00:10:00", 0.9, HERE)], [("01:00:12:00", 0.9, HERE)]) == [
        ("01:00:10:00", 0.0, 2.0),
        ("01:00:12:00", 2.0, 4.0),
    ]


def test_similar_words_in_different_places_are_different_lines() -> None:
    assert [text for text, _, _ in seen([("Variables", 0.9, HERE)], [("Wearables", 0.9, THERE)])] == [
        "Variables",
        "Wearables",
    ]


def test_a_line_that_scrolls_is_one_line() -> None:
    assert seen([("Directed by Ada", 0.9, THERE)], [("Directed by Ada", 0.8, HERE)]) == [("Directed by Ada", 0.0, 4.0)]


def test_missed_once_goes_on_missed_twice_is_over() -> None:
    line = [("Lagos", 0.9, HERE)]
    assert seen(line, [], line) == [("Lagos", 0.0, 6.0)]
    assert seen(line, [], [], line) == [("Lagos", 0.0, 2.0), ("Lagos", 6.0, 8.0)]


def test_the_same_words_twice_in_a_picture_are_one_segment() -> None:
    assert seen([("OK", 0.9, HERE), ("OK", 0.8, THERE)], [("OK", 0.9, HERE), ("OK", 0.8, THERE)]) == [("OK", 0.0, 4.0)]


def test_scraps_without_letters_are_no_lines() -> None:
    assert seen([("|", 0.9, HERE), ("--", 0.9, THERE), ("x", 0.9, THERE)]) == []
    assert seen([("水", 0.9, HERE)]) == [("水", 0.0, 2.0)]


def test_short_words_must_be_equal_to_be_the_same() -> None:
    assert same_text("stop", "stop")
    assert not same_text("stop", "step")
    assert same_text("intentvalidation", "intentvalidatian")
    assert not same_text("chapter1", "chapter2")


def test_reading_order_is_rows_then_columns_and_pieces_join() -> None:
    lines = [
        TextLine("below", 0.9, Box(10, 60, 60, 80)),
        TextLine("right", 0.9, Box(400, 12, 460, 32)),
        TextLine("one", 0.8, Box(10, 10, 50, 30)),
        TextLine("line", 0.9, Box(56, 14, 100, 32)),
    ]
    ordered = in_reading_order(lines)
    assert [line.text for line in ordered] == ["one line", "right", "below"]
    assert ordered[0].box == (10, 10, 100, 32)
    assert ordered[0].confidence == 0.8
