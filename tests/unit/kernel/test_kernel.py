"""Bounds and exact maxima with every backend that this machine has."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.search import cascade as maxsim
from tests.unit.kernel import reference
from tests.unit.kernel.draws import between, collections, ranges, unit_rows

PLANES = st.sampled_from([1, 2])


def bound(query, held, ranges, *, planes=1, side=1, backend=None):
    return kernel.bound(
        query, held.codes, held.scales, held.residuals, ranges,
        max_norm=held.max_norm, query_planes=planes, side=side, backend=backend,
    )  # fmt: skip


def brute(query: NDArray[np.float32], vectors: NDArray[np.float16], ranges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Maxima of similarities in float64, [r, q]."""
    products = query.astype(np.float64) @ vectors.astype(np.float64).T
    rows = [products[:, start:end].max(axis=1, initial=-np.inf) for start, end in ranges]
    return np.stack(rows) if rows else np.empty((0, len(query)))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.data(), collections(), PLANES)
def test_bounds_contain_the_exact_score_with_every_backend(data: st.DataObject, drawn, planes: int) -> None:
    query, vectors = drawn
    drawn_ranges = data.draw(ranges(len(vectors)))
    held = kernel.quantize(vectors)
    true = brute(query, vectors, drawn_ranges)
    scores = [kernel.exact(query, vectors, drawn_ranges, backend=backend) for backend in kernel.backends()]
    for backend in kernel.backends():
        upper = bound(query, held, drawn_ranges, planes=planes, backend=backend)
        lower = bound(query, held, drawn_ranges, planes=planes, side=-1, backend=backend)
        for score in (true, *scores):
            assert (lower <= score).all()
            assert (score <= upper).all()


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.data(), collections(), PLANES, st.sampled_from([1, -1]))
def test_all_compiled_backends_give_the_bits_of_the_reference(data: st.DataObject, drawn, planes: int, side) -> None:
    query, vectors = drawn
    drawn_ranges = data.draw(ranges(len(vectors)))
    held = kernel.quantize(vectors)
    expected = reference.bound(query, held, drawn_ranges, planes, side)
    for backend in kernel.backends()[:-1]:
        found = bound(query, held, drawn_ranges, planes=planes, side=side, backend=backend)
        assert np.array_equal(found, expected), backend


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(st.data(), collections())
def test_exact_maxima_are_off_by_no_more_than_is_documented(data: st.DataObject, drawn) -> None:
    query, vectors = drawn
    drawn_ranges = data.draw(ranges(len(vectors)))
    longest = np.linalg.norm(vectors.astype(np.float64), axis=1).max(initial=0.0)
    allowed = 128 * 2.0**-24 * np.linalg.norm(query.astype(np.float64), axis=1) * longest * 1.001 + 1e-37
    true = brute(query, vectors, drawn_ranges)
    for backend in kernel.backends():
        score = kernel.exact(query, vectors, drawn_ranges, backend=backend)
        assert np.array_equal(np.isneginf(score), np.isneginf(true))
        filled = ~np.isneginf(true)
        off = np.abs(np.where(filled, score, 0.0) - np.where(filled, true, 0.0))
        assert (off <= allowed).all()


def test_the_bounds_are_of_use() -> None:
    rng = np.random.default_rng(3)
    query, vectors = unit_rows(rng, 32), unit_rows(rng, 2000).astype(np.float16)
    held, some = kernel.quantize(vectors), between(*range(0, 2001, 100))
    score = kernel.exact(query, vectors, some)
    for backend in kernel.backends():
        widths = [float((bound(query, held, some, planes=planes, backend=backend) - score).max()) for planes in (1, 2)]
        assert max(widths) < 0.025
        assert widths[1] < widths[0] or backend == kernel.NUMPY


def test_the_maxima_are_those_of_maxsim() -> None:
    rng = np.random.default_rng(4)
    query, vectors = unit_rows(rng, 20), unit_rows(rng, 500).astype(np.float16)
    offsets = np.array([0, 0, 1, 130, 130, 500])
    expected = maxsim.segment_max(maxsim.similarities(query, vectors), offsets).T
    for backend in kernel.backends():
        found = kernel.exact(query, vectors, between(*offsets), backend=backend)
        assert np.allclose(found, expected, rtol=0, atol=2e-6)


