"""Reports of runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.run import EvaluationReport, make_task, report
from clamr_cli.evaluate.systems import QueryRanking, Run, rank
from clamr_cli.queries import LabelledQuery
from clamr_cli.types import MODALITY_IDS, Modality

VIDEO, SPEECH = MODALITY_IDS[Modality.VIDEO], MODALITY_IDS[Modality.SPEECH]
QUERIES = [
    LabelledQuery("a", "x", Modality.VIDEO, {"v1": 1}),
    LabelledQuery("b", "x", Modality.VIDEO, {"v2": 1, "v3": 1}),
    LabelledQuery("c", "x", Modality.SPEECH, {"v1": 1}),
    LabelledQuery("d", "x", None, {"v2": 1}),
]


def scored(queries: list[LabelledQuery], *made: Run) -> EvaluationReport:
    return report(make_task(queries), made, ["RR", "R@1"], Sampling(100))


def ranked(name: str, *answers: QueryRanking) -> Run:
    return Run(name, answers)


OURS = ranked(
    "ours",
    QueryRanking(("v1", "v2"), (3.0, 1.0), (VIDEO, SPEECH)),
    QueryRanking(("v1", "v3", "v2"), (2.0, 1.5, 1.0), (VIDEO, SPEECH, VIDEO)),
    QueryRanking(("v1",), (1.0,), (SPEECH,)),
    QueryRanking((), ()),
)


def test_means_are_told_over_all_and_by_label() -> None:
    (line,) = scored(QUERIES, OURS).systems
    assert line.means == pytest.approx({"RR": (1 + 0.5 + 1) / 4, "R@1": 0.5})
    assert line.by_label == pytest.approx({"video": 0.75, "speech": 1.0, "base": 0.0})
    assert line.p is None
    assert line.interval is not None
    assert line.interval[0] <= line.means["RR"] <= line.interval[1]


def test_modality_accuracy_looks_at_the_best_answer_of_labelled_queries() -> None:
    (line,) = scored(QUERIES, OURS).systems
    assert line.accuracy == pytest.approx(2 / 3)
    assert line.accuracy_by_label == {"video": 0.5, "speech": 1.0}
    silent = ranked("silent", *(QueryRanking(answer.documents, answer.scores) for answer in OURS.rankings))
    assert scored(QUERIES, silent).systems[0].accuracy is None


def test_queries_that_aim_at_what_is_heard_are_counted_too() -> None:
    found = scored(
        [LabelledQuery("a", "a bark", Modality.AUDIO, {"v1": 1})], ranked("ours", QueryRanking(("v1",), (1.0,)))
    )
    assert found.rows == {"audio": 1}
    assert found.systems[0].by_label == {"audio": 1.0}


def test_scores_are_compared_with_those_without_the_answers() -> None:
    found = scored(QUERIES[:3], ranked("ours", *OURS.rankings[:3]))
    # Answered 3, 2, 1; left without their answers 1, 2 and nothing at all.
    assert found.separation == "leave-one-out"
    assert found.systems[0].auroc == pytest.approx((3 + 2.5 + 1.5) / 9)


def test_queries_without_an_answer_are_compared_with_where_there_are_any() -> None:
    queries = [*QUERIES[:1], LabelledQuery("e", "nothing of the kind")]
    found = scored(queries, ranked("ours", OURS.rankings[0], QueryRanking(("v2",), (5.0,))))
    assert (found.separation, found.unanswered, found.rows) == ("unanswerable", 1, {"video": 1})
    assert found.systems[0].auroc == 0.0


def test_others_are_tested_against_the_first() -> None:
    worse = ranked(
        "worse", *(QueryRanking(("v9", *answer.documents), (9.0, *answer.scores)) for answer in OURS.rankings)
    )
    first, second, third = scored(QUERIES, OURS, OURS, worse).systems
    assert (first.p, second.p) == (None, 1.0)
    assert third.p == pytest.approx(0.25)


def test_ties_stand_in_the_order_of_the_videos_and_the_unscored_are_no_answers() -> None:
    scores, lengths = np.array([[1.0, 2.0, 2.0, -np.inf]], np.float32), np.array([2.0], np.float32)
    (answer,) = rank("t", scores, ["a", "b", "c", "d"], lengths=lengths).rankings
    assert answer == QueryRanking(("b", "c", "a"), (1.0, 1.0, 0.5))


def test_published_modality_accuracy_is_met_but_for_queries_of_no_modality(shared: Path) -> None:
    published = json.loads((shared / "oracle" / "metrics.json").read_text())["modality_max"]
    inputs = np.load(shared / "oracle" / "metrics_inputs.npz")
    of_type = {0: None, 1: Modality.VIDEO, 2: Modality.OCR, 3: Modality.SPEECH, 4: Modality.METADATA}
    ids = {0: 0} | {number: MODALITY_IDS[modality] for number, modality in of_type.items() if modality}
    names = np.array([f"d{number:02}" for number in range(14)])
    queries, answers = [], []
    for number, aim in enumerate(inputs["query_types"]):
        queries.append(LabelledQuery(f"q{number}", "x", of_type[int(aim)], {names[number]: 1}))
        order = np.argsort(-inputs["sim_modality_max"][number], kind="stable")
        winners = [ids[winner(inputs, number, document)] for document in order]
        answers.append(
            QueryRanking(tuple(names[order]), tuple(inputs["sim_modality_max"][number][order]), tuple(winners))
        )
    (line,) = scored(queries, ranked("published", *answers)).systems
    # There the one query of no modality counts as wrong.
    assert 100 * line.accuracy * 13 / 14 == pytest.approx(published["eval_modality_accuracy"], abs=1e-3)
    for name, modality in (("video", "video"), ("ocr", "ocr"), ("asr", "speech"), ("description", "metadata")):
        assert 100 * line.accuracy_by_label[modality] == pytest.approx(published[f"eval_modality_acc_{name}"], abs=1e-3)


def winner(inputs: dict[str, np.ndarray], query: int, document: int) -> int:
    """The modality with the highest sum of its own."""
    products = inputs["query"][query] @ inputs["doc"][document].T
    ids = inputs["modality_ids"][document]
    sums = {number: products[:, ids == number].max(axis=1).sum() for number in (1, 2, 3, 4) if (ids == number).any()}
    return max(sums, key=lambda number: sums[number])
