"""Runs a command and measures it (Linux): wall time, and the largest memory of the process and all it started."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measured:
    """What a command did. ``peak`` is in bytes: resident pages of the whole tree, shared ones counted in each."""

    code: int
    seconds: float
    peak: int
    out: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None, *, every: float = 0.1) -> Measured:
    """Runs a command to its end; its standard error goes to the terminal."""
    started, peak, over = time.perf_counter(), [0], threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=None if env is None else dict(env)
    ) as process:

        def watch() -> None:
            while not over.wait(every):
                peak[0] = max(peak[0], sum(resident(pid) for pid in tree(process.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        over.set()
        watcher.join()
    return Measured(process.returncode, time.perf_counter() - started, peak[0], out)


def resident(pid: int) -> int:
    """Resident bytes of a process, 0 for one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def tree(root: int) -> set[int]:
    """A process and its descendants."""
    found, waiting = {root}, [root]
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(parent(int(entry.name)), []).append(int(entry.name))
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def parent(pid: int) -> int:
    """The parent's id; -1 for a process that is gone."""
    try:
        # The second field, the name, may hold spaces and brackets; the state follows its last bracket.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1
