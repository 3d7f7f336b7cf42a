"""``clamr serve``: a page to search and watch, a REST API and MCP, from a warm index."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from clamr_cli.cli.children import Child, own_command
from clamr_cli.cli.options import Context, DeviceOption, EncoderOption, EncoderOptions, ExecutorOptions, open_store
from clamr_cli.cli.output import print_line, warn
from clamr_cli.cli.progress import interruptible
from clamr_cli.config import external
from clamr_cli.errors import EXIT_FOUND, MissingExtra, UsageError
from clamr_cli.text import command_line

_PORT: Final = 8642
_BACKLOG: Final = 128


@dataclass(frozen=True, kw_only=True)
class ServeArguments(ExecutorOptions, EncoderOptions):
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="DIR", help="With --watch: folders; by default all known ones.", show_default=False),
    ] = None
    watch: Annotated[bool, typer.Option("--watch", help="Keep the index current, as 'clamr watch' does.")] = False
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = "127.0.0.1"
    port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help=f"Listen on this port ({_PORT}, or a free one).")
    ] = None
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False
    token: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The token, 32 characters or more, instead of a random one.")
    ] = None
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the token from the first line of a file.")
    ] = None
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer under this name too; repeatable.")
    ] = None
    allow_write: Annotated[bool, typer.Option("--allow-write", help="Let requests index and cut.")] = False
    encoder: EncoderOption = None
    device: DeviceOption = None


def serve(context: Context, arguments: ServeArguments) -> int:
    """Open a page to search and watch, with a REST API.

    It prints the address with a token and opens it in a browser. Only this machine can reach it, and only who has the
    token. It runs until Ctrl-C.

    While it runs, commands such as clamr search are answered by it and take a fraction of the time.

    With --executor ray, searches of the page and the API are divided among the workers of a Ray cluster (extra
    'cluster'), which stay warm; see 'clamr help scaling'.

    Examples:
        clamr serve
        clamr serve --no-browser --port 9000
        clamr serve --watch ~/Videos
    """
    if arguments.folders and not arguments.watch:
        raise UsageError("a folder requires --watch", f"clamr serve --watch {command_line(arguments.folders)}")
    try:
        from clamr_cli.serve.app import create_app
        from clamr_cli.serve.server import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("clamr_cli"):
            raise
        raise MissingExtra("clamr serve", "serve") from None
    from clamr_cli.cli.app import defect_message
    from clamr_cli.serve.library import Library
    from clamr_cli.serve.security import Access

    settings, token = context.settings(encoder=arguments.encoder, device=arguments.device), _token(arguments)
    store = open_store(settings)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(_listen(arguments.host, arguments.port)))
        workers = stack.enter_context(arguments.scan_workers(settings, store))
        port = listening.getsockname()[1]
        names = arguments.allow_host or ()
        access = Access.of(arguments.host, port, token=token, names=names, write=arguments.allow_write)
        app = create_app(
            Library(store, settings, arguments.encoder_settings(), scan=workers),
            access,
            command=own_command(context),
            report=lambda error: warn(f"clamr serve: {defect_message(error)}", always=True),
        )
        address = f"http://{_shown(arguments.host)}:{port}/"
        print_line(f"{address}?token={access.token}")
        warn("open this address in a browser; Ctrl-C ends the server")
        if not arguments.no_browser and _has_display():
            webbrowser.open(f"{address}?token={access.ticket()}")
        children = []
        if hasattr(socket, "AF_UNIX"):
            options = {"db": settings.db, "config": context.config, "encoder": arguments.encoder}
            own = {"device": arguments.device, "own": arguments.encoder_settings()}
            words = [sys.executable, "-m", "clamr_cli.warm", json.dumps({**options, **own})]
            children.append(Child("the warm command line", words))
        if arguments.watch:
            words = [*own_command(context), "watch", "--attached", "--", *(arguments.folders or ())]
            children.append(Child("clamr watch", words))
        try:
            with interruptible():
                run(app, listening)
        except KeyboardInterrupt:
            pass
        finally:
            for child in children:
                child.stop()
    return EXIT_FOUND


def _token(arguments: ServeArguments) -> str | None:
    """The token that was given."""
    if arguments.token_file is None:
        return arguments.token
    if arguments.token is not None:
        raise UsageError("--token and --token-file exclude each other", "give one of them")
    try:
        lines = Path(arguments.token_file).expanduser().read_text("utf-8").splitlines()
        return lines[0].strip()
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise UsageError(f"{arguments.token_file} holds no token", "give a file whose first line is it") from error


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket on an address and port; the next free port where none was asked for."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (_PORT, 0) if port is None else (port,):
        # With the protocol named, asyncio sends each part of an answer at once. Else the second one waits for the
        # client to confirm the first, 40 ms where that is put off.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            # Who opens the address as soon as it is printed waits, and is not refused.
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if port is None and number:
                continue
            raise UsageError(
                f"{host}:{number} cannot be listened on ({error.strerror or error})", "choose another --port or --host"
            ) from None
        return listening
    raise UsageError(f"no port of {host} is free", "choose another --host")


def _shown(host: str) -> str:
    """The host as a URL of this machine has it."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _has_display() -> bool:
    """Whether a browser can be shown."""
    return sys.platform in ("darwin", "win32") or bool(external("DISPLAY") or external("WAYLAND_DISPLAY"))
