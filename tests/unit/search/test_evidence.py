"""Evidence names the word, the line, the time and the modality that really won."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clamr_cli.search import cascade as maxsim
from clamr_cli.search.search import Match, cut_around, query_words
from clamr_cli.types import MODALITY_IDS, Modality, Segment, Span
from tests.unit.words import TEMPLATE_AXIS, WordEncoder, arrays, moment

ENCODER = WordEncoder(similar={"hound": {"dog": 0.8}})


def matched(query, parts, frames=(), *, weights=None, allowed=None, encoder=ENCODER):
    slots = maxsim.slot_weights(weights or {}, allowed)
    return Match(query, encoder.encode_queries([query])[0], parts, encoder.encode(parts, frames), slots)


def tokens(offsets):
    return arrays(np.eye(128)[: len(offsets)], [0] * len(offsets), offsets=offsets)


@pytest.mark.parametrize(
    ("query", "offsets", "words"),
    [
        ("big dogs", [(0, 3), (4, 7), (7, 8)], [("big", (0,)), ("dogs", (1, 2))]),
        ("big dogs", [(0, 3), (3, 8)], [("big", (0,)), ("dogs", (1,))]),
        ("dog dog", [(0, 3), (4, 7)], [("dog", (0,)), ("dog", (1,))]),
        ("hi there!", [(0, 0), (0, 2), (3, 8), (8, 9), (0, 0)], [("hi", (1,)), ("there", (2,)), ("hi there!", (0, 4))]),
        ("rock & roll", [(0, 4), (5, 6), (7, 11)], [("rock", (0,)), ("&", (1,)), ("roll", (2,))]),
        ("dog", [(0, 3), (0, 3), (0, 3)], [("dog", (0, 1, 2))]),
        ("東京 tower", [(0, 1), (1, 2), (3, 8)], [("東", (0,)), ("京", (1,)), ("tower", (2,))]),
        (" dog ", [(0, 4), (9, 12)], [("dog", (0,)), ("dog", (1,))]),
        ("l'été (1999)", [(0, 1), (1, 2), (2, 5), (6, 7), (7, 11), (11, 12)], [("l'été", (0, 2)), ("1999", (4,))]),
    ],
)
def test_vectors_of_a_query_are_put_together_to_words(query, offsets, words):
    assert [(word.text, word.rows) for word in query_words(query, tokens(offsets))] == words


@pytest.mark.parametrize(
    ("text", "start", "end", "found"),
    [
        ("a protesting crowd", 2, 6, ("protesting", "a protesting crowd")),
        ("a protesting crowd", 6, 9, ("protesting", "a protesting crowd")),
        ("one\ntwo words\nthree", 8, 10, ("words", "two words")),
        ("one\ntwo words\nthree", 3, 7, ("two", "two words")),
        ("one two", 0, 0, ("one two", "one two")),
        ("a, b", 1, 2, (",", "a, b")),
        ("東京タワー", 0, 2, ("東京", "東京タワー")),
        ("short", 90, 99, ("short", "short")),
        ("", 0, 5, ("", "")),
        ("don't", 0, 3, ("don", "don't")),
    ],
)
def test_matched_words_are_cut_out_with_their_line(text, start, end, found):
    assert cut_around(text, start, end) == found


def test_each_word_shows_what_won_it():
    parts = moment(frames=2, speech=["hello", "the Dog barks"], ocr=["lost dog"], metadata=["Lagos\nprotest march"])
    found = matched("Dog, hound protest cat", parts, ["tree", "cat"])
    dog, hound, protest, cat = found.evidence()
    assert (dog.query_token, dog.modality, dog.text, dog.context) == ("Dog", Modality.OCR, "dog", "lost dog")
    assert dog.similarity == pytest.approx(1.0)
    assert (hound.query_token, hound.text) == ("hound", "dog")
    assert hound.similarity == pytest.approx(0.8, abs=1e-3)
    assert (protest.modality, protest.text, protest.context) == (Modality.METADATA, "protest", "protest march")
    assert protest.span == Span(0.0, 60.0)
    assert (cat.modality, cat.text, cat.span) == (Modality.VIDEO, "frame at 0:15", Span(10.0, 20.0))


def test_each_modality_shows_its_own_best():
    parts = moment(frames=1, speech=["a dog"], ocr=["lost dog"])
    (word,) = matched("dog", parts, ["dog"]).word_evidence()
    assert word.best.modality is Modality.VIDEO
    assert {m: e.text for m, e in word.by_modality.items()} == {
        Modality.VIDEO: "frame at 0:05", Modality.OCR: "dog", Modality.SPEECH: "dog",
    }  # fmt: skip


def test_weights_and_limits_decide_who_may_win():
    parts = moment(frames=1, speech=["a dog"], ocr=["lost dog"])
    (word,) = matched("dog", parts, ["dog"], weights={Modality.SPEECH: 1.5, Modality.OCR: 0.0}).evidence()
    assert word.modality is Modality.SPEECH
    assert word.similarity == pytest.approx(1.0)
    found = matched("dog", parts, ["dog"], allowed=frozenset({Modality.OCR}))
    assert [e.modality for e in found.evidence()] == [Modality.OCR]
    assert list(found.scores) == [Modality.OCR]
    nothing = matched("dog", parts, ["dog"], allowed=frozenset({Modality.METADATA}))
    assert nothing.evidence() == ()
    assert nothing.word_evidence()[0].best is None
    assert nothing.winner is None


def test_template_tokens_win_without_pretending_to_be_a_modality():
    axis = np.eye(128)[TEMPLATE_AXIS]
    query = arrays([axis], [0])
    found = Match("dog", query, moment(), arrays([axis], [0]), maxsim.slot_weights({}))
    (whole,) = found.evidence()
    assert (whole.query_token, whole.modality, whole.text, whole.span) == ("dog", None, "", Span(0.0, 60.0))
    assert found.shares("token-max") == {}
    assert found.scores == {}


@pytest.mark.parametrize(("modality", "time"), [(Modality.SPEECH, 110.0), (Modality.VIDEO, 120.0), (None, 100.0)])
def test_the_time_is_where_the_winning_modality_is_strongest(modality, time):
    speech = ["a dog", "a dog and a cat", "a cat"]
    parts = moment(frames=3, speech=speech, start=100.0) if modality else moment(start=100.0)
    found = matched("dog cat", parts, ["tree", "dog", "dog cat"] if modality else (), allowed=frozenset({modality}))
    assert (found.winner, found.strongest_time()) == (modality, time)


def test_where_a_title_wins_the_time_is_that_of_the_best_evidence_that_has_one():
    titled = moment(speech=["x", "the agents"], ocr=["a hound"], metadata=["Agents film"], start=100.0)
    assert matched("agents film", titled).strongest_time() == 110.0
    only_words = matched("agents film", titled, allowed=frozenset({Modality.METADATA}))
    assert only_words.strongest_time() == 100.0


def test_evidence_below_the_floor_names_no_time_where_a_title_answers_every_word():
    titled = moment(speech=["x", "a dog"], metadata=["hound"], start=100.0)
    encoder = WordEncoder(similar={"dog": {"hound": 0.3}})
    found = matched("hound", titled, encoder=encoder)
    assert found.strongest_time({Modality.SPEECH: 0.4}) == 100.0
    assert found.strongest_time({Modality.SPEECH: 0.2}) == 110.0


def test_a_chapter_that_wins_has_a_time_of_its_own():
    whole = moment(speech=["x", "y", "agents"], metadata=["film"], start=100.0)
    chapter = Segment(Span(120.0, 130.0), "all agents", "chapter")
    found = matched("all agents", replace(whole, metadata=(*whole.metadata, chapter)))
    assert found.strongest_time() == 120.0


def test_the_time_stays_inside_the_moment():
    late = moment(speech=["x", "y", "dog"], length=15.0)
    assert matched("dog", late).strongest_time() == 15.0


def test_shares_add_up_and_follow_the_weights():
    parts = moment(frames=1, speech=["dog"], ocr=["cat bird"])
    found = matched("dog cat bird", parts, ["tree"])
    assert found.shares("token-max") == pytest.approx({Modality.OCR: 2 / 3, Modality.SPEECH: 1 / 3})
    heavy = matched("dog cat bird", parts, ["tree"], weights={Modality.SPEECH: 4.0})
    assert heavy.shares("token-max") == pytest.approx({Modality.SPEECH: 2 / 3, Modality.OCR: 1 / 3})
    assert found.shares("modality-max") == {Modality.OCR: 1.0}


def test_vectors_that_fit_no_segment_are_shown_without_text():
    """The vectors of another version of the moment must not break the answer."""
    document = arrays([ENCODER.vector("dog")], [MODALITY_IDS[Modality.SPEECH]], [(3, 4)], [7], [(0, 3)])
    query = ENCODER.encode_queries(["dog"])[0]
    found = Match("dog", query, moment(), document, maxsim.slot_weights({}))
    (word,) = found.evidence()
    assert (word.modality, word.text, word.context, word.span) == (Modality.SPEECH, "", "", Span(3.0, 4.0))
    assert found.strongest_time() == 3.0
