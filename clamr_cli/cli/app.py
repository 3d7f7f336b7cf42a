"""The commands of clamr. A command's module is imported when the command is called, or when its help is asked for."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from importlib import import_module
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from clamr_cli import __version__
from clamr_cli.cli import signals
from clamr_cli.cli.output import print_table, write
from clamr_cli.cli.runtime import Context
from clamr_cli.errors import EXIT_CODES

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "index": ("index:index", "Make videos searchable, or bring the index up to date."),
    "search": ("search:search", "Find the moments that match a query, and why."),
    "explain": ("explain:explain", "Say why a video ranks where it does."),
    "frames": ("frames:frames", "Find the frames that answer a question inside one long video."),
    "open": ("open:open_video", "Open a video in a player, at a moment."),
    "ask": ("ask:ask", "Ask a vision-language model a question about one video."),
    "ls": ("ls:ls", "List the videos of the index."),
    "show": ("show:show", "Show everything the index knows of a video."),
    "rm": ("rm:rm", "Take videos out of the index."),
    "status": ("status:status", "Say what the index holds, where it is, what failed."),
    "optimize": ("optimize:optimize", "Put the index in order: smaller on disk, faster to search."),
    "encode": ("encode:encode", "Write the token vectors of a document, a query or both."),
    "eval": ("eval:evaluate", "Measure how well queries find their answers."),
    "eval qa": ("eval_qa:eval_qa", "Measure which frames let a model answer questions best."),
    "synth": ("synth:synth", "Write search queries for the indexed videos."),
    "train": ("train:train", "Train an encoder on your own library."),
    "doctor": ("doctor:doctor", "Check that everything clamr needs works."),
    "models": ("models:models", "List the models that clamr can use."),
    "models pull": ("models:pull", "Fetch a model into the cache folder and check it."),
    "demo": ("demo:demo", "Index and search a few short clips made here."),
    "completions": ("completions:completions", "Print a completion script for bash, zsh or fish."),
}
"""Command, of one word or two: the module of ``clamr_cli.cli.commands`` and its function, and what it does."""

OTHER_NAMES: Final[Mapping[str, str]] = {
    "ask": "chat question answer",
    "completions": "completion",
    "doctor": "check diagnose test env",
    "explain": "why",
    "frames": "frame screenshot screenshots thumbnails pictures images",
    "index": "add build crawl import ingest reindex re-index refresh rescan scan sync update watch embed",
    "ls": "dir list videos files",
    "models": "model weights",
    "models pull": "download fetch install pull get",
    "open": "launch play view watch-at mpv vlc",
    "optimize": "optimise clean cleanup compact gc prune vacuum",
    "rm": "del delete drop forget remove uninstall unindex",
    "search": "find grep query lookup look s q",
    "show": "cat describe details info inspect metadata",
    "status": "stat stats statistics state",
    "synth": "generate synthesize synthesise queries",
    "train": "finetune fine-tune",
    "--version": "version ver",
}
"""Command of clamr, and what other programs call it."""

_DOCS: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "docs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: what follows the program's name; the process's own arguments where None.
    """
    return signals.run(build_program(), list(sys.argv[1:] if arguments is None else arguments))


def build_program() -> Any:  # noqa: ANN401 -- Typer's command has no public type
    """The whole command line, ready to parse."""
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
        f"{', '.join(_topics())}.\n\nExit codes: {codes}."
    )(_root)
    return app


def _topics() -> list[str]:
    """The pages of the manual."""
    return sorted(name.removesuffix(".md") for name in os.listdir(_DOCS) if name.endswith(".md"))


def _print_topic(topic: str) -> None:
    """A page of the manual, drawn on a terminal, plain elsewhere."""
    with open(os.path.join(_DOCS, f"{topic}.md"), encoding="utf-8") as file:
        text = file.read()
    if not sys.stdout.isatty():
        write([text.encode()])
        return
    from rich.markdown import Markdown

    print_table(Markdown(text))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clamr {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    db: Annotated[
        str | None, typer.Option("--db", metavar="DIR", help="The index: a folder or s3://bucket/name.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Read settings from this TOML file.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search a folder of videos by what is seen, said, written on screen and noted about it."""
    context.obj = Context(db, config, context.command)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


class Command(TyperCommand):
    """A command whose ``--choices A B C``, where it has ``--choice``, stands for one ``--choice`` each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 -- untyped
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

    Its options are the fields of the dataclass that the function's second parameter has as its type; its help is the
    function's docstring.
    """
    annotation = list(inspect.get_annotations(function).values())[1]
    kind = getattr(sys.modules[function.__module__], annotation) if isinstance(annotation, str) else annotation
    hints = get_type_hints(kind, include_extras=True)
    defaults = {field.name: field.default for field in fields(kind)}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    # Fields of the class itself come before inherited ones: a command's own options lead its help.
    for field in dict.fromkeys(field for base in kind.__mro__ for field in inspect.get_annotations(base)):
        default = inspect.Parameter.empty if defaults[field] is MISSING else defaults[field]
        parameters.append(
            inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field])
        )

    def call(context: typer.Context, **values: Any) -> int:  # noqa: ANN401 -- what Typer parsed, by the annotations
        signals.check_limits()
        return function(context.obj, kind(**values))

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(name, cls=Command, help=inspect.getdoc(function))(call)
    command = typer.main.get_command(app)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            # Help calls arguments by their names alone, without <list[str]> and the like behind them.
            parameter.display_type_rich = lambda ctx: ""  # type: ignore[attr-defined] # noqa: ARG005
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
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 -- untyped
        """The command that the first words name, the longest name first."""
        if args[0] == "help":
            topic = [word for word in args if word != "help" and not word.startswith("-")]
            if not topic:
                typer.echo(ctx.get_help())
                raise typer.Exit
            if topic[0] in _topics():
                _print_topic(topic[0])
                raise typer.Exit
            args = [*topic, "--help"]
        name = " ".join(args[:2])
        if len(args) > 1 and name in COMMANDS:
            return name, self.commands[name], args[2:]
        if args[0] not in COMMANDS and (meant := _meant(args[0])):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)


def _meant(word: str) -> str:
    """A hint for the name of another program's command; empty where none is known."""
    name = word.lower().lstrip("-")
    if name in COMMANDS:
        return name
    for command, others in OTHER_NAMES.items():
        if name in others.split():
            return command
    if os.sep in word and os.path.lexists(word):
        return f"index {word}"
    return f'search "{word}"' if len(word.split()) > 1 else ""


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
