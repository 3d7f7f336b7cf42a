"""Measures against formulas written out by hand, and against published values."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.errors import UsageError, pip_install
from clamr_cli.evaluate import measures

DOCUMENTS = [f"d {number}" for number in range(12)]


def by_hand(name: str, grades: dict[str, int], ranking: list[str]) -> float:
    """The textbook formulas; grades are positive."""
    kind, _, cutoff = name.partition("@")
    gains = [grades.get(document, 0) for document in ranking[: int(cutoff) if cutoff else None]]
    places = [place for place, gain in enumerate(gains, 1) if gain]
    match kind:
        case "R":
            return len(places) / len(grades)
        case "RR":
            return 1 / places[0] if places else 0.0
        case "AP":
            return sum(found / place for found, place in enumerate(places, 1)) / len(grades)
        case _:
            ideal = sorted(grades.values(), reverse=True)[: int(cutoff)]
            return discounted(gains) / discounted(ideal)


def discounted(gains: list[int]) -> float:
    return sum(gain / math.log2(1 + place) for place, gain in enumerate(gains, 1))


judged = st.dictionaries(st.sampled_from([*DOCUMENTS, "elsewhere"]), st.integers(1, 3), min_size=1, max_size=6)
rankings = st.lists(st.sampled_from(DOCUMENTS), unique=True, max_size=12)


@given(st.lists(st.tuples(judged, rankings), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_values_are_those_of_the_formulas(cases: list[tuple[dict[str, int], list[str]]]) -> None:
    names = ["nDCG@10", "nDCG@3", "R@1", "R@5", "RR", "AP"]
    qrels = {f"query {place}": grades for place, (grades, _) in enumerate(cases)}
    ranking = {f"query {place}": documents for place, (_, documents) in enumerate(cases)}
    found = measures.per_query(names, qrels, ranking)
    for name in names:
        assert found[name].tolist() == pytest.approx([by_hand(name, *case) for case in cases], abs=1e-9)


def test_published_values_are_met(shared: Path) -> None:
    published = json.loads((shared / "oracle" / "metrics.json").read_text())
    inputs = np.load(shared / "oracle" / "metrics_inputs.npz")
    types = inputs["query_types"]
    names = {1: "video", 2: "ocr", 3: "asr", 4: "description"}
    for scoring in ("token_max", "modality_max"):
        scores = inputs[f"sim_{scoring}"]
        ranking = {f"q{query}": [f"d{one}" for one in np.argsort(-row)] for query, row in enumerate(scores)}
        qrels = {f"q{query}": {f"d{query}": 1} for query in range(len(scores))}
        found = measures.per_query(["nDCG@10", "R@1", "R@5", "R@10"], qrels, ranking)
        for name, values in found.items():
            assert 100 * values.mean() == pytest.approx(published[scoring][f"eval_{name.lower()}"], abs=1e-3)
        for number, name in names.items():
            value = 100 * found["nDCG@10"][types == number].mean()
            assert value == pytest.approx(published[scoring][f"eval_ndcg@10_{name}"], abs=1e-3)


@pytest.mark.parametrize(
    "name", ["", "foo", "nDCG@", "nDCG@x", "nDCG@0", "R@-1", "R@9999999999", "IPrec@7", "print('x')"]
)
def test_what_is_no_measure_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        measures.parse(name)


@pytest.mark.parametrize(
    ("asked", "name"),
    [("mAP", "AP"), ("MAP@10", "AP@10"), ("MRR", "RR"), ("ndcg@10", "nDCG@10"), ("P(rel=2)@5", "P(rel=2)@5")],
)
def test_measures_have_one_name(asked: str, name: str) -> None:
    assert measures.parse(asked) == name == measures.parse(name)


def test_graded_measures_of_other_programs_take_any_ids() -> None:
    qrels = {"a b": {"my clip.mp4": 1, "\udce9": 2}}
    found = measures.per_query(["ERR@20"], qrels, {"a b": ["\udce9", "other\t1", "my clip.mp4"]})
    assert 0 < found["ERR@20"][0] < 1


def test_a_query_that_was_not_answered_counts_as_0() -> None:
    qrels = {"a": {"x": 1}, "b": {"y": 1}}
    assert measures.per_query(["RR"], qrels, {"b": ["y"]})["RR"].tolist() == [0.0, 1.0]
    assert measures.per_query(["RR"], qrels, {})["RR"].tolist() == [0.0, 0.0]


def test_without_the_library_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['ir_measures'] = None\nfrom clamr_cli.cli import main; sys.exit(main(['eval', 'q']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"clamr: the evaluation needs an optional package: {pip_install('eval')}\n"
