"""Runs a command and measures it (Linux): wall time, and the largest memory of the process and all it started.

Also says how far a loop of a benchmark is.

Memory is the resident set with every shared page counted once (the proportional set size, PSS): the processes of a run
map the same libraries, and adding up their resident sets would count those once for each. The largest resident set of
any one process is measured beside it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_SECONDS_BETWEEN_LINES: Final = 5.0


@dataclass(frozen=True)
class Measured:
    """Result of a command.

    ``cpu`` is the processor time of the whole tree, in seconds, which other work on the machine hardly changes. In
    bytes: ``peak`` of the whole tree, ``largest`` of any one process of it.
    """

    code: int
    seconds: float
    cpu: float
    peak: int
    largest: int
    out: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None, *, every: float = 0.25) -> Measured:
    """Runs a command to its end; its standard error goes to the terminal."""
    before = busy()
    started, peak, largest, over = time.perf_counter(), 0, 0, threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=None if env is None else dict(env)
    ) as process:

        def watch() -> None:
            nonlocal peak, largest
            while not over.wait(every):
                sets = [resident(pid) for pid in tree(process.pid)]
                peak = max(peak, sum(shared for shared, _ in sets))
                largest = max(largest, *(alone for _, alone in sets))

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        over.set()
        watcher.join()
    return Measured(process.returncode, time.perf_counter() - started, busy() - before, peak, largest, out)


def busy() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident(pid: int) -> tuple[int, int]:
    """Proportional and plain resident bytes of a process, 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    sizes = {name: int(size.split()[0]) * 1024 for name, _, size in (line.partition(":") for line in lines)}
    return sizes.get("Pss", 0), sizes.get("Rss", 0)


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


def counted(items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """The items; every few seconds standard error tells how many are done, and the seconds left at this rate."""
    started = told = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - told > _SECONDS_BETWEEN_LINES:
            left, told = (now - started) / number * (len(items) - number), now
            print(f"{what}: {number:,} of {len(items):,}, {left:.0f} s left", file=sys.stderr, flush=True)
        yield item
    print(f"{what}: {len(items):,} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
