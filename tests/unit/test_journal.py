"""A journal survives kills, refuses foreign files, and is never written by two runs."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.journal import Journal
from clamr_cli.queries import parse_lines
from clamr_cli.synth import query_journals
from clamr_cli.synth.filters import clean_query


def record(name: str, **more) -> dict:
    return {"id": name, "query": f"query {name}", "modality": None, "video": "v", **more}


def line(name: str, **more) -> bytes:
    return json.dumps(record(name, **more)).encode() + b"\n"


def journal(path: Path | None) -> Journal:
    return Journal(path, "queries", ("id", "query"))


def ids(opened: Journal) -> list[str]:
    return [record["id"] for record in opened.records]


def test_a_second_run_reads_what_the_first_wrote_and_adds_to_it(tmp_path):
    path = tmp_path / "q.jsonl"
    with journal(path) as first:
        first.append(record("a", model="m"))
    with journal(path) as second:
        assert second.records == [record("a", model="m")]
        second.append(record("b"))
    assert path.read_bytes() == line("a", model="m") + line("b")


def test_every_cut_of_the_last_line_is_survived(tmp_path):
    path = tmp_path / "q.jsonl"
    whole = line("a") + line("bé")
    for cut in range(len(line("a")), len(whole) + 1):
        path.write_bytes(whole[:cut])
        with journal(path) as resumed:
            finished = ids(resumed)
            resumed.append(record("c"))
        assert finished == (["a", "bé"] if cut >= len(whole) - 1 else ["a"])
        assert [json.loads(one)["id"] for one in path.read_text().splitlines()] == [*finished, "c"]


@pytest.mark.parametrize(
    "content",
    [
        b"shopping list",
        b"a,b\n1,2\n",
        b"\xff\xfe\n",
        line("a") + b"notes",
        b"[]\n",
        b"{}\n",
        b'{"id": 1, "query": "q"}\n',
        pytest.param(b"[" * 99_999 + b"\n", id="deep"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a file of queries"), journal(path):
        pass
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_two_runs_do_not_write_to_one_file(tmp_path):
    path = tmp_path / "q.jsonl"
    with journal(path), pytest.raises(UsageError, match="another run writes"), journal(path):
        pass
    with journal(path):
        pass


def test_a_run_that_writes_nothing_leaves_no_file(tmp_path):
    with journal(tmp_path / "q.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot write"), journal(tmp_path / "q.jsonl"):
        pass


def test_without_a_path_nothing_is_kept():
    with journal(None) as unwritten:
        unwritten.append(record("a"))
        assert unwritten.records == []


def test_texts_that_were_not_cleaned_are_ascii(tmp_path):
    with Journal(tmp_path / "q.jsonl", "queries", ("id",), ascii_only=True) as escaped:
        escaped.append({"id": "a", "answer": "\x1b[31m\u202eé"})
    assert (tmp_path / "q.jsonl").read_bytes().isascii()


def test_rejected_queries_have_a_file_of_their_own(tmp_path):
    queries, rejected = query_journals(tmp_path / "q.jsonl")
    with queries, rejected:
        rejected.append({"id": "a", "outcome": "dropped"})
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl.rejected"]
    assert [journal.path for journal in query_journals(None)] == [None, None]


@given(st.text(max_size=80))
def test_any_cleaned_answer_is_read_back_as_it_was(tmp_path_factory, answer):
    query = clean_query(answer)
    if not query:
        return
    path = tmp_path_factory.mktemp("journal") / "q.jsonl"
    with journal(path) as written:
        written.append(record("a") | {"query": query})
    (read,) = parse_lines(path.read_text("utf-8").splitlines(), "q")
    assert read.text == query
