"""Reasons to reject a query: repetition, leaks, and text that is no query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.synth.filters import (
    LONGEST_QUOTE,
    QueryFilter,
    Reason,
    clean_query,
    content_of,
    length,
    longest_quote,
    words_of,
)
from clamr_cli.synth.prompts import PlannedQuery, shipped_examples
from clamr_cli.types import Modality

SOURCE = "the captain greets all passengers and explains where the life jackets are kept on the lower deck"
FERRY = PlannedQuery("1a2b3c4d5e6f", "/v/trip/VID_20230714.mp4", Modality.SPEECH, 1, text=SOURCE)


def reason(query: str, planned: PlannedQuery = FERRY) -> Reason | None:
    return QueryFilter().check(query, planned)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("captain telling where life jackets are", None),
        ("ferry safety talk from July 2023", None),
        ("", Reason.EMPTY),
        ("?!", Reason.EMPTY),
        ("word " * 31, Reason.TOO_LONG),
        ("I'm sorry, but I cannot help with that", Reason.REFUSED),
        ("As an AI I cannot watch", Reason.REFUSED),
        ("There is no text provided", Reason.REFUSED),
        ("captain in the video transcript", Reason.ABOUT_SOURCE),
        ("what the on-screen text says about jackets", Reason.ABOUT_SOURCE),
        ("captain greeting people in this video", Reason.ABOUT_SOURCE),
        ("captain shown in the frames", Reason.ABOUT_SOURCE),
        ("captain from the video's description", Reason.ABOUT_SOURCE),
        ("boxer defends the title against the frame builder", None),
        ("music video shot on the deck of a ferry", None),
        ("ferry in vid_20230714.mp4", Reason.FILE_NAME),
        ("VID_20230714 ferry", Reason.FILE_NAME),
        ("ferry 1A2B3C4D5E6F", Reason.VIDEO_ID),
        ("ferry https://example.org/x", Reason.ADDRESS),
        ("ferry from www.example", Reason.ADDRESS),
        ("ferry on ferries.com", Reason.ADDRESS),
        ("ask captain@ferry.example", Reason.ADDRESS),
        ("the captain greets all passengers and explains", None),
        ("the captain greets all passengers and explains where", Reason.QUOTE),
        ("Captain greets, all passengers: AND explains where the", Reason.QUOTE),
    ],
)
def test_reasons(query, expected):
    assert reason(query) is expected


@pytest.mark.parametrize(
    ("path", "query", "leaks"),
    [
        ("/v/bees.mp4", "bees dancing", False),
        ("/v/bees.mp4", "bees.mp4 dancing", True),
        ("/v/Night ferry to Bornholm.mkv", "night ferry to Bornholm", True),
        ("/v/Night ferry to Bornholm.mkv", "night ferry to Bornholm in a storm", False),
        ("/v/Storm [dQw4w9WgXcQ].webm", "storm dqw4w9wgxcq", True),
        ("/v/2023.mp4", "summer of 2023", False),
        ("/v/mars 2020 landing.mp4", "landing on mars in 2020", False),
    ],
)
def test_file_names_leak_where_only_a_machine_wrote_them(path, query, leaks):
    assert (reason(query, PlannedQuery("x0x0x0", path, None, 1)) is Reason.FILE_NAME) is leaks


def test_scripts_without_spaces_are_counted_by_the_character():
    assert length(words_of("船長が乗客に挨拶")) == 4.0
    job = PlannedQuery("x0x0x0", "/v/a.mp4", Modality.SPEECH, 1, text="船長が乗客に挨拶し救命胴衣の場所を説明する")
    assert reason("船長が乗客に挨拶", job) is None
    assert reason("船長が乗客に挨拶し救命胴衣の場所", job) is Reason.QUOTE


def test_repetition_is_seen_through_case_punctuation_order_and_plural():
    kept = QueryFilter()
    kept.remember("Red cars at the harbour", "other")
    for query in ("red cars at the harbour", "Red cars, at the HARBOUR!", "harbour with a red car"):
        assert kept.check(query, FERRY) is Reason.REPEATS
    assert kept.check("red cars at the airport", FERRY) is None


def test_within_a_video_the_nearly_same_is_the_same():
    kept = QueryFilter()
    kept.remember("captain explains life jackets aboard", FERRY.video_id)
    assert kept.check("captain explains life jackets aboard quickly", FERRY) is Reason.REPEATS_VIDEO
    other = PlannedQuery("y0y0y0", "/v/b.mp4", Modality.SPEECH, 1)
    assert kept.check("captain explains life jackets aboard quickly", other) is None


def test_a_copy_of_a_whole_source_is_no_query_unless_it_is_short():
    title = PlannedQuery("x0x0x0", "/v/a.mp4", None, 1, text="Night ferry to Bornholm")
    assert reason("night ferry to Bornholm", title) is Reason.COPY
    assert reason("night ferry from Sassnitz to Bornholm", title) is None
    assert reason("Night Ferry to Bornholm: explore the sea by night", title) is Reason.COPY
    assert reason("Bornholm: the ferry that sails by night", title) is None
    for text in ("uploader: Marit", "Marit"):
        uploader = PlannedQuery("x0x0x0", "/v/a.mp4", None, 1, text=text)
        assert reason("uploader: Marit", uploader) is Reason.COPY
    assert reason("how bees dance", PlannedQuery("x0x0x0", "/v/a.mp4", None, 1, text="How bees dance")) is None


def test_the_shipped_examples_are_what_the_filters_would_keep():
    for text in (query.text for queries in shipped_examples().values() for query in queries):
        assert QueryFilter().check(text, FERRY) is None, text
        assert clean_query(text) == text


def test_an_example_given_back_is_no_query():
    assert QueryFilter(["Goats on a roof"]).check("goats on a roof!", FERRY) is Reason.EXAMPLE


VOCABULARY = ("ferry", "deck", "storm", "captain", "cook", "plate", "sea", "night", "harbour", "gull", "rope")
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=20)


@given(WORDS, WORDS)
def test_the_longest_quote_is_what_brute_force_finds(query, source):
    runs = {tuple(query[start:end]) for start in range(len(query)) for end in range(start + 1, len(query) + 1)} & {
        tuple(source[start:end]) for start in range(len(source)) for end in range(start + 1, len(source) + 1)
    }
    assert longest_quote(query, source) == max(map(len, runs), default=0)


@given(WORDS, st.randoms())
def test_what_was_kept_is_refused_in_any_order(words, random):
    query = " ".join(words)
    kept = QueryFilter()
    kept.remember(query, "other")
    random.shuffle(words)
    assert (
        not words or kept.check(" ".join(words).upper(), PlannedQuery("z0z0z0", "/v/a.mp4", None, 1)) is Reason.REPEATS
    )


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_can_be_judged(query, source):
    verdict = QueryFilter().check(query, PlannedQuery("z0z0z0", "/v/\udcff.mp4", None, 1, text=source))
    assert verdict is None or verdict in Reason
    if verdict is None:
        assert content_of(query)
        assert longest_quote(words_of(query), words_of(source)) <= LONGEST_QUOTE