def test_negative_similarities_win_over_nothing() -> None:
    query = np.full((17, 128), 0.05, np.float32)
    vectors = np.full((9, 128), -0.06, np.float16)
    held, some = kernel.quantize(vectors), between(0, 1, 1, 9)
    for backend in kernel.backends():
        for score in (
            kernel.exact(query, vectors, some, backend=backend),
            bound(query, held, some, backend=backend),
        ):
            assert (score[[0, 2]] < -0.3).all()
            assert np.isfinite(score[[0, 2]]).all()
            assert np.isneginf(score[1]).all()


def test_quantizing_loses_what_it_says() -> None:
    rng = np.random.default_rng(5)
    vectors = (unit_rows(rng, 300) * rng.uniform(0, 3, (300, 1))).astype(np.float16)
    held = kernel.quantize(vectors)
    restored = held.codes.astype(np.float64) * held.scales[:, None].astype(np.float64)
    lost = np.linalg.norm(vectors.astype(np.float64) - restored, axis=1)
    assert (lost <= held.residuals).all()
    assert np.allclose(lost, held.residuals, rtol=1e-6, atol=0)
    assert held.codes.min() >= -127
    assert (np.linalg.norm(restored, axis=1) + lost).max() <= held.max_norm < 3.1


def test_quantizing_nothing_and_zeros() -> None:
    assert kernel.quantize(np.empty((0, 128), np.float16)).max_norm == 0.0
    held = kernel.quantize(np.zeros((2, 128), np.float32))
    assert not held.codes.any()
    assert held.residuals.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -2e15])
def test_a_vector_that_is_no_vector_is_named(bad: float) -> None:
    vectors = np.ones((10_000, 128), np.float32)
    vectors[9_001, 5] = bad
    with pytest.raises(ValueError, match="vector 9001 has NaN, infinite"):
        kernel.quantize(vectors)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 5))
