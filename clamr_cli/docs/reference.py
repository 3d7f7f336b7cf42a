"""Writes the reference pages: ``python -m clamr_cli.docs.reference``; with --check it only compares."""

from __future__ import annotations

import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

from clamr_cli import config, events, records
from clamr_cli.cli.app import COMMANDS, SHARED, build_program
from clamr_cli.errors import EXIT_CODES
from clamr_cli.records import Column

_FOLDER: Final = Path(__file__).parent
_COMMAND: Final = "python -m clamr_cli.docs.reference"
_NOTE: Final = f"<!-- Written by {_COMMAND}: change the code, not this page. -->\n\n"
_OTHER_VARIABLES: Final = {
    "CLAMR_CONFIG": "The configuration file, as --config.",
    "CLAMR_DEBUG": "1 shows the traceback of unexpected errors, and what libraries log.",
    "NO_COLOR": "Any value: no colours.",
    "COLUMNS": "Width of tables and help.",
}
_SETTINGS: Final = """\
# Settings

A setting comes from the first of these that names it: an option of the command line, the environment variable, the
configuration file (TOML, such as `encoder = "mini"`), the default. The file is what `--config` or `CLAMR_CONFIG`
names, else `config.toml` in the user's configuration folder.

{}
## Other environment variables

"""
_RECORDS: Final[dict[str, dict[str, Any]]] = {
    "ls": {"COLUMNS": records.FILE},
    "show": {"COLUMNS": records.VIDEO, "MORE": records.VIDEO_MORE, "TIMELINE": records.TIMELINE},
    "status": {"COLUMNS": records.STATUS},
    "search": {"HIT": records.HIT},
    "explain": {"COLUMNS": records.EXPLANATION},
    "frames": {"FRAME": records.FRAME},
}
"""Records of commands that the server sends too."""
_JSON: Final = """\
# JSON keys and TSV columns

`--json` prints one JSON object per line. Tab-separated lines have no header: the number is the place of the column.
CSV has the same columns, with a header. Where a command prints one thing (`status`, `optimize`), there is a line of
name and value for each instead.
"""


