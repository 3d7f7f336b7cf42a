"""The query in an answer, whatever a model puts around it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.synth.filters import clean_query


@pytest.mark.parametrize(
    "answer",
    [
        "night ferry in a storm",
        '"night ferry in a storm"',
        "“night ferry in a storm”",
        "**night ferry in a storm**",
        "`night ferry in a storm`",
        "Query: night ferry in a storm",
        "**Query:** night ferry in a storm",
        'Search query: "night ferry in a storm"',
        "The search query: night ferry in a storm",
        "Query 1: night ferry in a storm",
        "1. night ferry in a storm\n2. a ship at sea",
        "- night ferry in a storm",
        "Here is a query:\n\nnight ferry in a storm",
        "Here's a concise query: night ferry in a storm",
        "Sure! Here is the query:\n```\nnight ferry in a storm\n```",
        "```text\nnight ferry in a storm\n```",
        "<think>They sail\nat night.</think>\n\nnight ferry in a storm",
        "They sail at night.</think>night ferry in a storm",
        "<think>a</think><think>b</think>night ferry in a storm",
        "night ferry in a storm\n\nExplanation: it sails at night",
        "night ferry in a storm<|im_end|>",
        "<query>night ferry in a storm</query>",
        "  night\tferry  in a\u00a0storm \r\n",
        "night ferry in a storm <think>was that good?",
    ],
)
def test_only_the_query_is_left(answer):
    assert clean_query(answer) == "night ferry in a storm"


@pytest.mark.parametrize("answer", ["", " \n ", '""', "...", "<think>never ends", "Query:", "```\n```", "\x1b[2J"[:1]])
def test_nothing_is_left_of_no_answer(answer):
    assert clean_query(answer) == ""


@pytest.mark.parametrize(
    "query",
    [
        "2.5 million bees",
        'speech on "rock" and "roll"',
        "ratio 3:1 in concrete",
        "query languages for databases",
        "l'été à la mer",
        "夜のフェリー",
        "می‌خواهم",
        "children's choir",
        "12 angry men",
    ],
)
def test_what_belongs_to_the_query_stays(query):
    assert clean_query(query) == query


MARKS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "```",
        "Query: ",
        '"',
        "“",
        "”",
        "\n",
        "- ",
        "1. ",
        "**",
        "\x1b",
        "\u202e",
        "(",
        ")",
        "Sure: ",
    ]
)
ANSWERS = st.lists(st.one_of(MARKS, st.text(max_size=12)), max_size=12).map("".join)


@given(ANSWERS)
def test_a_query_is_one_printable_line(answer):
    query = clean_query(answer)
    assert len(query.splitlines()) <= 1
    assert not {unicodedata.category(one) for one in query} & {"Cc", "Cs", "Zl", "Zp"}
    assert "\u202e" not in query
    assert query == query.strip()


def test_hostile_length_is_no_burden():
    assert clean_query("<think>" * 100_000 + "x") == ""
    assert clean_query("(" * 200_000) == ""
    assert len(clean_query("a " * 200_000)) <= 20_000
