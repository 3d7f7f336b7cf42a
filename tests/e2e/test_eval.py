"""``clamr eval`` on an indexed library: systems of the real models, and files that other tools can check."""

import json
from pathlib import Path

import ir_measures
import pytest

from tests.e2e.conftest import Shelf
from tests.e2e.library import QUESTIONS


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "queries.json"
    items = [{"video": one.file, "query": one.query, "modality": one.modality} for one in QUESTIONS]
    path.write_text(json.dumps(items))
    return path


def test_every_system_is_measured_on_the_same_library(shelf: Shelf, questions: Path, tmp_path: Path) -> None:
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    files = ("--run-out", str(run), "--qrels-out", str(qrels))
    ended = shelf.clamr("eval", str(questions), "--json", "--measure", "nDCG@10", "--measure", "R@1", *files).ok()
    systems = {record["system"]: record for record in ended.records}
    parts = ("video", "speech", "ocr", "metadata", "oracle router")
    assert list(systems) == [
        "mini joint",
        *(f"mini {part}" for part in parts),
        "mini apart",
        *(f"sentences {part}" for part in (*parts[:4], "mean", "max", "RRF", parts[4])),
        "BM25 all texts",
    ]
    joint = systems["mini joint"]
    # Every question finds its video first by a search, and by the modality it aims at.
    assert joint["measures"] == {"nDCG@10": 1.0, "R@1": 1.0}
    assert joint["modality_accuracy"] == 1.0
    for modality in parts[:4]:
        assert systems[f"sentences {modality}"]["by_modality"][modality] > 0.4
        assert systems[f"sentences {modality}"]["measures"]["nDCG@10"] < joint["measures"]["nDCG@10"]
    judged, ranked = ir_measures.read_trec_qrels(str(qrels)), ir_measures.read_trec_run(str(run))
    assert ir_measures.calc_aggregate([ir_measures.R @ 1], judged, ranked) == {ir_measures.R @ 1: 1.0}


def test_pictures_that_are_kept_are_encoded_again(small: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    query = {"id": "a", "query": "lost umbrellas", "modality": "ocr", "video": "card.mp4"}
    path.write_text(json.dumps(query) + "\n")
    ended = small.clamr("eval", str(path), "--json").ok()
    systems = {record["system"]: record for record in ended.records}
    # This encoder sees no context, so that modalities encoded apart are as good.
    assert systems["hashed apart"]["measures"] == systems["hashed joint"]["measures"]
    assert "sentences video" in systems
    assert b"pictures" not in ended.err
