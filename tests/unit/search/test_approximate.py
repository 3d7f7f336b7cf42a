"""Libraries of more vectors than a search may compare with: candidates from an index, marked, and exact when asked."""

from __future__ import annotations

import numpy as np
import pytest

from clamr_cli.search import search
from clamr_cli.search.cascade import Candidates
from clamr_cli.store import Store
from clamr_cli.types import EncoderInfo, Filters, SearchOptions
from tests.unit.store.samples import moment, new, random_vectors, token_vectors, video

INFO = EncoderInfo("random", "r" * 16)
pytestmark = pytest.mark.slow


class RandomEncoder:
    """A query is the first vectors of the moment that it names, so that its answer is known."""

    info = INFO

    def __init__(self, store):
        self._store = store

    def encode_queries(self, queries):
        found = []
        for query in queries:
            wanted = query.split()[0]
            rows = dict(self._store.scan_vectors(INFO.fingerprint, [wanted]))[wanted].vectors[:4]
            found.append(token_vectors(rows.astype(np.float32), [None] * 4))
        return found


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    store = new(tmp_path_factory.mktemp("library"))
    with store.writer("test"):
        made = {}
        for number in range(300):
            parts = [moment(f"v{number:03}", speech=f"the {'harbour' if number == 7 else 'street'} at night")]
            store.put_video(video(f"v{number:03}", language="en" if number % 2 else "de"), parts)
            made[parts[0].moment_id] = random_vectors(number, 10)
        store.put_vectors(INFO, made)
        store.finish()
    store.pack_vectors(INFO.fingerprint)
    return store


@pytest.fixture
def indexed(library):
    with library.writer("test"):
        library.index_vectors()
    return library


SMALL = SearchOptions(scan_limit=100)


def test_without_an_index_everything_is_compared(library):
    hits = search(library, RandomEncoder(library), "v005#0", SMALL)
    assert hits[0].video_id == "v005"
    assert not any(hit.approximate for hit in hits)


def test_candidates_are_scored_exactly_and_marked(indexed):
    encoder = RandomEncoder(indexed)
    hits = search(indexed, encoder, "v005#0", SMALL)
    exact = {hit.video_id: hit for hit in search(indexed, encoder, "v005#0", SearchOptions(limit=300))}
    assert hits[0].video_id == "v005"
    assert all(hit.approximate for hit in hits)
    assert not any(hit.approximate for hit in exact.values())
    for hit in hits:
        assert hit.score == pytest.approx(exact[hit.video_id].score, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(scan_limit=100, exact=True),
        SearchOptions(),
        SearchOptions(scan_limit=100, filters=Filters(videos=("v005", "v006"))),
    ],
)
def test_what_can_be_compared_with_is(indexed, options):
    hits = search(indexed, RandomEncoder(indexed), "v005#0", options)
    assert hits[0].video_id == "v005"
    assert not any(hit.approximate for hit in hits)


def test_filters_hold_for_candidates_too(indexed):
    some = SearchOptions(scan_limit=100, filters=Filters(language="de"))
    hits = search(indexed, RandomEncoder(indexed), "v005#0", some)
    assert hits
    assert all(int(hit.video_id[1:]) % 2 == 0 for hit in hits)


def test_hybrid_adds_what_the_texts_say(indexed, monkeypatch):
    monkeypatch.setattr(Store, "nearest", lambda *_: ["v100#0"])
    encoder, query = RandomEncoder(indexed), "v100#0 harbour"
    plain = search(indexed, encoder, query, SMALL)
    both = search(indexed, encoder, query, SearchOptions(scan_limit=100, hybrid=True))
    assert {hit.video_id for hit in plain} == {"v100"}
    assert {hit.video_id for hit in both} == {"v100", "v007"}


def test_the_index_finds_most_of_what_is_best(indexed):
    rng = np.random.default_rng(1)
    encoder, found = RandomEncoder(indexed), []
    for number in rng.integers(0, 300, 20).tolist():
        hits = search(indexed, encoder, f"v{number:03}#0", SMALL)
        exact = search(indexed, encoder, f"v{number:03}#0", SearchOptions())
        found.append(len({hit.video_id for hit in hits} & {hit.video_id for hit in exact}) / 10)
    assert np.mean(found) > 0.8


def test_rows_that_came_after_the_index_are_found(indexed):
    with indexed.writer("test"):
        indexed.put_video(video("w1"), [moment("w1")])
        indexed.put_vectors(INFO, {"w1#0": random_vectors(999, 10)})
    try:
        assert search(indexed, RandomEncoder(indexed), "w1#0", SMALL)[0].video_id == "w1"
    finally:
        with indexed.writer("test"):
            indexed.remove_videos(["w1"])


def test_how_many_vectors_may_answer(indexed):
    videos = [f"v{number:03}" for number in range(300)]
    assert Candidates(indexed.snapshot(INFO.fingerprint), videos).vectors == 3000
    assert Candidates(indexed.snapshot(INFO.fingerprint), videos[:7]).vectors == 70
