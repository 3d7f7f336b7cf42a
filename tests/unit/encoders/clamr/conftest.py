"""A tiny model made once per run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from clamr_cli.encoders.clamr import ClamrEncoder
from tests.unit.encoders.clamr import tiny

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Folders:
    base: Path
    adapter: Path
    cache: Path

    def encoder(self, **settings: object) -> ClamrEncoder:
        given = {"model": self.base, "adapter": self.adapter, **settings}
        return ClamrEncoder.create(cache=self.cache, device="cpu", **given)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A base and an adapter in the published layout; not to be changed."""
    root = tmp_path_factory.mktemp("tiny-clamr")
    return Folders(tiny.write_base(root / "base"), tiny.write_adapter(root / "adapter"), root / "cache")


@pytest.fixture(scope="session")
def encoder(folders: Folders) -> ClamrEncoder:
    """The encoder of :func:`folders` in float32."""
    return folders.encoder()


@pytest.fixture
def copies(folders: Folders, tmp_path: Path) -> Folders:
    """Copies of base and adapter that a test may damage."""
    base = shutil.copytree(folders.base, tmp_path / "base")
    adapter = shutil.copytree(folders.adapter, tmp_path / "adapter")
    return Folders(base, adapter, tmp_path / "cache")
