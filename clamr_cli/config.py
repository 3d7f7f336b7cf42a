"""Settings: the only place that reads environment variables and the configuration file.

Each setting comes from the first of these that names it: a command's option, the environment (``CLAMR_DB`` for ``db``),
the configuration file (TOML, a line such as ``encoder = "mini"``), a default. The file is ``config.toml`` in the
user's configuration folder, or what ``--config`` or ``CLAMR_CONFIG`` names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
import platformdirs
from msgspec import Meta

from clamr_cli.errors import UsageError
from clamr_cli.types import SCAN_LIMIT, Device, OcrEngine, RayOptions, Scoring, VoiceModel

_APP: Final = "clamr"
_PREFIX: Final = "CLAMR_"
_LONGEST_SHOWN: Final = 100
_SWITCH: Final = {"yes": True, "on": True, "no": False, "off": False}
_PICTURE_PROGRAMS: Final = frozenset({"iTerm.app", "WezTerm", "ghostty", "rio", "mintty", "vscode"})
_PICTURE_TERMS: Final = ("xterm-kitty", "xterm-ghostty", "foot", "mlterm", "contour", "yaft")
TABLES: Final = ("encoders", "executors")
"""Settings that are tables, and so stand in the configuration file only."""

_FOR_ALL_ENCODERS: Final = {"cache", "device", "threads"}

_Text = Annotated[str, Meta(pattern=r"^[^\0]*[^\s\0][^\0]*$")]
_Language = Annotated[str, Meta(pattern=r"^([A-Za-z]{2,3})?$")]
_Seconds = Annotated[float, Meta(ge=1.0, le=1e9)]


def default_db() -> str:
    """The index where nothing else is named."""
    return str(Path(platformdirs.user_data_dir(_APP, appauthor=False)) / "index")


def default_cache() -> Path:
    """The folder of weights and work files where nothing else is named."""
    return Path(platformdirs.user_cache_dir(_APP, appauthor=False))


def default_config() -> Path:
    """The configuration file where nothing else is named."""
    return Path(platformdirs.user_config_dir(_APP, appauthor=False)) / "config.toml"


def state_folder() -> Path:
    """The folder of the log of unexpected errors, and of the locks of remote indexes."""
    return Path(platformdirs.user_state_dir(_APP, appauthor=False))


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of all commands beside their own arguments.

    The types hold the limits of the values, and what the reference page says of them. ``given`` has the names of the
    settings that something other than a default set, and what did.
    """

    db: Annotated[_Text, Meta(description="The index: a folder, or an address such as s3://bucket/name.")] = field(
        default_factory=default_db
    )
    cache: Annotated[Path, Meta(description="Folder of weights and work files.")] = field(default_factory=default_cache)
    encoder: Annotated[_Text, Meta(description="Name of the encoder, or auto.")] = "mini"
    device: Annotated[Device, Meta(description="Where models run.")] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024, description="CPU threads; 0 for the libraries' own choice.")] = 0
    language: Annotated[
        _Language, Meta(description="Language that speech and tracks are expected in; empty to detect it.")
    ] = ""
    asr_model: Annotated[_Text, Meta(description="Speech model.")] = "whisper-base"
    ocr: Annotated[OcrEngine, Meta(description="Engine that reads on-screen text.")] = "easyocr"
    ocr_languages: Annotated[tuple[str, ...], Meta(description="Languages of on-screen text.")] = ("en",)
    speech: Annotated[bool, Meta(description="Recognise speech when indexing.")] = True
    text: Annotated[bool, Meta(description="Read on-screen text when indexing.")] = True
    speakers: Annotated[bool, Meta(description="Tell speakers apart when indexing.")] = False
    voice_model: Annotated[VoiceModel, Meta(description="Model that tells voices apart.")] = "campplus"
    window: Annotated[_Seconds, Meta(description="Longest moment, in seconds.")] = 60.0
    exclude: Annotated[tuple[str, ...], Meta(description="Globs that indexing leaves out.")] = ()
    time_limit: Annotated[
        _Seconds, Meta(description="Seconds without progress after which a decoder counts as hung.")
    ] = 120.0
    limit: Annotated[int, Meta(ge=1, le=1_000_000, description="Results of a search.")] = 10
    scan_limit: Annotated[
        int, Meta(ge=0, le=10**15, description="Vectors per core that a search compares with before it uses an index.")
    ] = SCAN_LIMIT
    scoring: Annotated[Scoring, Meta(description="How similarities become a score.")] = "token-max"
    encoders: Annotated[
        Mapping[str, Mapping[str, object]],
        Meta(description="Settings of single encoders by name, in tables such as [encoders.clamr]."),
    ] = field(default_factory=dict)
    executors: Annotated[
        Mapping[str, Mapping[str, object]],
        Meta(description="Settings of the Ray cluster for --executor ray, in the table [executors.ray]."),
    ] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def ray_options(self, **given: object) -> RayOptions:
        """The settings of the Ray cluster; what was ``given`` and is not None counts before the configuration.

        Raises:
            UsageError: a value cannot be used.
        """
        options = {name: value for name, value in given.items() if value is not None}
        try:
            return msgspec.convert({**self.executors.get("ray", {}), **options}, RayOptions, strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"the workers of the cluster cannot be so ({error})", "see clamr help scaling") from None

    def encoder_settings(self, name: str) -> Mapping[str, object]:
        """An encoder's own settings; ``st:ID`` has those of ``st`` unless it has a table of its own."""
        return self.encoders.get(name) or self.encoders.get(name.partition(":")[0], {})


