"""The cascade ranks as scoring every stored vector does: any shape of library, any way of scoring, any kernel."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamr_cli import kernel
from clamr_cli.search import cascade as maxsim
from clamr_cli.search import explain, search
from clamr_cli.search.cascade import (
    TIE,
    Candidates,
    Cascade,
    ScoringRule,
    VideoRank,
    first_of_each_video,
    kernel_scan,
    ranked,
    video_of,
)
from clamr_cli.store import CorruptCache, Store, scan_cache
from clamr_cli.types import DIMENSION, MODALITY_IDS, Filters, Modality, SearchOptions
from tests.unit.search.test_search import put
from tests.unit.store.samples import ENCODER, moment, new, token_vectors, video
from tests.unit.words import WordEncoder
from tests.unit.words import moment as texts

FINGERPRINT = ENCODER.fingerprint
MODALITIES = [*Modality, None]
SCORINGS = ("token-max", "modality-max")


def fill(store, rng, sizes, *, shift=0.0, grouped=False, first=0):
    """Videos of one to three moments with so many vectors; ``shift`` pushes all of them to one side."""
    with store.writer("test"):
        made = {}
        number = first
        while sizes:
            count = int(rng.integers(1, 4))
            moments = [moment(f"v{number:04}", n) for n in range(min(count, len(sizes)))]
            store.put_video(video(f"v{number:04}"), moments)
            for one in moments:
                size = sizes.pop()
                rows = rng.standard_normal((size, DIMENSION)) + shift
                kinds = [MODALITIES[k] for k in rng.integers(0, len(MODALITIES), size)]
                made[one.moment_id] = token_vectors(rows, sorted(kinds, key=str) if grouped else kinds)
            number += 1
        store.put_vectors(ENCODER, made)


def random_query(rng, tokens, shift=0.0):
    return token_vectors(rng.standard_normal((tokens, DIMENSION)) + shift, [None] * tokens).vectors


def rules(rng):
    """Some ways of scoring: plain, weighted, some modalities only, one modality left out."""
    odd = {modality: float(weight) for modality, weight in zip(Modality, rng.uniform(0, 3, 5), strict=True)}
    weights = [
        maxsim.slot_weights({}),
        maxsim.slot_weights(odd),
        maxsim.slot_weights({}, frozenset([Modality.SPEECH, Modality.OCR])),
        maxsim.slot_weights({Modality.VIDEO: 0.0}),
    ]
    return [ScoringRule(scoring, weight) for scoring in SCORINGS for weight in weights]


def assert_same(found, wanted):
    """The same ranking; scores that are ties up to rounding may stand either way."""
    assert len(found) == len(wanted)
    np.testing.assert_allclose([score for _, score in found], [score for _, score in wanted], atol=2 * TIE)
    scores = dict(wanted)
    for (one, _), (other, score) in zip(found, wanted, strict=True):
        assert one == other or abs(scores.get(one, score) - score) <= 2 * TIE


def brute(store, query, rules, videos=None):
    """The moments of the given videos and their scores [m, rules], by scoring every stored vector."""
    names, values = [], [np.zeros((0, len(rules)), np.float32)]
    for batch in store.scan_packed(FINGERPRINT):
        maxima = maxsim.score_packed(query, batch.vectors, batch.modality_ids, batch.indptr)
        keep = [n for n, name in enumerate(batch.moment_ids) if videos is None or video_of(name) in videos]
        names += [batch.moment_ids[n] for n in keep]
        values.append(np.stack([rule.scores(maxima[:, keep]) for rule in rules], axis=1))
    return names, np.concatenate(values)


def brute_ranking(names, scores, rule, first=()):
    """The moments of ``first`` by their scores, then all others, where texts count."""
    if not rule.counts_texts:
        first = ()
    ranking = list(ranked(names, scores))
    return [pair for pair in ranking if pair[0] in first] + [pair for pair in ranking if pair[0] not in first]


def brute_top(store, query, rule, limit, videos=None, *, of_each_video=False, first=()):
    names, values = brute(store, query, [rule], videos)
    ranking = brute_ranking(names, values[:, 0], rule, first)
    return list(first_of_each_video(ranking) if of_each_video else ranking)[:limit]


def cascade(store, query, rules, videos=None, *, scan=None, use_cache=True, first=()):
    candidates = Candidates(store.snapshot(FINGERPRINT, use_cache=use_cache), videos)
    return Cascade(candidates, query, rules, scan or kernel_scan(query), first)


def check(store, rng, query, videos, *, limit=10, first=()):
    ways = rules(rng)
    names, values = brute(store, query, ways, videos)
    for number, rule in enumerate(ways):
        ranking = brute_ranking(names, values[:, number], rule, first)
        for of_each_video in (True, False):
            wanted = list(first_of_each_video(ranking) if of_each_video else ranking)[:limit]
            found = cascade(store, query, [rule], videos, first=first).top(limit, of_each_video=of_each_video)
            assert_same(found, wanted)


def all_videos(store):
    return {facts.video_id for facts in store.catalog()}


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([0, 1, 1, 2, 5, 17, 64, 130]), min_size=1, max_size=40),
    tokens=st.integers(1, 40),
    shift=st.sampled_from([0.0, 0.5, 3.0]),
    against=st.booleans(),
    packed=st.integers(0, 2),
    limit=st.sampled_from([1, 3, 10, 100]),
)
def test_any_library_ranks_as_brute_force_does(seed, sizes, tokens, shift, against, packed, limit):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        half = len(sizes) // 2
        fill(store, rng, sizes[half:], shift=shift)
        if packed:
            store.pack_vectors(FINGERPRINT)
        fill(store, rng, sizes[:half], shift=shift, grouped=True, first=1000)
        if packed == 2:
            store.pack_vectors(FINGERPRINT)
        # Pushed to the other side, every similarity is negative.
        query = random_query(rng, tokens, -shift if against else shift)
        videos = sorted(all_videos(store))
        check(store, rng, query, videos, limit=limit)
        check(store, rng, query, set(rng.choice(videos, rng.integers(0, len(videos) + 1), replace=False)), limit=limit)
        moments = sorted(store.encoded(FINGERPRINT))
        first = set(rng.choice(moments, rng.integers(0, len(moments) + 1), replace=False))
        check(store, rng, query, videos, limit=limit, first=first)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library of 300 moments whose best scores lie close together."""
    rng = np.random.default_rng(7)
    store = new(tmp_path_factory.mktemp("library"))
    fill(store, rng, rng.integers(1, 120, 300).tolist())
    store.pack_vectors(FINGERPRINT)
    return store


