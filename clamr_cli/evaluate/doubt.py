"""How sure a mean is: its confidence interval, whether two systems differ, whether scores tell answers from none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LEVEL: Final = 0.95
_AT_ONCE: Final = 500
"""Resamples in memory together."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Resamples of bootstrap and permutation test, and the seed of both; 0 resamples leave both out."""

    resamples: int = 2000
    seed: int = 0


def interval(values: NDArray[np.float64], sampling: Sampling) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean over queries [n]: percentiles of the bootstrap; None where unknown."""
    if len(values) < 2 or not sampling.resamples:
        return None
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=sampling.resamples,
        batch=_AT_ONCE,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(sampling.seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def difference(ours: NDArray[np.float64], other: NDArray[np.float64], sampling: Sampling) -> float | None:
    """The p-value, two-sided, of two systems being as good: a paired randomisation test over queries.

    The test flips which system a query's two values came from (Smucker, Allan and Carterette, "A comparison of
    statistical significance tests for information retrieval evaluation", CIKM 2007). It is not corrected for how many
    systems are compared.

    Args:
        ours: [n] values of one system.
        other: [n] values of the other for the same queries.
        sampling: how many random flips; all of them where there are fewer.
    """
    if len(ours) < 2 or not sampling.resamples:
        return None
    if np.array_equal(ours, other):
        return 1.0
    found = stats.permutation_test(
        (ours, other),
        _gap,
        permutation_type="samples",
        vectorized=True,
        n_resamples=sampling.resamples,
        batch=_AT_ONCE,
        rng=np.random.default_rng(sampling.seed),
    )
    return float(found.pvalue)


def _gap(one: NDArray[np.float64], other: NDArray[np.float64], axis: int = -1) -> Any:  # noqa: ANN401
    return np.mean(one, axis=axis) - np.mean(other, axis=axis)


def auroc(answered: Sequence[float], unanswered: Sequence[float]) -> float | None:
    """The chance that a score of ``answered`` is higher than one of ``unanswered``; None where one is empty.

    It is the area under the curve of a floor that rises over both.
    """
    if not answered or not unanswered:
        return None
    statistic = stats.mannwhitneyu(answered, unanswered).statistic
    return float(statistic) / (len(answered) * len(unanswered))
