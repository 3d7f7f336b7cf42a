"""Scans, bounds and exact maxima on every path that this machine has."""

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.kernel import codes, threads
from clamr_cli.search import scoring as maxsim
from tests.unit.kernel.draws import collections, segments, unit_rows

PLANES = st.sampled_from([1, 2])


def brute(query: NDArray[np.float32], vectors: NDArray[np.float16], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Maxima of similarities in float64, [s, q]; offsets or starts and ends."""
    pairs = np.stack([offsets[:-1], offsets[1:]], axis=1) if offsets.ndim == 1 else offsets
    products = query.astype(np.float64) @ vectors.astype(np.float64).T
    rows = [products[:, start:end].max(axis=1, initial=-np.inf) for start, end in pairs]
    return np.stack(rows) if rows else np.empty((0, len(query)))


@settings(deadline=None, max_examples=150)
@given(st.data(), collections(), PLANES)
def test_bounds_contain_the_exact_score_on_every_path(data: st.DataObject, drawn, planes: int) -> None:
    query, vectors = drawn
    offsets = data.draw(segments(len(vectors)))
    held = kernel.quantize(vectors)
    true = brute(query, vectors, offsets)
    arguments = (query, held.codes, held.scales, held.residuals, offsets)
    scores = [kernel.exact(query, vectors, offsets, path=path) for path in kernel.paths()]
    for path in kernel.paths():
        upper = kernel.upper(*arguments, reach=held.reach, planes=planes, path=path)
        lower = kernel.lower(*arguments, reach=held.reach, planes=planes, path=path)
        assert (lower <= true).all()
        assert (true <= upper).all()
        for score in scores:
            assert (lower <= score).all()
            assert (score <= upper).all()


@settings(deadline=None, max_examples=150)
@given(st.data(), collections(), PLANES)
def test_all_paths_scan_to_the_same_bits(data: st.DataObject, drawn, planes: int) -> None:
    query, vectors = drawn
    offsets = data.draw(segments(len(vectors)))
    held = kernel.quantize(vectors)
    results = [
        (
            kernel.scan(query, held.codes, held.scales, offsets, planes=planes, path=path),
            kernel.upper(
                query, held.codes, held.scales, held.residuals, offsets, reach=held.reach, planes=planes, path=path
            ),
        )
        for path in kernel.paths()
    ]
    for scanned, bound in results:
        assert np.array_equal(scanned, results[0][0])
        assert np.array_equal(bound, results[0][1])


@settings(deadline=None, max_examples=100)
@given(st.data(), collections())
def test_exact_maxima_are_off_by_no_more_than_is_said(data: st.DataObject, drawn) -> None:
    query, vectors = drawn
    offsets = data.draw(segments(len(vectors)))
    longest = np.linalg.norm(vectors.astype(np.float64), axis=1).max(initial=0.0)
    allowed = 128 * 2.0**-24 * np.linalg.norm(query.astype(np.float64), axis=1) * longest * 1.001 + 1e-37
    true = brute(query, vectors, offsets)
    for path in kernel.paths():
        score = kernel.exact(query, vectors, offsets, path=path)
        assert np.array_equal(np.isneginf(score), np.isneginf(true))
        filled = ~np.isneginf(true)
        off = np.abs(np.where(filled, score, 0.0) - np.where(filled, true, 0.0))
        assert (off <= allowed).all()


def test_the_bounds_are_of_use(compiled: bool) -> None:
    rng = np.random.default_rng(3)
    query, vectors = unit_rows(rng, 32), unit_rows(rng, 2000).astype(np.float16)
    held, offsets = kernel.quantize(vectors), np.arange(0, 2001, 100)
    score = kernel.exact(query, vectors, offsets)
    widths = [
        float(
            (
                kernel.upper(query, held.codes, held.scales, held.residuals, offsets, reach=held.reach, planes=n)
                - score
            ).max()
        )
        for n in (1, 2)
    ]
    assert widths[1] < widths[0] < 0.025
    assert np.abs(kernel.scan(query, held.codes, held.scales, offsets, planes=2) - score).max() < 0.006


def test_the_maxima_are_those_of_maxsim() -> None:
    rng = np.random.default_rng(4)
    query, vectors = unit_rows(rng, 20), unit_rows(rng, 500).astype(np.float16)
    offsets = np.array([0, 0, 1, 130, 130, 500])
    expected = maxsim.segment_max(maxsim.similarities(query, vectors), offsets).T
    for path in kernel.paths():
        assert np.allclose(kernel.exact(query, vectors, offsets, path=path), expected, rtol=0, atol=2e-6)


def test_negative_similarities_win_over_nothing() -> None:
    query = np.full((17, 128), 0.05, np.float32)
    vectors = np.full((9, 128), -0.06, np.float16)
    held = kernel.quantize(vectors)
    offsets = np.array([0, 1, 1, 9])
    for path in kernel.paths():
        for score in (
            kernel.exact(query, vectors, offsets, path=path),
            kernel.scan(query, held.codes, held.scales, offsets, path=path),
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
    assert (np.linalg.norm(restored, axis=1) + lost).max() <= held.reach < 3.1


def test_quantizing_nothing_and_zeros() -> None:
    assert kernel.quantize(np.empty((0, 128), np.float16)).reach == 0.0
    held = kernel.quantize(np.zeros((2, 128), np.float32))
    assert not held.codes.any()
    assert held.residuals.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -2e15])
def test_a_vector_that_is_no_vector_is_named(bad: float) -> None:
    vectors = np.ones((10_000, 128), np.float32)
    vectors[9_001, 5] = bad
    with pytest.raises(ValueError, match="vector 9001 has NaN, infinite"):
        kernel.quantize(vectors)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 5))
def test_threads_change_nothing(data: st.DataObject, number: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = int(rng.integers(1, 4000))
    vectors, query = unit_rows(rng, count).astype(np.float16), unit_rows(rng, 3)
    offsets = data.draw(segments(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LEAST_SHARE", 7)
        for path in kernel.paths():
            one = kernel.exact(query, vectors, offsets, threads=1, path=path)
            assert np.array_equal(kernel.exact(query, vectors, offsets, threads=number, path=path), one)


def test_what_fails_in_a_thread_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST_SHARE", 1)
    ranges = np.array([[0, 4], [4, 8], [8, 12], [12, 16]])

    def work(part: NDArray[np.int64], maxima: NDArray[np.float32]) -> None:
        maxima[:] = 1
        if part.max(initial=0) == 16:
            raise IndexError("of the work")

    with pytest.raises(IndexError, match="of the work"):
        threads.shared(work, ranges, 1, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_searches_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LEAST_SHARE", 1)
    kernel.exact(QUERY, VECTORS, OFFSETS, threads=2)
    child = os.fork()
    if not child:
        # Ends a child that waits for ever, whatever the test runner does with this signal.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        os._exit(0 if kernel.exact(QUERY, VECTORS, OFFSETS, threads=2).shape == (1, 2) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_any_offset_in_memory_will_do() -> None:
    rng = np.random.default_rng(6)
    query, vectors = unit_rows(rng, 18), unit_rows(rng, 150).astype(np.float16)
    held, offsets = kernel.quantize(vectors), np.array([0, 70, 150])
    expected = kernel.scan(query, held.codes, held.scales, offsets), kernel.exact(query, vectors, offsets)
    for shift in range(1, 64, 9):
        moved = np.empty(150 * 128 + shift, np.int8)[shift:].reshape(150, 128)
        moved[:] = held.codes
        halves = np.empty(150 * 128 + shift, np.float16)[shift:].reshape(150, 128)
        halves[:] = vectors
        for path in kernel.paths():
            assert np.array_equal(kernel.scan(query, moved, held.scales, offsets, path=path), expected[0])
            assert np.allclose(kernel.exact(query, halves, offsets, path=path), expected[1], rtol=0, atol=2e-6)


QUERY = np.zeros((2, 128), np.float32)
VECTORS = np.zeros((4, 128), np.float16)
CODES, SCALES, OFFSETS = np.zeros((4, 128), np.int8), np.zeros(4, np.float32), np.array([0, 4])
UNALIGNED = np.frombuffer(bytes(17), np.uint8)[1:].view(np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernel.scan(QUERY.astype(float), CODES, SCALES, OFFSETS), TypeError, "query must be float32"),
        (lambda: kernel.scan(QUERY[:0], CODES, SCALES, OFFSETS), ValueError, "at least one vector"),
        (lambda: kernel.scan(QUERY * np.nan, CODES, SCALES, OFFSETS), ValueError, "query must be finite"),
        (lambda: kernel.scan(QUERY + np.float32(2e15), CODES, SCALES, OFFSETS), ValueError, "no number beyond"),
        (lambda: kernel.scan(QUERY[:, :64], CODES, SCALES, OFFSETS), ValueError, r"\[any, 128\], not \[2, 64\]"),
        (lambda: kernel.scan(QUERY[0], CODES, SCALES, OFFSETS), ValueError, "query must have the shape"),
        (lambda: kernel.scan(QUERY.tolist(), CODES, SCALES, OFFSETS), TypeError, "numpy array, not list"),
        (lambda: kernel.scan(QUERY, CODES.view(np.uint8), SCALES, OFFSETS), TypeError, "codes must be int8"),
        (lambda: kernel.scan(QUERY, np.asfortranarray(CODES), SCALES, OFFSETS), ValueError, "C-contiguous"),
        (lambda: kernel.scan(QUERY, CODES[::2], SCALES[:2], OFFSETS), ValueError, "C-contiguous"),
        (lambda: kernel.scan(QUERY, CODES, SCALES[:3], OFFSETS), ValueError, r"scales must have the shape \[4\]"),
        (lambda: kernel.scan(QUERY, CODES, UNALIGNED, OFFSETS), ValueError, "aligned"),
        (lambda: kernel.scan(QUERY, CODES, SCALES.astype(">f4"), OFFSETS), TypeError, "scales must be float32"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, OFFSETS.astype(np.int32)), TypeError, "segments must be int64"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, OFFSETS[:0]), ValueError, "at least one offset"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, np.array([0, 3, 2, 4])), ValueError, "must ascend within 0..4"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, np.array([0, 5])), ValueError, "must ascend within 0..4"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, np.array([-1, 4])), ValueError, "must ascend within 0..4"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, np.array([[3, 2]])), ValueError, "must ascend within 0..4"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, np.zeros((2, 3), np.int64)), ValueError, "segments must have"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, OFFSETS, planes=3), ValueError, "planes must be 1 or 2"),
        (lambda: kernel.scan(QUERY, CODES, SCALES, OFFSETS, path="mmx"), ValueError, "path must be one of"),
        (lambda: kernel.upper(QUERY, CODES, SCALES, SCALES[:2], OFFSETS, reach=1), ValueError, "residuals must have"),
        (lambda: kernel.upper(QUERY, CODES, SCALES, SCALES, OFFSETS, reach=np.nan), ValueError, "reach must be"),
        (lambda: kernel.exact(QUERY, VECTORS.astype(np.float32), OFFSETS), TypeError, "vectors must be float16"),
        (lambda: kernel.exact(QUERY, VECTORS[:, ::-1], OFFSETS), ValueError, "C-contiguous"),
        (lambda: kernel.quantize(VECTORS[:, :64].copy()), ValueError, "vectors must have the shape"),
    ],
)
def test_what_cannot_be_searched_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_negative_number_of_threads_is_refused(compiled: bool) -> None:
    if not compiled:
        pytest.skip("no C compiler: numpy chooses its own threads")
    with pytest.raises(ValueError, match="threads must be at least 0"):
        kernel.exact(QUERY, VECTORS, OFFSETS, threads=-1)


def test_the_processors_paths_are_found(compiled: bool) -> None:
    if not compiled:
        pytest.skip("no C compiler")
    found = kernel.paths()
    assert found[-2:] == ("scalar", "numpy")
    assert len(set(found)) == len(found)


def test_codes_of_two_planes_fit_sixteen_bits() -> None:
    tokens = codes.plain_tokens(np.eye(128, dtype=np.float32)[:3] * np.float32(-7), 2)
    assert tokens.codes.min() == -codes.LARGEST[2] == -(127 * 128 + 63)
