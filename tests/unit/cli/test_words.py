"""Commands of two words, and options of many values."""

import pytest

from clamr_cli.cli.words import spread
from tests.unit.cli.conftest import Clamr


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("v q --choices a b", "v q --choice=a --choice=b"),
        ("v --choices a b -k 3 q", "v --choice=a --choice=b -k 3 q"),
        ("--choices a --json v q", "--choice=a --json v q"),
        ("v q --choices a --choices b", "v q --choice=a --choice=b"),
        ("v q --choices - b", "v q --choice=- --choice=b"),
        ("v q --choices", "v q --choices"),
        ("v q --choices --json", "v q --choices --json"),
        ("v -- --choices a b", "v -- --choices a b"),
        ("v q --choices a -- b", "v q --choice=a -- b"),
        ("v q", "v q"),
    ],
)
def test_values_one_after_another_become_options_of_one_value(given: str, found: str) -> None:
    assert spread(given.split(), "--choices", "--choice") == found.split()


def test_eval_qa_is_a_command_and_eval_still_takes_a_file(clamr: Clamr, tmp_path) -> None:
    ended = clamr("eval", "qa", str(tmp_path / "no.jsonl"))
    assert (ended.code, ended.err.splitlines()) == (
        2, [f"clamr: cannot read {tmp_path / 'no.jsonl'} (No such file or directory): give a file of questions"],
    )  # fmt: skip
    ended = clamr("eval", str(tmp_path / "no.jsonl"))
    assert ended.code == 2
    assert "no.jsonl" in ended.err
    ended = clamr("eval", "qa")
    assert (ended.code, ended.err) == (2, "clamr: Missing argument 'DATA': see 'clamr eval qa --help'\n")
    ended = clamr("eval", "qs", "x")
    assert (ended.code, "see 'clamr eval --help'" in ended.err) == (2, True)
    ended = clamr("evil", "qa")
    assert (ended.code, "Did you mean 'eval'" in ended.err) == (2, True)
