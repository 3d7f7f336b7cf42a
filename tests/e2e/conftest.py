"""Shared fixtures of the end-to-end tests: weights, an indexed library, and a small shelf that each test gets anew."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

from tests.clips import Clip
from tests.e2e import library
from tests.e2e import offline as environment
from tests.e2e.harness import Clamr, Result
from tests.weights import absent

Built = TypeVar("Built")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are slow: they run the installed program on videos."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def _build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], Built]) -> Built:
    """The result of ``build(folder)``; processes that share one test run build it once and share the folder."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    result = folder.with_name(f"{name}.pickle")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            result.write_bytes(pickle.dumps(build(folder)))
        built: Built = pickle.loads(result.read_bytes())
    return built


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder; the models come from the installed packages, and tests skip where those are absent."""
    if missing := absent():
        pytest.skip(f"the [offline] extra is not installed: {', '.join(missing)}")

    def build(folder: Path) -> Path:
        # A configuration file of its own keeps the user's out.
        (folder / "empty.toml").touch()
        return folder

    return _build_once(tmp_path_factory, "cache", build)


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has only what the extra ``offline`` brings."""
    return _build_once(tmp_path_factory, "offline", lambda folder: environment.build(folder / "venv"))


@dataclass(frozen=True)
class Shelf:
    """A folder of videos, the command line on its index, and what the index run said."""

    videos: Path
    clamr: Clamr
    first: Result


@pytest.fixture(scope="session")
def shelf(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The library, indexed with clamr's defaults. Tests must leave it as it is."""

    def build(folder: Path) -> Shelf:
        videos = library.build(folder / "videos")
        clamr = Clamr(folder / "index", cache)
        return Shelf(videos, clamr, clamr.index(str(videos)).ok())

    return _build_once(tmp_path_factory, "library", build)


@pytest.fixture(scope="session")
def _small(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    place = tmp_path_factory.mktemp("small")
    videos = place / "videos"
    videos.mkdir()
    Clip().photo("cat", 10).narration("bees", at=1).write(videos / "bees.mp4")
    Clip().photo("brick", 2).text(("Museum of", "lost umbrellas"), 4).write(videos / "card.mp4")
    clamr = Clamr(place / "index", cache, {"encoder": "hashed"})
    first = clamr.index(str(videos)).ok()
    shutil.copytree(place, place.with_name("small-as-new"))
    return Shelf(videos, clamr, first)


@pytest.fixture
def small(_small: Shelf) -> Iterator[Shelf]:
    """Two indexed videos, one that speaks and one with a title card; what a test does to them is undone after it."""
    yield _small
    place = _small.videos.parent
    shutil.rmtree(place)
    shutil.copytree(place.with_name("small-as-new"), place)
