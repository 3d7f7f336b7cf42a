"""``clamr config``: the settings, where each comes from, and the file that holds them."""

from __future__ import annotations

import difflib
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from clamr_cli import config
from clamr_cli.cli.options import Context, FormOptions, edited
from clamr_cli.cli.output import emit, print_line, warn
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.files import write_atomically
from clamr_cli.records import Column, json_only

_NEW_FILE: Final = """\
# Settings of clamr. Remove the # before a line to use it; 'clamr help reference-settings' describes them.
{}"""


@dataclass(frozen=True, kw_only=True)
class ShowArguments(FormOptions):
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only these settings.", show_default=False)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PathArguments:
    pass


@dataclass(frozen=True, kw_only=True)
class EditArguments:
    pass


@dataclass(frozen=True, kw_only=True)
class SetArguments:
    name: Annotated[str, typer.Argument(metavar="NAME", help="A setting, as 'clamr config' lists it.")]
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE", help="Its value; several for a list; none for the default.", show_default=False
        ),
    ] = None


COLUMNS: Final = (
    Column("name", "Name of the setting."),
    Column(
        "value", "Its value in this run.", tsv=config.value_text, table=config.value_text, wide=True
    ),
    Column(
        "source", "What set it: an option, a variable, the file and key, or default.",
        table=lambda source: "" if source == "default" else source, below="value",
    ),
    json_only("about", "What it means."),
)  # fmt: skip


def show(context: Context, arguments: ShowArguments) -> int:
    """Show the settings, and where each comes from.

    'clamr config show' is the same. Piped, it prints tab-separated lines: name, value, source.

    Examples:
        clamr config
        clamr config show language --json
    """
    settings, form = context.settings(), arguments.form
    names = [_known(name) for name in arguments.names or ()] or [
        name for name in config.NAMES if name not in config.TABLES
    ]
    if not arguments.names:
        names += [name for name in config.TABLES if getattr(settings, name)]
    rows = [
        {
            "name": name,
            "value": config.plain_value(getattr(settings, name)),
            "source": settings.given.get(name, "default"),
            "about": config.about(name),
        }
        for name in names
    ]
    emit(COLUMNS, rows, form)
    return EXIT_FOUND


def path(context: Context, arguments: PathArguments) -> int:  # noqa: ARG001
    """Print the path of the configuration file. It need not exist yet.

    Examples:
        clamr config path
    """
    print_line(str(config.file(context.config)))
    return EXIT_FOUND


def set_value(context: Context, arguments: SetArguments) -> int:
    """Write a setting to the configuration file. Without a value the setting goes back to its default.

    Comments and other settings in the file stay as they are.

    Examples:
        clamr config set language fr
        clamr config set exclude "*.tmp" "*/raw/*"
        clamr config set language
    """
    import tomlkit

    name, values, place = _known(arguments.name), arguments.values or [], config.file(context.config)
    if name in config.TABLES:
        raise UsageError("tables such as [encoders.clamr] cannot be set here", "write them with: clamr config edit")
    document = tomlkit.parse(_content(place))
    if not values:
        if document.pop(name, document.pop(name.replace("_", "-"), None)) is None:
            warn(f"{name} is not set in {place}")
            return EXIT_FOUND
    else:
        is_list = isinstance(getattr(config.Settings(), name), tuple)
        if len(values) > 1 and not is_list:
            raise UsageError(f"{name} is one value", f"put it in quotation marks: clamr config set {name} VALUE")
        written: Any = config.plain_value(
            config.convert(name, values if is_list else values[0], f"clamr config set {name}")
        )
        document[name] = written
    _write(place, tomlkit.dumps(document))
    warn(f"{name} is {'the default again' if not values else config.value_text(written)}: {place}")
    return EXIT_FOUND


def edit(context: Context, arguments: EditArguments) -> int:  # noqa: ARG001
    """Open the configuration file in your editor.

    The editor is what VISUAL or EDITOR names. A file with a mistake is not taken over; the line says what is wrong.

    Examples:
        clamr config edit
    """
    place = config.file(context.config)
    before = _content(place) or _template()
    after, _ = edited(before, "config.toml", lambda text: _check(place, text))
    if after == before:
        warn("nothing was changed")
        return EXIT_FOUND
    _write(place, after)
    warn(f"changed {place}")
    return EXIT_FOUND


def _check(place: Path, text: str) -> None:
    """Refuse a text that is no configuration."""
    with tempfile.TemporaryDirectory(prefix="clamr-") as folder:
        draft = Path(folder) / place.name
        draft.write_text(text, "utf-8")
        try:
            config.load(config=str(draft))
        except UsageError as error:
            raise UsageError(
                f"nothing was changed: {error.what.replace(str(draft), place.name)}", error.hint
            ) from error


def _known(name: str) -> str:
    plain = name.replace("-", "_").lower()
    if plain not in config.NAMES:
        close = difflib.get_close_matches(plain, config.NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else "list them with: clamr config"
        raise UsageError(f"unknown setting {name!r}", hint)
    return plain


def _content(place: Path) -> str:
    """The text of the configuration file, empty where there is none; it must be valid TOML."""
    try:
        text = place.read_text("utf-8-sig")
        tomllib.loads(text)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the configuration file {place} cannot be read ({error})", "correct or remove it") from error
    return text


def _template() -> str:
    import tomlkit

    lines = []
    for name in config.NAMES:
        value = config.plain_value(getattr(config.Settings(), name))
        if not isinstance(value, dict):
            lines += ["", f"# {config.about(name)}", f"# {name} = {tomlkit.item(value).as_string()}"]
    return _NEW_FILE.format("\n".join([*lines, ""]))


def _write(place: Path, text: str) -> None:
    try:
        write_atomically(Path(os.path.realpath(place)), text.encode())
    except OSError as error:
        raise UsageError(f"{place} cannot be written ({error.strerror})", "check who may write it") from error
