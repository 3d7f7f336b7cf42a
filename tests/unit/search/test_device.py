"""The scan by torch gives bounds that hold, and the ranking of brute force; here on tensors of the processor."""

from __future__ import annotations

import numpy as np
import pytest

from clamr_cli import kernel
from clamr_cli.errors import ModelError
from clamr_cli.search import search
from clamr_cli.search.cascade import torch_scan
from clamr_cli.types import SearchOptions
from tests.unit.search.test_cascade import (
    FINGERPRINT,
    OneQuery,
    assert_same,
    brute_top,
    cascade,
    fill,
    random_query,
    rules,
)
from tests.unit.store.samples import new

torch = pytest.importorskip("torch")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    rng = np.random.default_rng(7)
    store = new(tmp_path_factory.mktemp("library"))
    fill(store, rng, rng.integers(0, 90, 120).tolist())
    store.pack_vectors(FINGERPRINT)
    return store


@pytest.mark.parametrize("device", DEVICES)
def test_rankings_are_those_of_brute_force(library, device):
    rng = np.random.default_rng(3)
    for rule in rules(rng):
        query = random_query(rng, int(rng.integers(1, 40)))
        found = cascade(library, query, [rule], scan=torch_scan(query, device)).top(10, of_each_video=False)
        assert_same(found, brute_top(library, query, rule, 10))


@pytest.mark.parametrize("device", DEVICES)
def test_bounds_contain_every_similarity_in_any_ranges(library, device):
    rng = np.random.default_rng(4)
    file = library.snapshot(FINGERPRINT).files[0]
    stored = dict(library.scan_vectors(FINGERPRINT))
    rows = np.concatenate(
        [stored[one].vectors[np.argsort(stored[one].modality_ids, kind="stable")] for one in file.moment_ids]
    )
    ranges = np.sort(rng.integers(0, len(rows) + 1, (50, 2)), axis=1)
    query = random_query(rng, 9)
    exact = kernel.exact(query, np.ascontiguousarray(rows), ranges)
    scan = torch_scan(query, device)
    upper, lower = scan(file, ranges, 1, 1), scan(file, ranges, -1, 1)
    assert (upper >= exact).all()
    assert (lower <= exact).all()
    filled = np.isfinite(exact)
    assert (upper - lower)[filled].max() < 0.05
    assert (np.isfinite(upper) == filled).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_clear_error(library):
    encoder = OneQuery(random_query(np.random.default_rng(1), 3))
    with pytest.raises(ModelError, match="no CUDA device"):
        search(library, encoder, "anything", SearchOptions(), device="cuda")
