"""Speed of finding a query's maxima over many vectors, and how many moments the bounds leave to be scored exactly.

``python -m tests.bench.kernel`` makes clustered vectors, then times every backend of the kernel beside numpy, torch and
maxsim-cpu (where installed), all on the same vectors in one run, in turns, so that a noisy machine slows all alike.
For each it prints the median and the best of the wall-clock time and the median of the processor's time. Then it counts
which share of the moments a provable search must score exactly, by how coarsely vectors and queries are kept: a moment
is closed once its upper bound is below the tenth best exact score.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from clamr_cli import kernel
from tests.bench.corpus import print_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Work = Callable[[], object]

RESULTS: Final = Path(__file__).parent / "results"
CHUNK: Final = 1 << 16
PLACES: Final = 1 << 12
# The collection on which bounds are tried.
MOMENTS: Final = 5000
LENGTH: Final = 100


def _unit(rows: Float32) -> Float32:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(rng: np.random.Generator, moments: int, length: int) -> Float32:
    """Vectors of moments that are each about eight of many things, [moments * length, 128]."""
    things = _unit(rng.standard_normal((PLACES, 128), dtype=np.float32))
    rows = np.empty((moments * length, 128), np.float32)
    for moment in range(moments):
        about = things[rng.integers(0, PLACES, 8)]
        noise = rng.standard_normal((length, 128), dtype=np.float32) * np.float32(0.06)
        rows[moment * length : (moment + 1) * length] = _unit(about[rng.integers(0, 8, length)] + noise)
    return rows


def unlike(rng: np.random.Generator, moments: int, length: int) -> Float32:
    """Vectors in any direction, the hardest for bounds: no moment stands out. [moments * length, 128]."""
    return _unit(rng.standard_normal((moments * length, 128), dtype=np.float32))


def query_about(rng: np.random.Generator, rows: Float32, length: int, tokens: int) -> Float32:
    """A query whose tokens are near vectors of one moment, [tokens, 128]."""
    moment = int(rng.integers(0, len(rows) // length))
    chosen = rows[moment * length + rng.integers(0, length, tokens)]
    return _unit(chosen + rng.standard_normal((tokens, 128), dtype=np.float32) * np.float32(0.07))


def timed(works: dict[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each, in turns: wall-clock median and minimum, and the processor's median."""
    walls: dict[str, list[float]] = {name: [] for name in works}
    processor: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            wall, used = time.perf_counter(), time.process_time()
            work()
            if turn:  # the first warms up
                walls[name].append(1e3 * (time.perf_counter() - wall))
                processor[name].append(1e3 * (time.process_time() - used))
    return {
        name: {
            "median_ms": round(float(np.median(walls[name])), 2),
            "min_ms": round(min(walls[name]), 2),
            "cpu_ms": round(float(np.median(processor[name])), 2),
        }
        for name in works
    }


def bound(query: Float32, held: kernel.Quantized, ranges: NDArray[np.int64], planes: int, **options: Any) -> Float32:
    """Upper bounds of the similarities in each range, [r, q]."""
    return kernel.bound(
        query, held.codes, held.scales, held.residuals, ranges,
        max_norm=held.max_norm, query_planes=planes, **options,
    )  # fmt: skip


def ours(query: Float32, halves: NDArray[np.float16], offsets: NDArray[np.int64]) -> dict[str, Work]:
    """The kernel's passes by path, planes and threads."""
    held = kernel.quantize(halves)
    works: dict[str, Work] = {}
    ranges = np.stack([offsets[:-1], offsets[1:]], axis=1)
    for backend in kernel.backends():
        for threads in (1, 2) if backend != kernel.NUMPY else (1,):
            common: dict[str, Any] = {"backend": backend, "threads": threads}
            for planes in (1, 2):
                works[f"{backend} int8 planes={planes} threads={threads}"] = lambda planes=planes, common=common: bound(
                    query, held, ranges, planes, **common
                )
            works[f"{backend} float16 threads={threads}"] = lambda common=common: kernel.exact(
                query, halves, ranges, **common
            )
    return works


