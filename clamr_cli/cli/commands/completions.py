"""``clamr completions``: a script with which the shell completes clamr's commands and options.

The scripts are written from the declared commands. A shell starts clamr
only where a video is named, for ids and titles.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import typer

from clamr_cli import encoders, weights
from clamr_cli.cli.app import HELP_ALL
from clamr_cli.cli.options import Context
from clamr_cli.cli.output import warn, write
from clamr_cli.config import external
from clamr_cli.errors import EXIT_FOUND, UsageError
from clamr_cli.files import write_atomically
from clamr_cli.types import SHOWN_MODALITIES


@dataclass(frozen=True, kw_only=True)
class CompletionsArguments:
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]


@dataclass(frozen=True, kw_only=True)
class InstallArguments:
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        typer.Argument(metavar="[SHELL]", help="bash, zsh or fish.", show_default=False),
    ] = None


def completions(context: Context, arguments: CompletionsArguments) -> int:
    """Print a completion script for bash, zsh or fish.

    'clamr completions install' writes it where the shell looks.

    Examples:
        clamr completions bash > ~/.local/share/bash-completion/completions/clamr
        clamr completions zsh > "${fpath[1]}/_clamr"
        clamr completions fish > ~/.config/fish/completions/clamr.fish
    """
    write([SCRIPTS[arguments.shell](commands_of(context.program)).encode()])
    return EXIT_FOUND


def install(context: Context, arguments: InstallArguments) -> int:
    """Write the completion script where your shell looks. Without SHELL it is the shell of this session.

    The start-up files of the shell stay as they are: what zsh still needs there is printed.

    Examples:
        clamr completions install
        clamr completions install zsh
    """
    shell = arguments.shell or os.path.basename(external("SHELL")).removesuffix(".exe")
    if shell not in SCRIPTS:
        raise UsageError(f"no completion is known for the shell {shell!r}", "name one: bash, zsh or fish")
    place = place_for(shell)
    script = SCRIPTS[shell](commands_of(context.program)).encode()
    try:
        write_atomically(place, script)
    except OSError as error:
        hint = f"write it elsewhere: clamr completions {shell} > FILE"
        raise UsageError(f"{place} cannot be written ({error.strerror})", hint) from error
    warn(f"wrote {place}; new shells complete clamr")
    if shell == "zsh":
        line = f"fpath=({shlex.quote(str(place.parent))} $fpath); autoload -Uz compinit; compinit"
        warn(f"if they do not, add this line to ~/.zshrc: {line}")
    elif shell == "bash":
        warn("it needs the package bash-completion; without it, add to ~/.bashrc: " + f". {shlex.quote(str(place))}")
    return EXIT_FOUND


def place_for(shell: str) -> Path:
    """The file from which a shell loads the completion of clamr."""
    home = Path.home()
    data = Path(external("XDG_DATA_HOME") or home / ".local" / "share")
    settings = Path(external("XDG_CONFIG_HOME") or home / ".config")
    if shell == "fish":
        return settings / "fish" / "completions" / "clamr.fish"
    if shell == "zsh":
        return data / "zsh" / "site-functions" / "_clamr"
    folder = external("BASH_COMPLETION_USER_DIR") or data / "bash-completion"
    return Path(folder) / "completions" / "clamr"


_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "--modality": tuple(SHOWN_MODALITIES),
    "--weight": tuple(f"{name}=" for name in SHOWN_MODALITIES),
    "--encoder": tuple(encoders.TABLE),
    "--asr-model": tuple(name for name in weights.names() if name.startswith("whisper-")),
}
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {"models pull": weights.names()}
_FILES: Final = ("index", "edit", "show", "frames", "open", "ask", "rm", "encode", "eval", "eval qa", "synth", "train")
"""Commands that take files as arguments."""

_VIDEOS: Final = ("explain", "frames", "open", "ask", "show", "edit", "rm")
"""Commands whose arguments name videos."""

_FOLDER_VALUES: Final = ("DIR", "MODEL")
_FILE_VALUES: Final = ("FILE", "FRAME")


class OptionSpec(NamedTuple):
    """An option: its spellings, its help, the name of its value (empty for a switch), and values worth offering."""

    names: tuple[str, ...]
    help: str
    value: str = ""
    values: tuple[str, ...] = ()


class CommandSpec(NamedTuple):
    """A command: its words after ``clamr`` (none for the program itself), and what may follow them."""

    words: tuple[str, ...]
    help: str
    options: tuple[OptionSpec, ...]
    children: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def path(self) -> str:
        return " ".join(self.words)


def commands_of(program: Any) -> list[CommandSpec]:  # noqa: ANN401 -- Typer's, untyped
    """The program itself and its commands; one of two words stands below that of the first word."""
    result = []
    for path, command in {"": program, **program.commands}.items():
        below = [name.removeprefix(f"{path} ".lstrip()) for name in program.commands if name.startswith(path)]
        children = tuple(name for name in below if name and name != path and " " not in name)
        options, arguments = [], _WORDS.get(path, ())
        for param in command.params:
            if param.param_type_name == "argument":
                arguments += _choices(param)
                continue
            value = "" if param.is_flag else str(param.metavar or param.name).upper()
            values = next((_VALUES[name] for name in param.opts if name in _VALUES), _choices(param))
            options.append(OptionSpec((*param.opts, *param.secondary_opts), param.help or "", value, values))
        options.append(OptionSpec(("-h", "--help"), "Show the help and exit."))
        options += [OptionSpec((HELP_ALL,), "Show the help with all options and exit.")] if path else []
        summary = (command.help or "").strip().split("\n")[0]
        result.append(CommandSpec(tuple(path.split()), summary, tuple(options), children, children or arguments))
    return result


def _choices(param: Any) -> tuple[str, ...]:  # noqa: ANN401
    annotation = param.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return tuple(value for value in get_args(annotation) if isinstance(value, str))


def bash(commands: Sequence[CommandSpec]) -> str:
    """The script for bash 4.4 and later."""
    with_value = "|".join(f":{name}" for option in commands[0].options if option.value for name in option.names)
    steps = [f'            {with_value}) before+=("${{COMP_WORDS[@]:index++:2}}") ;;']
    values = []
    offers = []
    for command in commands:
        path = command.path
        steps += [
            f'            "{path}":{child}) words="{" ".join((*command.words, child))}" ;;'
            for child in command.children
        ]
        for option in (option for option in command.options if option.value):
            reply = "COMPREPLY=()"
            if option.values:
                reply = f'COMPREPLY=($(compgen -W "{" ".join(option.values)}" -- "$current"))'
            elif option.value == "DIR":
                reply = 'compopt -o filenames; COMPREPLY=($(compgen -d -- "$current"))'
            spellings = "|".join(f'"{path}":{name}' for name in option.names)
            values.append(f"        {spellings}) {reply}; return ;;")
        names = " ".join(name for option in command.options for name in option.names)
        offers.append(f'        "{path}:"-*) offers="{names}" ;;')
        offers.append(f'        "{path}:"*) offers="{" ".join(command.arguments)}" ;;')
    videos = "|".join(f'"{name}:"' for name in _VIDEOS)
    # Files beside the commands below one that takes files too; elsewhere the shell offers them by itself.
    mixed = "|".join(f'"{command.path}:"' for command in commands if command.children and command.path in _FILES)
    return f"""\
