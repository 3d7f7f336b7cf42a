"""TREC files: what is written can be read, by us and by trec_eval."""

import os
from itertools import pairwise
from pathlib import Path

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import data
from clamr_cli.evaluate.data import escape, unescape
from clamr_cli.evaluate.run import run_of
from clamr_cli.queries import LabelledQuery

names = st.text(st.characters(exclude_categories=()), min_size=1, max_size=8)


@given(names, names)
def test_ids_are_one_column_and_stay_different(one: str, other: str) -> None:
    escaped = escape(one)
    assert escaped.split() == [escaped]
    assert escaped.isprintable() or not one.isprintable()
    escaped.encode("utf-8")
    assert (escaped == escape(other)) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_can_be_read_again(name: str) -> None:
    assert unescape(escape(name)) == name
    broken = os.fsdecode(b"caf\xe9 " + name.encode())
    assert unescape(escape(broken)) == broken


@given(
    st.dictionaries(
        names, st.dictionaries(names, st.floats(-50, 50, width=32), min_size=1, max_size=6), min_size=1, max_size=3
    )
)
@settings(deadline=None, max_examples=40)
def test_a_run_comes_back_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, dict[str, float]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "r.trec"
    ranking = {query: sorted(docs.items(), key=lambda item: -item[1]) for query, docs in found.items()}
    path.write_text("".join(data.run_lines(ranking, "my run")), encoding="utf-8")
    again = data.read_run(path)
    assert {query: [doc for doc, _ in docs] for query, docs in again.items()} == {
        escape(query): [escape(doc) for doc, _ in docs] for query, docs in ranking.items()
    }
    # Others know no order but the score: it must fall strictly.
    for docs in again.values():
        scores = [score for _, score in docs]
        assert all(high > low for high, low in pairwise(scores))


def test_other_tools_read_the_files_alike(tmp_path: Path) -> None:
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    # Tied, and in an order that trec_eval would turn round.
    run.write_text("".join(data.run_lines({"q 1": [("a", 2.0), ("b", 2.0), ("c d", 2.0)]}, "r")))
    qrels.write_text("".join(data.qrel_lines({"q 1": {"b": 1, "c d": 1}})))
    judged, ranked = list(ir_measures.read_trec_qrels(str(qrels))), list(ir_measures.read_trec_run(str(run)))
    assert ir_measures.calc_aggregate([ir_measures.AP], judged, ranked)[ir_measures.AP] == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )
    assert data.read_qrels(qrels) == {"q%201": {"b": 1, "c%20d": 1}}


def test_a_run_finds_its_queries_by_their_written_ids() -> None:
    queries = [LabelledQuery("q 1", "x", None, {"v1": 1}), LabelledQuery("q2", "y", None, {"v1": 1})]
    found = {"q%201": [("clip", 3.0), ("stranger", 2.0), ("v1", 1.0)]}
    run, unknown = run_of("r", found, queries, {"clip": "v1", "v1": "v1", "v2": "v2"})
    assert [answer.documents for answer in run.rankings] == [("v1",), ()]
    assert run.rankings[0].scores == (3.0,)
    assert unknown == ["stranger"]


@pytest.mark.parametrize(
    "text",
    ["", "q Q0 d 1 2.0\n", "q Q0 d 1 high r\n", "q Q0 d 1 nan r\n", "q Q0 d 1 2 r\nq Q0 d 2 1 r\n", "q Q0 d 1 2 r x\n"],
)
def test_what_is_no_run_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.trec"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.trec"):
        data.read_run(path)


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text("q Q0 d 1 2.0 r\n\n \r\nq Q0 e 2 high r\n")
    with pytest.raises(UsageError, match="bad:4: invalid run line"):
        data.read_run(path)
    path.write_text("\nq 0 d 1\nq 0 e\n")
    with pytest.raises(UsageError, match="bad:3: invalid judgement"):
        data.read_qrels(path)
    path.write_text("q 0 d 1\nq 0 e 9999999999\n")
    with pytest.raises(UsageError, match="bad:2: invalid judgement"):
        data.read_qrels(path)
    path.write_text('{"query_id": "a", "doc_id": "b"}\n{"query_id": "a", "doc_id": "b", "relevance": "1"}\n')
    with pytest.raises(UsageError, match="bad:2: invalid judgement"):
        data.read_qrels(path)
