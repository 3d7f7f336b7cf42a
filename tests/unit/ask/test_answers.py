"""The choice that an answer takes, and the part of it that is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.ask import choice_of
from clamr_cli.llm import readable

CHOICES = ("a red car", "a car", "an old bicycle", "Cannot be told")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("C.", "C"),
        ("c) an old bicycle", "C"),
        ("Answer: B. One sees it at [0:12].", "B"),
        ("The answer is (C), since ...", "C"),
        ("Option A is wrong, and so is option B. The correct answer is D", "D"),
        ("answer: **C**\nbecause", "C"),
        (r"so \boxed{B}", "B"),
        ("A car can be seen, thus the answer is B", "B"),
        ("It is an old bicycle.", "C"),
        ("One sees a red car", "A"),
        ("It must be C, I think", "C"),
        ("I would say D", "D"),
        ("A man walks", None),
        ("The answer is a mystery", None),
        ("Answer: E", None),
        ("Z", None),
        ("both B and C", None),
        ("a car next to an old bicycle", None),
        ("", None),
        ("Because of D'Artagnan", None),
        ("Antwort: c", None),
        ("回答：B", "B"),
        ("Answer: B. The other option C is not shown.", "B"),
        ("Answer: B. Unlike choice A, it has wheels.", "B"),
        ("The answer is C, since option D does not fit", "C"),
        ("**Answer:** B\n\nA and C are not seen.", "B"),
        ("The correct answer is: D. The answer A would need a car.", "D"),
        ("Answer: A because it is red", "A"),
        ("I first thought of answer B, but the answer is C", "C"),
        ("B. Option C is wrong", "B"),
        ("Not option A, but option C", "C"),
        pytest.param("answer" + "* " * 9_990, None, id="stars"),
        pytest.param("answer " * 2_800, None, id="answers"),
        pytest.param("the " * 5_000, None, id="beginnings"),
    ],
)
def test_the_choice_that_an_answer_takes(answer, letter):
    found = choice_of(readable(answer), CHOICES)
    assert ("ABCD"[found] if found is not None else None) == letter


def test_thoughts_are_no_answer():
    assert readable("<think>perhaps A\nor B</think>\nAnswer: C<|im_end|>") == "Answer: C"
    assert readable("perhaps A</think>B") == "B"
    assert readable("<think>never ends") == ""


def test_no_control_character_is_left():
    assert readable("red\x1b[31m\x07 car\u202e\r\n\n\n\nnext\tline ") == "red [31m  car\n\nnext line"


@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=6))
def test_any_text_can_be_read(answer, choices):
    text = readable(answer)
    assert readable(text) == text
    found = choice_of(text, choices)
    assert found is None or 0 <= found < len(choices)
