"""Settings: the only place that reads environment variables and the configuration file.

Each setting comes from the first of these that names it: a command's flag, the environment (``CLAMR_DB`` for ``db``),
the configuration file (TOML, a line such as ``encoder = "mini"``), a default. The file is ``config.toml`` in the
user's configuration folder, or what ``--config`` or ``CLAMR_CONFIG`` names. ``CHECKS`` lists every setting.
"""

from __future__ import annotations

import math
import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import platformdirs

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clamr_cli.types import Scoring

APP: Final = "clamr"
PREFIX: Final = "CLAMR_"
DEVICES: Final = ("auto", "cpu", "cuda", "mps")
OCR_ENGINES: Final = ("easyocr", "rapidocr")
_LONGEST_SHOWN: Final = 100
SCORINGS: Final = ("token-max", "modality-max")


def default_db() -> str:
    """Where the index lies unless something else is said."""
    return str(Path(platformdirs.user_data_dir(APP, appauthor=False)) / "index")


def default_cache() -> Path:
    """Where weights and work files lie unless something else is said."""
    return Path(platformdirs.user_cache_dir(APP, appauthor=False))


def default_config() -> Path:
    """Where the configuration file is looked for unless something else is said."""
    return Path(platformdirs.user_config_dir(APP, appauthor=False)) / "config.toml"


def state_folder() -> Path:
    """Where the log of unexpected errors is written, and the locks of remote indexes."""
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


@dataclass(frozen=True, slots=True)
class Settings:
    """What commands need to know beyond their own flags.

    Attributes:
        db: the index: a folder or an address such as ``s3://bucket/name``.
        cache: folder of weights and work files.
        encoder: name of the encoder.
        device: auto, cpu, cuda or mps.
        threads: CPU threads, 0 for the libraries' own choice.
        language: two-letter code that speech and tracks are expected in, empty to detect.
        asr_model: speech model.
        ocr: engine for on-screen text.
        ocr_languages: language codes for it.
        speech, text: whether speech and on-screen text are recognised when indexing.
        window: longest moment in seconds.
        exclude: globs that indexing leaves out.
        time_limit: seconds without progress after which a decoder counts as hung.
        limit: results of a search.
        scan_limit: vectors a core that a search compares with before it looks candidates up.
        scoring: token-max or modality-max.
        encoders: each encoder's own settings by its name, from the file's tables such as ``[encoders.clamr]``.
        given: names of the settings that something other than a default set, and what did.
    """

    db: str = field(default_factory=default_db)
    cache: Path = field(default_factory=default_cache)
    encoder: str = "mini"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = 0
    language: str = ""
    asr_model: str = "whisper-base"
    ocr: Literal["easyocr", "rapidocr"] = "easyocr"
    ocr_languages: tuple[str, ...] = ("en",)
    speech: bool = True
    text: bool = True
    window: float = 60.0
    exclude: tuple[str, ...] = ()
    time_limit: float = 120.0
    limit: int = 10
    scan_limit: int = 20_000_000
    scoring: Scoring = "token-max"
    encoders: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def encoder_settings(self, name: str) -> Mapping[str, object]:
        """An encoder's own settings; ``st:ID`` has those of ``st`` unless it has a table of its own."""
        return self.encoders.get(name) or self.encoders.get(name.partition(":")[0], {})


def load(flags: Mapping[str, object] | None = None, *, config: str | None = None) -> Settings:
    """The settings of this run.

    Args:
        flags: settings that the command line gave; None values were not given.
        config: the configuration file that the command line named; it must exist.

    Raises:
        UsageError: a value that cannot be used; the message names the file and key, the variable or the flag.
    """
    values: dict[str, object] = {}
    given: dict[str, str] = {}
    for source, layer in (
        *_file_layer(config),
        *_environment_layer(),
        *((_flag(name), {name: value}) for name, value in (flags or {}).items() if value is not None),
    ):
        for name, value in layer.items():
            values[name] = _checked(name, value, source)
            given[name] = source
    return replace(Settings(), **values, given=given)  # type: ignore[arg-type]


def _flag(name: str) -> str:
    return "--ocr-lang" if name == "ocr_languages" else "--" + name.replace("_", "-")


def _environment_layer() -> list[tuple[str, dict[str, object]]]:
    known = {PREFIX + name.upper(): name for name in CHECKS if name != "encoders"}
    # An empty variable is one that is not set, as in most programs.
    return [
        (f"the environment variable {variable}", {name: os.environ[variable]})
        for variable, name in known.items()
        if os.environ.get(variable)
    ]


