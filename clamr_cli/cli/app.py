"""The commands of clamr, and the end of each: every error becomes one line and an exit code.

A command's module is imported when the command is called, or when its help is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Final, Literal, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from clamr_cli import __version__
from clamr_cli.cli.options import Context, EncoderOptions, stdin
from clamr_cli.cli.output import console, leave_broken_pipes, present, warn, write
from clamr_cli.errors import (
    EXIT_CODES,
    EXIT_FOUND,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    MORE_FILES,
    ClamrError,
    UsageError,
    shortage,
)
from clamr_cli.text import size

GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Library": {
        "index": ("index:index", "Make videos searchable, or bring the index up to date."),
        "watch": ("watch:watch", "Keep the index current while files come, change, move and go."),
        "ls": ("ls:ls", "List the videos of the index."),
        "show": ("show:show", "Show everything the index knows of a video."),
        "edit": ("edit:edit", "Correct what is said in a video."),
        "tag": ("tag:ls", "List your tags."),
        "tag add": ("tag:add", "Give videos a tag."),
        "tag rm": ("tag:rm", "Take a tag from videos."),
        "note": ("tag:note", "Note something of your own on a video."),
        "speakers": ("speakers:ls", "List who speaks in the videos."),
        "speakers name": ("speakers:name", "Name a speaker."),
        "rm": ("rm:rm", "Take videos out of the index."),
        "merge": ("merge:merge", "Put indexes together in one, as if their videos had been indexed there."),
        "status": ("status:status", "Say what the index holds, where it is, what failed."),
        "optimize": ("optimize:optimize", "Put the index in order: smaller on disk, faster to search."),
    },
    "Answers": {
        "search": ("search:search", "Find the moments that match a query, and why."),
        "similar": ("similar:similar", "Find the moments that are most like a moment or a video."),
        "duplicates": ("duplicates:duplicates", "Find videos that show the same, wholly or in part."),
        "explain": ("explain:explain", "Say why a video ranks where it does."),
        "frames": ("frames:frames", "Find the frames that answer a question inside one long video."),
        "open": ("open:open_video", "Open a video in a player, at a moment."),
        "serve": ("serve:serve", "Open a page to search and watch, with a REST API."),
        "mcp": ("mcp:mcp", "Let an agent search: a server on stdin and stdout."),
        "cut": ("cut:cut", "Cut hits out as clips, or join them in one video."),
        "export": ("export:export", "Write hits as a list for an editing program or a player."),
        "ask": ("ask:ask", "Ask a vision-language model a question about one video."),
    },
    "Setup": {
        "demo": ("demo:demo", "Index and search a few short clips made here."),
        "doctor": ("doctor:doctor", "Check that everything clamr needs works."),
        "models": ("models:models", "List the models that clamr can use."),
        "models pull": ("models:pull", "Fetch a model into the cache folder and check it."),
        "config": ("config:show", "Show the settings, and where each comes from."),
        "config path": ("config:path", "Print the path of the configuration file."),
        "config set": ("config:set_value", "Write a setting to the configuration file."),
        "config edit": ("config:edit", "Open the configuration file in your editor."),
        "service print": ("service:print_service", "Print a unit that keeps clamr running."),
        "completions": ("completions:completions", "Print a completion script for bash, zsh or fish."),
        "completions install": ("completions:install", "Write the completion script where your shell looks."),
    },
    "Research": {
        "encode": ("encode:encode", "Write the token vectors of a document, a query or both."),
        "eval": ("eval:evaluate", "Measure how well queries find their answers."),
        "eval qa": ("eval_qa:eval_qa", "Measure which frames let a model answer questions best."),
        "synth": ("synth:synth", "Write search queries for the indexed videos."),
        "train": ("train:train", "Train an encoder on your own library."),
    },
}
"""Groups of commands; a command is one word or two, with its function in ``clamr_cli.cli.commands`` and a summary."""

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    name: entry for group in GROUPS.values() for name, entry in group.items()
}
"""Every command, with its function and summary."""

ALIASES: Final[Mapping[str, str]] = {
    "find": "search",
    "play": "open",
    "delete": "rm",
    "remove": "rm",
    "update": "index",
    "list": "ls",
    "config show": "config",
    "speakers ls": "speakers",
    "tag ls": "tag",
}
"""Names that run a command whose own name is another."""

OTHER_NAMES: Final[Mapping[str, str]] = {
    "ask": "chat question answer",
    "completions": "completion",
    "cut": "clip clips trim extract supercut montage join concat",
    "config": "settings options preferences configure",
    "doctor": "check diagnose test env",
    "duplicates": "dupes dups dedup dedupe duplicate copies same",
    "edit": "correct transcript fix subtitle subtitles",
    "explain": "why",
    "export": "otio edl fcpxml xml playlist timeline markers chapters save write",
    "frames": "frame screenshot screenshots thumbnails pictures images",
    "index": "add build crawl import ingest reindex re-index refresh rescan scan sync embed",
    "ls": "dir videos files",
    "merge": "combine unite import-index concat-index",
    "models": "model weights",
    "models pull": "download fetch install pull get",
    "open": "launch view watch-at mpv vlc",
    "optimize": "optimise clean cleanup compact gc prune vacuum",
    "rm": "del drop forget uninstall unindex",
    "service print": "service daemon systemd launchd autostart",
    "search": "grep query lookup look s q",
    "serve": "server web ui gui page http api browse",
    "similar": "like alike related more-like-this neighbours neighbors recommend",
    "show": "cat describe details info inspect metadata",
    "status": "stat stats statistics state",
    "synth": "generate synthesize synthesise queries",
    "tag": "tags label labels keyword keywords collection collections album albums",
    "speakers": "speaker voices voice people persons who diarize diarise diarization",
    "note": "notes comment annotate annotation remark",
    "train": "finetune fine-tune",
    "--version": "version ver",
}
"""Command of clamr, and further names that other programs have for it: they are suggestions."""

_DOCS: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "docs")

# The root of the parser's errors; Typer gives it no public name.
_ParserError: Final[type[Exception]] = typer.BadParameter.__bases__[0]
_FIRST_STEPS: Final = """\
    clamr index ~/Videos
    clamr search "red car"
    clamr help searching"""
_EXAMPLES: Final = "\n\nExamples:\n"
HELP_ALL: Final = "--help-all"
"""Shows the help of a command with the options that are hidden otherwise."""

_DEBUG: Final = "CLAMR_DEBUG"
_debugged: Final[list[str]] = []
"""The command for which --verbose set that variable."""

_FILES: Final = 4096
"""Open files that are allowed where the user's limit can be raised to it."""

