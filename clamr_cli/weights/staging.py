"""Building an artefact's folder in the cache: under a lock, beside its place, and put there in one step."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import ModelError
from clamr_cli.files import locked, make_folder, write_atomically
from clamr_cli.weights import trust

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTIAL: Final = ".partial-"
_STALE_SECONDS: Final = 24 * 3600


@contextlib.contextmanager
def building(cache: Path, name: str) -> Iterator[Path]:
    """A fresh folder to build an artefact in; it is gone afterwards unless :func:`install` moved it.

    One process at a time builds an artefact; whoever waited finds it built. The lock ends with its process, and what a
    killed one left behind is removed after a day.

    Raises:
        ModelError: the cache folder cannot be written, or the disk fills meanwhile.
    """
    partial = None
    try:
        make_folder(cache)
        with locked(cache / f".{name}.lock"):
            _sweep(cache)
            partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{name}-", dir=cache))
            yield partial
    except OSError as error:
        raise _disk_error(error, cache) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def install(partial: Path, target: Path, digests: Mapping[str, str], origin: Mapping[str, str]) -> None:
    """Make a finished folder the artefact's folder; an older one steps aside, so that no half state bears the name."""
    manifest = {"origin": dict(origin), "files": dict(digests)}
    write_atomically(partial / trust.MANIFEST, json.dumps(manifest, indent=1).encode())
    # mkdtemp makes folders that only their owner can enter; a cache may be shared.
    partial.chmod(0o755)
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}old-", dir=target.parent))
        target.rename(aside / target.name)
        shutil.rmtree(aside, ignore_errors=True)
    partial.rename(target)


def need_space(cache: Path, size: int) -> None:
    """Refuse early when the disk cannot hold ``size`` bytes more.

    Raises:
        ModelError: too little space.
    """
    free = shutil.disk_usage(cache).free
    if free < size:
        what = f"{cache} has {free / 1e6:,.0f} MB free, {size / 1e6:,.0f} MB are needed"
        raise ModelError(what, "free some, or choose another place with CLAMR_CACHE")


def _sweep(cache: Path) -> None:
    for leftover in cache.glob(f"{_PARTIAL}*"):
        # Whoever builds another artefact here may remove a folder between its being listed and looked at.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _disk_error(error: OSError, cache: Path) -> ModelError:
    if error.errno == errno.ENOSPC:
        return ModelError(f"no space left in {cache}", "free some, or choose another place with CLAMR_CACHE")
    return ModelError(
        f"the cache folder {cache} cannot be used ({error.strerror or error})", "choose another place with CLAMR_CACHE"
    )
