"""Misspelt words of a query: what is corrected, and what is left as it is."""

from __future__ import annotations

import pytest

from clamr_cli.search import correct
from clamr_cli.search.spelling import closest, is_in_dictionary
from clamr_cli.store import Store
from tests.unit.search.test_search import put
from tests.unit.words import WordEncoder, moment


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store, encoder = Store.open(tmp_path_factory.mktemp("index") / "index", create=True), WordEncoder()
    speech = ["The telescope of Goddard", "a red car", "historia del Capitán Veneno", "hummingbird and hummingbirds"]
    put(store, encoder, "v1", moment("v1", speech=speech, metadata=["William Shakespeare", "addjacdac.webm"]))
    put(store, encoder, "v2", moment("v2", ocr=["telescope", "teleskope"], metadata=["Thunberg"]))
    return store


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("telescop", "telescope"),
        ("a TELESCPOE at night", "a telescope at night"),
        ("william shakespere", "william shakespeare"),
        ("hummingbrd", "hummingbird"),
        ("Tunberg", "thunberg"),
        ("adjacdac", "addjacdac"),
        ("capitan veneno", "capitán veneno"),
    ],
)
def test_a_misspelt_word_is_corrected(store, query, wanted):
    assert correct(store, query)[0] == wanted


@pytest.mark.parametrize(
    "query",
    [
        "cat", "cart", "scar", "telescopes", "the telescope", "teleskope", "xyzzyplugh", "v2 g0ddard", "telescop3",
        "", '"telescop"', "hund und chien", "?!", "tel", "日本語", "Goddards' telescope",
    ],
)  # fmt: skip
def test_other_words_stay(store, query):
    assert correct(store, query) == (query, {})


def test_corrections_are_named_as_they_were_written(store):
    assert correct(store, "Telescop, telescop!")[1] == {"Telescop": "telescope", "telescop": "telescope"}


def test_new_texts_count_at_once(tmp_path):
    store, encoder = Store.open(tmp_path / "index", create=True), WordEncoder()
    put(store, encoder, "v1", moment("v1", speech=["Kubernetes"]))
    assert correct(store, "kubernetis")[0] == "kubernetes"
    put(store, encoder, "v2", moment("v2", speech=["kubernetis"]))
    assert correct(store, "kubernetis")[0] == "kubernetis"


def test_the_closest_word_is_meant_then_the_most_frequent():
    assert closest("plumera", {"plumeria": 1, "plume": 9, "plumes": 9}) == "plumeria"
    assert closest("blosom", {"blossom": 2, "bloson": 1}) == "blossom"
    assert closest("lamp", {"camp": 5, "lamb": 1}) == "lamb"
    assert closest("lamp", {}) is None


def test_dictionaries_hold_words_and_no_misspelt_ones():
    assert [is_in_dictionary(word, "en") for word in ("telescope", "telescop", "teh")] == [True, False, False]
    assert is_in_dictionary("données", "fr")
    assert is_in_dictionary("hund", "de")


def test_the_vocabulary_is_noted_beside_the_tables_and_made_anew_when_texts_change(tmp_path):
    encoder, index = WordEncoder(), tmp_path / "index"
    put(Store.open(index, create=True), encoder, "a", moment("a", speech=["a red car"]))
    assert Store.open(index).vocabulary()["red"] == 1
    note = index / "vocabulary.json"
    content = note.read_bytes()
    note.write_bytes(content.replace(b'"red": 1', b'"red": 7'))
    assert Store.open(index).vocabulary()["red"] == 7
    note.write_bytes(content[:20])
    assert Store.open(index).vocabulary()["red"] == 1
    assert note.read_bytes() == content
    put(Store.open(index), encoder, "b", moment("b", speech=["red"]))
    assert Store.open(index).vocabulary()["red"] == 2
