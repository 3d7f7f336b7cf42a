"""Runs the real ``clamr`` in processes of its own, on an index of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tests.bench.process import tree

PATIENCE = 300
"""Seconds after which a command counts as hung; on a loaded machine an index run of a few clips may take a minute."""


@dataclass(frozen=True)
class Result:
    """Result of a command: its exit code and output."""

    code: int
    out: bytes
    err: bytes

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects of standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of an index run with ``--json`` that are of one kind."""
        return [record for record in self.records if record["event"] == kind]

    def ok(self) -> Self:
        """Itself, where the command ended with 0."""
        assert self.code == 0, (self.code, self.err.decode(errors="replace")[-2000:])
        return self


@dataclass(frozen=True)
class Clamr:
    """The command line on one index; ``settings`` are clamr's, handed over in the environment."""

    db: Path
    cache: Path
    settings: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable

    def __call__(self, *arguments: str | bytes, **process: Any) -> Result:
        """Runs a command to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **process,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def index(self, *arguments: str | bytes) -> Result:
        """``clamr index --json``."""
        return self("index", "--json", *arguments)

    def search(self, query: str, *arguments: str) -> list[dict[str, Any]]:
        """The hits of ``clamr search --json``, however weak; it ends with 1 where there are none, else with 0."""
        floor = () if "--floor" in arguments else ("--floor", "0")
        result = self("search", query, "--json", *arguments, *floor)
        assert result.code == (0 if result.out else 1), result.err
        return result.records

    def listed(self) -> list[str]:
        """The names of the files that ``clamr ls`` says are indexed, sorted."""
        listing = self("ls", "--json")
        assert listing.code == (0 if listing.out else 1), listing.err
        return sorted(Path(record["path"]).name for record in listing.records if record["state"] == "indexed")

    def start(self, *arguments: str | bytes) -> Running:
        """Starts a command and leaves it running, at the head of a process group of its own."""
        return Running(
            subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )

    def command(self, *arguments: str | bytes) -> Sequence[str | bytes]:
        return [self.python, "-m", "clamr_cli", "--db", str(self.db), *arguments]

    def having(self, **settings: str) -> Clamr:
        """The same with further settings, by their names in the configuration file."""
        return replace(self, settings=self.settings | settings)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLAMR_")}
        own = {"cache": str(self.cache), "config": str(self.cache / "empty.toml"), **self.settings}
        return inherited | {f"CLAMR_{name.upper()}": value for name, value in own.items()}


@dataclass
class Running:
    """A command that has not ended yet."""

    process: subprocess.Popen[bytes]
    seen: list[dict[str, Any]] = field(default_factory=list)

    def events(self) -> Iterator[dict[str, Any]]:
        """Its JSON events as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen.append(json.loads(line))
            yield self.seen[-1]

    def until(self, kind: str, stage: str = "") -> dict[str, Any]:
        """Waits for an event of a kind (and stage)."""
        for event in self.events():
            if event["event"] == kind and event.get("stage", "") == stage:
                return event
        raise AssertionError(f"it ended without {kind} {stage}: {self.end().err.decode(errors='replace')}")

    def interrupt(self) -> tuple[Result, float]:
        """Ctrl-C, which a terminal sends to all processes of the group; also the seconds until the command ended."""
        started = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end(), time.monotonic() - started

    def kill(self) -> None:
        """``kill -9`` of the command's own process, then the end of all that it had started."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE)

    def end(self) -> Result:
        """Waits for the end; standard output is what :meth:`events` has not taken."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return Result(self.process.returncode, out, err)

    def workers(self) -> list[int]:
        """The worker processes it started, by number (Linux); Python's own helper is none."""
        return [pid for pid in sorted(tree(self.process.pid)) if b"multiprocessing.spawn" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Arguments that a process was started with; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
