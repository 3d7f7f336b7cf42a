"""Measures by name, and how sure their means are.

All arithmetic of measures is that of the library ir-measures. A measure is written as ir-measures writes it:
``nDCG@10``, ``R@1``, ``RR``, ``AP``, ``P(rel=2)@5`` (MacAvaney et al., "Streamlining Evaluation with ir-measures",
arXiv 2111.13466). ``mAP`` and ``MRR`` stand for the means of ``AP`` and ``RR``. Confidence intervals and significance
tests are scipy's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from clamr_cli.errors import UsageError, first_line
from clamr_cli.evaluate.data import require_ir_measures

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
Ranking: TypeAlias = Mapping[str, Sequence[str]]

DEFAULT_MEASURES: Final = ("nDCG@10", "R@1", "R@10", "RR", "AP")

LARGEST_CUTOFF: Final = 1_000_000
"""The C library below ends the process on a cutoff of 0."""

_HINT: Final = "write it like nDCG@10, R@1, RR, AP or P(rel=2)@5"
_ALIASES: Final = {"map": "AP", "mrr": "RR", "ndcg": "nDCG", "recall": "R", "precision": "P"}

_LEVEL: Final = 0.95
_BATCH: Final = 500
"""Resamples in memory together."""


def parse(name: str) -> str:
    """A measure's name as ir-measures writes it.

    Raises:
        UsageError: the measure is unknown, or nothing installed computes it.
        MissingExtra: ir-measures is not installed.
    """
    return str(_measure(name))


def per_query(names: Sequence[str], qrels: Qrels, ranking: Ranking) -> dict[str, NDArray[np.float64]]:
    """The values of measures for every query of the judgements, in their order; 0 for one without a ranking.

    Args:
        names: measures, as :func:`parse` gives them.
        qrels: grades of documents by query; documents that are not named are not relevant.
        ranking: documents by query, best first.

    Returns:
        [queries] for each name.

    Raises:
        UsageError: a measure cannot be computed on this.
    """

    def plain(document: str) -> str:
        return document.encode("utf-8", "surrogatepass").hex()

    # Providers hand ids on to C and Perl, which take numbers only, and no blanks.
    number = {query: str(place) for place, query in enumerate(qrels, 1)}
    judged = {number[query]: {plain(doc): grade for doc, grade in grades.items()} for query, grades in qrels.items()}
    run = {
        number[query]: {plain(doc): float(len(docs) - place) for place, doc in enumerate(docs)}
        for query, docs in ranking.items()
        if query in number and docs
    }
    # One provider logs every query that another tool's run lacks.
    logging.getLogger("ir_measures").setLevel(logging.ERROR)
    values: dict[str, NDArray[np.float64]] = {}
    for name in names:
        measure = _measure(name)
        by_query = dict.fromkeys(judged, 0.0)
        try:
            for result in require_ir_measures().iter_calc([measure], judged, run) if run else ():
                by_query[result.query_id] = float(result.value)
        except Exception as error:  # each provider raises its own kinds
            raise UsageError(f"cannot compute {name} ({first_line(error)})", "leave the measure out") from error
        values[name] = np.array(list(by_query.values()))
    return values


def _measure(name: str) -> Any:  # noqa: ANN401 -- the library is not typed
    library = require_ir_measures()
    given = name.strip()
    if word := re.match(r"[A-Za-z]+", given):
        given = _ALIASES.get(word[0].lower(), word[0]) + given[word.end() :]
    try:
        measure = library.parse_measure(given)
        supported = library.DefaultPipeline.supports(measure)
    except (ValueError, NameError, AssertionError, TypeError, KeyError) as error:
        raise UsageError(f"invalid measure {name!r}", _HINT) from error
    if not supported:
        raise UsageError(f"no installed library computes {name}", _HINT)
    cutoff = measure.params.get("cutoff", 1)
    if not 1 <= cutoff <= LARGEST_CUTOFF:
        raise UsageError(f"invalid cutoff {cutoff} in {name}", f"give a number from 1 to {LARGEST_CUTOFF}")
    return measure


# --- significance -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampling:
    """Resamples of bootstrap and permutation test, and the seed of both; 0 resamples leave both out."""

    resamples: int = 2000
    seed: int = 0


def interval(values: NDArray[np.float64], sampling: Sampling) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean over queries [n]: percentiles of the bootstrap; None if unknown."""
    if len(values) < 2 or not sampling.resamples:
        return None
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=sampling.resamples,
        batch=_BATCH,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(sampling.seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def difference(ours: NDArray[np.float64], other: NDArray[np.float64], sampling: Sampling) -> float | None:
    """The p-value, two-sided, of two systems being equally good: a paired randomisation test over queries.

    The test flips which system a query's two values came from (Smucker, Allan and Carterette, "A comparison of
    statistical significance tests for information retrieval evaluation", CIKM 2007). It is not corrected for how many
    systems are compared.

    Args:
        ours: [n] values of one system.
        other: [n] values of the other for the same queries.
        sampling: how many random flips; all of them if there are fewer.
    """
    if len(ours) < 2 or not sampling.resamples:
        return None
    if np.array_equal(ours, other):
        return 1.0

    def gap(one: NDArray[np.float64], two: NDArray[np.float64], axis: int = -1) -> Any:  # noqa: ANN401
        return np.mean(one, axis=axis) - np.mean(two, axis=axis)

    result = stats.permutation_test(
        (ours, other),
        gap,
        permutation_type="samples",
        vectorized=True,
        n_resamples=sampling.resamples,
        batch=_BATCH,
        rng=np.random.default_rng(sampling.seed),
    )
    return float(result.pvalue)


def auroc(answered: Sequence[float], unanswered: Sequence[float]) -> float | None:
    """The chance that a score of ``answered`` is higher than one of ``unanswered``; None if one is empty.

    It is the area under the curve of a threshold that rises over both.
    """
    if not answered or not unanswered:
        return None
    statistic = stats.mannwhitneyu(answered, unanswered).statistic
    return float(statistic) / (len(answered) * len(unanswered))
