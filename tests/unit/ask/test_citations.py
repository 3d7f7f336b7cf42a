"""Cited times are held against what was shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.ask import Material, citations, marked
from tests.unit.ask.shown import material

SHOWN = material()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a car [0:10]", [("0:10", 10.0, 10.0, "frame")]),
        ("a car [0:11]", [("0:11", 11.0, 11.0, "frame")]),
        ("said [0:13]", [("0:13", 13.0, 13.0, "said")]),
        ("said [0:15]", [("0:15", 15.0, 15.0, "said")]),
        ("a sign [00:21]", [("00:21", 21.0, 21.0, "frame")]),
        ("a sign [0:22]", []),
        ("then [0:00:30]", [("0:00:30", 30.0, 30.0, "frame")]),
        ("a stretch [0:12-0:15]", [("0:12-0:15", 12.0, 15.0, "said")]),
        ("a stretch [0:10 – 0:30]", [("0:10 – 0:30", 10.0, 30.0, "frame")]),
        ("half invented [0:10-0:55]", [("0:10-0:55", 10.0, 55.0, None)]),
        ("invented [9:59]", [("9:59", 599.0, 599.0, None)]),
        ("two [0:10, 0:20]", [("0:10", 10.0, 10.0, "frame"), ("0:20", 20.0, 20.0, "frame")]),
        ("in words [frame at 0:10 and 0:13]", [("0:10", 10.0, 10.0, "frame"), ("0:13", 13.0, 13.0, "said")]),
        ("twice [0:10] and [0:10]", [("0:10", 10.0, 10.0, "frame")]),
        ("【0:10】", [("0:10", 10.0, 10.0, "frame")]),
        ("no bracket 0:10, no time [10] [1] [0:61] [:]", []),
        ("a score of [3:2]", []),
    ],
)
def test_what_an_answer_cites(answer, expected):
    found = [(one.text, one.start, one.end, one.source) for one in citations(answer, SHOWN)]
    assert found == (expected or found)
    if not expected:
        assert all(source is None for *_, source in found)


def test_invented_times_are_marked_and_no_others():
    answer = "a car [0:10], a plane [9:59], both [0:13, 8:00-8:10]; no citation: 9:59"
    cited = citations(answer, SHOWN)
    assert marked(answer, cited) == "a car [0:10], a plane [9:59?], both [0:13, 8:00-8:10?]; no citation: 9:59"
    assert marked("a car [0:10]", citations("a car [0:10]", SHOWN)) == "a car [0:10]"


def test_of_nothing_shown_every_time_is_invented():
    assert [one.source for one in citations("[0:00] [0:10]", Material())] == [None, None]


@given(st.text(alphabet="[]0123456789:-., a", max_size=80))
def test_any_answer_can_be_checked(answer):
    cited = citations(answer, SHOWN)
    assert all(one.start >= 0 for one in cited)
    assert marked(answer, cited).replace("?", "") == answer
