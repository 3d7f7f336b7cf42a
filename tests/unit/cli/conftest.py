"""The command line in this process: what it prints, byte by byte, and how it ends."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clamr_cli.cli import main
from tests.unit.cli import small_index


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command."""

    code: int
    out: bytes
    err: str


Clamr = Callable[..., Ended]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user without settings, index or cache."""
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("CLAMR_"):
            monkeypatch.delenv(name)
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "warnoptions", list(sys.warnoptions))
    return folder


@pytest.fixture
def clamr(capfdbinary: pytest.CaptureFixture[bytes]) -> Clamr:
    """Runs a command line in this process."""

    def call(*arguments: str) -> Ended:
        capfdbinary.readouterr()
        code = main(arguments)
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err.decode())

    return call


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index that is never changed."""
    folder = tmp_path_factory.mktemp("built") / "index"
    small_index.build(folder)
    return folder


@pytest.fixture
def db(built: Path, tmp_path: Path) -> Path:
    """A copy of the small index of one's own."""
    return Path(shutil.copytree(built, tmp_path / "index"))
