"""The vectorised scores equal a plain loop in double precision, on every ragged shape."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.search import cascade as maxsim
from clamr_cli.types import DIMENSION, MODALITY_IDS, Modality

MODALITY_NUMBERS = tuple(MODALITY_IDS.values())


def naive_max(query, document, keep):
    """Sum over query tokens of the best kept similarity; minus infinity when nothing is kept."""
    if not any(keep):
        return -np.inf
    total = 0.0
    for token in query.astype(np.float64):
        total += max(float(token @ row) for row, kept in zip(document.astype(np.float64), keep, strict=True) if kept)
    return total


def unit(rng, rows):
    vectors = rng.standard_normal((rows, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def packed(draw):
    """A query and packed documents: ragged, empty ones, single vectors, and similarities that may all be negative."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
    query = unit(rng, draw(st.integers(1, 5)))
    vectors = unit(rng, sum(lengths))
    if draw(st.booleans()):
        query, vectors = np.abs(query), -np.abs(vectors)
    present = draw(st.sets(st.sampled_from((0, *MODALITY_NUMBERS)), min_size=1))
    ids = rng.choice(sorted(present), size=sum(lengths)).astype(np.uint8)
    return query, vectors, ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


@pytest.mark.slow
@given(packed())
@settings(deadline=None)
def test_scores_of_packed_documents_equal_a_plain_loop(case):
    query, vectors, ids, indptr = case
    maxima = maxsim.score_packed(query, vectors, ids, indptr)
    modality_sums = maxsim.per_modality(maxima)
    for i, (start, stop) in enumerate(pairwise(indptr)):
        document, mods = vectors[start:stop], ids[start:stop]
        alone = [naive_max(query, document, mods == number) for number in MODALITY_NUMBERS]
        np.testing.assert_allclose(maxsim.token_max(maxima)[i], naive_max(query, document, mods >= 0), atol=1e-5)
        np.testing.assert_allclose(modality_sums[i, 1:], alone, atol=1e-5)
        np.testing.assert_allclose(maxsim.modality_max(maxima)[i], max(alone), atol=1e-5)
        assert modality_sums[i, 0] == -np.inf


@pytest.mark.slow
@given(packed(), st.dictionaries(st.sampled_from(Modality), st.sampled_from((0.0, 0.5, 1.0, 3.0))))
@settings(deadline=None)
def test_weights_multiply_similarities_before_the_maximum(case, weights):
    query, vectors, ids, indptr = case
    slots = maxsim.slot_weights(weights)
    scores = maxsim.ScoringRule("token-max", slots).scores(maxsim.score_packed(query, vectors, ids, indptr))
    for score, (start, stop) in zip(scores, pairwise(indptr), strict=True):
        factors = slots[ids[start:stop]]
        scaled = vectors[start:stop].astype(np.float64) * factors[:, None]
        np.testing.assert_allclose(score, naive_max(query, scaled, factors > 0), atol=1e-5)


def test_a_score_is_the_same_to_the_last_bit_whatever_is_scored_beside_it():
    rng = np.random.default_rng(1)
    for tokens in (1, 8, 32, 130):
        maxima = rng.standard_normal((tokens, 20, maxsim.SLOTS)).astype(np.float32)
        for rule in (maxsim.token_max, maxsim.modality_max):
            scores = rule(maxima)
            assert [float(rule(maxima[:, n : n + 1])[0]) for n in range(20)] == scores.tolist()
            assert rule(maxima[:, 3:6]).tolist() == scores[3:6].tolist()


@pytest.mark.slow
@given(packed(), st.integers(1, 7))
@settings(deadline=None)
def test_chunks_do_not_change_scores(case, chunk):
    query, vectors, ids, indptr = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maxsim, "CHUNK_VECTORS", chunk)
        chunked = maxsim.score_packed(query, vectors, ids, indptr)
    np.testing.assert_allclose(chunked, maxsim.score_packed(query, vectors, ids, indptr), atol=1e-6)


@given(packed())
@settings(deadline=None)
def test_alignment_points_at_the_vectors_that_make_the_score(case):
    query, vectors, ids, indptr = case
    document, mods = vectors[: indptr[1]], ids[: indptr[1]]
    values = maxsim.similarities(query, document)
    best, by_modality = maxsim.align(values, mods, maxsim.slot_weights({}))
    maxima = maxsim.modality_maxima(values, mods, indptr[:2])
    won = values[np.arange(len(query)), best].sum() if (best >= 0).all() else -np.inf
    np.testing.assert_allclose(won, maxsim.token_max(maxima)[0], atol=1e-5)
    assert {MODALITY_IDS[m] for m in by_modality} == set(mods[mods > 0].tolist())
    for modality, rows in by_modality.items():
        assert (mods[rows] == MODALITY_IDS[modality]).all()
        alone = values[np.arange(len(query)), rows].sum()
        np.testing.assert_allclose(alone, maxsim.per_modality(maxima)[0, MODALITY_IDS[modality]], atol=1e-5)