def test_threads_change_nothing(data: st.DataObject, number: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = int(rng.integers(1, 4000))
    vectors, query = unit_rows(rng, count).astype(np.float16), unit_rows(rng, 3)
    drawn_ranges = data.draw(ranges(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "LEAST_SHARE", 7)
        for backend in kernel.backends():
            one = kernel.exact(query, vectors, drawn_ranges, threads=1, backend=backend)
            found = kernel.exact(query, vectors, drawn_ranges, threads=number, backend=backend)
            assert np.array_equal(found, one)


def test_what_fails_in_a_thread_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LEAST_SHARE", 1)

    def work(part: NDArray[np.int64], maxima: NDArray[np.float32]) -> None:
        maxima[:] = 1
        if part.max(initial=0) == 16:
            raise IndexError("of the work")

    with pytest.raises(IndexError, match="of the work"):
        kernel.in_threads(work, between(0, 4, 8, 12, 16), 1, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_searches_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LEAST_SHARE", 1)
    kernel.exact(QUERY, VECTORS, RANGES, threads=2)
    child = os.fork()
    if not child:
        # Ends a child that waits for ever, whatever the test runner does with this signal.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        os._exit(0 if kernel.exact(QUERY, VECTORS, RANGES, threads=2).shape == (1, 2) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_any_offset_in_memory_will_do() -> None:
    rng = np.random.default_rng(6)
    query, vectors = unit_rows(rng, 18), unit_rows(rng, 150).astype(np.float16)
    held, some = kernel.quantize(vectors), between(0, 70, 150)
    expected = bound(query, held, some), kernel.exact(query, vectors, some)
    for shift in range(1, 64, 9):
        moved = np.empty(150 * 128 + shift, np.int8)[shift:].reshape(150, 128)
        moved[:] = held.codes
        halves = np.empty(150 * 128 + shift, np.float16)[shift:].reshape(150, 128)
        halves[:] = vectors
        for backend in kernel.backends():
            if backend != kernel.NUMPY:
                assert np.array_equal(bound(query, replace(held, codes=moved), some, backend=backend), expected[0])
            found = kernel.exact(query, halves, some, backend=backend)
            assert np.allclose(found, expected[1], rtol=0, atol=2e-6)


QUERY = np.zeros((2, 128), np.float32)
VECTORS = np.zeros((4, 128), np.float16)
CODES, SCALES, RANGES = np.zeros((4, 128), np.int8), np.zeros(4, np.float32), between(0, 4)
UNALIGNED = np.frombuffer(bytes(17), np.uint8)[1:].view(np.float32)


def scan(query=QUERY, codes=CODES, scales=SCALES, residuals=SCALES, ranges=RANGES, **options):
    return kernel.bound(query, codes, scales, residuals, ranges, **{"max_norm": 1.0, **options})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: scan(QUERY.astype(float)), TypeError, "query must be float32"),
        (lambda: scan(QUERY[:0]), ValueError, "at least one vector"),
        (lambda: scan(QUERY * np.nan), ValueError, "query must be finite"),
        (lambda: scan(QUERY + np.float32(2e15)), ValueError, "no number beyond"),
        (lambda: scan(QUERY[:, :64]), ValueError, r"\[any, 128\], not \[2, 64\]"),
        (lambda: scan(QUERY[0]), ValueError, "query must have the shape"),
        (lambda: scan(QUERY.tolist()), TypeError, "numpy array, not list"),
        (lambda: scan(codes=CODES.view(np.uint8)), TypeError, "codes must be int8"),
        (lambda: scan(codes=np.asfortranarray(CODES)), ValueError, "C-contiguous"),
        (lambda: scan(codes=CODES[::2], scales=SCALES[:2]), ValueError, "C-contiguous"),
        (lambda: scan(scales=SCALES[:3]), ValueError, r"scales must have the shape \[4\]"),
        (lambda: scan(scales=UNALIGNED), ValueError, "aligned"),
        (lambda: scan(scales=SCALES.astype(">f4")), TypeError, "scales must be float32"),
        (lambda: scan(residuals=SCALES[:2]), ValueError, "residuals must have"),
        (lambda: scan(ranges=RANGES.astype(np.int32)), TypeError, "ranges must be int64"),
        (lambda: scan(ranges=between(0, 3, 2, 4)), ValueError, "must ascend within 0..4"),
        (lambda: scan(ranges=between(0, 5)), ValueError, "must ascend within 0..4"),
        (lambda: scan(ranges=between(-1, 4)), ValueError, "must ascend within 0..4"),
        (lambda: scan(ranges=np.array([0, 4])), ValueError, "ranges must have"),
        (lambda: scan(ranges=np.zeros((2, 3), np.int64)), ValueError, "ranges must have"),
        (lambda: scan(query_planes=3, backend=kernel.backends()[0]), ValueError, "query_planes must be 1 or 2"),
        (lambda: scan(backend="mmx"), ValueError, "backend must be one of"),
        (lambda: scan(max_norm=np.nan), ValueError, "max_norm must be"),
        (lambda: kernel.exact(QUERY, VECTORS.astype(np.float32), RANGES), TypeError, "vectors must be float16"),
        (lambda: kernel.exact(QUERY, VECTORS[:, ::-1], RANGES), ValueError, "C-contiguous"),
        (lambda: kernel.quantize(VECTORS[:, :64].copy()), ValueError, "vectors must have the shape"),
        (lambda: kernel.quantize(VECTORS.astype(float)), TypeError, "vectors must be float16 or float32"),
    ],
)
def test_what_cannot_be_searched_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be at least 0"):
        kernel.exact(QUERY, VECTORS, RANGES, threads=-1)


def test_the_backends_of_the_processor_are_listed(compiled: bool) -> None:
    if not compiled:
        pytest.skip("no C compiler")
    backends = kernel.backends()
    assert backends[-2:] == ("scalar", "numpy")
    assert len(set(backends)) == len(backends)


def test_codes_of_two_planes_fit_sixteen_bits() -> None:
    tokens = kernel.bound_tokens(np.eye(128, dtype=np.float32)[:3] * np.float32(-7), 2, 1.0, 1)
    assert tokens.codes.min() == -kernel.LARGEST[2] == -(127 * 128 + 63)