_LEAST_FILES: Final = 64
_LEAST_MEMORY: Final = 1 << 30
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_PATH_REFUSED: Final = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP
}  # fmt: skip
"""Errors of the system about locations that the user chose and no command can use."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default with the arguments of the process, and return its exit code."""
    return run(build_program(), list(sys.argv[1:] if arguments is None else arguments))


def run(program: Any, arguments: Sequence[str]) -> int:  # noqa: ANN401 -- Typer's command has no public type
    """Run a command line and return its exit code, whatever happens; no traceback reaches the terminal."""
    present(quiet=False, color="auto")
    try:
        return _run(program, arguments)
    finally:
        if _debugged:
            _debugged.clear()
            del os.environ[_DEBUG]


def _run(program: Any, arguments: Sequence[str]) -> int:  # noqa: ANN401 -- see run
    try:
        with program.make_context("clamr", list(arguments) or ["--help"]) as context:
            code = program.invoke(context)
        sys.stdout.flush()
        return int(code or EXIT_FOUND)
    except typer.Exit as end:
        return end.exit_code
    except _ParserError as error:
        code, message = EXIT_USAGE, _usage_message(error)
    except BrokenPipeError:
        # Whoever read the output had enough.
        leave_broken_pipes()
        return EXIT_FOUND
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # panics of Rust libraries are no Exception
        if isinstance(error, typer.Abort) or _is_interruption(error):
            code, message = EXIT_INTERRUPTED, "interrupted"
        elif isinstance(error, ClamrError):
            code, message = error.exit_code, str(error)
        else:
            code, message = EXIT_USAGE, defect_message(error)
    # Where it cannot be written, the exit code still says that something went wrong.
    with contextlib.suppress(OSError):
        warn(f"clamr: {message}", always=True)
    return code