def test_alignment_follows_weights():
    values = np.array([[0.9, 0.5]], np.float32)
    ids = np.array([MODALITY_IDS[Modality.VIDEO], MODALITY_IDS[Modality.SPEECH]], np.uint8)
    best, _ = maxsim.align(values, ids, maxsim.slot_weights({Modality.SPEECH: 2.0}))
    assert best.tolist() == [1]
    best, by_modality = maxsim.align(values, ids, maxsim.slot_weights({}, frozenset({Modality.OCR})))
    assert best.tolist() == [-1]
    assert by_modality == {}


@pytest.mark.slow
@given(packed(), st.sampled_from(("token-max", "modality-max")), st.booleans())
@settings(deadline=None)
def test_scores_from_the_maxima_of_segments_are_the_same(case, scoring, weighted):
    """Bounds come as one row a modality of a document; documents without vectors have none."""
    query, vectors, ids, indptr = case
    rule = maxsim.ScoringRule(
        scoring, maxsim.slot_weights({Modality.OCR: 2.0, Modality.VIDEO: 0.5} if weighted else {})
    )
    maxima = maxsim.score_packed(query, vectors, ids, indptr)
    owners, modalities = np.nonzero(np.isfinite(maxima[0]))
    rows = maxima[:, owners, modalities].T
    found = rule.segment_scores(rows, modalities.astype(np.uint8), owners, len(indptr) - 1)
    np.testing.assert_allclose(found, rule.scores(maxima), atol=1e-5)


def test_template_tokens_answer_for_the_document_but_for_no_modality():
    maxima = maxsim.modality_maxima(np.array([[0.7]], np.float32), np.zeros(1, np.uint8), np.array([0, 1]))
    assert maxsim.token_max(maxima).tolist() == pytest.approx([0.7])
    assert maxsim.modality_max(maxima).tolist() == [-np.inf]
    only_video = maxsim.slot_weights({}, frozenset({Modality.VIDEO}))
    assert maxsim.token_max(maxsim.weighted(maxima, only_video)).tolist() == [-np.inf]


@pytest.mark.parametrize("name", ["syn", "neg"])
def test_scores_agree_with_the_published_code(shared, name):
    """The published sums, where padding (zero rows) does not take part; modality maximum without id 0."""
    path = shared / "oracle" / "scores.npz"
    if not path.is_file():
        pytest.skip("the reference scores are not here")
    stored = np.load(path)
    query, documents, ids = stored[f"{name}_query"], stored[f"{name}_doc"], stored[f"{name}_modality_ids"]
    filled = np.abs(documents).sum(axis=2) > 0
    indptr = np.concatenate(([0], np.cumsum(filled.sum(axis=1))))
    for i, tokens in enumerate(query):
        maxima = maxsim.score_packed(tokens, documents[filled], ids[filled].astype(np.uint8), indptr)
        published = stored[f"{name}_per_modality_sum"][i][:, 1:]
        np.testing.assert_allclose(maxsim.per_modality(maxima)[:, 1:5], published, atol=1e-4)
        best = stored[f"{name}_modality_max_sum_without_id0"][i]
        np.testing.assert_allclose(maxsim.modality_max(maxima), best, atol=1e-4)
        padded = maxsim.token_max(np.maximum(maxima, np.where(filled.all(axis=1), -np.inf, 0.0)[None, :, None]))
        np.testing.assert_allclose(padded, stored[f"{name}_token_max_sum"][i], atol=1e-4)


def test_scores_agree_with_the_published_code_on_real_documents(shared):
    """Queries and documents of the reference cases, left padded with zero rows there, not padded here."""
    folder = shared / "oracle"
    if not (folder / "scores_meta.json").is_file():
        pytest.skip("the reference scores are not here")
    meta, stored = json.loads((folder / "scores_meta.json").read_text())["real"], np.load(folder / "scores.npz")
    queries = np.concatenate([np.load(folder / "cases" / f"{c}.npz")["query_embeddings"] for c in meta["query_cases"]])
    assert len(queries) == meta["n_queries"]
    for j, case in enumerate(meta["document_cases"]):
        arrays = np.load(folder / "cases" / f"{case}.npz")
        vectors, ids = arrays["doc_embeddings"][0], arrays["modality_ids"][0].astype(np.uint8)
        filled = np.abs(vectors).sum(axis=1) > 0
        for i, query in enumerate(queries):
            tokens = query[np.abs(query).sum(axis=1) > 0]
            indptr = np.array([0, filled.sum()])
            maxima = maxsim.score_packed(tokens, vectors[filled], ids[filled], indptr)
            np.testing.assert_allclose(
                maxsim.modality_max(maxima)[0], stored["real_modality_max_sum_without_id0"][i, j], atol=1e-4
            )
            published = stored["real_per_modality_sum"][i, j, 1:]
            np.testing.assert_allclose(maxsim.per_modality(maxima)[0, 1:5], published, atol=1e-4)
            floor = -np.inf if filled.all() else 0.0
            clamped = maxsim.token_max(np.maximum(maxima, floor))[0]
            np.testing.assert_allclose(clamped, stored["real_token_max_sum"][i, j], atol=1e-4)