def config_file(named: str | None = None) -> Path:
    """The configuration file: what the command line named, else CLAMR_CONFIG, else the user's own."""
    return Path(os.path.expanduser(named or os.environ.get(PREFIX + "CONFIG") or default_config()))


def _file_layer(named: str | None) -> list[tuple[str, dict[str, object]]]:
    path = config_file(named)
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        if named or os.environ.get(PREFIX + "CONFIG"):
            raise UsageError(f"there is no configuration file {path}", "check --config and CLAMR_CONFIG") from None
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise UsageError(f"the configuration file {path} cannot be read ({reason})", "correct or remove it") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the configuration file {path} is not valid TOML ({error})", "correct it") from error
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise UsageError(f"the configuration file {path} cannot be read ({reason})", "correct it") from error
    layers = []
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in CHECKS:
            raise UsageError(f"{path}: there is no setting {key!r}", f"the settings are {', '.join(CHECKS)}")
        layers.append((f"{path}: {key}", {name: value}))
    return layers


def _checked(name: str, value: object, source: str) -> object:
    try:
        return CHECKS[name](value)
    except ValueError as error:
        raise UsageError(f"{source}: {_shown(value)} cannot be used", str(error)) from None


def _shown(value: object) -> str:
    """A value for a message: whole where it is short, else its beginning or its kind."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"this {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _string(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("give a text")
    return value


def _language(value: object) -> str:
    if not isinstance(value, str) or not (
        value == "" or (value.isascii() and value.isalpha() and len(value) in (2, 3))
    ):
        raise ValueError("give a language code such as en")
    return value.lower()


def _place(value: object) -> str:
    text = str(value) if isinstance(value, Path) else _string(value)
    # Unlike the method of paths, this leaves the home of a user who is unknown here as it is written, as shells do.
    return text if "://" in text else str(Path(os.path.expanduser(text)))


def _folder(value: object) -> Path:
    return Path(_place(value)).absolute()


def _one_of(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"use {', '.join(choices[:-1])} or {choices[-1]}")
        return str(value)

    return check


def _number(lowest: float, unit: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not lowest <= number < math.inf:
            raise ValueError(f"give a number of {unit}, at least {lowest:g}")
        return number

    return check


def _whole(lowest: int, highest: int = 10**15) -> Callable[[object], int]:
    def check(value: object) -> int:
        try:
            number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else lowest - 1
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise ValueError(f"give a whole number, at least {lowest} and at most {highest}")
        return number

    return check


def _switch(value: object) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower())
    if found is None:
        raise ValueError("use true or false")
    return found


def _words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("give a list of texts, or one text with commas")
    found = [piece.strip() for part in parts for piece in part.split(",")]
    return tuple(dict.fromkeys(piece for piece in found if piece))


def _globs(value: object) -> tuple[str, ...]:
    # A glob may hold a comma, so a list is never split; the environment gives one glob per line or path separator.
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("give a list of globs")
    return tuple(part for part in parts if part)


def _tables(value: object) -> Mapping[str, Mapping[str, object]]:
    if not isinstance(value, dict) or not all(isinstance(settings, dict) for settings in value.values()):
        raise ValueError("write tables such as [encoders.clamr]")
    tables = {name: {key.replace("-", "_"): one for key, one in table.items()} for name, table in value.items()}
    if any({"cache", "device", "threads"} & set(table) for table in tables.values()):
        raise ValueError("cache, device and threads hold for all encoders: write them outside of the tables")
    return tables


CHECKS: Final[Mapping[str, Callable[[object], object]]] = {
    "db": _place,
    "cache": _folder,
    "encoder": _string,
    "device": _one_of(*DEVICES),
    "threads": _whole(0, 1024),
    "language": _language,
    "asr_model": _string,
    "ocr": _one_of(*OCR_ENGINES),
    "ocr_languages": _words,
    "speech": _switch,
    "text": _switch,
    "window": _number(1.0, "seconds"),
    "exclude": _globs,
    "time_limit": _number(1.0, "seconds"),
    "scan_limit": _whole(0),
    "limit": _whole(1, 1_000_000),
    "scoring": _one_of(*SCORINGS),
    "encoders": _tables,
}
"""Every setting and what makes its value usable; a ValueError says what would be."""


def secret(variable: str) -> str:
    """The key in an environment variable that the command line named.

    Raises:
        UsageError: it is not set, or empty.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"the environment variable {variable} holds no key", f"set it: export {variable}=...")
    return value


def debugging() -> bool:
    """Whether unexpected errors show their traceback (CLAMR_DEBUG)."""
    return os.environ.get(PREFIX + "DEBUG", "") not in ("", "0")
