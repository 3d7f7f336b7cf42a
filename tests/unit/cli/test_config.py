"""``clamr config``: what it shows, and what it writes to the configuration file."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from clamr_cli import config
from tests.unit.cli.conftest import Clamr


def _value(clamr: Clamr, name: str) -> tuple[object, str]:
    record = json.loads(clamr("config", "show", name, "--json").out)
    return record["value"], record["source"]


def test_settings_are_shown_with_their_sources(clamr: Clamr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMR_LIMIT", "3")
    rows = [json.loads(line) for line in clamr("config", "--json").out.splitlines()]
    assert [row["name"] for row in rows] == [name for name in config.NAMES if name not in config.TABLES]
    assert _value(clamr, "limit") == (3, "the environment variable CLAMR_LIMIT")
    assert _value(clamr, "asr-model") == ("whisper-base", "default")
    assert clamr("config", "no-such").code == 2


def test_a_setting_is_written_and_taken_back_beside_comments(clamr: Clamr) -> None:
    place = Path(clamr("config", "path").out.decode().strip())
    assert not place.exists()
    assert clamr("config", "set", "language", "FR").code == 0
    place.write_text("# mine\n" + place.read_text() + "limit = 7 # seven\n")
    assert clamr("config", "set", "ocr-languages", "en", "fr").code == 0
    assert clamr("config", "set", "speech", "off").code == 0
    assert [_value(clamr, name)[0] for name in ("language", "limit", "ocr_languages", "speech")] == [
        "fr", 7, ["en", "fr"], False,
    ]  # fmt: skip
    assert clamr("config", "set", "language").code == 0
    assert (_value(clamr, "language")[0], _value(clamr, "limit")[0]) == ("", 7)
    assert "# mine" in place.read_text()
    assert "# seven" in place.read_text()


@pytest.mark.parametrize(
    "words", [("limit", "0"), ("no_such", "1"), ("limit", "1", "2"), ("encoders", "x"), ("device", "abacus")]
)
def test_what_does_not_fit_is_not_written(clamr: Clamr, words: tuple[str, ...]) -> None:
    ended = clamr("config", "set", *words)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert not Path(clamr("config", "path").out.decode().strip()).exists()


def _editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = tmp_path / "editor.py"
    script.write_text(f"import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n{body}\n")
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(script)]))
    monkeypatch.delenv("VISUAL", raising=False)


def test_the_editor_gets_every_setting_as_a_comment(
    clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _editor(tmp_path, monkeypatch, 'path.write_text(path.read_text().replace("# limit = 10", "limit = 4"))')
    assert clamr("config", "edit").code == 0
    assert _value(clamr, "limit")[0] == 4
    text = Path(clamr("config", "path").out.decode().strip()).read_text()
    assert all(f"# {name} = " in text for name in config.NAMES if name not in ("limit", *config.TABLES))


@pytest.mark.parametrize("body", ['path.write_text("limit = [")', 'path.write_text("limit = 0")', "sys.exit(3)"])
def test_a_damaged_edit_changes_nothing_and_loses_nothing(
    clamr: Clamr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    assert clamr("config", "set", "limit", "5").code == 0
    _editor(tmp_path, monkeypatch, body)
    ended = clamr("config", "edit")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    kept = Path(ended.err.strip().rpartition(" in ")[2])
    assert kept.is_file()
    assert _value(clamr, "limit")[0] == 5


def test_an_editor_that_is_not_there_is_one_line(clamr: Clamr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    ended = clamr("config", "edit")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
