"""Completion scripts for bash, zsh and fish, written from the declared commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from clamr_cli import encoders, weights
from clamr_cli.types import SHOWN_MODALITIES, OcrEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_ASR: Final = "whisper-"
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "--modality": tuple(SHOWN_MODALITIES),
    "--weight": tuple(f"{name}=" for name in SHOWN_MODALITIES),
    "--encoder": tuple(encoders.TABLE),
    "--ocr": get_args(OcrEngine),
    "--asr-model": tuple(name for name in weights.names() if name.startswith(_ASR)),
}
_POSITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "models pull": weights.names(),
    "completions": ("bash", "zsh", "fish"),
}
_FILES: Final = ("index", "frames", "open", "ask", "rm", "encode", "eval", "eval qa", "synth", "train")
_FOLDER_VALUES: Final = ("DIR", "MODEL")
_FILE_VALUES: Final = ("FILE", "FRAME")


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its spellings, its help, the name of its value (empty for a switch), and values worth offering."""

    names: tuple[str, ...]
    help: str
    value: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words after ``clamr`` (none for the program itself), help, options and commands below it."""

    words: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    children: tuple[str, ...]

    @property
    def path(self) -> str:
        """The words, joined."""
        return " ".join(self.words)

    @property
    def positions(self) -> tuple[str, ...]:
        """Words worth offering as arguments."""
        return self.children or _POSITIONS.get(self.path, ())


def commands_of(program: Any, words: tuple[str, ...] = ()) -> list[Command]:  # noqa: ANN401 -- Typer's, untyped
    """Every command of a program, the program itself first; one of two words stands below that of the first word."""
    return _commands(program, words, getattr(program, "commands", {}))


def _commands(one: Any, words: tuple[str, ...], below: Mapping[str, Any]) -> list[Command]:  # noqa: ANN401
    children = {name: child for name, child in below.items() if " " not in name}
    options = [_option(option) for option in one.params if option.param_type_name == "option"]
    options.append(Option(("-h", "--help"), "Show the help and exit.", "", ()))
    text = (one.help or "").strip().split("\n")[0]
    found = [Command(words, text, tuple(options), tuple(children))]
    for name, child in children.items():
        own = {rest: lower for both, lower in below.items() if (rest := both.removeprefix(f"{name} ")) != both}
        found += _commands(child, (*words, name), {**getattr(child, "commands", {}), **own})
    return found


def _option(one: Any) -> Option:  # noqa: ANN401
    value = "" if one.is_flag else str(one.metavar or one.name).upper()
    values = next((_VALUES[name] for name in one.opts if name in _VALUES), tuple(getattr(one.type, "choices", ())))
    return Option((*one.opts, *one.secondary_opts), one.help or "", value, values)


def bash(commands: Sequence[Command]) -> str:
    """The script for bash 4.4 and later."""
    program = commands[0]
    skipped = "|".join(f":{name}" for option in program.options if option.value for name in option.names)
    steps = [f"            {skipped}) ((index++)) ;;"]
    steps += [
        f'            "{command.path}":{child}) words="{" ".join((*command.words, child))}" ;;'
        for command in commands
        for child in command.children
    ]
    values = [line for command in commands for line in _bash_values(command)]
    offers = [
        f'        "{command.path}:"-*) offers="{" ".join(n for o in command.options for n in o.names)}" ;;\n'
        f'        "{command.path}:"*) offers="{" ".join(command.positions)}" ;;'
        for command in commands
    ]
    return "\n".join(
        [
            "# bash completion of clamr; made by: clamr completions bash",
            "_clamr() {",
            '    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words="" offers="" index',
            "    for ((index = 1; index < COMP_CWORD; index++)); do",
            '        case "$words":${COMP_WORDS[index]} in',
            *steps,
            "        esac",
            "    done",
            '    case "$words":$previous in',
            *values,
            "    esac",
            '    case "$words:$current" in',
            *offers,
            "    esac",
            '    COMPREPLY=($(compgen -W "$offers" -- "$current"))',
            *_bash_files(commands),
            "}",
            "complete -o bashdefault -o default -F _clamr clamr",
            "",
        ]
    )


def _bash_files(commands: Sequence[Command]) -> list[str]:
    """Files beside the commands below one that takes files too; elsewhere the shell offers them by itself."""
    mixed = "|".join(f'"{one.path}:"' for one in commands if one.children and one.path in _FILES)
    added = 'compopt -o filenames; COMPREPLY+=($(compgen -f -- "$current"))'
    return ['    case "$words:$current" in', f"        {mixed}-*) ;;", f"        {mixed}*) {added} ;;", "    esac"]


def _bash_values(command: Command) -> Iterator[str]:
    for option in command.options:
        if not option.value:
            continue
        spelled = "|".join(f'"{command.path}":{name}' for name in option.names)
        if option.values:
            action = f'COMPREPLY=($(compgen -W "{" ".join(option.values)}" -- "$current"))'
        elif option.value == "DIR":
            action = 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$current"))'
        else:
            action = "COMPREPLY=()"
        yield f"        {spelled}) {action}; return ;;"


def zsh(commands: Sequence[Command]) -> str:
    """The script for zsh."""
    lines = ["#compdef clamr", "# zsh completion of clamr; made by: clamr completions zsh", ""]
    for command in commands:
        lines += [f"_{'_'.join(('clamr', *command.words))}() {{"]
        if command.children:
            lines += ["  local context state state_descr line", "  typeset -A opt_args"]
        specs = [spec for option in command.options for spec in _zsh_option(option)]
        flag = "-C " if command.children else ""
        lines += [f"  _arguments {flag}\\", *(f"    {spec} \\" for spec in specs), *_zsh_arguments(command)]
        lines += ["}", ""]
    return "\n".join([*lines, '_clamr "$@"', ""])


def _zsh_option(option: Option) -> Iterator[str]:
    for name in option.names:
        told = option.help.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        value = f":{option.value}:{_zsh_value(option)}" if option.value else ""
        yield f"'*{name}[{told}]{value}'"


def _zsh_value(option: Option) -> str:
    if option.values:
        return f"({' '.join(option.values)})"
    return "_files -/" if option.value in _FOLDER_VALUES else "_files" if option.value in _FILE_VALUES else ""


def _zsh_arguments(command: Command) -> Iterator[str]:
    if command.children:
        files = command.path in _FILES
        offers = f"{{compadd {' '.join(command.children)}; _files}}" if files else f"({' '.join(command.children)})"
        yield f"    '1:command:{offers}' '*::argument:->argument'"
        yield "  [[ $state == argument ]] || return"
        yield "  case $line[1] in"
        for child in command.children:
            yield f"    {child}) _{'_'.join(('clamr', *command.words, child))} ;;"
        if files:
            yield "    *) _files ;;"
        yield "  esac"
    elif command.positions:
        yield f"    '*:argument:({' '.join(command.positions)})'"
    else:
        yield f"    '*:argument:{'_files' if command.path in _FILES else ''}'"


def fish(commands: Sequence[Command]) -> str:
    """The script for fish."""
    lines = ["# fish completion of clamr; made by: clamr completions fish", "complete -c clamr -f"]
    for command in commands:
        where = _fish_condition(command)
        for child in command.children:
            told = next(one.help for one in commands if one.words == (*command.words, child))
            lines.append(f"complete -c clamr -n {_quoted(where)} -a {child} -d {_quoted(told)}")
        if command.positions and not command.children:
            lines.append(f"complete -c clamr -n {_quoted(where)} -a {_quoted(' '.join(command.positions))}")
        if command.path in _FILES:
            lines.append(f"complete -c clamr -n {_quoted(where)} -F")
        lines += [f"complete -c clamr -n {_quoted(where)} {_fish_option(option)}" for option in command.options]
    return "\n".join([*lines, ""])


def _fish_condition(command: Command) -> str:
    if not command.words:
        return "__fish_use_subcommand"
    conditions = [f"__fish_seen_subcommand_from {word}" for word in command.words]
    conditions += [f"not __fish_seen_subcommand_from {' '.join(command.children)}"] if command.children else []
    return "; and ".join(conditions)


def _fish_option(option: Option) -> str:
    parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.values:
        parts.append(f"-x -a {_quoted(' '.join(option.values))}")
    elif option.value in (*_FOLDER_VALUES, *_FILE_VALUES):
        parts.append("-r -F")
    elif option.value:
        parts.append("-x")
    return " ".join([*parts, f"-d {_quoted(option.help)}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: Final[Mapping[str, Callable[[Sequence[Command]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""The shells and their scripts."""
