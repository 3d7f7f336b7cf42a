"""Measures by name, and their values for every query: all arithmetic is that of the library ir-measures.

A measure is written as ir-measures writes it: ``nDCG@10``, ``R@1``, ``RR``, ``AP``, ``P(rel=2)@5`` (MacAvaney et al.,
"Streamlining Evaluation with ir-measures", arXiv 2111.13466). ``mAP`` and ``MRR`` stand for the means of ``AP``
and ``RR``.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clamr_cli.errors import MissingExtra, UsageError

try:
    import ir_measures
except ImportError as error:
    raise MissingExtra("the evaluation", "eval") from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Qrels = Mapping[str, Mapping[str, int]]
    Ranking = Mapping[str, Sequence[str]]

DEFAULT_MEASURES: Final = ("nDCG@10", "R@1", "R@10", "RR", "AP")

LARGEST_CUTOFF: Final = 1_000_000
"""The C library below ends the process on a cutoff of 0."""

_HINT: Final = "write it like nDCG@10, R@1, RR, AP or P(rel=2)@5"
_ALIASES: Final = {"map": "AP", "mrr": "RR", "ndcg": "nDCG", "recall": "R", "precision": "P"}


def parse(name: str) -> str:
    """A measure's name as ir-measures writes it.

    Raises:
        UsageError: there is no such measure, or nothing installed computes it.
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
    # Providers hand ids on to C and Perl, which take numbers only, and no blanks.
    number = {query: str(place) for place, query in enumerate(qrels, 1)}
    plain = {number[query]: {_plain(doc): grade for doc, grade in grades.items()} for query, grades in qrels.items()}
    run = {
        number[query]: {_plain(doc): float(len(docs) - place) for place, doc in enumerate(docs)}
        for query, docs in ranking.items()
        if query in number and docs
    }
    return {name: _values(name, plain, run) for name in names}


def _values(name: str, qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]) -> NDArray[np.float64]:
    values = dict.fromkeys(qrels, 0.0)
    if not run:
        return np.zeros(len(values))
    # One provider logs every query that another tool's run lacks.
    logging.getLogger("ir_measures").setLevel(logging.ERROR)
    try:
        for found in ir_measures.iter_calc([_measure(name)], qrels, run):
            values[found.query_id] = float(found.value)
    except UsageError:
        raise
    except Exception as error:  # each provider raises its own kinds
        raise UsageError(f"{name} cannot be computed ({_line(error)})", "leave the measure out") from error
    return np.array(list(values.values()))


def _measure(name: str) -> Any:  # noqa: ANN401 -- the library is not typed
    word = re.match(r"[A-Za-z]+", name.strip())
    asked = name.strip()
    if word is not None:
        asked = _ALIASES.get(word[0].lower(), word[0]) + asked[word.end() :]
    try:
        measure = ir_measures.parse_measure(asked)
        known = ir_measures.DefaultPipeline.supports(measure)  # type: ignore[no-untyped-call]
    except (ValueError, NameError, AssertionError, TypeError, KeyError) as error:
        raise UsageError(f"there is no measure {name!r}", _HINT) from error
    if not known:
        raise UsageError(f"nothing that is installed computes {name}", _HINT)
    cutoff = measure.params.get("cutoff", 1)
    if not 1 <= cutoff <= LARGEST_CUTOFF:
        raise UsageError(f"{name} looks at {cutoff} documents", f"give a number from 1 to {LARGEST_CUTOFF}")
    return measure


def _plain(document: str) -> str:
    """A document's id without anything that a provider could take for a border between fields."""
    return document.encode("utf-8", "surrogatepass").hex()


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
