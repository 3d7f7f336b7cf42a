"""Other ways to find the first moments of a corpus by MaxSim, behind one face, for ``python -m tests.bench.search``.

A peer is built once, then asked; it gives the numbers of the moments it ranks first. What is not installed is left out
by name. Peers that need another environment run there, in a process of their own (``tests.bench.apart``).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.corpus import Corpus, batches

Query = NDArray[np.float32]
Ask = Callable[[Query, int], list[int]]


@dataclass
class Peer:
    """A way to search: ``ask`` gives the first moments; ``build`` seconds to get ready, ``size`` bytes it keeps."""

    name: str
    ask: Ask
    build: float
    size: int
    note: str = ""
    most: int = 1_000_000
    options: dict[str, object] = field(default_factory=dict)


def loaded(corpus: Corpus) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All vectors [n, 128] as float32, and where moments begin [m + 1]."""
    found = [(rows, len(rows)) for batch in batches(corpus) for _, rows, _ in batch]
    rows = np.concatenate([rows.astype(np.float32) for rows, _ in found])
    return rows, np.concatenate([[0], np.cumsum([count for _, count in found])])


def top(scores: NDArray[np.floating], limit: int) -> list[int]:
    """The numbers of the highest scores."""
    found: list[int] = np.argsort(-scores, kind="stable")[:limit].tolist()
    return found


def numpy_peer(rows: NDArray[np.float32], indptr: NDArray[np.int64]) -> Peer:
    """One product of matrices per 65,536 vectors, maxima by ``reduceat``."""
    step = max(1, 65_536 * (len(indptr) - 1) // len(rows))

    def ask(query: Query, limit: int) -> list[int]:
        parts = []
        for first in range(0, len(indptr) - 1, step):
            borders = indptr[first : first + step + 1]
            values = query @ rows[borders[0] : borders[-1]].T
            parts.append(np.maximum.reduceat(values, borders[:-1] - borders[0], axis=1).sum(axis=0))
        return top(np.concatenate(parts), limit)

    return Peer("numpy", ask, 0.0, rows.nbytes)


def torch_peers(rows: NDArray[np.float32], indptr: NDArray[np.int64], threads: int) -> list[Peer]:
    """Products in float32 and bfloat16, of all vectors at once and in chunks that fit the cache."""
    import torch

    torch.set_num_threads(threads)
    lengths = np.diff(indptr)
    uniform = int(lengths[0]) if (lengths == lengths[0]).all() else 0
    borders = torch.from_numpy(indptr)

    def asker(table: torch.Tensor, chunk: int) -> Ask:
        @torch.inference_mode()
        def ask(query: Query, limit: int) -> list[int]:
            asked = torch.from_numpy(query).to(table.dtype)
            moments = max(1, chunk // max(1, uniform)) if uniform else len(lengths)
            scores = []
            for first in range(0, len(lengths), moments):
                last = min(first + moments, len(lengths))
                part = table[int(indptr[first]) : int(indptr[last])]
                values = part @ asked.T
                if uniform:
                    best = values.view(last - first, uniform, -1).amax(dim=1)
                else:
                    best = torch.segment_reduce(values.float(), "max", offsets=borders, axis=0)
                scores.append(best.float().sum(dim=1))
            found: list[int] = torch.cat(scores).topk(limit).indices.tolist()
            return found

        return ask

    made = []
    for kind in (torch.float32, torch.bfloat16):
        started = time.perf_counter()
        table = torch.from_numpy(rows).to(kind)
        took, size = time.perf_counter() - started, table.element_size() * table.numel()
        for chunk, label in ((8_192, "chunks"), (len(rows), "whole")):
            name = f"torch {str(kind).removeprefix('torch.')} {label}"
            made.append(Peer(name, asker(table, chunk), took, size))
    return made


def maxsim_cpu_peer(rows: NDArray[np.float32], indptr: NDArray[np.int64]) -> Peer:
    """maxsim-cpu over float32 documents."""
    import maxsim_cpu

    lengths = np.diff(indptr)
    if (lengths == lengths[0]).all():
        stacked = rows.reshape(len(lengths), int(lengths[0]), -1)
        return Peer("maxsim-cpu", lambda q, k: top(maxsim_cpu.maxsim_scores(q, stacked), k), 0.0, rows.nbytes)
    listed = np.split(rows, indptr[1:-1])
    return Peer("maxsim-cpu", lambda q, k: top(maxsim_cpu.maxsim_scores_variable(q, listed), k), 0.0, rows.nbytes)


def lancedb_table(corpus: Corpus, folder: Path, name: str) -> Any:
    """A table of the corpus with float16 vectors, numbered moments and nothing else."""
    import lancedb
    import pyarrow as pa

    # What an earlier run left would count.
    shutil.rmtree(folder, ignore_errors=True)

    kind = pa.list_(pa.list_(pa.float16(), 128))
    schema = pa.schema([("number", pa.int64()), ("vectors", kind)])

    def tables() -> Any:
        number = 0
        for batch in batches(corpus, 240):
            flat = [pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 128) for _, rows, _ in batch]
            offsets = np.concatenate([[0], np.cumsum([len(one) for one in flat])]).astype(np.int32)
            vectors = pa.ListArray.from_arrays(pa.array(offsets), pa.concat_arrays(flat))
            numbers = pa.array(range(number, number + len(flat)), pa.int64())
            number += len(flat)
            yield pa.RecordBatch.from_arrays([numbers, vectors], schema=schema)

    return lancedb.connect(folder).create_table(name, data=tables(), schema=schema, mode="overwrite")


def lancedb_flat(table: Any, folder: Path) -> Peer:
    """LanceDB without an index: exact, by reading everything."""

    def ask(query: Query, limit: int) -> list[int]:
        found = table.search(query, vector_column_name="vectors").distance_type("cosine").bypass_vector_index()
        return list(found.select(["number", "_distance"]).limit(limit).to_arrow().column("number").to_pylist())

    return Peer("lancedb flat", ask, 0.0, tree_size(folder), most=5)


def lancedb_index(corpus: Corpus, folder: Path, kind: str, refines: list[tuple[int, int]]) -> list[Peer]:
    """LanceDB with an index of that kind, asked with each (nprobes, refine_factor); refine 0 for none."""
    table = lancedb_table(corpus, folder, kind.lower())
    before, started = tree_size(folder), time.perf_counter()
    more = {"num_sub_vectors": 32} if kind == "IVF_PQ" else {}
    table.create_index(metric="cosine", index_type=kind, vector_column_name="vectors", **more)
    took = time.perf_counter() - started

    def asker(probes: int, refine: int) -> Ask:
        def ask(query: Query, limit: int) -> list[int]:
            found = table.search(query, vector_column_name="vectors").distance_type("cosine").nprobes(probes)
            found = found.refine_factor(refine) if refine else found
            return list(found.select(["number", "_distance"]).limit(limit).to_arrow().column("number").to_pylist())

        return ask

    size = tree_size(folder)
    return [
        Peer(f"lancedb {kind} nprobes={probes} refine={refine}", asker(probes, refine), took, size,
             note=f"index {size - before} bytes", most=20)
        for probes, refine in refines
    ]  # fmt: skip


def tree_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
