"""Processes that a server starts, and starts again when they end by themselves; and the command that starts clamr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from clamr_cli.cli.options import Context
from clamr_cli.cli.output import warn

_SHORTEST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_STABLE: Final = 60.0
"""Seconds after which a child that ends is started again at once."""
_PATIENCE: Final = 15.0


def own_command(context: Context) -> list[str]:
    """The words that start this clamr on the index that is used now, from whatever folder."""
    folder = os.path.dirname(sys.executable)
    names = (os.path.join(folder, name) for name in ("clamr", "clamr.exe"))
    script = next((name for name in names if os.path.isfile(name)), None)
    start = [script] if script else [sys.executable, "-m", "clamr_cli"]
    db = context.settings().db
    place = db if "://" in db else os.path.abspath(db)
    config = [] if context.config is None else ["--config", os.path.abspath(os.path.expanduser(context.config))]
    return [*start, "--db", place, *config]


class Child:
    """A process that lives as long as this one, and is started again, after a growing pause, when it dies.

    Its stdin is a pipe that closes with this process: a child that reads it ends even where this one was killed.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name, self._command = name, list(command)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(_PATIENCE)

    def _keep(self) -> None:
        pause = _SHORTEST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with subprocess.Popen(self._command, stdin=subprocess.PIPE) as self._process:
                    if self._stopping.is_set():
                        self._process.terminate()
                    code = self._process.wait()
            except OSError as error:
                warn(f"{self._name} cannot be started ({error})")
                return
            if code == 0 or self._stopping.is_set():
                return
            pause = _SHORTEST_PAUSE if time.monotonic() - began > _STABLE else pause
            warn(f"{self._name} ended ({code}): it is started again in {pause:g} s")
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def end_with_parent() -> None:
    """Have this process ended by SIGTERM when its stdin closes: its parent is gone then."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
