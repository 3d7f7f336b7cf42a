"""Measures, intervals and tests against formulas written out by hand, and against published values."""

import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.errors import UsageError, pip_install
from clamr_cli.evaluate import metrics
from clamr_cli.evaluate.metrics import Sampling

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


@pytest.mark.slow
@given(st.lists(st.tuples(judged, rankings), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_values_are_those_of_the_formulas(cases: list[tuple[dict[str, int], list[str]]]) -> None:
    names = ["nDCG@10", "nDCG@3", "R@1", "R@5", "RR", "AP"]
    qrels = {f"query {place}": grades for place, (grades, _) in enumerate(cases)}
    ranking = {f"query {place}": documents for place, (_, documents) in enumerate(cases)}
    found = metrics.per_query(names, qrels, ranking)
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
        found = metrics.per_query(["nDCG@10", "R@1", "R@5", "R@10"], qrels, ranking)
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
        metrics.parse(name)


@pytest.mark.parametrize(
    ("asked", "name"),
    [("mAP", "AP"), ("MAP@10", "AP@10"), ("MRR", "RR"), ("ndcg@10", "nDCG@10"), ("P(rel=2)@5", "P(rel=2)@5")],
)
def test_measures_have_one_name(asked: str, name: str) -> None:
    assert metrics.parse(asked) == name == metrics.parse(name)


def test_graded_measures_of_other_programs_take_any_ids() -> None:
    qrels = {"a b": {"my clip.mp4": 1, "\udce9": 2}}
    found = metrics.per_query(["ERR@20"], qrels, {"a b": ["\udce9", "other\t1", "my clip.mp4"]})
    assert 0 < found["ERR@20"][0] < 1


def test_a_query_that_was_not_answered_counts_as_0() -> None:
    qrels = {"a": {"x": 1}, "b": {"y": 1}}
    assert metrics.per_query(["RR"], qrels, {"b": ["y"]})["RR"].tolist() == [0.0, 1.0]
    assert metrics.per_query(["RR"], qrels, {})["RR"].tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_without_the_library_the_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['ir_measures'] = None\nfrom clamr_cli.cli import main; sys.exit(main(['eval', 'q']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"clamr: the evaluation needs an optional package: {pip_install('eval')}\n"


# --- significance -----------------------------------------------------------------------------------------------------

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=7)


def test_an_interval_of_many_values_is_that_of_the_normal_law() -> None:
    sample = np.random.default_rng(1).uniform(size=400)
    low, high = metrics.interval(sample, Sampling(4000)) or (0.0, 0.0)
    half = 1.96 * sample.std() / 20
    assert (low, high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.003)


def test_an_interval_is_the_same_with_the_same_seed() -> None:
    sample = np.random.default_rng(2).uniform(size=20)
    assert metrics.interval(sample, Sampling(200, 7)) == metrics.interval(sample, Sampling(200, 7))
    assert metrics.interval(sample, Sampling(200, 7)) != metrics.interval(sample, Sampling(200, 8))


def test_of_one_value_or_without_resamples_nothing_is_known() -> None:
    one = np.array([0.5])
    assert metrics.interval(one, Sampling()) is None
    assert metrics.difference(one, one + 1, Sampling()) is None
    assert metrics.interval(np.ones(5), Sampling(0)) is None
    assert metrics.interval(np.ones(5), Sampling()) == (1.0, 1.0)


@given(values, st.integers(0, 99))
def test_the_paired_test_counts_flips_that_differ_as_much(sample: list[float], seed: int) -> None:
    ours = np.array(sample)
    other = np.random.default_rng(seed).permutation(ours)
    gaps = ours - other
    flips = [abs((gaps * signs).mean()) for signs in product([1, -1], repeat=len(gaps))]
    expected = np.mean([flip >= abs(gaps.mean()) - 1e-9 for flip in flips])
    assert metrics.difference(ours, other, Sampling(5000)) == pytest.approx(min(1.0, expected))


def test_a_clear_difference_is_sure_and_chance_is_not() -> None:
    rng = np.random.default_rng(3)
    ours = rng.uniform(size=100)
    assert (metrics.difference(ours + 0.2, ours + rng.normal(0, 0.1, 100), Sampling()) or 1) < 0.01
    assert (metrics.difference(ours, ours + rng.normal(0, 0.1, 100), Sampling()) or 0) > 0.05


scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, -np.inf]), min_size=1, max_size=8)


@given(scores, scores)
def test_separation_is_the_chance_of_the_right_order(answered: list[float], unanswered: list[float]) -> None:
    pairs = [1.0 if a > u else 0.5 if a == u else 0.0 for a in answered for u in unanswered]
    assert metrics.auroc(answered, unanswered) == pytest.approx(np.mean(pairs))


def test_separation_needs_both_kinds() -> None:
    assert metrics.auroc([], [1.0]) is None
    assert metrics.auroc([1.0], []) is None