def peers(query: Float32, rows: Float32, offsets: NDArray[np.int64]) -> dict[str, Work]:
    """The same maxima as others find them, over float32 vectors."""
    length = int(offsets[1])
    step = max(1, CHUNK // length) * length

    def by_numpy() -> None:
        for first in range(0, len(rows), step):
            part = query @ rows[first : first + step].T
            np.maximum.reduceat(part, np.arange(0, part.shape[1], length), axis=1).sum(axis=0)

    tensor, asked = torch.from_numpy(rows), torch.from_numpy(query)

    def by_torch() -> None:
        for first in range(0, len(rows), step):
            (tensor[first : first + step] @ asked.T).view(-1, length, len(asked)).amax(1).sum(1)

    works: dict[str, Work] = {"numpy float32": by_numpy, "torch float32": by_torch}
    try:
        import maxsim_cpu
    except ImportError:
        return works
    cube = rows.reshape(-1, length, 128)
    works["maxsim-cpu float32"] = lambda: maxsim_cpu.maxsim_scores(query, cube)
    return works


def left_over(rng: np.random.Generator, rows: Float32, length: int, tokens: int, queries: int) -> dict[str, float]:
    """The share of moments, in percent, whose upper bound reaches the tenth exact score; medians over queries."""
    halves = rows.astype(np.float16)
    held, offsets = kernel.quantize(halves), np.arange(0, len(rows) + 1, length)
    ranges = np.stack([offsets[:-1], offsets[1:]], axis=1)
    signs = np.where(halves < 0, -1, 1).astype(np.int8)
    means = np.abs(halves.astype(np.float32)).mean(axis=1)
    lost = np.sqrt(np.maximum(np.square(halves.astype(np.float32)).sum(axis=1) - 128 * np.square(means), 0))
    bits = kernel.Quantized(signs, means.astype(np.float32), lost.astype(np.float32), held.max_norm)
    shares: dict[str, list[float]] = {}
    for _ in range(queries):
        query = query_about(rng, rows, length, tokens)
        exact = kernel.exact(query, halves, ranges).sum(axis=1, dtype=np.float64)
        tenth = float(np.sort(exact)[-10])
        bounds = {
            "int8, planes=1": bound(query, held, ranges, 1),
            "int8, planes=2": bound(query, held, ranges, 2),
            "1 bit, planes=2": bound(query, bits, ranges, 2),
        }
        for name, upper_bounds in bounds.items():
            upper = upper_bounds.sum(axis=1, dtype=np.float64)
            shares.setdefault(name, []).append(100.0 * float((upper >= tenth).mean()))
        # Without any exact score to compare with, as where score +- bound decides alone.
        lower = bound(query, held, ranges, 2, side=-1).sum(axis=1, dtype=np.float64)
        upper = bounds["int8, planes=2"].sum(axis=1, dtype=np.float64)
        shares.setdefault("int8, planes=2, against the tenth lower bound", []).append(
            100.0 * float((upper >= np.sort(lower)[-10]).mean())
        )
    return {name: round(float(np.median(found)), 3) for name, found in shares.items()}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=1000)
    parser.add_argument("--length", type=int, default=1000, help="vectors of a moment")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch, numpy and maxsim-cpu as far as they can be told"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "kernel.json")
    options = parser.parse_args()
    print_kernel()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    rows = clustered(rng, options.moments, options.length)
    query = query_about(rng, rows, options.length, options.tokens)
    offsets = np.arange(0, len(rows) + 1, options.length)
    works = ours(query, rows.astype(np.float16), offsets)
    # One that takes a second a round is for processors that have nothing better.
    fast = {name: work for name, work in works.items() if not name.startswith("scalar")}
    times = timed({**fast, **peers(query, rows, offsets)}, options.rounds)
    shares = {
        kind: left_over(rng, make(rng, MOMENTS, LENGTH), LENGTH, options.tokens, options.queries)
        for kind, make in (("clustered", clustered), ("unlike", unlike))
    }
    report = {
        "vectors": len(rows),
        "moments": options.moments,
        "tokens": options.tokens,
        "times": times,
        "left_over_percent": shares,
        "left_over_of": {"moments": MOMENTS, "length": LENGTH, "queries": options.queries},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in ("numpy", "torch", "maxsim-cpu")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name, found in times.items():
        print(f"{name:40} median {found['median_ms']:8.2f}  min {found['min_ms']:8.2f}  cpu {found['cpu_ms']:8.2f} ms")
    for kind, found in shares.items():
        print(f"{kind}: left to be scored exactly, of {MOMENTS} moments of {LENGTH} vectors")
        for name, share in found.items():
            print(f"  {name:48} {share:7.3f} %")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
