"""``clamr eval``: what it prints and writes, and what it refuses."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Clamr
from tests.unit.cli.small_index import BEES

QUERIES = [
    {"id": "a", "query": "the crowd is marching", "modality": "speech", "video": "lagos.mp4"},
    {"id": "b", "query": "bees dance", "modality": "speech", "video": "bees"},
    {"id": "c d", "query": "sale today", "modality": None, "video": "77ff00aa11bb"},
]


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    return path


@pytest.mark.slow
def test_json_has_an_object_a_system(clamr: Clamr, db: Path, queries: Path) -> None:
    ended = clamr("--db", str(db), "eval", str(queries), "--json", "--measure", "mAP", "--measure", "R@1")
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert records[0]["system"] == "hashed joint"
    assert records[0]["measures"] == {"AP": 1.0, "R@1": 1.0}
    assert records[0]["by_modality"] == {"speech": 1.0, "base": 1.0}
    systems = [record["system"] for record in records]
    assert {"hashed speech", "hashed oracle router", "hashed apart", "BM25 all texts"} < set(systems)
    assert all(record["p"] is not None for record in records[1:])
    assert "leave one out" in ended.err


def test_tsv_and_csv_have_a_header_and_a_line_a_system(clamr: Clamr, db: Path, queries: Path) -> None:
    command = ("--db", str(db), "eval", str(queries), "--no-baselines")
    tsv = [line.split("\t") for line in clamr(*command).out.decode().splitlines()]
    commas = list(csv.reader(io.StringIO(clamr(*command, "--csv").out.decode())))
    assert tsv == commas
    assert [row[0] for row in tsv] == ["system", "hashed joint"]
    assert {len(row) for row in tsv} == {len(tsv[0])}


@pytest.mark.slow
@pytest.mark.parametrize("width", ["80", "200"])
def test_the_table_fits_its_screen(
    width: str, clamr: Clamr, db: Path, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    ended = clamr("--db", str(db), "eval", str(queries), "--table")
    assert ended.code == 0, ended.err
    shown = ended.out.decode()
    assert max(map(len, shown.splitlines())) <= int(width)
    assert shown.count("hashed oracle router") == (2 if width == "80" else 1)
    assert "0.815" in shown or "1.000" in shown


def test_what_is_written_scores_the_same_without_an_index(
    clamr: Clamr, db: Path, queries: Path, tmp_path: Path
) -> None:
    run, qrels = str(tmp_path / "ours.trec"), str(tmp_path / "qrels")
    first = clamr(
        "--db", str(db), "eval", str(queries), "--no-baselines", "--json", "--run-out", run, "--qrels-out", qrels
    )
    assert all(len(line.split()) == 6 for line in Path(run).read_text().splitlines())
    assert all(len(line.split()) == 4 for line in Path(qrels).read_text().splitlines())
    again = clamr("--db", str(tmp_path / "none"), "eval", "--run", run, "--qrels", qrels, "--compare", run, "--json")
    records = [json.loads(line) for line in again.out.splitlines()]
    assert [record["system"] for record in records] == ["ours", "ours-2"]
    assert records[0]["measures"] == json.loads(first.out)["measures"] == records[1]["measures"]
    assert records[1]["p"] == 1.0


def test_a_run_is_compared_with_the_index(clamr: Clamr, db: Path, queries: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.trec"
    theirs.write_text(f"a Q0 lagos.mp4 1 2 t\nb Q0 nowhere 1 3 t\nb Q0 {BEES} 2 2 t\nc%20d Q0 77ff00aa11bb 1 1 t\n")
    ended = clamr("--db", str(db), "eval", str(queries), "--no-baselines", "--json", "--compare", str(theirs))
    assert json.loads(ended.out.splitlines()[1])["measures"]["R@1"] == 1.0
    assert "theirs: 1 of its documents are not videos of the pool (nowhere)" in ended.err


def test_the_published_pool_is_scored_by_judgements(clamr: Clamr, db: Path, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    twice = [{"id": name, "query": "bees dance", "modality": None, "video": "bees"} for name in ("a", "b")]
    path.write_text("".join(json.dumps(query) + "\n" for query in twice))
    command = ("--db", str(db), "eval", str(path), "--no-baselines", "--json", "--measure", "R@1")
    assert json.loads(clamr(*command).out)["measures"] == {"R@1": 1.0}
    assert json.loads(clamr(*command, "--published-pool").out)["measures"] == {"R@1": 0.5}


def test_names_that_mean_no_video_are_told_in_one_line(clamr: Clamr, db: Path, queries: Path) -> None:
    with queries.open("a") as stream:
        stream.write(json.dumps({"id": "x", "query": "gone", "modality": None, "video": "gone\x1b[2J.mp4"}) + "\n")
    ended = clamr("--db", str(db), "eval", str(queries), "--no-baselines", "--json", "--measure", "R@1")
    assert json.loads(ended.out)["measures"] == {"R@1": 0.75}
    assert [line for line in ended.err.splitlines() if "gone" in line] == [
        (
            "answers that are no video of the index, or several: 1 (gone\\x1b[2J.mp4); "
            "queries without another answer: 1, which count as 0 unless --judged-only"
        )
    ]
    judged = clamr(
        "--db", str(db), "eval", str(queries), "--no-baselines", "--json", "--measure", "R@1", "--judged-only"
    )
    assert json.loads(judged.out)["measures"] == {"R@1": 1.0}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("none.jsonl",),
        ("empty",),
        ("broken",),
        ("queries.jsonl", "--measure", "beauty"),
        ("queries.jsonl", "--measure", "R@0"),
        ("queries.jsonl", "--format", "scroll"),
        ("queries.jsonl", "--format", "msrvtt"),
        ("queries.jsonl", "--qrels", "none"),
        ("queries.jsonl", "--qrels", "broken"),
        ("queries.jsonl", "--compare", "broken"),
        ("queries.jsonl", "--scoring", "best"),
        ("queries.jsonl", "--encoder", "no-such"),
        ("queries.jsonl", "--path", "nowhere"),
        ("queries.jsonl", "--run-out", "no/such/folder/run"),
        ("queries.jsonl", "--json", "--csv"),
        ("queries.jsonl", "--bootstrap", "-1"),
        ("--run", "broken"),
        ("--run", "broken", "--qrels", "qrels"),
        ("--run", "none", "--qrels", "qrels"),
        ("unanswerable",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_evaluated_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], clamr: Clamr, db: Path, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(queries.parent)
    Path("empty").touch()
    Path("broken").write_text("{not this\n")
    Path("qrels").write_text("a 0 v1 1\n")
    Path("unanswerable").write_text('{"id": "a", "query": "x", "modality": null, "video": null}\n')
    ended = clamr("--db", str(db), "eval", *arguments)
    assert (ended.code, ended.out) == (2, b"")
    told = [line for line in ended.err.splitlines() if not line.startswith("using the encoder")]
    assert len(told) == 1
    assert told[0].startswith("clamr: ")


def test_without_an_index_it_says_how_to_make_one(clamr: Clamr, queries: Path, tmp_path: Path) -> None:
    ended = clamr("--db", str(tmp_path / "none"), "eval", str(queries))
    assert ended.code == 2
    assert "clamr index DIR" in ended.err
