from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from clamr_cli.store import Store
from clamr_cli.train.run import RecipeOptions
from tests.unit.encoders.clamr import tiny
from tests.unit.train.clamr import shelf


@dataclass(frozen=True)
class Bench:
    """A tiny base, a starting adapter, an index and its queries; none of them is to be changed."""

    root: Path
    store: Store

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    def options(self, out: Path, **changes: object) -> RecipeOptions:
        settings = {
            "out": out, "cache": self.root / "cache", "queries": self.root / "queries.jsonl", "store": self.store,
            "model": str(self.base), "lora_rank": 8, "learning_rate": 1e-2, "steps": 4, "batch": 8, "device": "cpu",
        }  # fmt: skip
        return RecipeOptions(**{**settings, **changes})


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("train-clamr")
    tiny.write_base(root / "base")
    tiny.write_adapter(root / "adapter")
    shelf.write_queries(root / "queries.jsonl")
    return Bench(root, shelf.build(root / "index"))
