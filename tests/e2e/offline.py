"""An environment of links that holds what ``pip install '.[offline]'`` brings, and nothing else."""

from __future__ import annotations

import tomllib
import venv
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TREE = Path(__file__).resolve().parents[2]


def _closure(extra: str) -> set[str]:
    """The names of the distributions that ``pip install '.[extra]'`` brings, of those that are installed here."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [(text, "") for text in (*project["dependencies"], *project["optional-dependencies"][extra])]
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while wanted:
        text, by_extra = wanted.pop()
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate({"extra": by_extra}):
            continue
        names.add(canonicalize_name(one.name))
        for asked in {"", *one.extras} - {found for name, found in seen if name == one.name}:
            seen.add((one.name, asked))
            try:
                wanted += [(requirement, asked) for requirement in metadata.requires(one.name) or ()]
            except metadata.PackageNotFoundError:
                pytest.skip(f"{one.name} is not installed")
    return names


def _files(distribution: metadata.Distribution) -> Iterator[tuple[str, ...]]:
    """The files that it put into the folder of packages, as parts of their paths."""
    for line in (distribution.read_text("RECORD") or "").splitlines():
        parts = tuple(line.split(",")[0].strip('"').split("/"))
        if parts[0] not in ("..", "__pycache__") and not parts[0].endswith(".pth"):
            yield parts


def _link(inside: set[tuple[str, ...]], outside: set[tuple[str, ...]], source: Path, target: Path) -> None:
    """Link what belongs to the environment: whole folders where nothing else is in them."""
    target.mkdir(exist_ok=True)
    others = {parts[0] for parts in outside if len(parts) > 1}
    below: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for parts in inside:
        below[parts[0]].add(parts[1:])
    for name, rest in below.items():
        if name in others:
            mixed = {parts[1:] for parts in outside if parts[0] == name}
            _link({parts for parts in rest if parts}, mixed, source / name, target / name)
        elif (source / name).exists():
            (target / name).symlink_to(source / name)


def build(place: Path, extra: str = "offline") -> Path:
    """Make the environment and return its interpreter."""
    venv.create(place, symlinks=True, with_pip=False)
    site = next(place.glob("lib/python*/site-packages"))
    names = _closure(extra)
    inside: defaultdict[Path, set[tuple[str, ...]]] = defaultdict(set)
    outside: defaultdict[Path, set[tuple[str, ...]]] = defaultdict(set)
    for one in metadata.distributions():
        name = canonicalize_name(one.metadata["Name"])
        if name != "clamr-cli":
            kind = inside if name in names else outside
            kind[Path(str(one.locate_file("")))].update(_files(one))
    for source, files in inside.items():
        _link(files, outside[source], source, site)
    (site / "clamr_cli").symlink_to(TREE / "clamr_cli")
    return place / "bin" / "python"
