"""On a real terminal: tables by default, colours and links where they are wanted, none where they are not."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr
from tests.unit.cli.small_index import LAGOS

COLOUR = "\x1b[36m"
LINK = "\x1b]8;"


def _on_a_terminal(db: Path, *arguments: str, answer: str = "", **environment: str) -> tuple[int, str]:
    """Output of a command on a terminal 80 columns wide, and its exit code."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "clamr_cli", "--db", str(db), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**inherited, "TERM": "xterm-256color", "COLUMNS": "80", "CLAMR_ENCODER": "hashed", **environment},
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "colours", "links"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
)
def test_a_terminal_gets_a_table_with_what_it_can_show(
    db: Path, environment: dict[str, str], colours: bool, links: bool
) -> None:
    code, shown = _on_a_terminal(db, "search", "crowd", **environment)
    assert code == 0
    assert "0:00-0:40" in shown
    assert ((COLOUR in shown), (LINK in shown)) == (colours, links)
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


@pytest.mark.slow
def test_a_terminal_of_another_character_set_shows_what_it_lacks_as_escapes(db: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "TERM": "dumb", "COLUMNS": "24"}
    code, shown = _on_a_terminal(db, "search", "the crowd is marching", **environment)
    assert code == 0
    assert shown.isascii()
    assert "\\u2026" in shown


@pytest.mark.slow
def test_a_dumb_terminal_gets_no_escape_at_all(db: Path) -> None:
    for arguments in (("explain", LAGOS, "--query", "crowd"), ("show", LAGOS)):
        assert "\x1b" not in _on_a_terminal(db, *arguments, TERM="dumb")[1]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [50, 132])
def test_tables_are_as_wide_as_the_terminal_at_most(db: Path, columns: int) -> None:
    _, shown = _on_a_terminal(db, "ls", TERM="dumb", COLUMNS=str(columns))
    assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.slow
def test_programs_get_no_escapes_in_json_even_on_a_terminal(db: Path) -> None:
    assert "\x1b" not in _on_a_terminal(db, "search", "sale", "--json")[1]


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_rm_asks_on_a_terminal(db: Path, answer: str, code: int) -> None:
    assert _on_a_terminal(db, "rm", LAGOS, answer=answer)[0] == code
    assert bool(Store.open(db).videos([LAGOS])) == (code == 1)


@pytest.mark.parametrize("width", [40, 59])
def test_a_narrow_screen_gets_paragraphs_instead_of_columns_of_three_letters(
    clamr: Clamr, db: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (("search", "crowd", "--ids"), ("ls",), ("explain", LAGOS, "--query", "crowd speech")):
        ended = clamr("--db", str(db), *arguments, "--table")
        lines = ended.out.decode().splitlines()
        assert max(map(len, lines)) <= width
        assert any("Protest in Lagos" in line for line in lines)
        assert any(LAGOS in line for line in lines)
    assert any("a speech at the toll gate" in line for line in lines)
    assert "\x1b" not in ended.out.decode()


@pytest.mark.slow
def test_paths_on_a_terminal_are_quoted(db: Path) -> None:
    code, shown = _on_a_terminal(db, "search", "sale", "--paths", "-n", "1", "--modality", "ocr")
    assert code == 0
    assert shown == "$'/videos/[red]caf\\351\\033[2J\\012.mp4'\n"
