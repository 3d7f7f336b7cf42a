"""Commands of two words, and options of many values."""

import pytest
import typer

from clamr_cli.cli import build
from clamr_cli.cli.app import ALIASES, COMMANDS, OTHER_NAMES, spread
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
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"cannot read {tmp_path / 'no.jsonl'}" in ended.err
    ended = clamr("eval", str(tmp_path / "no.jsonl"))
    assert ended.code == 2
    assert "no.jsonl" in ended.err
    ended = clamr("eval", "qa")
    assert (ended.code, ended.err) == (2, "clamr: Missing argument 'DATA': see 'clamr eval qa --help'\n")
    ended = clamr("eval", "qs", "x")
    assert (ended.code, "see 'clamr eval --help'" in ended.err) == (2, True)
    ended = clamr("evil", "qa")
    assert (ended.code, "Did you mean 'eval'" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("-h", "clamr [OPTIONS]"),
        ("help", "clamr [OPTIONS]"),
        ("help help", "clamr [OPTIONS]"),
        ("--db /nowhere", "clamr [OPTIONS]"),
        ("search -h", "clamr search [OPTIONS]"),
        ("help search", "clamr search [OPTIONS]"),
        ("--db /nowhere help search a cat", "clamr search [OPTIONS]"),
        ("help eval qa", "clamr eval qa [OPTIONS]"),
        ("help eval", "clamr eval [OPTIONS]"),
        ("help models pull", "clamr models pull [OPTIONS]"),
        ("models pull -h", "clamr models pull [OPTIONS]"),
    ],
)
def test_help_comes_however_it_is_asked_for(clamr: Clamr, words: str, usage: str) -> None:
    ended = clamr(*words.split())
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.decode().startswith(f"Usage: {usage}")


def test_the_version_has_a_short_option(clamr: Clamr) -> None:
    assert clamr("-V") == clamr("--version")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["grep", "cat"], "search"),
        (["FIND", "cat"], "search"),
        (["view", "x"], "open"),
        (["forget"], "rm"),
        (["sync"], "index"),
        (["settings"], "config"),
        (["updat"], "index"),
        (["transcrip"], "edit"),
        (["info"], "show"),
        (["version"], "--version"),
        (["LS"], "ls"),
        (["red car"], 'search "red car"'),
        (["serach"], "search"),
    ],
)
def test_a_word_of_other_programs_leads_to_the_command(clamr: Clamr, words: list[str], meant: str) -> None:
    ended = clamr(*words)
    assert ended.code == 2
    assert f"Did you mean {meant!r}?" in ended.err


@pytest.mark.parametrize(("alias", "command"), ALIASES.items())
def test_an_alias_runs_the_command(clamr: Clamr, alias: str, command: str) -> None:
    ended = clamr(*alias.split(), "--help")
    assert (ended.code, ended.out) == (0, clamr(*command.split(), "--help").out)
    assert alias not in COMMANDS


def test_a_path_instead_of_a_command_may_be_indexed(clamr: Clamr, tmp_path) -> None:
    assert f"Did you mean 'index {tmp_path}'?" in clamr(str(tmp_path)).err


def test_every_other_name_leads_to_a_command_and_hides_none() -> None:
    commands = set(typer.main.get_command(build()).commands)  # type: ignore[attr-defined]
    assert set(OTHER_NAMES) <= commands | {"--version"}
    assert not {name for names in OTHER_NAMES.values() for name in names.split()} & {*commands, *ALIASES}
