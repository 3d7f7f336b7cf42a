"""The file of queries survives kills, refuses foreign files, and is never written by two."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clamr_cli.errors import UsageError
from clamr_cli.queries import parse_lines
from clamr_cli.synth.answers import clean
from clamr_cli.synth.journal import Journal


def record(name: str, **more) -> dict:
    return {"id": name, "query": f"query {name}", "modality": None, "video": "v", **more}


def line(name: str, **more) -> bytes:
    return json.dumps(record(name, **more)).encode() + b"\n"


def test_what_was_written_is_read_and_added_to(tmp_path):
    path = tmp_path / "q.jsonl"
    with Journal(path) as journal:
        journal.write(record("a", model="m"))
    with Journal(path) as journal:
        assert journal.finished == {"a"}
        journal.write(record("b"))
    assert [json.loads(one)["id"] for one in path.read_text().splitlines()] == ["a", "b"]


def test_every_cut_of_the_last_line_is_survived(tmp_path):
    path = tmp_path / "q.jsonl"
    whole = line("a") + line("bé")
    for cut in range(len(line("a")), len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            done = journal.finished
            journal.write(record("c"))
        complete = cut >= len(whole) - 1
        assert done == ({"a", "bé"} if complete else {"a"})
        assert [json.loads(one)["id"] for one in path.read_text().splitlines()] == [*sorted(done), "c"]


@pytest.mark.parametrize(
    "content", [b"shopping list", b"a,b\n1,2\n", b"\xff\xfe\n", line("a") + b"notes", b"[]\n", b"{}\n"]
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError), Journal(path):
        pass
    assert path.read_bytes() == content
    assert not (tmp_path / "q.jsonl.rejected").exists()


def test_drops_are_remembered_with_their_setup_and_failures_are_not(tmp_path):
    path = tmp_path / "q.jsonl"
    with Journal(path) as journal:
        journal.reject({"id": "a", "outcome": "dropped", "model": "m"})
        journal.reject({"id": "b", "outcome": "failed", "model": "m"})
    with (tmp_path / "q.jsonl.rejected").open("ab") as notes:
        notes.write(b'{"id": "c", "outc')
    with Journal(path) as journal:
        assert [name for name, _ in journal.dropped] == ["a"]
    assert (tmp_path / "q.jsonl.rejected").read_bytes().count(b"\n") == 2


def test_only_one_writes(tmp_path):
    path = tmp_path / "q.jsonl"
    with Journal(path), pytest.raises(UsageError, match="another run writes"), Journal(path):
        pass
    with Journal(path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot write"), Journal(tmp_path / "q.jsonl"):
        pass


def test_without_a_path_nothing_is_kept():
    with Journal() as journal:
        journal.write(record("a"))
        assert journal.finished == set()


@given(st.text(max_size=80))
def test_any_cleaned_answer_is_read_back_as_it_was(tmp_path_factory, answer):
    query = clean(answer)
    if not query:
        return
    path = tmp_path_factory.mktemp("journal") / "q.jsonl"
    with Journal(path) as journal:
        journal.write(record("a") | {"query": query})
    (read,) = parse_lines(path.read_text("utf-8").splitlines(), "q")
    assert read.text == query
