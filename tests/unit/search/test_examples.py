"""Moments and pictures as queries: what is compared with what, what is left out, and the evidence."""

from __future__ import annotations

import numpy as np
import pytest

from clamr_cli.errors import UsageError
from clamr_cli.search import explain, search, similar, stored_example
from clamr_cli.search.examples import MOST_VECTORS, bounded, representatives
from clamr_cli.store import Store
from clamr_cli.types import Modality, SearchOptions, Span
from tests.unit.search.test_search import put
from tests.unit.words import WordEncoder, arrays, moment

ANY = SearchOptions()


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def store(tmp_path, encoder):
    store = Store.open(tmp_path / "index", create=True)
    put(
        store, encoder, "dogs", moment("dogs", 0, frames=2, speech=["a dog barks"], metadata=["cat"]),
        moment("dogs", 1, start=60.0, speech=["quiet dog barks"]), moment("dogs", 2, start=120.0, speech=["dog barks"]),
        frames=["tree", "dog"], duration=180.0,
    )  # fmt: skip
    put(store, encoder, "shown", moment("shown", 0, frames=1), frames=["dog"])
    put(store, encoder, "written", moment("written", 0, ocr=["the dog barks"]))
    put(store, encoder, "noted", moment("noted", 0, metadata=["dog barks"]))
    put(store, encoder, "cats", moment("cats", 0, frames=1, speech=["meow"]), frames=["cat"])
    return store


def found(hits):
    return [hit.moment_id for hit in hits if hit.score > 0]


def test_a_moment_finds_what_is_like_it_frames_by_frames_and_text_by_text(store, encoder):
    hits = similar(store, encoder, "dogs", Span(5.0, 5.0), ANY)
    # Shares are equal: a frame that answers one of two, and lines that answer both words.
    assert found(hits) == ["dogs#2", "noted#0", "written#0", "shown#0"]
    lines = {hit.video_id: [(part.query_token, part.text, part.modality) for part in hit.evidence] for hit in hits}
    assert lines["shown"] == [
        ("frame at 0:05", "frame at 0:05", Modality.VIDEO), ("frame at 0:15", "frame at 0:05", Modality.VIDEO)
    ]  # fmt: skip
    assert [token for token, _, _ in lines["written"]] == ["a dog barks"]
    assert hits[3].lines[0].words == ("like frame at 0:15",)


def test_the_moment_and_its_neighbours_are_left_out_unless_asked_for(store, encoder):
    every = SearchOptions(moments=True, limit=20)
    assert {"dogs#0", "dogs#1"}.isdisjoint(found(similar(store, encoder, "dogs", Span(5.0, 5.0), every)))
    assert found(similar(store, encoder, "dogs", Span(5.0, 5.0), every, itself=True))[0] == "dogs#0"
    assert not any(name.startswith("dogs") for name in found(similar(store, encoder, "dogs", None, every)))


def test_stretches_and_modalities_limit_what_is_compared(store, encoder):
    example = stored_example(store, encoder.info, "dogs", Span(11.0, 19.0))
    assert [word.text for word in example.words] == ["frame at 0:15"]
    example = stored_example(store, encoder.info, "dogs", Span(5.0, 5.0), [Modality.METADATA])
    assert [word.text for word in example.words] == ["cat"]
    hits = similar(store, encoder, "dogs", Span(5.0, 5.0), SearchOptions(modalities=(Modality.VIDEO,)))
    assert found(hits) == ["shown#0"]


def test_words_may_come_with_an_example(store, encoder):
    example = stored_example(store, encoder.info, "shown", None)
    assert found(search(store, encoder, "", ANY, example=example))[0] == "dogs#0"
    hits = search(store, encoder, "meow", ANY, example=example)
    assert found(hits)[:2] == ["cats#0", "dogs#0"]
    assert [part.query_token for part in hits[0].evidence] == ["frame at 0:05", "meow"]
    assert found(search(store, encoder, "", SearchOptions(also=("barks",)), example=example)) == ["dogs#0"]
    assert found(search(store, encoder, "", SearchOptions(without=("barks",)), example=example)) == []


def test_a_rank_by_an_example_is_explained(store, encoder):
    example = stored_example(store, encoder.info, "shown", None)
    why = explain(store, encoder, "dogs", "", ANY, example)
    assert (why.hit.rank, why.words[0].query_token, why.words[0].best.text) == (1, "frame at 0:05", "frame at 0:15")
    assert dict(why.shares) == {Modality.VIDEO: pytest.approx(1.0)}
    with pytest.raises(UsageError, match="the example of the search leaves out"):
        explain(store, encoder, "shown", "", ANY, example)


@pytest.mark.parametrize(
    ("span", "modalities", "message"),
    [(Span(500.0, 500.0), (), "after the end"), (Span(60.0, 70.0), (Modality.OCR,), "can be compared")],
)
def test_what_cannot_be_compared_is_said(store, encoder, span, modalities, message):
    with pytest.raises(UsageError, match=message):
        similar(store, encoder, "dogs", span, SearchOptions(modalities=modalities))


def test_representatives_stand_for_all():
    near = np.eye(128, dtype=np.float32)[[0, 0, 1, 0, 2, 1]]
    assert representatives(near, 10).tolist() == [0, 2, 4]
    assert representatives(near, 1).tolist() == [0]


def test_modalities_have_equal_shares_of_a_bounded_number():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3000, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    example = bounded(arrays(rows, [1] * 2900 + [3] * 96 + [2] * 4), [str(n // 10) for n in range(3000)])
    counts = np.bincount(example.tokens.modality_ids)
    assert (len(example.tokens), counts[2], counts[3], counts[1]) == (MOST_VECTORS, 4, 14, 14)
    assert sorted(row for word in example.words for row in word.rows) == list(range(MOST_VECTORS))
