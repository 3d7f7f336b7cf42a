"""A folder of frames: never mixed with something else, never lost, finished by a second run."""

from __future__ import annotations

import json
import os

import pytest

from clamr_cli.errors import UsageError
from clamr_cli.frames.export import LIST, Folder

NAMES = ["00-00-02.000.jpg", "00-00-04.000.jpg"]


def listing(*names: str, question: str = "what?") -> bytes:
    content = {"format": "clamr-frames", "question": question, "frames": [{"file": name} for name in names]}
    return json.dumps(content).encode()


def begun(path, *, force=False, question="what?", names=NAMES) -> Folder:
    return Folder.begin(path, listing(*names, question=question), names, force=force)


def test_an_interrupted_export_goes_on(tmp_path):
    folder = begun(tmp_path / "a" / "b")
    folder.write(NAMES[0], b"one")
    again = begun(tmp_path / "a" / "b")
    assert again.has(NAMES[0])
    assert not again.has(NAMES[1])
    assert (tmp_path / "a" / "b" / NAMES[0]).read_bytes() == b"one"


def test_another_question_replaces_only_when_told_to(tmp_path):
    begun(tmp_path).write(NAMES[0], b"one")
    with pytest.raises(UsageError, match="--force"):
        begun(tmp_path, question="who?")
    assert (tmp_path / NAMES[0]).read_bytes() == b"one"
    begun(tmp_path, question="who?", force=True)
    assert sorted(os.listdir(tmp_path)) == [LIST]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "clamr-frames"}', pytest.param(b"[" * 99_999, id="deep")])
def test_a_list_that_is_none_is_somebody_elses_file(tmp_path, content):
    (tmp_path / LIST).write_bytes(content)
    with pytest.raises(UsageError, match="is not empty"):
        begun(tmp_path, force=True)
    assert (tmp_path / LIST).read_bytes() == content


def test_files_of_others_are_never_touched(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is not empty"):
        begun(tmp_path, force=True)
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_a_list_cannot_have_files_removed_that_no_export_writes(tmp_path):
    (tmp_path / "keep").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / LIST).write_bytes(listing("../keep", "notes.txt", NAMES[0]))
    (out / "notes.txt").write_bytes(b"mine")
    (out / NAMES[0]).write_bytes(b"old")
    (out / NAMES[1]).write_bytes(b"not in the list")
    with pytest.raises(UsageError, match="not part of an earlier export"):
        begun(out, question="who?", force=True)
    (out / NAMES[1]).unlink()
    begun(out, question="who?", force=True)
    assert sorted(os.listdir(out)) == [LIST, "notes.txt"]
    assert (tmp_path / "keep").is_dir()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write to"):
        begun(tmp_path / "file" / "folder")
    with pytest.raises(UsageError, match="cannot write to"):
        begun(tmp_path / "file")


def test_half_a_file_is_never_seen(tmp_path):
    folder = begun(tmp_path)
    with pytest.raises(UsageError), folder.draft(NAMES[0]) as draft:  # noqa: PT012 -- what the block leaves behind
        draft.write_bytes(b"half")
        raise UsageError("cut off")
    assert sorted(os.listdir(tmp_path)) == [LIST]