def _is_interruption(error: BaseException | None) -> bool:
    """True for an interruption, and for an error made of one, as Python does with one in the body of a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _usage_message(error: Any) -> str:  # noqa: ANN401 -- see _ParserError
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "clamr"
    message = error.format_message().rstrip(".")
    return f"{message}{' See' if message.endswith('?') else ': see'} '{command} --help'"


def defect_message(error: BaseException) -> str:
    """An error that no code of clamr expected, in one line; its traceback goes to a file."""
    short = shortage(error)
    try:
        import traceback
        from datetime import UTC, datetime

        from clamr_cli import config
        from clamr_cli.files import make_folder, private_file
    except (OSError, ImportError, MemoryError):
        # A process that can open no more files can import nothing either.
        if short is None:
            raise
        return ": ".join(short)
    if config.debugging():
        raise error
    if short is not None:
        return ": ".join(short)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}: make room and run the command again"
    if isinstance(error, OSError) and error.filename and error.errno in _PATH_REFUSED:
        place = os.fsdecode(error.filename)
        return f"{place} cannot be used ({error.strerror}): check its name, and who may read and write it"
    lines = str(error).strip().splitlines() or ["no message"]
    message = f"unexpected {type(error).__name__}: {lines[0][:300]}: "
    path = config.state_folder() / "errors.log"
    trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    try:
        make_folder(path.parent)
        with open(path, "ab", opener=private_file) as log:
            log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode() + trace)
    except OSError:
        return f"{message}set CLAMR_DEBUG=1 to see where; this is a defect of clamr"
    return f"{message}this is a defect of clamr; its traceback is in {path}"


def check_limits() -> None:
    """Let this process open as many files as clamr may need, and refuse limits under which no command gets far.

    Native libraries end a process without an error that could be reported when they get no file or no memory.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FILES:
        raised = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
            files = raised
        if files < _LEAST_FILES:
            raise UsageError(f"only {files} files may be open at once", MORE_FILES)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY and memory < _LEAST_MEMORY:
        raise UsageError(f"only {size(memory)} of memory may be used", "raise the limit with: ulimit -v unlimited")


@cache
def build_program() -> Any:  # noqa: ANN401 -- Typer's command has no public type
    """The whole command line, ready to parse; a process that runs many commands declares each once."""
    return typer.main.get_command(build())


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        cls=Program,
        rich_markup_mode=None,
        add_completion=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    app.callback(
        epilog="'clamr help COMMAND' shows the options of a command, 'clamr help TOPIC' a page of the manual: "
        f"{', '.join(_topics())}.\n\nExit codes: {codes}.{_verbatim(_FIRST_STEPS)}"
    )(_root)
    return app


def _verbatim(examples: str) -> str:
    """Examples as a paragraph whose lines the formatter of help leaves as they are."""
    return f"\n\n\b\nExamples:\n{examples}"


