"""Peers that need an environment of their own; ``tests.bench.search --apart PYTHON`` runs this file there.

Takes a folder with ``rows.npy`` [n, 128], ``indptr.npy`` [m + 1] and ``queries.npy`` [k, q, 128], the number of threads
and of results. Prints a JSON object per peer: name, seconds of each query, what it found, seconds to build, bytes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

THREADS = sys.argv[2] if len(sys.argv) > 2 else "1"
# Before anything that reads them is imported.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = THREADS


def fast_plaid(documents: list[Any], folder: Path) -> Callable[[Any, int], list[int]]:
    """FastPlaid with its defaults."""
    from fast_plaid import search

    engine = search.FastPlaid(index=str(folder), device="cpu")
    engine.create(documents_embeddings=documents)
    return lambda query, limit: [number for number, _ in engine.search(query[None], top_k=limit)[0]]


def xtr_warp(documents: list[Any], folder: Path) -> Callable[[Any, int], list[int]]:
    """XTR-WARP with its defaults."""
    from xtr_warp import search

    engine = search.XTRWarp(index=str(folder))
    engine.create(embeddings_source=documents, device="cpu")
    engine.load("cpu", mmap=True)
    return lambda query, limit: [number for number, _ in engine.search(query[None], top_k=limit)[0]]


def results(folder: Path, limit: int) -> Iterator[dict[str, object]]:
    """Each peer that is installed."""
    import numpy as np
    import torch

    torch.set_num_threads(int(THREADS))
    rows, indptr = np.load(folder / "rows.npy"), np.load(folder / "indptr.npy")
    queries = torch.from_numpy(np.load(folder / "queries.npy"))
    documents = [torch.from_numpy(part.astype(np.float32)) for part in np.split(rows, indptr[1:-1])]
    for label, make in (("fast-plaid", fast_plaid), ("xtr-warp-rs", xtr_warp)):
        with tempfile.TemporaryDirectory() as place:
            started = time.perf_counter()
            try:
                ask = make(documents, Path(place) / "index")
                built = time.perf_counter() - started
                ask(queries[-1], limit)
                seconds, found = [], []
                for query in queries:
                    started = time.perf_counter()
                    found.append([int(number) for number in ask(query, limit)])
                    seconds.append(time.perf_counter() - started)
            except Exception as error:
                print(f"left out {label}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
        yield {"name": label, "seconds": seconds, "found": found, "build_s": built, "size": size}


if __name__ == "__main__":
    for one in results(Path(sys.argv[1]), int(sys.argv[3])):
        print(json.dumps(one), flush=True)