def combined(rng, tokens):
    """Ways of scoring several queries together whose vectors are so many in all."""
    ends = sorted({tokens, *rng.integers(1, tokens + 1, 2).tolist()})
    parts = tuple(np.diff([0, *ends]).tolist())
    return [ScoringRule(rule.scoring, rule.weights, parts) for rule in rules(rng)]


def with_examples(rng, rule, tokens):
    """The rule with some vectors of examples among those of words."""
    ids = [MODALITY_IDS.get(MODALITIES[k], 0) for k in rng.integers(0, len(MODALITIES), tokens)]
    return ScoringRule(rule.scoring, rule.weights, rule.parts, np.array(ids, np.uint8))


def example_score(query, rule, vectors, modality_ids):
    """The score of one document for a query with examples by the definition, in plain loops."""
    texts = {MODALITY_IDS[modality] for modality in (Modality.OCR, Modality.SPEECH, Modality.METADATA)}
    rows = query.astype(np.float64) @ vectors.T.astype(np.float64)
    start, scores = 0, []
    for count in rule.parts or (len(query),):
        best = []
        for number in range(start, start + count):
            kind = int(rule.kinds[number])
            near = [
                rows[number, column] * float(rule.weights[other])
                for column, other in enumerate(modality_ids.tolist())
                if rule.weights[other] > 0 and (kind in (0, other) or (kind in texts and other in texts))
            ]
            best.append((kind, max(near, default=-np.inf)))
        answered = any(np.isfinite(value) for _, value in best)
        total = sum(max(value, 0.0) if kind and answered else value for kind, value in best)
        scores.append(total / count)
        start += count
    return min(scores) * len(query)


