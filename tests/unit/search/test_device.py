"""The scan by torch gives bounds that hold, and the ranking of brute force; here on tensors of the processor."""

from __future__ import annotations

import numpy as np
import pytest

from clamr_cli import kernel
from clamr_cli.errors import UsageError
from clamr_cli.search import cascade
from clamr_cli.search.cascade import Pool
from clamr_cli.search.device import TorchScanner
from clamr_cli.search.exact import ranked
from clamr_cli.search.ranking import score_all
from tests.unit.search.test_cascade import (
    ENCODER,
    FINGERPRINT,
    PLAIN,
    all_videos,
    assert_same,
    fill,
    query,
    rankings,
    views,
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
def test_rankings_and_places_are_those_of_brute_force(library, device):
    rng = np.random.default_rng(3)
    videos = all_videos(library)
    for view in views(rng):
        asked = query(rng, int(rng.integers(1, 40)))
        whole = score_all(library, ENCODER, asked, videos, [view])
        pool = Pool.fill(
            library.snapshot(FINGERPRINT), asked.vectors, videos, [view], TorchScanner(asked.vectors, device)
        )
        assert_same(rankings(cascade.best(pool, 10, of_each_video=False), 10, False), rankings(whole, 10, False))


@pytest.mark.parametrize("device", DEVICES)
def test_bounds_contain_every_similarity_in_any_ranges(library, device):
    rng = np.random.default_rng(4)
    part = library.snapshot(FINGERPRINT).files[0]
    stored = dict(library.scan_vectors(FINGERPRINT))
    rows = np.concatenate(
        [stored[one].vectors[np.argsort(stored[one].modality_ids, kind="stable")] for one in part.moment_ids]
    )
    borders = np.sort(rng.integers(0, len(rows) + 1, (50, 2)), axis=1)
    asked = query(rng, 9).vectors
    exact = kernel.exact(asked, np.ascontiguousarray(rows), borders)
    scanner = TorchScanner(asked, device)
    upper, lower = scanner.upper(part, borders, 1), scanner.lower(part, borders, 1)
    assert (upper >= exact).all()
    assert (lower <= exact).all()
    filled = np.isfinite(exact)
    assert (upper - lower)[filled].max() < 0.05
    assert (np.isfinite(upper) == filled).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_clear_error(library):
    asked = query(np.random.default_rng(1), 3)
    with pytest.raises(UsageError, match="no CUDA device"):
        ranked(library, ENCODER, asked, all_videos(library), PLAIN, limit=3, of_each_video=False, device="cuda")
