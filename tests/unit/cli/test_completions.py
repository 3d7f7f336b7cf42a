import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from clamr_cli import weights
from clamr_cli.cli import build
from clamr_cli.cli.commands.completions import SCRIPTS, commands_of
from tests.unit.cli.conftest import Clamr

FOLDER = Path(__file__).resolve().parents[3] / "completions"
FILES = {"bash": "clamr.bash", "zsh": "_clamr", "fish": "clamr.fish"}

CASES = [
    ("clamr sea", {"search"}),
    ("clamr --db /x ls --js", {"--json"}),
    ("clamr search --modality sp", {"speech"}),
    ("clamr search x --scor", {"--scoring"}),
    ("clamr models pu", {"pull"}),
    ("clamr models pull whisper-large", {name for name in weights.names() if name.startswith("whisper-large")}),
    ("clamr completions install ", {"bash", "zsh", "fish"}),
    ("clamr config se", {"set"}),
    ("clamr search x --help-", {"--help-all"}),
    ("clamr ls --col", {"--color"}),
    ("clamr index --ocr ra", {"rapidocr"}),
    ("clamr eval q", {"qa"}),
    ("clamr eval qa --strat", {"--strategy"}),
    ("clamr eval --strat", set()),
    ("clamr eval --no-b", {"--no-baselines"}),
]


def _shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("shell", FILES)
def test_the_scripts_in_the_repository_fit_the_declared_commands(clamr: Clamr, shell: str) -> None:
    ended = clamr("completions", shell)
    assert ended.code == 0
    assert ended.out.decode() == (FOLDER / FILES[shell]).read_text(), (
        f"completions/{FILES[shell]} is out of date: clamr completions {shell} > completions/{FILES[shell]}"
    )


def test_an_unknown_shell_is_refused_with_the_known_ones(clamr: Clamr) -> None:
    ended = clamr("completions", "tcsh")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'bash', 'zsh', 'fish'" in ended.err


def test_every_visible_option_of_every_command_is_in_every_script() -> None:
    commands = commands_of(typer.main.get_command(build()))
    assert {"", "index", "search", "models pull"} <= {command.path for command in commands}
    for write in SCRIPTS.values():
        script = write(commands)
        for command in commands:
            for option in command.options:
                assert option.names[0].lstrip("-") in script


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash_offers_what_fits(typed: str, expected: set[str]) -> None:
    words = typed.split(" ")
    script = f"""source {FOLDER / FILES["bash"]}
        compopt() {{ :; }}
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
        _clamr; printf '%s\\n' "${{COMPREPLY[@]}}" """
    ended = subprocess.run([_shell("bash"), "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert set(ended.stdout.split()) == expected


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_fish_offers_what_fits(typed: str, expected: set[str]) -> None:
    script = f"source {FOLDER / FILES['fish']}; complete -C '{typed}'"
    ended = subprocess.run([_shell("fish"), "--no-config", "-c", script], capture_output=True, text=True, check=True)
    assert {line.partition("\t")[0] for line in ended.stdout.splitlines()} == expected


@pytest.mark.parametrize("command", ["index", "frames", "open", "ask", "rm", "encode", "train --recipe mini", "synth"])
def test_fish_offers_files_where_a_command_takes_them(command: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    script = f"source {FOLDER / FILES['fish']}; complete -C 'clamr {command} fil'"
    ended = subprocess.run(
        [_shell("fish"), "--no-config", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert {line.partition("\t")[0] for line in ended.stdout.splitlines()} == {"film.mp4"}


@pytest.mark.parametrize("command", ["index", "frames", "open", "ask", "rm", "encode", "train", "synth"])
def test_zsh_is_told_to_offer_files_where_a_command_takes_them(command: str) -> None:
    script = (FOLDER / FILES["zsh"]).read_text()
    body = script.partition(f"_clamr_{command}() {{")[2].partition("\n}\n")[0]
    assert any("_files" in line for line in body.splitlines() if line.startswith("    '*:argument:"))


def test_zsh_reads_the_script() -> None:
    script = (
        f"autoload -Uz compinit; fpath=({FOLDER} $fpath); compinit -u -D; "
        "whence -w _clamr; autoload +X _clamr && print ${_comps[clamr]}"
    )
    ended = subprocess.run([_shell("zsh"), "-f", "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["_clamr:", "function", "_clamr"]
    subprocess.run([_shell("zsh"), "-n", str(FOLDER / FILES["zsh"])], check=True)


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", "data/bash-completion/completions/clamr"),
        ("zsh", "data/zsh/site-functions/_clamr"),
        ("fish", "config/fish/completions/clamr.fish"),
    ],
)
def test_the_script_is_installed_for_the_shell_of_the_session(
    clamr: Clamr, home: Path, monkeypatch: pytest.MonkeyPatch, shell: str, place: str
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    ended = clamr("completions", "install")
    assert ended.code == 0
    assert (home / place).read_bytes() == clamr("completions", shell).out
    assert str(home / place) in ended.err
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert clamr("completions", "install").code == 2
