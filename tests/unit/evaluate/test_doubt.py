"""Intervals, paired tests and separation against their definitions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.evaluate import doubt
from clamr_cli.evaluate.doubt import Sampling

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=7)


def test_an_interval_of_many_values_is_that_of_the_normal_law() -> None:
    sample = np.random.default_rng(1).uniform(size=400)
    low, high = doubt.interval(sample, Sampling(4000)) or (0.0, 0.0)
    half = 1.96 * sample.std() / 20
    assert (low, high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.003)


def test_an_interval_is_the_same_with_the_same_seed() -> None:
    sample = np.random.default_rng(2).uniform(size=20)
    assert doubt.interval(sample, Sampling(200, 7)) == doubt.interval(sample, Sampling(200, 7))
    assert doubt.interval(sample, Sampling(200, 7)) != doubt.interval(sample, Sampling(200, 8))


def test_of_one_value_or_without_resamples_nothing_is_known() -> None:
    one = np.array([0.5])
    assert doubt.interval(one, Sampling()) is None
    assert doubt.difference(one, one + 1, Sampling()) is None
    assert doubt.interval(np.ones(5), Sampling(0)) is None
    assert doubt.interval(np.ones(5), Sampling()) == (1.0, 1.0)


@given(values, st.integers(0, 99))
def test_the_paired_test_counts_flips_that_differ_as_much(sample: list[float], seed: int) -> None:
    ours = np.array(sample)
    other = np.random.default_rng(seed).permutation(ours)
    gaps = ours - other
    flips = [abs((gaps * signs).mean()) for signs in product([1, -1], repeat=len(gaps))]
    expected = np.mean([flip >= abs(gaps.mean()) - 1e-9 for flip in flips])
    assert doubt.difference(ours, other, Sampling(5000)) == pytest.approx(min(1.0, expected))


def test_a_clear_difference_is_sure_and_chance_is_not() -> None:
    rng = np.random.default_rng(3)
    ours = rng.uniform(size=100)
    assert (doubt.difference(ours + 0.2, ours + rng.normal(0, 0.1, 100), Sampling()) or 1) < 0.01
    assert (doubt.difference(ours, ours + rng.normal(0, 0.1, 100), Sampling()) or 0) > 0.05


scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, -np.inf]), min_size=1, max_size=8)


@given(scores, scores)
def test_separation_is_the_chance_of_the_right_order(answered: list[float], unanswered: list[float]) -> None:
    pairs = [1.0 if a > u else 0.5 if a == u else 0.0 for a in answered for u in unanswered]
    assert doubt.auroc(answered, unanswered) == pytest.approx(np.mean(pairs))


def test_separation_needs_both_kinds() -> None:
    assert doubt.auroc([], [1.0]) is None
    assert doubt.auroc([1.0], []) is None