def _topics() -> list[str]:
    """The pages of the manual."""
    return sorted(name.removesuffix(".md") for name in os.listdir(_DOCS) if name.endswith(".md"))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clamr {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    db: Annotated[
        list[str] | None,
        typer.Option("--db", metavar="DIR", help="The index: a folder or s3://bucket/name; search reads several."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Read settings from this TOML file.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress and no notes; errors are shown.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every finished video, warnings of libraries, tracebacks.")
    ] = False,
    color: Annotated[
        Literal["auto", "always", "never"] | None,
        typer.Option("--color", metavar="WHEN", help="auto (default: on a terminal), always or never."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search a folder of videos by what is shown, said, written on screen and in their metadata."""
    context.obj = Context(tuple(db or ()), config, context.command, quiet, verbose, color)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


SHARED: Final = {
    name: parameter
    for name, parameter in inspect.signature(_root, eval_str=True).parameters.items()
    if name not in ("context", "_version")
}
"""Options that stand before the command or after it."""


class ProgramCommand(TyperCommand):
    """A command of the program.

    ``--help-all`` shows its help with all options. ``--choices A B C``, where it has ``--choice``, stands for one
    ``--choice`` each.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 -- untyped
        if HELP_ALL in args[: args.index("--") if "--" in args else None]:
            hidden = [parameter for parameter in self.params if getattr(parameter, "hidden", False)]
            for parameter in hidden:
                parameter.hidden = False  # type: ignore[attr-defined]
            typer.echo(ctx.get_help())
            for parameter in hidden:
                parameter.hidden = True  # type: ignore[attr-defined]
            raise typer.Exit
        if any("--choice" in parameter.opts for parameter in self.params):
            args = spread(args, "--choices", "--choice")
        return super().parse_args(ctx, args)


class Commands(Mapping[str, TyperCommand]):
    """The commands by name; each is imported and declared when it is looked up first."""

    def __init__(self) -> None:
        self._loaded: dict[str, TyperCommand] = {}

    def __getitem__(self, name: str) -> TyperCommand:
        if name not in self._loaded:
            module, _, function = COMMANDS[name][0].partition(":")
            self._loaded[name] = declare(name, getattr(import_module(f"clamr_cli.cli.commands.{module}"), function))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def declare(name: str, function: Callable[[Context, Any], int]) -> TyperCommand:
    """The command that calls a function of the context and of its arguments.

    Its options are the fields of the dataclass that is the type of ``arguments``, and those of the program. Its help is
    the docstring; the examples at its end follow the options. Settings of the research encoders are hidden, except in
    the commands of research.
    """
    from clamr_cli import config

    kind = get_type_hints(function)["arguments"]
    hints = get_type_hints(kind, include_extras=True)
    defaults = {field.name: field.default for field in fields(kind)}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    # Fields of the class itself come before inherited ones: a command's own options lead its help.
    for field in dict.fromkeys(field for base in kind.__mro__ for field in inspect.get_annotations(base)):
        default = inspect.Parameter.empty if defaults[field] is MISSING else defaults[field]
        parameters.append(
            inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field])
        )
    shared = [option for option in SHARED if option not in hints]
    parameters += [SHARED[option].replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in shared]

    def call(context: typer.Context, **values: Any) -> int:  # noqa: ANN401 -- what Typer parsed, by the annotations
        check_limits()
        given = {option: values.pop(option) for option in shared}
        own = replace(context.obj, **{option: value for option, value in given.items() if value})
        present(quiet=own.quiet, color=own.color or "auto")
        if own.verbose and not config.debugging():
            # The processes that work for this one are told so, too; until the command line is done.
            os.environ[_DEBUG] = "1"
            _debugged.append(name)
        if "quiet" in values:
            values["quiet"] = values["quiet"] or own.quiet
        for argument in single:
            if values[argument] == "-":
                values[argument] = next(iter(stdin()), "")
        for argument in words:
            if "-" in (values[argument] or ()):
                values[argument] = [part for word in values[argument] for part in (stdin() if word == "-" else [word])]
        return function(own, kind(**values))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    text, _, examples = f"{inspect.getdoc(function)}".partition(_EXAMPLES)
    is_research = name in GROUPS["Research"] or not issubclass(kind, EncoderOptions)
    hidden = {*shared, *(() if is_research else (field.name for field in fields(EncoderOptions)))}
    epilog = f"Everywhere: --db, --config, -q, -v, --color ('clamr help'). {HELP_ALL} shows all options."
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(name, cls=ProgramCommand, help=text, epilog=epilog + (_verbatim(examples) if examples else ""))(call)
    command = typer.main.get_command(app)
    words = [parameter.name for parameter in command.params if parameter.nargs == -1]
    single = [parameter.name for parameter in command.params if parameter.param_type_name == "argument"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            # Help calls arguments by their names alone, without <list[str]> and the like behind them.
            parameter.display_type_rich = lambda ctx: ""  # type: ignore[attr-defined] # noqa: ARG005
        elif parameter.name in hidden:
            parameter.hidden = True  # type: ignore[attr-defined]
    return command  # type: ignore[return-value]


class Program(TyperGroup):
    """The commands of clamr.

    A name may be two words: ``eval qa`` is one, and ``eval FILE`` still is ``eval``. ``help COMMAND`` is
    ``COMMAND --help``, ``help TOPIC`` shows a page of the manual. Names that other programs have for a command lead to
    it.
    """

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 -- untyped
        super().__init__(**attributes)
        self.commands = Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 -- untyped
        """The names, without importing the commands."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 -- untyped
        """List the commands, in groups, without importing them."""
        longest = max(map(len, COMMANDS))
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(longest), summary) for name, (_, summary) in commands.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 -- untyped
        """The command that the first words name, the longest name first."""
        if args[0] == "help":
            topic = [word for word in args if word != "help" and not word.startswith("-")]
            if not topic:
                typer.echo(ctx.get_help())
                raise typer.Exit
            if topic[0] in _topics():
                with open(os.path.join(_DOCS, f"{topic[0]}.md"), encoding="utf-8") as file:
                    text = file.read()
                if sys.stdout.isatty():
                    from rich.markdown import Markdown

                    # A page that fits is printed; less shows colours, and leaves the page on the screen.
                    os.environ.setdefault("LESS", "-FRX")
                    target = console(sys.stdout)
                    with target.pager(styles=True):
                        target.print(Markdown(text))
                else:
                    write([text.encode()])
                raise typer.Exit
            args = [*topic, "--help"]
        name = " ".join(args[:2])
        if name in ALIASES:
            args = [ALIASES[name], *args[2:]]
        args = [ALIASES.get(args[0], args[0]), *args[1:]]
        name = " ".join(args[:2])
        if len(args) > 1 and name in COMMANDS:
            return name, self.commands[name], args[2:]
        if args[0] not in COMMANDS and (meant := _meant(args[0])):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)


def _meant(word: str) -> str:
    """A hint for the name of another program's command; empty where none is known."""
    name = word.lower().lstrip("-")
    if name in COMMANDS or name in ALIASES:
        return ALIASES.get(name, name)
    others = {other: command for command, names in OTHER_NAMES.items() for other in names.split()}
    if name in others:
        return others[name]
    if os.sep in word and os.path.lexists(word):
        return f"index {word}"
    if len(word.split()) > 1:
        return f'search "{word}"'
    from difflib import get_close_matches

    close = get_close_matches(name, [*COMMANDS, *ALIASES, *others], n=1)
    return {**others, **ALIASES}.get(close[0], close[0]) if close else ""


def spread(arguments: Sequence[str], many: str, one: str) -> list[str]:
    """Arguments in which ``many A B`` became ``one=A one=B``; the values end at the next option, or at ``--``.

    >>> spread(["talk.mp4", "--choices", "yes", "no", "--json"], "--choices", "--choice")
    ['talk.mp4', '--choice=yes', '--choice=no', '--json']
    """

    def is_option(place: int) -> bool:
        return place >= len(arguments) or (arguments[place].startswith("-") and len(arguments[place]) > 1)

    result: list[str] = []
    inside = ended = False
    for place, argument in enumerate(arguments):
        ended = ended or argument == "--"
        if argument == many and not ended and not is_option(place + 1):
            inside = True
            continue
        inside = inside and not is_option(place)
        result.append(f"{one}={argument}" if inside else argument)
    return result
