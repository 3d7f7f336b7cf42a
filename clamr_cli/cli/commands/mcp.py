"""``clamr mcp``: tools for agents on stdio, and the configuration of their programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from clamr_cli.cli.children import own_command
from clamr_cli.cli.options import Context, DeviceOption, EncoderOption, EncoderOptions, open_store
from clamr_cli.cli.output import warn, write
from clamr_cli.errors import EXIT_FOUND, MissingExtra, UsageError
from clamr_cli.text import command_line

_CLIENTS: Final[Mapping[str, tuple[str, bool, str]]] = {
    "claude-desktop": ("mcpServers", False, "add it to claude_desktop_config.json (Settings, Developer, Edit Config)"),
    "claude-code": (
        "mcpServers",
        True,
        "write it to .mcp.json, or run: claude mcp add clamr -- {command}",
    ),
    "cursor": ("mcpServers", False, "add it to ~/.cursor/mcp.json, or to .cursor/mcp.json of a project"),
    "vscode": ("servers", True, "add it to .vscode/mcp.json of a project, or run: MCP: Open User Configuration"),
    "windsurf": ("mcpServers", False, "add it to ~/.codeium/windsurf/mcp_config.json"),
    "gemini-cli": ("mcpServers", False, "add it to ~/.gemini/settings.json"),
    "zed": ("context_servers", False, "add it to settings.json of Zed"),
}
"""Program -> the key that holds its servers, whether it wants the kind of transport, and where the text goes."""

_PATIENCE: Final = 180.0
"""Seconds for an answer: the first one loads the encoder, and nobody else has to wait."""


@dataclass(frozen=True, kw_only=True)
class McpArguments(EncoderOptions):
    client: Annotated[
        str | None,
        typer.Argument(metavar="[CLIENT]", help=f"With --print-config: {', '.join(_CLIENTS)}.", show_default=False),
    ] = None
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the JSON that makes a program use this server.")
    ] = False
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Add tools that index the known folders and cut clips.")
    ] = False
    encoder: EncoderOption = None
    device: DeviceOption = None


def mcp(context: Context, arguments: McpArguments) -> int:
    """Let an agent search: a server on stdin and stdout.

    A program such as Claude Desktop, Cursor or VS Code starts it. --print-config prints the configuration that it needs, with the paths of this clamr and of the index that is used now.

    The tools: search_moments, explain_hit, timeline, frames (a contact sheet), similar, list_videos and status. 'clamr serve' has the same at /mcp.

    Examples:
        clamr mcp --print-config claude-desktop
        clamr --db ~/films mcp --print-config vscode
    """  # noqa: E501 -- a paragraph of help is a line
    if arguments.client is not None and not arguments.print_config:
        raise UsageError(
            f"{arguments.client!r} requires --print-config", "clamr mcp alone is started by such a program"
        )
    if arguments.print_config:
        return _print_config(context, arguments)
    try:
        from clamr_cli.serve.mcp import create_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("clamr_cli"):
            raise
        raise MissingExtra("clamr mcp", "serve") from None
    import asyncio
    import contextlib

    from clamr_cli.errors import ClamrError
    from clamr_cli.serve.jobs import Jobs
    from clamr_cli.serve.library import Library

    settings = context.settings(encoder=arguments.encoder, device=arguments.device)
    library = Library(open_store(settings), settings, arguments.encoder_settings(), seconds=_PATIENCE)

    async def run() -> None:
        jobs = Jobs(library, own_command(context)) if arguments.allow_write else None

        async def warm() -> None:
            # Questions say what is wrong; this only makes the first one quick.
            with contextlib.suppress(ClamrError, OSError):
                await asyncio.to_thread(library.warm)

        warming = asyncio.create_task(warm())
        try:
            await create_server(library, jobs).run_stdio_async()
        finally:
            warming.cancel()
            if jobs is not None:
                await jobs.close()
            library.close()

    asyncio.run(run())
    return EXIT_FOUND


def _print_config(context: Context, arguments: McpArguments) -> int:
    """Print the configuration of a program."""
    name = arguments.client or "claude-desktop"
    if name not in _CLIENTS:
        raise UsageError(f"unknown program: {name!r}", f"use {', '.join(_CLIENTS)}; most others take that of cursor")
    key, typed, place = _CLIENTS[name]
    options = ["--allow-write"] if arguments.allow_write else []
    options += ["--encoder", arguments.encoder] if arguments.encoder else []
    options += ["--device", arguments.device] if arguments.device else []
    words = [*own_command(context), "mcp", *options]
    entry: dict[str, Any] = {"command": words[0], "args": words[1:]}
    server = {"type": "stdio", **entry} if typed else entry
    write([f"{json.dumps({key: {'clamr': server}}, indent=2)}\n".encode()])
    warn(place.format(command=command_line(words)))
    return EXIT_FOUND