NAMES: Final = tuple(setting.name for setting in fields(Settings) if setting.name != "given")
"""Every setting."""


def load(options: Mapping[str, object] | None = None, *, config: str | None = None) -> Settings:
    """The settings of this run.

    Args:
        options: settings that the command line gave; None values were not given.
        config: the configuration file that the command line named; it must exist.

    Raises:
        UsageError: an invalid value; the message names the file and key, the variable or the option.
    """
    path = file(config)
    content = _read_file(path, must_exist=bool(config or os.environ.get(variable("config"))))
    layers: list[tuple[str, str, object]] = []
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in NAMES:
            raise UsageError(f"{path}: unknown setting {key!r}", f"the settings are {', '.join(NAMES)}")
        layers.append((f"{path}: {key}", name, value))
    # An empty variable is one that is not set, as in most programs. Tables are in the file only.
    layers += (
        (f"the environment variable {variable(name)}", name, text)
        for name in NAMES
        if name not in TABLES and (text := os.environ.get(variable(name)))
    )
    for name, value in (options or {}).items():
        if value is not None:
            layers.append(("--ocr-lang" if name == "ocr_languages" else f"--{name.replace('_', '-')}", name, value))
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for source, name, value in layers:
        values[name] = convert(name, value, source)
        given[name] = source
    return replace(Settings(), **values, given=given)


def file(named: str | None = None) -> Path:
    """The configuration file: what was named, else what CLAMR_CONFIG names, else the user's; it need not exist."""
    return Path(os.path.expanduser(named or os.environ.get(variable("config")) or default_config()))


def convert(name: str, value: object, source: str) -> object:
    """A value as the type of its setting has it; ``source`` says where it comes from.

    Raises:
        UsageError: it does not fit.
    """
    try:
        return _convert(name, value)
    except (msgspec.ValidationError, RecursionError) as error:
        try:
            shown = repr(value)
        except (ValueError, RecursionError):
            shown = f"this {type(value).__name__}"
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
        hint = str(error) if name in TABLES and "outside" in str(error) else expected(name)
        raise UsageError(f"{source}: {shown} cannot be used", hint) from None


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return _PREFIX + name.upper()


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        if must_exist:
            raise UsageError(f"no configuration file {path}", "check --config and CLAMR_CONFIG") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the configuration file {path} cannot be read ({reason})", "correct or remove it") from error
    # Most users have no such file.
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the configuration file {path} is not valid TOML ({error})", "correct it") from error
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise UsageError(f"the configuration file {path} cannot be read ({reason})", "correct it") from error