def by_hand(query, rule, vectors, modality_ids):
    """The score of one document by the definition, in plain loops."""
    if rule.kinds is not None:
        return example_score(query, rule, vectors, modality_ids)
    parts = rule.parts or (len(query),)
    scores, start = [], 0
    for count in parts:
        rows = query[start : start + count].astype(np.float64) @ vectors.T.astype(np.float64)
        best = {}
        for number in np.unique(modality_ids).tolist():
            if (weight := float(rule.weights[number])) > 0:
                best[number] = rows[:, modality_ids == number].max(axis=1) * weight
        if rule.scoring == "modality-max":
            best.pop(0, None)
        if not best:
            return -np.inf
        total = np.max(list(best.values()), axis=0).sum()
        scores.append((total if rule.scoring == "token-max" else max(map(np.sum, best.values()))) / count)
        start += count
    return min(scores) * len(query)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([1, 1, 2, 5, 17, 64]), min_size=1, max_size=30),
    tokens=st.integers(2, 40),
    shift=st.sampled_from([0.0, 0.5, 3.0]),
    against=st.booleans(),
    packed=st.booleans(),
    limit=st.sampled_from([1, 3, 10]),
)
def test_combined_queries_and_examples_rank_as_brute_force_does(seed, sizes, tokens, shift, against, packed, limit):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        fill(store, rng, sizes, shift=shift)
        if packed:
            store.pack_vectors(FINGERPRINT)
        query = random_query(rng, tokens, -shift if against else shift)
        negated = random_query(rng, int(rng.integers(1, 20)), shift)
        stored = dict(store.scan_vectors(FINGERPRINT))
        texts = combined(rng, tokens)
        for rule in [*texts, *(with_examples(rng, rule, tokens) for rule in texts[:4])]:
            wanted = brute_top(store, query, rule, limit)
            assert_same(cascade(store, query, [rule]).top(limit, of_each_video=False), wanted)
            for name, score in wanted:
                document = stored[name]
                by_definition = by_hand(query, rule, document.vectors.astype(np.float32), document.modality_ids)
                assert score == pytest.approx(by_definition, abs=1e-3)
            # A level that some moments reach: between two scores, so that rounding decides nothing.
            names, values = brute(store, negated, [PLAIN])
            scores = np.unique(values[np.isfinite(values)])
            place = int(rng.integers(0, len(scores)))
            level = float(scores[place] + scores[min(place + 1, len(scores) - 1)]) / 2 + (0.1 if place else -0.1)
            if np.abs(scores - level).min() < 1e-3:
                continue
            reached = {name for name, value in zip(names, values[:, 0].tolist(), strict=True) if value >= level}
            assert cascade(store, negated, [PLAIN]).reaching(level) == reached
            candidates = Candidates(store.snapshot(FINGERPRINT), without=reached)
            left = Cascade(candidates, query, [rule], kernel_scan(query)).top(limit, of_each_video=False)
            ranking = brute_top(store, query, rule, len(names))
            assert_same(left, [pair for pair in ranking if pair[0] not in reached][:limit])


PLAIN = ScoringRule("token-max", maxsim.slot_weights({}))


@pytest.fixture(scope="module")
def judged(library):
    """Random queries, and their first moments by brute force."""
    rng = np.random.default_rng(11)
    queries = [random_query(rng, int(rng.integers(1, 33))) for _ in range(120)]
    return [(query, brute_top(library, query, PLAIN, 10)) for query in queries]


@pytest.mark.slow
@pytest.mark.parametrize("backend", kernel.backends())
def test_every_kernel_ranks_random_queries_as_brute_force_does(library, judged, backend):
    for query, wanted in judged:
        found = cascade(library, query, [PLAIN], scan=kernel_scan(query, backend=backend))
        assert_same(found.top(10, of_each_video=False), wanted)


def test_few_moments_are_scored_exactly(library):
    rng = np.random.default_rng(5)
    target = dict(library.scan_vectors(FINGERPRINT))["v0003#0"]
    rows = target.vectors[rng.integers(0, len(target), 8)].astype(np.float32)
    found = cascade(library, rows, [PLAIN])
    assert found.top(3, of_each_video=False)[0][0] == "v0003#0"
    assert found.exact.sum() < 100


