"""``clamr doctor``: whether everything clamr needs works. Each check is small and changes nothing of the user's."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from clamr_cli import __version__, weights
from clamr_cli.cli.options import Context, FormOptions, open_store, quiet_libraries
from clamr_cli.cli.output import emit
from clamr_cli.devices import choose_device
from clamr_cli.encoders import AUTO, DEFAULT, MULTILINGUAL, best
from clamr_cli.errors import EXIT_FOUND, EXIT_USAGE, ClamrError, IndexLocked, StoreError, pip_install
from clamr_cli.records import Column
from clamr_cli.selection import create_encoder
from clamr_cli.text import plural, size

if TYPE_CHECKING:
    from clamr_cli.config import Settings

_PACKAGES: Final = ("torch", "transformers", "lancedb", "av", "faster-whisper", "easyocr")
_DECODERS: Final = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "opus", "mp3", "vorbis")
_LITTLE_SPACE: Final = 2_000_000_000


class Check(NamedTuple):
    state: str
    check: str
    found: str
    hint: str = ""


COLUMNS: Final = (
    Column("state", "ok, warn or fail."),
    Column("check", "What was looked at."),
    Column("found", "What was found.", wide=True),
    Column("hint", "What to do about it.", below="found"),
)


def doctor(context: Context, arguments: FormOptions) -> int:
    """Check that everything clamr needs works.

    Each line says ok, warn or fail, and what to do. It exits with 2 if a check fails. Piped, it prints tab-separated
    lines: state, what, what was found, what to do.

    Examples:
        clamr doctor
    """
    settings, form = context.settings(), arguments.form
    quiet_libraries()
    results = list(checks(settings))
    emit(COLUMNS, results, form)
    return EXIT_USAGE if any(check.state == "fail" for check in results) else EXIT_FOUND


def checks(settings: Settings) -> Iterator[Check]:
    """Every check, one after another. A ClamrError inside one is its outcome."""
    functions = (
        _versions, _device, _kernel, _decoders, _speech_model, _screen_text, _encoder, _space, _index
    )  # fmt: skip
    for function in functions:
        try:
            yield from function(settings)
        except ClamrError as error:
            yield Check("fail", function.__name__.replace("_", " ").strip(), error.what, error.hint)


def _versions(settings: Settings) -> Iterator[Check]:
    from importlib import metadata

    yield Check("ok", "clamr", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Check("ok", name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check("fail", name, "not installed", f"reinstall: {pip_install('', '--force-reinstall')}")
    given = ", ".join(f"{name} from {source}" for name, source in settings.given.items())
    yield Check("ok", "settings", given or "all defaults")


def _device(settings: Settings) -> Iterator[Check]:
    import torch

    device = choose_device("auto")
    if device == "cuda":
        device = f"cuda: {torch.cuda.get_device_name()}"
    elif device == "cpu":
        device = f"cpu, {plural(torch.get_num_threads(), 'thread')}"
    if settings.device not in ("auto", "cpu") and not device.startswith(settings.device):
        yield Check("fail", "device", f"{settings.device} was asked for, this is {device}", "use --device auto")
    else:
        yield Check("ok", "device", device)


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
    folder = weights.locate(settings.asr_model, settings.cache)
    yield Check("ok", "speech model", f"{settings.asr_model}, verified, in {folder}")


def _screen_text(settings: Settings) -> Iterator[Check]:
    from importlib import metadata

    if settings.ocr == "easyocr":
        model = weights.ocr_weights(settings.ocr_languages)
        yield Check("ok", "screen text", f"{model}, verified, in {weights.locate(model, settings.cache)}")
        return
    try:
        yield Check("ok", "screen text", f"rapidocr {metadata.version('rapidocr')}")
    except metadata.PackageNotFoundError:
        yield Check("fail", "screen text", "rapidocr is not installed", pip_install("rapidocr"))


def _encoder(settings: Settings) -> Iterator[Check]:
    name = best(settings.cache)[0] if settings.encoder == AUTO else settings.encoder
    encoder = create_encoder(name, settings)
    tokens = len(encoder.encode_queries(["a red car"])[0])
    yield Check("ok", "encoder", f"{encoder.info.name} {encoder.info.fingerprint}, {tokens} vectors for a test query")
    if name == DEFAULT:
        languages = weights.status(MULTILINGUAL, settings.cache)
        if languages.installed:
            yield Check("ok", "languages", f"queries in {languages.purpose.rpartition(', ')[2]}")
        else:
            yield Check("warn", "languages", "mini reads English only, the rest by its spelling", languages.hint)
    better, reason = best(settings.cache, installed=False)
    if better not in (name, DEFAULT) and not weights.status(better, settings.cache).installed:
        yield Check("ok", "better encoder", f"{better}: {reason}", f"clamr models pull {better}")


def _space(settings: Settings) -> Iterator[Check]:
    folders = [("cache", settings.cache, "CLAMR_CACHE")]
    if "://" not in settings.db:
        folders.append(("index folder", Path(settings.db), "--db"))
    for name, folder, option in folders:
        present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(present).free
        if not os.access(present, os.W_OK):
            yield Check("warn", name, f"{folder} cannot be written", f"choose another place with {option}")
        elif free < _LITTLE_SPACE:
            hint = f"make room, or choose another place with {option}"
            yield Check("warn", name, f"{folder}, {size(free)} free", hint)
        else:
            yield Check("ok", name, f"{folder}, {size(free)} free")


def _index(settings: Settings) -> Iterator[Check]:
    try:
        store = open_store(settings)
    except StoreError as error:
        state = "warn" if isinstance(error, IndexLocked) or error.what.startswith("no index at") else "fail"
        yield Check(state, "index", error.what, error.hint)
        return
    stats = store.stats()
    yield Check("ok", "index", f"{store.uri}: {plural(stats.videos, 'video')}, {plural(stats.moments, 'moment')}")
    if stats.failed:
        hint = "see them with: clamr status --failed"
        yield Check("warn", "failures", f"{plural(stats.failed, 'file')} failed", hint)
    names = {use.info.name for use in stats.encoders}
    if stats.videos and settings.encoder not in (*names, AUTO):
        others = ", ".join(sorted(names)) or "none"
        text = f"the index has none of {settings.encoder}, but of: {others}"
        yield Check("warn", "vectors", text, f"clamr index --encoder {settings.encoder}")
    try:
        with store.writer("clamr doctor"):
            yield Check("ok", "writer", "nobody is writing to the index")
    except StoreError as error:
        yield Check("warn", "writer", error.what, error.hint)