def commands_page() -> str:
    """All commands with their help as a person sees it."""
    program = build_program()
    parent = program.make_context("clamr", [], resilient_parsing=True, terminal_width=80)
    parts = ["# Commands\n", _block(parent.get_help())]
    for name in COMMANDS:
        command = program.commands[name]
        context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=80)
        parts += [f"## clamr {name}\n", _block(context.get_help())]
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = (line.rstrip() for line in text.strip().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


def settings_page() -> str:
    """The settings of the configuration file and their environment variables."""
    defaults = config.Settings("in the user's data folder", Path("in the user's cache folder"))
    rows = []
    for name in config.NAMES:
        default = getattr(defaults, name)
        words = default if isinstance(default, tuple) else [default]
        shown = " ".join(str(word).lower() if isinstance(word, bool) else str(word) for word in words if word != {})
        variable = "" if name in config.TABLES else f"`{config.variable(name)}`"
        value = config.expected(name).partition(" ")[2]
        rows.append((f"`{name}`", variable, value, shown, config.about(name)))
    rows.sort(key=lambda row: row[0].strip("`") in config.TABLES)
    variables = [(f"`{name}`", meaning) for name, meaning in _OTHER_VARIABLES.items()]
    return _SETTINGS.format(_table(("Setting", "Variable", "Value", "Default", "Meaning"), rows)) + _table(
        ("Variable", "Meaning"), variables
    )


def json_page() -> str:
    """The JSON keys and TSV columns of every command, and the events of index runs."""
    parts = [_JSON]
    done: set[int] = set()
    for name, (place, _) in COMMANDS.items():
        module = import_module(f"clamr_cli.cli.commands.{place.partition(':')[0]}")
        for variable, columns in {**_RECORDS.get(name, {}), **vars(module)}.items():
            if variable.startswith("_") or id(columns) in done or not isinstance(columns, tuple):
                continue
            if not columns or not all(isinstance(column, Column) for column in columns):
                continue
            done.add(id(columns))
            rows, number = [], 0
            for column in columns:
                number += bool(column.tsv)
                if column.json or column.tsv:
                    tsv = str(number) if column.tsv else ""
                    rows.append((f"`{column.name}`", "yes" if column.json else "", tsv, column.about))
            part = variable.removesuffix("COLUMNS").strip("_").lower()
            parts.append(f"## clamr {name}{f': {part}' if part else ''}\n")
            parts.append(_table(("Key", "JSON", "TSV", "Meaning"), rows))
    parts.append("## clamr index --json\n\nAn object per event; its key `event` says which one it is.\n")
    events_rows = []
    for kind in get_args(events.Event):
        keys = ", ".join(f"`{field.name}`" for field in fields(kind) if field.repr)
        events_rows.append(
            (f"`{kind.__name__.lower()}`", keys, " ".join((kind.__doc__ or "").split("\n\n")[0].split()))
        )
    parts.append(_table(("Event", "Keys", "Meaning"), events_rows))
    return "\n".join(parts)


def exit_codes_page() -> str:
    """The exit codes."""
    rows = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    return "# Exit codes\n\n" + _table(("Code", "Meaning"), rows)


def _table(header: tuple[str, ...], rows: Any) -> str:  # noqa: ANN401
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def manual_page() -> str:
    """The page for man: the program and every command, with its options."""
    program = build_program()
    topics = ", ".join(path.stem for path in sorted(_FOLDER.glob("*.md")))
    lines = [
        f'.\\" Written by {_COMMAND}: change the code, not this page.',
        '.TH CLAMR 1 "" "clamr" "User Commands"',
        ".SH NAME",
        "clamr \\- search a folder of videos",
        ".SH SYNOPSIS",
        ".B clamr\n[OPTIONS] COMMAND [ARGUMENTS]",
        ".SH DESCRIPTION",
        _roff(program.help),
        f".PP\nThe command clamr help TOPIC shows a page of the manual: {_roff(topics)}.",
        ".SH OPTIONS",
        *_roff_options(program),
    ]
    for name in COMMANDS:
        command = program.commands[name]
        arguments = [_metavar(p) for p in command.params if p.param_type_name == "argument"]
        lines += [
            f'.SH "CLAMR {_roff(name.upper())}"',
            f".B clamr {_roff(name)}",
            f"[OPTIONS]{''.join(' ' + _roff(argument) for argument in arguments)}",
        ]
        lines += [f".PP\n{_roff(' '.join(part.split()))}" for part in (command.help or "").split("\n\n")]
        examples = (command.epilog or "").partition("Examples:\n")[2]
        lines += _roff_options(command)
        lines += [f".PP\nExamples:\n.PP\n.nf\n{_roff(examples)}\n.fi"] if examples else []
    codes = [f".TP\n.B {code}\n{_roff(meaning)}" for code, meaning in EXIT_CODES.items()]
    variables = {config.variable(name): config.about(name) for name in config.NAMES if name not in config.TABLES}
    entries = [f".TP\n.B {name}\n{_roff(meaning)}" for name, meaning in {**variables, **_OTHER_VARIABLES}.items()]
    return "\n".join([*lines, ".SH EXIT STATUS", *codes, ".SH ENVIRONMENT", *entries, ""])


def _roff_options(command: Any) -> list[str]:  # noqa: ANN401
    """Options as tagged paragraphs; those of the program stand with the program alone."""
    result = []
    for option in command.params:
        if option.param_type_name == "argument":
            tag, text = _metavar(option), option.help
        elif option.name in SHARED and option.hidden:
            continue
        else:
            value = "" if option.is_flag else f" {_metavar(option)}"
            tag, text = ", ".join((*option.opts, *option.secondary_opts)) + value, option.help
        result.append(f".TP\n.B {_roff(tag)}\n{_roff(text or '')}")
    return result


def _metavar(parameter: Any) -> str:  # noqa: ANN401
    return str(parameter.metavar or parameter.name).upper()


def _roff(text: str) -> str:
    """Text that troff shows as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.split("\n"))


PAGES: Final = {
    "reference-commands.md": commands_page,
    "reference-settings.md": settings_page,
    "reference-json.md": json_page,
    "reference-exit-codes.md": exit_codes_page,
    "clamr.1": manual_page,
}


def main(arguments: list[str]) -> int | str:
    """Write the pages, or compare them; a text says which ones are out of date."""
    pages = {_FOLDER / name: (_NOTE if name.endswith(".md") else "") + page() for name, page in PAGES.items()}
    if "--check" in arguments:
        stale = [path.name for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text]
        return f"out of date: {', '.join(stale)}; write them with: {_COMMAND}" if stale else 0
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