# bash completion of clamr; made by: clamr completions bash
_clamr_videos() {{
    local line id title name quoted
    while IFS= read -r line; do
        id=${{line%%$'\t'*}} title=${{line#*$'\t'}} title=${{title#*$'\t'}} title=${{title%%$'\t'*}}
        for name in "$id" "$title"; do
            printf -v quoted %q "$name"
            if [[ -n $name && ( ${{name,,}} == "${{current,,}}"* || ${{quoted,,}} == "${{current,,}}"* ) ]]; then
                COMPREPLY+=("$quoted")
            fi
        done
    done < <(clamr "${{before[@]}}" ls --tsv 2>/dev/null)
}}
_clamr() {{
    local before=() current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words="" offers="" index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$words":${{COMP_WORDS[index]}} in
{chr(10).join(steps)}
        esac
    done
    case "$words":$previous in
{chr(10).join(values)}
    esac
    case "$words:$current" in
{chr(10).join(offers)}
    esac
    COMPREPLY=($(compgen -W "$offers" -- "$current"))
    case "$words:$current" in
        {mixed}-*) ;;
        {mixed}*) compopt -o filenames; COMPREPLY+=($(compgen -f -- "$current")) ;;
        *:-*|*:*/*) ;;
        {videos.replace('"|', '"*|')}*) _clamr_videos ;;
    esac
}}
complete -o bashdefault -o default -F _clamr clamr
"""


_ZSH_VIDEOS: Final = """\
_clamr_videos() {
  local -a fields ids titles
  local line
  for line in ${(f)"$(clamr ls --tsv 2>/dev/null)"}; do
    fields=("${(@ps:\\t:)line}")
    ids+=("$fields[1]:$fields[3]")
    [[ -n $fields[3] ]] && titles+=("$fields[3]")
  done
  _describe video ids
  (( $#titles )) && compadd -a titles
}
"""
"""Offers the ids of the videos with their titles, and the titles."""


def zsh(commands: Sequence[CommandSpec]) -> str:
    """The script for zsh."""
    lines = ["#compdef clamr", "# zsh completion of clamr; made by: clamr completions zsh", "", _ZSH_VIDEOS]
    for command in commands:
        lines += [f"_{'_'.join(('clamr', *command.words))}() {{"]
        if command.children:
            lines += ["  local context state state_descr line", "  typeset -A opt_args"]
        lines += [f"  _arguments {'-C ' if command.children else ''}\\"]
        for option in command.options:
            text = option.help.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
            folder = "_files -/" if option.value in _FOLDER_VALUES else ""
            action = f"({' '.join(option.values)})" if option.values else folder
            action = action or ("_files" if option.value in _FILE_VALUES else "")
            value = f":{option.value}:{action}" if option.value else ""
            lines += [f"    '*{name}[{text}]{value}' \\" for name in option.names]
        files = command.path in _FILES
        if command.children:
            names = " ".join(command.children)
            offers = f"{{compadd {names}; _files}}" if files else f"({names})"
            function = "_".join(("_clamr", *command.words))
            lines += [
                f"    '1:command:{offers}' '*::argument:->argument'",
                "  [[ $state == argument ]] || return",
                "  case $line[1] in",
                *(f"    {child}) {function}_{child} ;;" for child in command.children),
                *(["    *) _files ;;"] if files else []),
                "  esac",
            ]
        else:
            offers = f"({' '.join(command.arguments)})" if command.arguments else "_files" if files else ""
            if command.path in _VIDEOS:
                offers = "{_clamr_videos; _files}" if files else "_clamr_videos"
            lines.append(f"    '*:argument:{offers}'")
        lines += ["}", ""]
    return "\n".join([*lines, '_clamr "$@"', ""])


_FISH_VIDEOS: Final = """\
function __clamr_videos
    clamr ls --tsv 2>/dev/null | while read -l -d \\t id length title rest
        printf '%s\\t%s\\n' $id $title
        test -n "$title"; and printf '%s\\t%s\\n' $title $id
    end
end"""
"""Prints the ids of the videos with their titles, and the titles with their ids."""


def fish(commands: Sequence[CommandSpec]) -> str:
    """The script for fish."""
    helps = {command.words: command.help for command in commands}
    lines = ["# fish completion of clamr; made by: clamr completions fish", _FISH_VIDEOS, "complete -c clamr -f"]
    for command in commands:
        conditions = [f"__fish_seen_subcommand_from {word}" for word in command.words] or ["__fish_use_subcommand"]
        if command.words and command.children:
            conditions.append(f"not __fish_seen_subcommand_from {' '.join(command.children)}")
        start = f"complete -c clamr -n {_fish_text('; and '.join(conditions))}"
        children = [(name, helps[(*command.words, name)]) for name in command.children]
        lines += [f"{start} -a {name} -d {_fish_text(text)}" for name, text in children]
        if command.arguments and not command.children:
            lines.append(f"{start} -a {_fish_text(' '.join(command.arguments))}")
        if command.path in _VIDEOS:
            lines.append(f"{start} -a '(__clamr_videos)'")
        if command.path in _FILES:
            lines.append(f"{start} -F")
        for option in command.options:
            parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
            if option.values:
                parts.append(f"-x -a {_fish_text(' '.join(option.values))}")
            elif option.value:
                parts.append("-r -F" if option.value in (*_FOLDER_VALUES, *_FILE_VALUES) else "-x")
            lines.append(f"{start} {' '.join(parts)} -d {_fish_text(option.help)}")
    return "\n".join([*lines, ""])


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: Final[Mapping[str, Callable[[Sequence[CommandSpec]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""The shells and their scripts."""
