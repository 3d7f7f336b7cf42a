"""Quoted phrases leave out moments that do not have them, and change no score."""

from __future__ import annotations

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.search import explain, search
from clamr_cli.search.search import holds, split_phrases
from clamr_cli.types import SearchOptions
from tests.unit.search.test_search import ids, put
from tests.unit.store.samples import HOSTILE, new
from tests.unit.words import WordEncoder, moment


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def store(tmp_path, encoder):
    made = new(tmp_path)
    put(made, encoder, "said", moment("said", speech=["we want Climate", "Justice now"]))
    put(made, encoder, "shown", moment("shown", ocr=["CLIMATE \t JUSTICE", "rally"]))
    put(made, encoder, "apart", moment("apart", speech=["justice for the climate"], ocr=["climate rally"]))
    put(made, encoder, "across", moment("across", speech=["the climate"], ocr=["justice"]))
    two = moment("two", 0, speech=["rally rally"]), moment("two", 1, metadata=["climate justice"], start=60.0)
    put(made, encoder, "two", *two)
    return made


@pytest.mark.parametrize(
    ("query", "text", "phrases"),
    [
        ("plain words", "plain words", ()),
        ('"climate justice" rally', "climate justice rally", ("climate justice",)),
        ('rally "Climate  JUSTICE"', "rally Climate  JUSTICE", ("climate justice",)),
        ("“a b” “c”", "a b c", ("a b", "c")),
        ('"a" "a"', "a a", ("a",)),
        ('an open " mark', 'an open " mark', ()),
        ('"" x', "x", ()),
        ('"  "', "", ()),
        ('5" screws', '5" screws', ()),
        ('"STRASSE"', "STRASSE", ("strasse",)),
        ("„Straße“ «mot juste»", "Straße mot juste", ("strasse", "mot juste")),
        ("a ＂b＂", "a b", ("b",)),
        ("”mitt hus” »mein Haus«", "mitt hus mein Haus", ("mitt hus", "mein haus")),
        ('5" screws “a b”', '5" screws a b', ("a b",)),
        ("it's 5'", "it's 5'", ()),
    ],
)
def test_a_query_is_split_into_text_and_phrases(query, text, phrases):
    assert split_phrases(query) == (text, phrases)


def test_moments_without_the_phrase_are_left_out(store, encoder):
    everything = SearchOptions(moments=True)
    assert len(search(store, encoder, "climate justice rally", everything)) == 6
    hits = search(store, encoder, '"climate justice" rally', everything)
    assert {hit.moment_id for hit in hits} == {"said#0", "shown#0", "two#1"}
    plain = {hit.moment_id: hit for hit in search(store, encoder, "climate justice rally", everything)}
    for hit in hits:
        same = plain[hit.moment_id]
        assert (hit.score, hit.evidence, hit.modalities) == (same.score, same.evidence, same.modalities)


def test_every_phrase_must_be_there_each_in_any_modality(store, encoder):
    found = set(ids(search(store, encoder, '"climate" "justice"', SearchOptions())))
    assert found == {"said", "shown", "apart", "across", "two"}
    assert ids(search(store, encoder, '"climate justice" "rally"', SearchOptions())) == ["shown"]
    assert search(store, encoder, '"no such words"', SearchOptions()) == []


def test_packed_and_stored_vectors_answer_alike(store, encoder):
    before = search(store, encoder, '"climate justice" rally', SearchOptions(moments=True))
    store.pack_vectors(encoder.info.fingerprint)
    assert search(store, encoder, '"climate justice" rally', SearchOptions(moments=True)) == before


def test_explain_keeps_to_the_phrases_of_the_search(store, encoder):
    told = explain(store, encoder, "two", '"climate justice" rally', SearchOptions())
    assert (told.hit.moment_id, told.total) == ("two#1", 3)
    with pytest.raises(UsageError, match="has the words in quotation marks"):
        explain(store, encoder, "apart", '"climate justice" rally', SearchOptions())


def test_a_query_of_nothing_but_marks_is_empty(store, encoder):
    with pytest.raises(UsageError, match="empty"):
        search(store, encoder, '""', SearchOptions())


@pytest.mark.parametrize("text", [one for one in HOSTILE if '"' not in one])
def test_hostile_texts_are_phrases_like_any_other(tmp_path, encoder, text):
    store = new(tmp_path)
    put(store, encoder, "v1", moment("v1", speech=[f"dog {text}"]))
    put(store, encoder, "v2", moment("v2", speech=["dog"]))
    assert ids(search(store, encoder, f'dog "{text}"', SearchOptions())) == ["v1"]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("We’ve seen it – twice…", '"we\'ve seen it - twice..."'),
        ("Le cafe\u0301 d\u2019en face", '"café d\'en face"'),
        ("ﬁrst aid", '"first aid"'),
        ("co\u00adoperate now", '"cooperate NOW"'),
    ],
)
def test_phrases_are_compared_as_people_read_them(tmp_path, encoder, text, phrase):
    store = new(tmp_path)
    put(store, encoder, "v1", moment("v1", speech=[text]))
    put(store, encoder, "v2", moment("v2", speech=["something else"]))
    assert ids(search(store, encoder, phrase, SearchOptions())) == ["v1"]


def test_a_phrase_is_found_across_the_lines_of_one_modality_only():
    lines = moment("v1", speech=["one two", "three"], ocr=["four"])
    assert holds(lines, ["two three"])
    assert not holds(lines, ["three four"])