def _convert(name: str, value: Any) -> object:  # noqa: ANN401 -- whatever a file holds
    """A value as the type of its setting has it.

    Raises:
        msgspec.ValidationError: it does not fit.
    """
    if name in ("db", "cache"):
        text = str(value) if isinstance(value, Path) else msgspec.convert(value, _Text, strict=False)
        # Unlike the method of paths, this leaves the home of a user who is unknown here as it is written, as shells do.
        text = text if "://" in text else str(Path(os.path.expanduser(text)))
        return Path(text).absolute() if name == "cache" else text
    if isinstance(value, str):
        match name:
            case "speech" | "text" | "speakers":
                value = _SWITCH.get(value.lower(), value)
            case "ocr_languages":
                value = value.split(",")
            case "exclude":
                # A glob may hold a comma, so a list is never split.
                value = value.split(os.pathsep)
    value = msgspec.convert(value, _types()[name], strict=False)
    match name:
        case "language":
            return value.lower()
        case "ocr_languages":
            pieces = [piece.strip() for part in value for piece in part.split(",")]
            return tuple(dict.fromkeys(piece for piece in pieces if piece))
        case "exclude":
            return tuple(glob for glob in value if glob)
        case "encoders":
            tables = {table: {key.replace("-", "_"): v for key, v in own.items()} for table, own in value.items()}
            if any(_FOR_ALL_ENCODERS & set(own) for own in tables.values()):
                hint = "cache, device and threads hold for all encoders: write them outside of the tables"
                raise msgspec.ValidationError(hint)
            return tables
        case "executors":
            tables = {table: {key.replace("-", "_"): v for key, v in own.items()} for table, own in value.items()}
            names = {each.name for each in fields(RayOptions)}
            if tables.keys() - {"ray"} or tables.get("ray", {}).keys() - names:
                raise msgspec.ValidationError(f"[executors.ray] has {', '.join(sorted(names))}")
            msgspec.convert(tables.get("ray", {}), RayOptions)
            return tables
    return value


@cache
def _types() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def expected(name: str) -> str:
    """Constraint of a setting, as a request."""
    from msgspec import inspect

    info: Any = inspect.type_info(_types()[name])
    match info.type:
        case inspect.BoolType():
            return "use true or false"
        case inspect.LiteralType():
            return f"use {', '.join(map(str, info.type.values[:-1]))} or {info.type.values[-1]}"
        case inspect.IntType():
            return f"give a whole number, at least {info.type.ge} and at most {info.type.le}"
        case inspect.FloatType():
            return f"give a number of seconds, at least {info.type.ge:g}"
        case inspect.VarTupleType():
            return "give a list of texts"
        case inspect.DictType():
            if name == "encoders":
                return "write tables such as [encoders.clamr]"
            names = ", ".join(sorted(each.name for each in fields(RayOptions)))
            return f"write a table [executors.ray] with {names}"
        case _:
            return "give a language code such as en" if name == "language" else "give a text"


def about(name: str) -> str:
    """Description of a setting, in a sentence."""
    from msgspec import inspect

    info: Any = inspect.type_info(_types()[name])
    return str(info.extra_json_schema["description"])


def plain_value(value: Any) -> Any:  # noqa: ANN401
    """A value of a setting as TOML and JSON have it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else dict(value) if hasattr(value, "items") else value


def value_text(value: Any) -> str:  # noqa: ANN401
    """A plain value of a setting for people."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def secret(variable: str) -> str:
    """The key in an environment variable that the command line named.

    Raises:
        UsageError: it is not set, or empty.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"the environment variable {variable} is not set", f"set it: export {variable}=...")
    return value


def external(variable: str) -> str:
    """A variable that other programs heed too, such as EDITOR; empty where it is not set."""
    return os.environ.get(variable, "")


def shows_pictures() -> bool:
    """True if the terminal calls itself one that draws pictures: by kitty's protocol, iTerm2's or sixel."""
    term = os.environ.get("TERM", "")
    if term.startswith(("screen", "tmux", "dumb")):
        return False
    named = os.environ.get("TERM_PROGRAM", "") in _PICTURE_PROGRAMS or term.startswith(_PICTURE_TERMS)
    return named or any(os.environ.get(name) for name in ("KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION"))


def debugging() -> bool:
    """True if unexpected errors show their traceback (CLAMR_DEBUG)."""
    return os.environ.get(variable("debug"), "") not in ("", "0")
