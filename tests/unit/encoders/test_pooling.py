"""Pooled vectors: fewer, of unit length, of one modality each, and never searched together with whole ones."""

from __future__ import annotations

import numpy as np
import pytest

from clamr_cli import encoders
from clamr_cli.encoders.pooling import PooledEncoder, pooled
from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.search import search
from clamr_cli.store import scan_cache
from clamr_cli.types import Document, EncoderInfo, Modality, SearchOptions, Segment, Span
from tests.unit.store.samples import ENCODER, moment, new, random_vectors, token_vectors, video

TEXT = "the harbour lies in the fog and the boats wait for the morning light over the water"


def document(name="v1#0", text=TEXT):
    span = Span(0.0, 60.0)
    return Document(name, span, (), (Segment(span, text, "whisper"),), (), (Segment(span, "a title", "title"),))


def hashed(tmp_path, **settings):
    return encoders.create("hashed", cache=tmp_path, **settings)


@pytest.mark.parametrize("size", [2, 3, 4, 100])
def test_about_one_in_n_of_each_run_is_left(size):
    kinds = [Modality.VIDEO] * 11 + [Modality.OCR] * 2 + [Modality.SPEECH] * 20 + [Modality.OCR]
    item = token_vectors(np.random.default_rng(0).standard_normal((34, 128)), kinds)
    small = pooled(item, size)
    runs = [-(-11 // size), -(-2 // size), -(-20 // size), 1]
    assert len(small) == sum(runs)
    assert small.modality_ids.tolist() == np.repeat([1, 2, 3, 2], runs).tolist()
    scan_cache.check(ENCODER, "v1#0", small)
    np.testing.assert_allclose(np.linalg.norm(small.vectors, axis=1), 1.0, atol=1e-5)


def test_neighbours_that_are_alike_are_put_together_and_others_are_not():
    item = token_vectors([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 0, 1], [0, 0.1, 1]], [Modality.OCR] * 5)
    small = pooled(item, 2)
    assert len(small) == 3
    np.testing.assert_allclose(small.vectors[1], item.vectors[2], atol=1e-6)
    mean = item.vectors[0] + item.vectors[1]
    np.testing.assert_allclose(small.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_pooled_vector_has_the_place_of_its_members():
    spans = [(0, 1), (1, 2), (5, 6), (6, 7)]
    item = token_vectors(
        [[1, 0], [1, 0.1], [0, 1], [0.1, 1]], [Modality.SPEECH] * 4,
        spans=spans, segments=[0, 0, 1, 1], offsets=[(0, 3), (4, 9), (0, 2), (3, 8)],
    )  # fmt: skip
    small = pooled(item, 2)
    assert small.segments.tolist() == [0, 1]
    assert small.spans.tolist() == [[0, 2], [5, 7]]
    assert small.offsets.tolist() == [[0, 9], [0, 8]]


def test_vectors_of_no_modality_stay_and_nothing_stays_nothing():
    item = token_vectors(np.random.default_rng(0).standard_normal((6, 128)), [None] * 6)
    np.testing.assert_array_equal(pooled(item, 3).vectors, item.vectors)
    assert len(pooled(random_vectors(0, 0), 2)) == 0


def test_opposite_vectors_have_a_direction_still():
    item = token_vectors([[1, 0], [-1, 0]], [Modality.OCR] * 2)
    scan_cache.check(ENCODER, "v1#0", pooled(item, 2))


def test_every_encoder_can_be_pooled_and_has_a_fingerprint_for_each_size(tmp_path):
    whole, twos, threes = (hashed(tmp_path, pool=size) for size in (1, 2, 3))
    assert whole.info == hashed(tmp_path).info
    assert len({one.info.fingerprint for one in (whole, twos, threes)}) == 3
    assert {one.info.name for one in (whole, twos, threes)} == {"hashed"}
    for size, made in ((1, whole), (2, twos)):
        assert encoders.describe("hashed", cache=tmp_path, pool=size) == made.info
    (full,), (half,) = whole.encode_documents([document()]), twos.encode_documents([document()])
    assert len(full) / 2 <= len(half) <= len(full) / 2 + 2
    np.testing.assert_array_equal(twos.encode_queries(["fog"])[0].vectors, whole.encode_queries(["fog"])[0].vectors)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None])
def test_a_size_that_is_none_is_refused(tmp_path, value):
    with pytest.raises(UsageError, match="pool"):
        hashed(tmp_path, pool=value)


def test_floors_hold_for_whole_vectors_only():
    class Floored:
        info = EncoderInfo("floored", "f" * 16, floors={Modality.SPEECH: 0.5})

    assert not PooledEncoder(Floored(), 2).info.floors


@pytest.mark.slow
def test_pooled_and_whole_vectors_are_never_searched_together(tmp_path):
    store, twos = new(tmp_path), hashed(tmp_path, pool=2)
    with store.writer("test"):
        store.put_video(video("v1"), [moment("v1", speech=TEXT)])
        store.put_vectors(twos.info, {"v1#0": twos.encode_documents([document()])[0]})
    assert search(store, twos, "boats in fog", SearchOptions())[0].video_id == "v1"
    with pytest.raises(EncoderMismatch, match="no vectors of this version of encoder hashed"):
        search(store, hashed(tmp_path), "boats in fog", SearchOptions())
