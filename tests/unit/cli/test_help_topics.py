"""Pages of the manual behind ``clamr help``."""

import pytest

from clamr_cli.cli.app import COMMANDS, build_program
from clamr_cli.docs import reference
from tests.unit.cli.conftest import Clamr


def test_help_lists_commands_and_topics(clamr: Clamr) -> None:
    text = b" ".join(clamr("help").out.split())
    assert b"search Find the moments" in text
    assert b"searching, serving, speakers, storage, training" in text


@pytest.mark.parametrize("topic", ["searching", "reference-json"])
def test_a_topic_is_plain_text_where_it_is_piped(clamr: Clamr, topic: str) -> None:
    ended = clamr("help", topic)
    assert (ended.code, ended.err) == (0, "")
    assert b"# " in ended.out
    assert b"\x1b" not in ended.out


def test_an_unknown_topic_is_refused(clamr: Clamr) -> None:
    ended = clamr("help", "no-such-topic")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_the_reference_names_every_setting_and_exit_code() -> None:
    pages = {name: page() for name, page in reference.PAGES.items()}
    assert "| `window` | `CLAMR_WINDOW` | a number of seconds, at least 1 | 60.0 |" in pages["reference-settings.md"]
    assert "| 130 | interrupted |" in pages["reference-exit-codes.md"]
    assert "| `weak` | yes | 12 |" in pages["reference-json.md"]
    assert "## clamr eval qa\n" in pages["reference-commands.md"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_help_of_each_says(name: str) -> None:
    command = build_program().commands[name]
    assert command.help.split("\n")[0].startswith(COMMANDS[name][1])
