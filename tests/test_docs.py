"""The README holds: its commands parse, and every option that it names exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from clamr_cli.cli import build

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"^```(?:sh|console|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z0])(?![\w-])")
PROMPT = re.compile(r"^\s*\$\s+")


def _text() -> str:
    if not README.is_file():
        pytest.skip("there is no README yet")
    return README.read_text("utf-8")


def _command_lines() -> Iterator[str]:
    """Lines of the README's shell blocks; of those with prompts, what follows one."""
    for block in BLOCK.findall(_text()):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line for line in lines if PROMPT.match(line)]
        yield from (PROMPT.sub("", line) for line in (prompted or lines))


def _calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of clamr in a line of shell."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = "#"
    call: list[str] | None = None
    for word in words:
        if set(word) <= set("();<>|&"):
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif word.rsplit("/", 1)[-1] == "clamr":
            call = []
    if call is not None:
        yield call


def _parse(program: Any, name: str, arguments: list[str]) -> None:
    """Parse a call without running it.

    Raises:
        Exception: of Typer's, when the arguments are wrong.
    """
    commands = getattr(program, "commands", {})
    place = next((number for number, word in enumerate(arguments) if word in commands), None)
    if place is None:
        if commands and not all(word.startswith("-") for word in arguments):
            raise ValueError(f"{name} has no command {arguments}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(program), "no_args_is_help", False, raising=False)
            try:
                program.make_context(name, list(arguments))
            except typer.Exit:  # --help and --version
                return
        return
    program.make_context(name, list(arguments[: place + 1]))
    # The name of a command may be two words.
    end = place + 2 if " ".join(arguments[place : place + 2]) in commands else place + 1
    command = " ".join(arguments[place:end])
    _parse(commands[command], command, arguments[end:])


def _options(program: Any) -> set[str]:
    found = {"--help", "-h"}.union(*(parameter.opts for parameter in program.params))
    return found.union(*map(_options, getattr(program, "commands", {}).values()))


def test_every_command_of_the_readme_parses() -> None:
    program = typer.main.get_command(build())
    calls = [call for line in _command_lines() for call in _calls(line)]
    assert calls
    for call in calls:
        _parse(program, "clamr", [word for word in call if word != "..."])


def test_every_command_that_is_named_in_passing_exists() -> None:
    known = {"help", *getattr(typer.main.get_command(build()), "commands", {})}
    named = {words[1] for span in SPAN.findall(_text()) if (words := span.split())[:1] == ["clamr"] and words[1:]}
    assert {word for word in named if not word.startswith("-")} - known == set()


def test_every_option_that_the_readme_names_exists() -> None:
    known = _options(typer.main.get_command(build()))
    spans = [span for span in SPAN.findall(_text()) if span.startswith(("-", "clamr"))]
    lines = [" ".join(["clamr", *call]) for line in _command_lines() for call in _calls(line)]
    named = {option for text in spans + lines for option in OPTION.findall(text)}
    assert named - known == set()


def test_wrong_commands_and_options_are_noticed() -> None:
    program = typer.main.get_command(build())
    for wrong in (["search"], ["index", "--no-such"], ["nonsense"], ["show"]):
        with pytest.raises(Exception, match=r"."):
            _parse(program, "clamr", wrong)
