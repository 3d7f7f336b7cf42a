import json

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.queries import LabelledQuery, parse_lines, read_batch, read_lines, records
from clamr_cli.types import Modality


def line(**changes):
    return json.dumps({"id": "q1", "query": "a dog", "modality": "video", "video": "a.mp4", **changes})


def test_lines_become_queries_and_back():
    queries = parse_lines([line(), "", line(id="q2", modality=None, video=None)], "x")
    assert queries == [LabelledQuery("q1", "a dog", Modality.VIDEO, {"a.mp4": 1}), LabelledQuery("q2", "a dog")]
    assert parse_lines([json.dumps(record) for query in queries for record in records(query)], "x") == queries


def test_answers_of_one_id_are_gathered():
    (query,) = parse_lines([line(), line(video="b.mp4", relevance=2)], "x")
    assert query.relevant == {"a.mp4": 1, "b.mp4": 2}


@pytest.mark.parametrize(
    "bad", ["{", "[]", line(modality="smell"), line(query=" "), line(relevance=0), line(relevance=True), line(video=3)]
)
def test_a_bad_line_is_named(bad):
    with pytest.raises(UsageError, match="x, line 2"):
        parse_lines([line(), bad], "x")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line(modality="base"), "invalid modality: 'base', not one of video, ocr, speech, metadata, audio, or null"),
        ('{"id": "q1"}', "'query' is missing"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(bad, said):
    with pytest.raises(UsageError, match=said):
        parse_lines([bad], "x")


def test_a_file_may_begin_with_a_mark_and_hold_any_character(tmp_path):
    path = tmp_path / "q.jsonl"
    texts = ["two\u2028lines", "next\x85line"]
    lines = [json.dumps({"id": text, "query": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n".join(lines), "utf-8-sig")
    assert [query.text for query in read_lines(path)] == texts


def test_two_queries_of_one_id_are_refused():
    with pytest.raises(UsageError, match="two different queries"):
        parse_lines([line(), line(query="a cat")], "x")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"the queries of gone\.jsonl: No such file or directory: give"):
        read_lines(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("red car\n\n  a dog, running \r\n", [("1", "red car"), ("3", "a dog, running")]),
        ('{"query": "red car"}\n{"id": "x", "query": "dog", "video": "a.mp4"}\n', [("1", "red car"), ("x", "dog")]),
        ('id,query\na,red car\n,"dog, cat"\n', [("a", "red car"), ("2", "dog, cat")]),
        ("Query_id,query\nq1,red car\n", [("q1", "red car")]),
        ("query\nred car\n", [("1", "red car")]),
        ("\ufeffred car", [("1", "red car")]),
        ('"climate justice" rally\n', [("1", '"climate justice" rally')]),
    ],
)
def test_a_batch_is_plain_lines_json_lines_or_csv(tmp_path, content, expected):
    path = tmp_path / "queries.txt"
    path.write_text(content, "utf-8")
    assert [(query.id, query.text) for query in read_batch(str(path))] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no queries"),
        (b"\n \n", "holds no queries"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"id": "a"}', "line 1: invalid query"),
        (b"id,query\na,\n", "a row without a query"),
    ],
)
def test_a_batch_that_cannot_be_read_is_refused(tmp_path, content, message):
    path = tmp_path / "queries.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_batch(str(path))


def test_a_batch_that_is_absent_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read the queries of none"):
        read_batch(str(tmp_path / "none"))
