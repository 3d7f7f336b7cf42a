"""Random work for the kernel, run in a process of its own; prints how many rounds passed.

``python -m tests.unit.kernel.fuzz ROUNDS SEED``: every backend, lengths and offsets of all kinds, arrays that end where
their memory ends, segments in and out of range, and jobs that Python's checks would never let through.
"""

import ctypes
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from clamr_cli import kernel
from tests.unit.kernel.draws import between, unit_rows

BACKENDS = kernel.backends()[:-1]
"""All but numpy."""


def _ranges(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    number = int(rng.integers(0, 30))
    if rng.random() < 0.5:
        return between(*np.sort(rng.integers(0, count + 1, number + 1)))
    return np.sort(rng.integers(0, count + 1, (number, 2)), axis=1)


def valid_round(rng: np.random.Generator) -> None:
    """All backends give the same on arrays of their own, exactly as long as they must be."""
    count, query = int(rng.integers(0, 400)), unit_rows(rng, int(rng.integers(1, 100)))
    whole = unit_rows(rng, count).astype(np.float16)
    # Copies that begin anywhere: what is read before or after them is a fault.
    start = int(rng.integers(0, count + 1))
    vectors = whole[start:].copy()
    held = kernel.quantize(vectors)
    offsets, planes = _ranges(rng, len(vectors)), int(rng.integers(1, 3))
    arguments = (query, held.codes, held.scales, held.residuals, offsets)
    bounds = [
        kernel.bound(*arguments, max_norm=held.max_norm, query_planes=planes, backend=backend) for backend in BACKENDS
    ]
    for bound, backend in zip(bounds, BACKENDS, strict=True):
        assert np.array_equal(bound, bounds[0]), backend
        assert (kernel.exact(query, vectors, offsets, backend=backend) <= bound).all(), backend


def _bad_ranges(rng: np.random.Generator, count: int) -> Iterator[NDArray[np.int64]]:
    far = np.iinfo(np.int64)
    for start, end in ((0, count + 1), (-1, count), (2, 1), (far.min, far.max), (far.max, far.max), (count, far.max)):
        ranges = np.sort(rng.integers(0, count + 1, (5, 2)), axis=1)
        ranges[int(rng.integers(0, 5))] = start, end
        yield ranges


def refused_round(rng: np.random.Generator) -> None:
    """The library itself refuses segments out of range, and writes nothing."""
    count = int(rng.integers(2, 50))
    query, vectors = unit_rows(rng, 5), unit_rows(rng, count).astype(np.float16)
    held = kernel.quantize(vectors)
    tokens = kernel.bound_tokens(query, 1, held.max_norm, 1)
    for backend in BACKENDS:
        works = (
            kernel.compiled_exact(backend, query, vectors),
            kernel.compiled_bound(backend, tokens, held.codes, held.scales, held.residuals),
        )
        for ranges in _bad_ranges(rng, count):
            maxima = np.full((len(ranges), 5), 7, np.float32)
            for work in works:
                with pytest.raises(ValueError, match="segment"):
                    work(ranges, maxima)
            assert (maxima == 7).all()


def wrong_jobs() -> None:
    """Numbers that no array has, and backends that no processor has, are refused."""
    library = kernel.load(kernel.LIBRARY)
    assert library is not None
    for name, value in (
        ("token_count", 0),
        ("token_count", -1),
        ("token_count", 2**62),
        ("vector_count", -1),
        ("segment_count", -1),
        ("planes", 0),
        ("planes", 3),
        ("path", -1),
        ("path", 99),
    ):
        job = kernel.Job(token_count=1, vector_count=0, segment_count=0, planes=1, path=0)
        setattr(job, name, value)
        assert library.clamr_kernel_scan(ctypes.byref(job)) < 0, name
        assert library.clamr_kernel_exact(ctypes.byref(job)) < 0, name


def any_codes_round(rng: np.random.Generator) -> None:
    """Damaged codes, scales and residuals give some number, the same with all backends, and no fault."""
    count = int(rng.integers(1, 200))
    scales, residuals = rng.integers(0, 2**32, (2, count), np.uint32).view(np.float32)
    numbers = rng.integers(-128, 128, (count, 128), np.int8)
    offsets = _ranges(rng, count)
    query = unit_rows(rng, int(rng.integers(1, 40)))
    plain = np.ones(count, np.float32)
    results = []
    for backend in BACKENDS:
        options = {"max_norm": 1.0, "query_planes": 2, "backend": backend}
        kernel.bound(query, numbers, scales, residuals, offsets, **options)
        kernel.exact(query, rng.integers(0, 2**16, (count, 128), np.uint16).view(np.float16), offsets, backend=backend)
        results.append(kernel.bound(query, numbers, plain, plain, offsets, **options))
    assert all(np.array_equal(result, results[0]) for result in results)


if __name__ == "__main__":
    rounds, seed = map(int, sys.argv[1:3])
    assert BACKENDS, "the library is absent"
    generator = np.random.default_rng(seed)
    wrong_jobs()
    for _ in range(rounds):
        valid_round(generator)
        refused_round(generator)
        any_codes_round(generator)
    print(f"{rounds} rounds on {', '.join(BACKENDS)}")
