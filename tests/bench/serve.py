"""Measures the server: ``python -m tests.bench.serve --db DB``.

A real ``clamr serve`` on an index answers searches over HTTP from 1, 8 and 50 clients, each with one connection that it
keeps and no pause between two requests. Every query is another one, so that each is encoded; with ``--repeat`` there
are ten, whose vectors the server remembers. Clients and server share the machine, so a quiet one with more cores gives
more. Prints requests per second and the median and 99th percentile of the time of an answer.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.bench.process import measure as measured
from tests.bench.process import resident
from tests.bench.search import device
from tests.browser import free_port

RESULTS = Path(__file__).with_name("results")
CLIENTS = (1, 8, 50)
WORDS = (
    ("red", "green", "small", "old", "fast", "bright", "wooden", "happy", "empty", "snowy"),
    ("car", "bird", "house", "dog", "street", "boat", "child", "table", "mountain", "sign"),
    ("at night", "in the rain", "on a beach", "near a river", "with people", "in a city", "from above", "indoors"),
)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    token: str
    pid: int

    def connect(self) -> HTTPConnection:
        """A connection of one client."""
        return HTTPConnection("127.0.0.1", self.port, timeout=120)

    def get(self, connection: HTTPConnection, path: str) -> bytes:
        """The body of an answer."""
        connection.request("GET", path, headers={"authorization": f"Bearer {self.token}"})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body[:300]
        return body


@contextmanager
def serving(db: Path, encoder: str | None, environment: Mapping[str, str]) -> Iterator[Server]:
    """A server on an index, warm."""
    more = ["--encoder", encoder] if encoder else []
    command = [sys.executable, "-m", "clamr_cli", "--db", str(db), "serve", "--no-browser", *more]
    command += ["--port", str(free_port())]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        parts = urlsplit(process.stdout.readline().strip())
        server = Server(parts.port or 0, parts.query.removeprefix("token="), process.pid)
        try:
            with closing(server.connect()) as connection:
                for query in ("warm", "up"):
                    server.get(connection, f"/api/v1/search?q={query}")
            yield server
        finally:
            process.terminate()


def measure(server: Server, clients: int, seconds: float, queries: Iterator[str]) -> dict[str, float]:
    """Requests per second, and the times of answers in milliseconds."""
    times: list[float] = []
    lock, over = threading.Lock(), time.perf_counter() + seconds

    def ask() -> None:
        own = 0
        with closing(server.connect()) as connection:
            while time.perf_counter() < over or own < 2:
                own += 1
                with lock:
                    query = next(queries)
                started = time.perf_counter()
                server.get(connection, f"/api/v1/search?{urlencode({'q': query, 'verbatim': 'true'})}")
                took = time.perf_counter() - started
                with lock:
                    times.append(took)

    started = time.perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    parts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "clients": clients,
        "requests": len(times),
        "per_second": round(len(times) / took, 1),
        "p50_ms": round(parts[49] * 1000, 1),
        "p99_ms": round(parts[98] * 1000, 1),
    }


def shell(db: Path, encoder: str | None, turns: int, folder: Path) -> dict[str, dict[str, float]]:
    """Medians of ``clamr search`` in the shell, warm and cold by turns.

    Args:
        db: an index.
        encoder: name of the encoder.
        turns: searches of each kind, each of another query.
        folder: where the server's socket is.
    """
    while not list(folder.glob("clamr/*.socket")):
        time.sleep(0.1)
    words = [sys.executable, "-m", "clamr_cli", "--db", str(db), "search", "--verbatim"]
    words += ["--encoder", encoder] if encoder else []
    runs: dict[str, list[Any]] = {"warm": [], "cold": []}
    for query in itertools.islice(different(), turns):
        # A cold one finds no socket.
        for name, place in (("warm", folder), ("cold", folder / "none")):
            runs[name].append(measured([*words, query], {**os.environ, "XDG_RUNTIME_DIR": str(place)}, every=5.0))
        warm, cold = runs["warm"][-1], runs["cold"][-1]
        assert (warm.code, warm.out) == (cold.code, cold.out)
    return {
        name: {
            "wall_s": round(statistics.median(run.seconds for run in found), 3),
            "cpu_s": round(statistics.median(run.cpu for run in found), 3),
        }
        for name, found in runs.items()
    }


def different() -> Iterator[str]:
    """Queries of which no two are the same."""
    for number in itertools.count():
        for words in itertools.product(*WORDS):
            yield " ".join(words) + (f" {number}" if number else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--db", type=Path, required=True, help="an index; it is not changed")
    parser.add_argument("--encoder", help="name of the encoder")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of clients")
    parser.add_argument("--turns", type=int, default=15, help="searches from the shell of each kind")
    parser.add_argument("--repeat", action="store_true", help="ask the same ten queries again and again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {"device": device(), "repeat": given.repeat, "search": []}
    ten = itertools.cycle(list(itertools.islice(different(), 10)))
    queries = ten if given.repeat else different()
    with (
        tempfile.TemporaryDirectory() as made,
        serving(given.db, given.encoder, {**os.environ, "XDG_RUNTIME_DIR": made}) as server,
    ):
        report["memory"] = resident(server.pid)[1]
        for clients in CLIENTS:
            row = measure(server, clients, given.seconds, queries)
            report["search"].append(row)
            print(
                f"{clients:>3} clients: {row['per_second']:>7} requests/s, "
                f"median {row['p50_ms']} ms, 99 % below {row['p99_ms']} ms",
                flush=True,
            )
        report["memory_after"] = resident(server.pid)[1]
        report["shell"] = shell(given.db, given.encoder, given.turns, Path(made))
        for name, row in report["shell"].items():
            print(f"clamr search, {name}: median {row['wall_s']} s, {row['cpu_s']} s of processor time", flush=True)
    out = given.json or RESULTS / "serve.json"
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
