"""The documentation holds: its commands parse, its options exist, its examples run, its reference is up to date."""

import ast
import contextlib
import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from clamr_cli.cli import build
from clamr_cli.cli.app import HELP_ALL
from clamr_cli.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "clamr_cli" / "docs").glob("*.md"))]
EXAMPLES = [path for path in sorted((ROOT / "clamr_cli").rglob("*.py")) if ">>> " in path.read_text("utf-8")]
BLOCK = re.compile(r"^```(?:sh|console|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[A-Za-z0])(?![\w-])")
PROMPT = re.compile(r"^\s*\$\s+")

pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def _command_lines(page: Path) -> Iterator[str]:
    """Lines of a page's shell blocks; of those with prompts, what follows one."""
    for block in BLOCK.findall(page.read_text("utf-8")):
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


def _parse(program: Any, name: str, arguments: list[str]) -> str:
    """Parse a call without running it, and return the name of its command.

    Raises:
        click.ClickException: the arguments are wrong.
        ValueError: the program has no such command.
    """
    commands = getattr(program, "commands", {})
    starts = enumerate(arguments)
    place = next((n for n, word in starts if word in commands or " ".join(arguments[n : n + 2]) in commands), None)
    if place is None:
        if commands and not all(word.startswith("-") for word in arguments):
            raise ValueError(f"{name} has no command {arguments}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(program), "no_args_is_help", False, raising=False)
            with contextlib.suppress(typer.Exit, click.exceptions.Exit):  # --help and --version
                program.make_context(name, list(arguments))
        return name
    program.make_context(name, list(arguments[: place + 1]))
    # The name of a command may be two words.
    end = place + 2 if " ".join(arguments[place : place + 2]) in commands else place + 1
    command = " ".join(arguments[place:end])
    try:
        return _parse(commands[command], command, arguments[end:])
    except UsageError as error:
        # The files of an example are not here.
        if not error.what.startswith("no file or folder"):
            raise
        return command


def _options(program: Any) -> set[str]:
    own = {"--help", "-h", HELP_ALL}.union(*(parameter.opts for parameter in program.params))
    return own.union(*map(_options, getattr(program, "commands", {}).values()))


@pages
def test_commands_parse(page: Path) -> None:
    program = typer.main.get_command(build())
    calls = [call for line in _command_lines(page) for call in _calls(line)]
    parsed = {_parse(program, "clamr", [word for word in call if word != "..."]) for call in calls}
    assert parsed <= {"clamr", "help", *program.commands}  # type: ignore[attr-defined]


@pages
def test_commands_named_in_passing_exist(page: Path) -> None:
    commands = {"help", *getattr(typer.main.get_command(build()), "commands", {})}
    spans = SPAN.findall(page.read_text("utf-8"))
    named = {words[1] for span in spans if (words := span.split())[:1] == ["clamr"] and words[1:]}
    assert {word for word in named if not word.startswith("-")} - {name.split()[0] for name in commands} == set()


@pages
def test_options_exist(page: Path) -> None:
    spans = [span for span in SPAN.findall(page.read_text("utf-8")) if span.startswith(("-", "clamr"))]
    lines = [" ".join(["clamr", *call]) for line in _command_lines(page) for call in _calls(line)]
    named = {option for text in spans + lines for option in OPTION.findall(text)}
    assert named - _options(typer.main.get_command(build())) == set()


def test_the_examples_of_help_parse() -> None:
    program: Any = typer.main.get_command(build())
    for name, command in program.commands.items():
        examples = command.epilog.partition("Examples:\n")[2].splitlines()
        assert examples, f"clamr {name} --help has no examples"
        calls = [call for line in examples for call in _calls(line)]
        assert name in {_parse(program, "clamr", call) for call in calls}


def test_man_reads_the_manual_page() -> None:
    page = ROOT / "clamr_cli" / "docs" / "clamr.1"
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    ended = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr == ""
    shown = re.sub(r"\x1b\[[\d;]*m|.\x08", "", ended.stdout)
    assert all(f"CLAMR {name.upper()}" in shown for name in typer.main.get_command(build()).commands)


def test_the_readme_shows_commands() -> None:
    assert len([call for line in _command_lines(PAGES[0]) for call in _calls(line)]) >= 5


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES if not page.name.startswith("reference"))
    commands = set(getattr(typer.main.get_command(build()), "commands", {}))
    assert {name for name in commands if f"clamr {name}" not in text} == set()


def test_wrong_commands_and_options_are_noticed() -> None:
    program = typer.main.get_command(build())
    for wrong in (["explain"], ["index", "--no-such"], ["show"]):
        with pytest.raises(Exception, match=r"(?i)missing|no such") as error:
            _parse(program, "clamr", wrong)
        assert type(error.value).__name__ in ("MissingParameter", "NoSuchOption")
    with pytest.raises(ValueError, match="has no command"):
        _parse(program, "clamr", ["nonsense"])


@pages
def test_python_examples_run(page: Path) -> None:
    for block in PYTHON.findall(page.read_text("utf-8")):
        names: dict[str, Any] = {}
        exec(compile(ast.parse(block), page.name, "exec"), names)
        assert names.get("score", 1) > 0


@pytest.mark.parametrize("path", EXAMPLES, ids=[str(path.relative_to(ROOT)) for path in EXAMPLES])
def test_doctests_pass(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


@pytest.mark.slow
def test_the_reference_is_up_to_date() -> None:
    command = [sys.executable, "-m", "clamr_cli.docs.reference", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