@pytest.mark.parametrize("make", [lambda rng: rules(rng), lambda rng: combined(rng, 16)], ids=["one", "combined"])
def test_bounds_hold_for_every_moment(library, make):
    rng = np.random.default_rng(6)
    ways, query = make(rng), random_query(rng, 16)
    exact = dict(zip(*brute(library, query, ways), strict=True))
    found = cascade(library, query, ways)
    values = np.stack([exact[moment_id] for moment_id in found.moment_ids])
    everything = np.arange(len(values))
    before = found.upper.copy()
    found.tighten(everything)
    lower = found.lower(everything)
    answering = np.isfinite(values)
    assert (np.isfinite(before) == answering).all()
    assert (before[answering] >= values[answering]).all()
    assert (found.upper <= before).all()
    assert (found.upper[answering] >= values[answering] - 1e-5).all()
    assert (lower[answering] <= values[answering] + 1e-5).all()


def test_equal_moments_stand_in_the_order_of_their_ids(tmp_path):
    store = new(tmp_path)
    rng = np.random.default_rng(2)
    same = token_vectors(rng.standard_normal((9, DIMENSION)), [Modality.OCR] * 9)
    with store.writer("test"):
        for video_id in ("b", "a", "c"):
            made = [moment(video_id, number) for number in (0, 2, 10)]
            store.put_video(video(video_id), made)
            store.put_vectors(ENCODER, {one.moment_id: same for one in made})
    store.pack_vectors(FINGERPRINT)
    query = random_query(rng, 5)
    for limit in (1, 2, 4):
        found = cascade(store, query, [PLAIN]).top(limit, of_each_video=False)
        assert [name for name, _ in found] == ["a#0", "a#2", "a#10", "b#0"][:limit]
        found = cascade(store, query, [PLAIN]).top(limit, of_each_video=True)
        assert [name for name, _ in found] == ["a#0", "b#0", "c#0"][:limit]


def test_few_moments_are_scored_to_say_who_reaches_a_level(library):
    rng = np.random.default_rng(8)
    query = random_query(rng, 8)
    names, values = brute(library, query, [PLAIN])
    level = float(np.sort(values[:, 0])[-20:-18].mean())
    found = cascade(library, query, [PLAIN])
    assert found.reaching(level) == {names[number] for number in np.flatnonzero(values[:, 0] >= level)}
    assert found.exact.sum() < 100


@pytest.mark.slow
def test_ranks_are_those_of_the_whole_ranking(library):
    rng = np.random.default_rng(9)
    query, ways = random_query(rng, 12), rules(rng)
    names, values = brute(library, query, ways)
    for number, video_id in enumerate(rng.choice(sorted(all_videos(library)), 12, replace=False).tolist()):
        first = set(rng.choice(names, 20, replace=False)) if number % 2 else set()
        found = cascade(library, query, ways, first=first)
        assert found.videos_ranked() == sum(1 for _ in first_of_each_video(ranked(names, values[:, 0])))
        for rule in range(len(ways)):
            ranking = enumerate(first_of_each_video(brute_ranking(names, values[:, rule], ways[rule], first)), 1)
            wanted = next((VideoRank(rank, *pair) for rank, pair in ranking if video_of(pair[0]) == video_id), None)
            rank = found.rank_of(video_id, rule)
            if wanted is None:
                assert rank is None
            else:
                assert (rank.rank, rank.moment_id) == (wanted.rank, wanted.moment_id)
                assert rank.score == pytest.approx(wanted.score, abs=2 * TIE)


@pytest.mark.slow
def test_a_writer_may_change_the_index_between_searches(tmp_path):
    store, writer = new(tmp_path), None
    rng = np.random.default_rng(4)
    fill(store, rng, [20] * 30)
    writer = Store.open(store.uri)
    for step in range(12):
        check(store, rng, random_query(rng, 6), all_videos(store), limit=4)
        videos = sorted(all_videos(store))
        if step % 4 == 0:
            fill(writer, rng, [15] * 6, first=1000 + 10 * step)
        elif step % 4 == 1:
            writer.pack_vectors(FINGERPRINT, join=step > 6)
        elif step % 4 == 2:
            with writer.writer("test"):
                writer.remove_videos(videos[:3])
        else:
            with writer.writer("test"):
                writer.finish()


