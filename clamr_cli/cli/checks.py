"""What ``clamr doctor`` looks at: each check is small, changes nothing of the user's, and says what to do."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from clamr_cli import __version__, weights
from clamr_cli.cli.runtime import create_encoder, open_store
from clamr_cli.errors import ClamrError, IndexLocked, StoreError, pip_install
from clamr_cli.text import plural, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clamr_cli.config import Settings
    from clamr_cli.store import Store

State = Literal["ok", "warn", "fail"]

_PACKAGES: Final = ("torch", "transformers", "lancedb", "av", "faster-whisper", "easyocr")
_DECODERS: Final = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus", "mp3", "vorbis")
_LITTLE_SPACE: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of a check: its state, what was looked at, what was found, and what to do about it."""

    state: State
    name: str
    found: str
    hint: str = ""


def all_checks(settings: Settings) -> Iterator[Check]:
    """Every check, one after another. A ClamrError inside one is its outcome."""
    checks: tuple[Callable[[Settings], Iterator[Check]], ...] = (
        _versions,
        _configuration,
        _device,
        _kernel,
        _decoders,
        _speech_model,
        _screen_text,
        _encoder,
        _space,
        _index,
    )
    for check in checks:
        try:
            yield from check(settings)
        except ClamrError as error:
            yield Check("fail", check.__name__.strip("_").replace("_", " "), error.what, error.hint)


def _versions(_: Settings) -> Iterator[Check]:
    yield Check("ok", "clamr", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Check("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check("fail", name, "not installed", f"reinstall: {pip_install('', '--force-reinstall')}")


def _configuration(settings: Settings) -> Iterator[Check]:
    told = ", ".join(f"{name} from {source}" for name, source in settings.given.items())
    yield Check("ok", "settings", told or "all defaults")


def _device(settings: Settings) -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        found = f"cuda: {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():
        found = "mps"
    else:
        found = f"cpu, {plural(torch.get_num_threads(), 'thread')}"
    wanted = settings.device
    if wanted not in ("auto", "cpu") and not found.startswith(wanted):
        yield Check("fail", "device", f"{wanted} was asked for, this is {found}", "use --device auto")
    else:
        yield Check("ok", "device", found)


def _kernel(settings: Settings) -> Iterator[Check]:
    from clamr_cli import kernel

    backend = kernel.backends()[0]
    if backend == kernel.NUMPY:
        again = pip_install("", "--force-reinstall", "--no-deps", "--no-binary", "clamr-cli")
        hint = f"install a C compiler, then: {again}"
        yield Check("warn", "kernel", "numpy: searches work, but slower, for the compiled library is absent", hint)
    else:
        yield Check("ok", "kernel", f"{backend}, {plural(settings.threads or kernel.usable_threads(), 'thread')}")


def _decoders(_: Settings) -> Iterator[Check]:
    from av.codec import codecs_available

    absent = [name for name in _DECODERS if name not in codecs_available]
    if absent:
        yield Check("warn", "decoders", f"without {', '.join(absent)}", "install av from the package index")
    else:
        yield Check("ok", "decoders", ", ".join(_DECODERS))


def _speech_model(settings: Settings) -> Iterator[Check]:
    yield _weights("speech model", settings.asr_model, settings)


def _screen_text(settings: Settings) -> Iterator[Check]:
    if settings.ocr == "easyocr":
        yield _weights("screen text", weights.ocr_weights(settings.ocr_languages), settings)
        return
    try:
        yield Check("ok", "screen text", f"rapidocr {metadata.version('rapidocr')}")
    except metadata.PackageNotFoundError:
        yield Check("fail", "screen text", "rapidocr is not installed", pip_install("rapidocr"))


def _weights(name: str, model: str, settings: Settings) -> Check:
    """Weights are there, and every file has its checksum."""
    place = weights.locate(model, settings.cache)
    return Check("ok", name, f"{model}, verified, in {place}")


def _encoder(settings: Settings) -> Iterator[Check]:
    encoder = create_encoder(settings.encoder, settings)
    tokens = len(encoder.encode_queries(["a red car"])[0])
    yield Check("ok", "encoder", f"{encoder.info.name} {encoder.info.fingerprint}, {tokens} vectors for a test query")


def _space(settings: Settings) -> Iterator[Check]:
    yield _free("cache", settings.cache, "CLAMR_CACHE")
    if "://" not in settings.db:
        yield _free("index folder", Path(settings.db), "--db")


def _free(name: str, folder: Path, option: str) -> Check:
    present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(present).free
    found = f"{folder}, {size(free)} free"
    if not os.access(present, os.W_OK):
        return Check("warn", name, f"{folder} cannot be written", f"choose another place with {option}")
    if free < _LITTLE_SPACE:
        return Check("warn", name, found, f"make room, or choose another place with {option}")
    return Check("ok", name, found)


def _index(settings: Settings) -> Iterator[Check]:
    try:
        store = open_store(settings)
    except IndexLocked as error:
        yield Check("warn", "index", error.what, error.hint)
        return
    except StoreError as error:
        absent = error.what.startswith("no index at")
        yield Check("warn" if absent else "fail", "index", error.what, error.hint)
        return
    stats = store.stats()
    yield Check("ok", "index", f"{store.uri}: {plural(stats.videos, 'video')}, {plural(stats.moments, 'moment')}")
    if stats.failed:
        yield Check(
            "warn", "failures", f"{plural(stats.failed, 'file')} failed", "see them with: clamr status --failed"
        )
    yield from _other_encoders(stats.videos, {use.info.name for use in stats.encoders}, settings.encoder)
    yield _writer(store)


def _writer(store: Store) -> Check:
    try:
        with store.writer("clamr doctor"):
            return Check("ok", "writer", "nobody is writing to the index")
    except (IndexLocked, StoreError) as error:
        return Check("warn", "writer", error.what, error.hint)


def _other_encoders(videos: int, present: set[str], wanted: str) -> Iterator[Check]:
    if videos and wanted not in present:
        others = ", ".join(sorted(present)) or "none"
        yield Check(
            "warn", "vectors", f"the index has none of {wanted}, but of: {others}", f"clamr index --encoder {wanted}"
        )
