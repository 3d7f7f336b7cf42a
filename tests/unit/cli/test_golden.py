"""Output of every command, byte by byte. After a change on purpose: REGENERATE_GOLDEN=1 pytest tests/unit/cli."""

import json
import os
import re
from pathlib import Path

import pytest

from clamr_cli.cli.app import COMMANDS as COMMAND_NAMES
from tests.unit.cli.conftest import Clamr
from tests.unit.cli.small_index import BEES, LAGOS, SALE

FOLDER = Path(__file__).resolve().parents[2] / "golden"
REGENERATE = bool(os.environ.get("REGENERATE_GOLDEN"))

COMMANDS = {
    "search.table": ("search", "crowd", "--table"),
    "search.tsv": ("search", "crowd"),
    "search.json": ("search", "crowd", "--json"),
    "search.csv": ("search", "crowd", "--csv"),
    "search.paths": ("search", "crowd", "--paths"),
    "search.null": ("search", "sale", "--paths", "-0", "--modality", "ocr"),
    "search.moments.tsv": ("search", "the crowd speech", "--moments", "--path", "lagos.mp4"),
    "search.filters.tsv": ("search", "crowd", "--since", "2020-10", "--until", "2020", "--longer", "1:20"),
    "search.weights.tsv": ("search", "bees", "--weight", "metadata=0", "--weight", "speech=2", "-n", "1"),
    "search.hostile.table": ("search", "sale 50", "--table", "--limit", "1"),
    "search.hostile.tsv": ("search", "sale 50", "--limit", "1"),
    "search.hostile.json": ("search", "sale 50", "--limit", "1", "--json"),
    "search.nothing": ("search", "crowd", "--since", "2030"),
    "explain.table": ("explain", LAGOS[:4], "--query", "crowd lagos", "--table"),
    "explain.tsv": ("explain", LAGOS[:4], "--query", "crowd lagos"),
    "explain.json": ("explain", LAGOS[:4], "--query", "crowd lagos", "--json"),
    "explain.hostile.table": ("explain", SALE, "--query", "sale", "--table"),
    "explain.timeline.table": ("explain", LAGOS, "--table"),
    "explain.timeline.tsv": ("explain", SALE),
    "explain.timeline.json": ("explain", SALE, "--json"),
    "ls.table": ("ls", "--table"),
    "ls.tsv": ("ls",),
    "ls.json": ("ls", "--json"),
    "ls.path.tsv": ("ls", "--path", "nature"),
    "ls.nothing": ("ls", "--path", "no-such"),
    "show.table": ("show", LAGOS[:4], "--table"),
    "show.tsv": ("show", BEES),
    "show.json": ("show", SALE, "--json"),
    "show.hostile.table": ("show", SALE, "--table"),
    "show.ambiguous": ("show", "1a"),
    "status.table": ("status", "--table"),
    "status.tsv": ("status",),
    "status.json": ("status", "--json"),
    "search.phrase.tsv": ("search", '"NO  more" speech'),
    "search.phrase.nothing": ("search", '"no more crowd"'),
    "status.failed.table": ("status", "--failed", "--table"),
    "status.failed.tsv": ("status", "--failed"),
    "status.failed.json": ("status", "--failed", "--json"),
}


def _steady(text: bytes, db: Path) -> bytes:
    """Without what differs from run to run: the place and size of the index, and padding at the ends of lines."""
    text = text.replace(str(db).encode(), b"INDEX")
    text = re.sub(rb"(?m)^(size\s+)[\d.]+ k?B", rb"\1SIZE", text)
    text = re.sub(rb'"size": \d+, "files"', b'"size": 0, "files"', text)
    text = re.sub(rb'"fingerprint": "[^"]*"', b'"fingerprint": "FINGERPRINT"', text)
    return re.sub(rb"(?m) +$", b"", text)


def compare(name: str, found: bytes) -> None:
    """The text of a golden file must be this."""
    path = FOLDER / f"{name}.txt"
    if REGENERATE:
        path.write_bytes(found)
    assert path.is_file(), f"{path} is missing: REGENERATE_GOLDEN=1 pytest tests/unit/cli"
    assert found == path.read_bytes()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_what_it_did_before(
    name: str, clamr: Clamr, db: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    # The place of the index differs from machine to machine; a narrow table would fold it differently.
    monkeypatch.setenv("COLUMNS", "300" if name == "status.table" else "80")
    ended = clamr("--db", str(db), *COMMANDS[name])
    if name.endswith("table"):
        assert name == "status.table" or max(len(line) for line in ended.out.decode().splitlines()) <= 80
        assert b"\x1b" not in ended.out
    if name.endswith("json"):
        assert all(json.loads(line) for line in ended.out.splitlines())
    told = b"" if not ended.err else f"stderr: {ended.err}".encode()
    compare(name, _steady(ended.out + told + f"exit code: {ended.code}\n".encode(), db))


@pytest.mark.parametrize("command", ["", *COMMAND_NAMES])
def test_help_says_what_it_did_before(command: str, clamr: Clamr) -> None:
    ended = clamr(*command.split(), "--help")
    assert ended.code == 0
    assert b"list[" not in ended.out
    text = re.sub(rb"(?m) +$", b"", ended.out)
    assert max(len(line) for line in text.decode().splitlines()) <= 80
    compare(f"help.{command.replace(' ', '.') or 'clamr'}", text)


def test_models_are_listed_with_purpose_licence_and_size(clamr: Clamr) -> None:
    ended = clamr("models", "--json")
    assert ended.code == 0
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert all((record["state"] == "ok") or record["where"] for record in records)
    # Which of them are installed, and where, differs from machine to machine.
    steady = [{key: value for key, value in record.items() if key not in ("state", "where")} for record in records]
    compare("models.json", "".join(json.dumps(record) + "\n" for record in steady).encode())
