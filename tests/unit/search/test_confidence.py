"""The confidence in hits: what raises it, what it is compared with, and that it is the same however it is computed."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from clamr_cli.search import explain, search
from clamr_cli.search.cascade import SLOTS, ScoringRule, slot_weights
from clamr_cli.search.confidence import FOREIGN, INFLECTED, Background, Judge, model_of
from clamr_cli.store import Store
from clamr_cli.types import FAIR_FROM, ForeignQuery, Level, Modality, SearchOptions
from tests.unit.search.test_search import put
from tests.unit.words import WordEncoder, moment

ANY = SearchOptions()
WORDS = (
    "river", "piano", "goal", "snow", "bread", "tiger", "lamp", "wheel", "violin", "forest", "train", "coffee",
    "market", "storm", "bridge",
)  # fmt: skip


@pytest.fixture
def encoder():
    return WordEncoder(similar={"hound": {"dog": 0.8}})


@pytest.fixture
def library(tmp_path, encoder):
    """Fifteen videos about a word each, said three times, and one with a dog in its title."""
    store = Store.open(tmp_path / "index", create=True)
    for number, word in enumerate(WORDS):
        put(store, encoder, f"v{number:02}", moment(f"v{number:02}", speech=[f"the {word}", f"a {word}", word]))
    put(store, encoder, "pet", moment("pet", speech=["good morning"], metadata=["My dog Rex"]))
    return store


def test_what_stands_in_the_texts_is_not_weak(library, encoder):
    (first, *others) = search(library, encoder, "dog", ANY)
    assert (first.video_id, first.level) == ("pet", Level.STRONG) or first.confidence >= FAIR_FROM
    assert not first.weak
    assert all(hit.confidence < first.confidence for hit in others)
    assert all(hit.weak for hit in others)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("capitan veneno", "El Capitán Veneno"),
        ("Crème", "la creme"),
        ("DOG", "my dog"),
        ("clean room", "largest clean rooms"),
        ("dancing", "party_dancing1"),
        ("queen", "DancingQueen"),
        ("big buck bunny", "bigbuckbunny"),
        ("会议", "这是重要的会议"),
        ("김치찌개", "김치찌개를 먹었다"),
    ],
)
def test_accents_case_and_form_make_no_difference_to_what_stands_literally(tmp_path, encoder, query, text):
    store = Store.open(tmp_path / "index", create=True)
    put(store, encoder, "a", moment("a", speech=[text]))
    put(store, encoder, "b", moment("b", speech=["something else"]))
    weak = {hit.video_id: hit.weak for hit in search(store, encoder, query, ANY)}
    assert weak == {"a": False, "b": True}


def test_another_form_of_a_word_counts_nearly_as_much():
    judge = Judge(
        "dancing horses",
        ScoringRule("token-max", slot_weights({})),
        Background(np.zeros((2, 0, SLOTS), np.float32), [], 0),
        model_of("mini"),
    )

    def literal(text: str) -> float:
        return judge.signals(1.0, [text], "a", None).literal

    assert literal("dancing horses") == 1.0
    assert literal("they danced with a horse") == pytest.approx(INFLECTED)
    assert literal("the danger of hoarse singing") == 0.0


@pytest.mark.parametrize(
    ("query", "text", "share"),
    [
        ("meeting of 16 April 2024", "16 April 2024", 0.0),
        ("meeting of 16 April 2024", "16 April 2021", 1 / 4),
        ("01:27:25", "01:31:38", 2 / 3),
        ("2024-04-16", "16 April 2024", 0.0),
        ("2 dogs", "a beach", 0.0),
    ],
)
def test_a_number_that_stands_nowhere_counts_against_a_hit(query, text, share):
    rule, model = ScoringRule("token-max", slot_weights({})), model_of("mini")
    judge = Judge(query, rule, Background(np.zeros((2, 0, SLOTS), np.float32), [], 0), model)
    signals = judge.signals(1.0, [text], "a", None)
    assert signals.numbers == pytest.approx(share)
    assert (model.confidence(signals) < model.confidence(signals._replace(numbers=0.0))) == (share > 0)


def test_in_another_language_the_readings_of_a_query_count(encoder):
    (plain,) = encoder.encode_queries(["ball tree"])
    asked = ForeignQuery(**{each.name: getattr(plain, each.name) for each in fields(plain)}, as_written=plain,
                         certain=True, translation=0, sentence=1, english=("dog", "park"))  # fmt: skip
    maxima = np.zeros((2, 3, SLOTS), np.float32)
    maxima[:, :, 1] = [[0.3, 0.9, 0.1], [0.5, 0.2, 0.4]]
    rule, background = ScoringRule("token-max", slot_weights({})), Background(maxima, ["a", "b", "b"], 3)
    best = np.array([0.3, 0.5], np.float32)
    judge = Judge("ball tree", rule, background, model_of("mini", FOREIGN), asked)
    signals = judge.signals(0.8, ("A dog.",), "a", Modality.VIDEO, best)
    assert signals.english == pytest.approx(3 / 7)
    assert signals.translation == pytest.approx(0.3)
    assert signals.translation_lead == pytest.approx(-0.6)
    assert signals.sentence_lead == pytest.approx(0.1)
    assert signals.words == pytest.approx(0.4)
    strong = judge.confidence(0.8, (), "a", Modality.VIDEO, np.array([1.0, 0.9], np.float32))
    assert judge.confidence(0.8, (), "a", Modality.VIDEO, best) < strong
    assert judge.confidence(0.8, (), "a", Modality.VIDEO, best, most=0.01) == 0.01
    assert judge.confidence(0.8, ("Ball", "trees"), "a", Modality.VIDEO, best, most=0.01) >= FAIR_FROM
    unknown = Judge("ball tree", rule, background, model_of("mini", FOREIGN), replace(asked, understood=False))
    assert unknown.confidence(0.8, (), "a", Modality.VIDEO, np.array([1.0, 0.9], np.float32)) < FAIR_FROM < strong
    assert unknown.confidence(0.8, ("A ball.",), "a", None, best) == judge.confidence(
        0.8, ("A ball.",), "a", None, best
    )
    plainly = Judge("ball tree", rule, background, model_of("mini"), plain).signals(0.8, (), "a", None, best)
    assert (plainly.translation, plainly.sentence_lead) == (0.0, 0.0)


def test_what_stands_nowhere_is_weak(library, encoder):
    hits = search(library, encoder, "zebra crossing", ANY)
    assert all(hit.weak and hit.confidence < FAIR_FROM for hit in hits)


@pytest.mark.parametrize(("query", "left_out"), [("hound", {"pet"}), ("zebra", set())])
def test_a_negation_leaves_out_what_a_search_for_it_does_not_call_weak(library, encoder, query, left_out):
    everything = SearchOptions(limit=50)
    assert {hit.video_id for hit in search(library, encoder, query, everything) if not hit.weak} == left_out
    hits = search(library, encoder, "morning", SearchOptions(limit=50, without=(query,)))
    assert {hit.video_id for hit in search(library, encoder, "morning", everything)} == left_out | {
        hit.video_id for hit in hits
    }
    assert len(hits) == len(WORDS) + 1 - len(left_out)


def test_a_confidence_is_a_share(library, encoder):
    for query in ("dog", "a dog in the snow", "the", "zebra", "river river river"):
        for options in (ANY, SearchOptions(scoring="modality-max"), SearchOptions(weights={Modality.SPEECH: 3.0})):
            assert all(0.0 <= hit.confidence <= 1.0 for hit in search(library, encoder, query, options))


def test_a_partial_answer_lies_between_a_whole_one_and_none(library, encoder):
    whole = search(library, encoder, "my dog rex", ANY)[0]
    part = search(library, encoder, "my dog zebra", ANY)[0]
    none = search(library, encoder, "your zebra giraffe", ANY)[0]
    assert whole.confidence > part.confidence > none.confidence


def test_a_floor_replaces_the_confidence(library, encoder):
    levels = [search(library, encoder, "zebra", SearchOptions(floor=floor))[0].level for floor in (0.0, 5.0)]
    assert levels == [Level.FAIR, Level.WEAK]
    assert search(library, encoder, "dog", SearchOptions(floor=5.0))[0].weak


def test_what_may_not_answer_does_not_raise_it(library, encoder):
    assert not search(library, encoder, "rex", SearchOptions(modalities=(Modality.METADATA,)))[0].weak
    assert search(library, encoder, "rex", SearchOptions(modalities=(Modality.SPEECH,)))[0].weak


def test_weights_alone_do_not_change_it(library, encoder):
    plain, doubled = (
        search(library, encoder, "snow dog", SearchOptions(weights=dict.fromkeys(Modality, weight)))[0].confidence
        for weight in (1.0, 2.0)
    )
    assert doubled == pytest.approx(plain, abs=1e-4)


def test_it_does_not_depend_on_the_scan_cache_the_limit_or_the_filters(library, encoder):
    before = search(library, encoder, "snow dog", ANY)
    library.pack_vectors(encoder.info.fingerprint)
    packed = Store.open(library.uri)
    for hits in (search(packed, encoder, "snow dog", ANY), search(packed, encoder, "snow dog", SearchOptions(limit=1))):
        for hit, wanted in zip(hits, before, strict=False):
            assert (hit.video_id, hit.confidence) == (wanted.video_id, pytest.approx(wanted.confidence, abs=1e-5))


def test_an_explanation_has_the_same(library, encoder):
    hit = search(library, encoder, "snow dog", ANY)[0]
    assert explain(library, encoder, hit.video_id, "snow dog", ANY).hit.confidence == hit.confidence


@pytest.mark.parametrize("count", [1, 2])
def test_a_library_of_one_or_two_videos_has_answers_and_none(tmp_path, encoder, count):
    store = Store.open(tmp_path / "small", create=True)
    put(store, encoder, "pet", moment("pet", speech=["good morning"], metadata=["My dog Rex"]))
    if count == 2:
        put(store, encoder, "snow", moment("snow", speech=["so much snow"]))
    assert not search(store, encoder, "rex the dog", ANY)[0].weak
    assert search(store, encoder, "violin concert", ANY)[0].weak


def test_a_single_word_finds_what_has_it_before_what_resembles_it(tmp_path, encoder):
    store = Store.open(tmp_path / "hounds", create=True)
    # Two frames that show the nearest thing, and a name that stands only in a long description.
    put(store, encoder, "a", moment("a", frames=1), frames=["hound"])
    put(store, encoder, "b", moment("b", speech=["Hound", "other words"]))
    encoder.similar["hound"] = {"dog": 0.0}
    hits = search(store, encoder, "the hound", ANY)
    assert [hit.video_id for hit in hits] == ["b", "a"]
    assert [hit.video_id for hit in search(store, encoder, "hound", SearchOptions(modalities=(Modality.VIDEO,)))] == [
        "a"
    ]
    explained = explain(store, encoder, "a", "the hound", ANY)
    assert explained.hit.rank == 2
