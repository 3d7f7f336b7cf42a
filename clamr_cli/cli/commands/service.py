"""``clamr service print``: a unit that keeps clamr running in the background."""

from __future__ import annotations

import os
import plistlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import typer

from clamr_cli.cli.children import own_command
from clamr_cli.cli.options import Context
from clamr_cli.cli.output import warn, write
from clamr_cli.errors import EXIT_FOUND, UsageError

_DEFAULT: Final = ("serve", "--watch")
_COMMANDS: Final = ("serve", "watch")
_LABEL: Final = "clamr"
_UNIT: Final = """\
[Unit]
Description=clamr {name}

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=30

[Install]
WantedBy=default.target
"""
_HOW_TO: Final = {
    "systemd": "write it to ~/.config/systemd/user/clamr.service, then: systemctl --user daemon-reload && "
    "systemctl --user enable --now clamr; 'journalctl --user -u clamr' shows its lines{address}",
    "launchd": "write it to ~/Library/LaunchAgents/clamr.plist, then: launchctl load "
    "~/Library/LaunchAgents/clamr.plist; its lines are in ~/Library/Logs/clamr.log{address}",
}


@dataclass(frozen=True, kw_only=True)
class ServiceArguments:
    system: Annotated[Literal["systemd", "launchd"], typer.Argument(metavar="SYSTEM", help="systemd or launchd.")]
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND]", help="By default: serve --watch.", show_default=False),
    ] = None


def print_service(context: Context, arguments: ServiceArguments) -> int:
    """Print a unit that keeps clamr running.

    The unit names this clamr and the index that is used now. What follows -- is the command with its options.

    Examples:
        clamr service print systemd > ~/.config/systemd/user/clamr.service
        clamr service print systemd -- watch ~/Videos --idle
        clamr service print launchd -- serve --watch --port 9000
    """
    words = list(arguments.words or _DEFAULT)
    if words[0] not in _COMMANDS:
        raise UsageError(
            f"a service cannot run {words[0]!r}", "give serve or watch: clamr service print systemd -- watch"
        )
    if words[0] == "serve" and "--no-browser" not in words:
        words.insert(1, "--no-browser")
    # A service starts in another folder.
    rest = (os.path.abspath(word) if os.path.exists(word) else word for word in words[1:])
    words[1:] = [os.path.expanduser(word) if word.startswith("~") else word for word in rest]
    command = [*own_command(context), *words]
    text = launchd(command) if arguments.system == "launchd" else systemd(command)
    write([text.encode("utf-8", "surrogateescape")])
    address = ", its address with the token too" if words[0] == "serve" else ""
    warn(_HOW_TO[arguments.system].format(address=address))
    return EXIT_FOUND


def systemd(command: Sequence[str]) -> str:
    """A unit for ``systemctl --user``."""
    return _UNIT.format(
        name=next(word for word in command if word in _COMMANDS), command=" ".join(map(_quoted, command))
    )


def _quoted(word: str) -> str:
    """A word of a command line of systemd; ``%`` and ``$`` stand for themselves."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n"), ("\t", "\\t")):
        word = word.replace(plain, escaped)
    return f'"{word}"'


def launchd(command: Sequence[str]) -> str:
    """A property list for ``launchctl load``."""
    log = os.path.expanduser("~/Library/Logs/clamr.log")
    values = {
        "Label": _LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ProcessType": "Background",
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    try:
        return plistlib.dumps(values, sort_keys=False).decode()
    except (ValueError, UnicodeEncodeError) as error:
        raise UsageError("a path has characters that a property list cannot hold", "rename it") from error