class OneQuery:
    """An encoder that gives the same vectors for every query."""

    info = ENCODER

    def __init__(self, query):
        self._query = query

    def encode_queries(self, queries):
        return [token_vectors(self._query, [None] * len(self._query)) for _ in queries]


def flip(store, share):
    """Change a byte of the codes of the only file."""
    (path,) = Path(store.uri).glob("scan/*/*/codes.npy")
    with path.open("r+b") as out:
        out.seek(int(share * path.stat().st_size))
        byte = out.read(1)[0]
        out.seek(-1, 1)
        out.write(bytes([byte ^ 0x40]))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 0.99])
@pytest.mark.parametrize("block", [32, 1 << 15])
def test_a_search_over_a_damaged_scan_cache_is_right(tmp_path, monkeypatch, share, block):
    monkeypatch.setattr(scan_cache, "BLOCK", block)
    store = new(tmp_path)
    rng = np.random.default_rng(4)
    fill(store, rng, [40] * 50)
    store.pack_vectors(FINGERPRINT)
    store = Store.open(store.uri)
    flip(store, share)
    query = random_query(rng, 6)
    # Either the file is not mapped at all, or its first use says what it is.
    if store.snapshot(FINGERPRINT).files:
        with pytest.raises(CorruptCache):
            cascade(store, query, [PLAIN])
    hits = search(store, OneQuery(query), "anything", SearchOptions(moments=True))
    assert_same([(hit.moment_id, hit.score) for hit in hits], brute_top(store, query, PLAIN, 10))
    why = explain(store, OneQuery(query), hits[3].video_id, "anything", SearchOptions())
    names = [name for name, _ in brute_top(store, query, PLAIN, 50, of_each_video=True)]
    assert [video_of(name) for name in names][why.hit.rank - 1] == hits[3].video_id


@pytest.mark.slow
def test_codes_that_are_not_those_of_the_stored_vectors_are_noticed_by_their_scores(tmp_path):
    """A file that is whole but wrong, as no checksum can tell: every score is above its bound."""
    store = new(tmp_path)
    rng = np.random.default_rng(4)
    fill(store, rng, [40] * 20)
    real = kernel.quantize

    def wrong(vectors):
        return real(np.ascontiguousarray(-vectors))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_cache, "quantize", wrong)
        store.pack_vectors(FINGERPRINT)
    query = dict(store.scan_vectors(FINGERPRINT))["v0002#0"].vectors[:6].astype(np.float32)
    with pytest.raises(CorruptCache, match="above its bound"):
        cascade(store, query, [PLAIN]).top(50, of_each_video=False)
    assert search(store, OneQuery(query), "anything", SearchOptions(limit=3))[0].moment_id == "v0002#0"


@pytest.mark.slow
def test_search_and_explain_say_the_same_with_and_without_packed_vectors(tmp_path):
    store = new(tmp_path)
    encoder = WordEncoder(similar={"hound": {"dog": 0.8}})
    put(store, encoder, "said", texts("said", speech=["good morning", "a dog barks"]), language="en")
    put(store, encoder, "shown", texts("shown", frames=1), texts("shown", 1, speech=["dog barks"]), frames=["tree"])
    put(store, encoder, "written", texts("written", ocr=["the cat", "lost"], metadata=["A cat"]))
    options = [
        SearchOptions(),
        SearchOptions(moments=True, limit=2),
        SearchOptions(scoring="modality-max"),
        SearchOptions(modalities=(Modality.SPEECH,)),
        SearchOptions(weights={Modality.OCR: 3.0, Modality.VIDEO: 0.0}),
        SearchOptions(filters=Filters(language="en")),
    ]
    before = [search(store, encoder, "dog barks", one) for one in options]
    why = [explain(store, encoder, "said", "dog barks", one) for one in options]
    store.pack_vectors(encoder.info.fingerprint)
    assert store.snapshot(encoder.info.fingerprint).uncovered_rows == 0
    assert [search(store, encoder, "dog barks", one) for one in options] == before
    assert [explain(store, encoder, "said", "dog barks", one) for one in options] == why
