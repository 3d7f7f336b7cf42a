"""Measures exact search beside every peer that is installed: ``python -m tests.bench.search [--vectors N]``.

Makes a clustered corpus of its own (``tests.bench.corpus``), indexes and packs it, and asks clamr and its peers the
same queries in one run: recall@10 as against a float32 brute force over the stored float16 vectors, the time for the
first ten (median, 99th percentile, and the best: how far they are apart tells how busy the machine was), bytes a
vector, seconds to build, and how many times as long as clamr each takes, the two being asked by turns. For clamr it
also counts the queries whose ranking differs from brute force beyond ties, and the most memory that it took beside the
mapped files. ``--pool`` measures what pooled vectors lose, ``--cold`` the command from a cold shell.

Peers hold the corpus in memory as float32, so they are left out above ``--peers-up-to`` vectors. ``--apart PYTHON``
names an interpreter with fast-plaid or xtr-warp-rs, which need another torch than clamr.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clamr_cli import encoders, kernel
from clamr_cli.config import default_cache
from clamr_cli.encoders.pooling import pooled
from clamr_cli.search.cascade import TIE, Candidates, Cascade, ScoringRule, kernel_scan, slot_weights
from clamr_cli.store import Store
from tests.bench import peers
from tests.bench.corpus import Corpus, moment_id, print_kernel, write
from tests.bench.peers import Peer

ENCODER = encoders.describe("mini", cache=default_cache())
"""Whose vectors they pass for, so that the command itself can be timed."""
RESULTS = Path(__file__).with_name("results")
LIMIT = 10
PACKAGES = ("clamr-cli", "lancedb", "pylance", "numpy", "torch", "maxsim-cpu")
SETTLED = 0.3
"""Seconds after which threads that wait for more work have gone to sleep."""

RULE = ScoringRule("token-max", slot_weights({}))


def ours(store: Store, corpus: Corpus) -> Peer:
    """The exact search of ``clamr search``, from a query's vectors to the first moments."""
    number_of = {moment_id(number): number for number in range(corpus.moments)}
    videos = frozenset(facts.video_id for facts in store.catalog())

    def ask(query: NDArray[np.float32], limit: int) -> list[int]:
        candidates = Candidates(store.snapshot(ENCODER.fingerprint), videos)
        cascade = Cascade(candidates, query, [RULE], kernel_scan(query))
        return [number_of[one] for one, _ in cascade.top(limit, of_each_video=False)]

    started = time.perf_counter()
    built = store.pack_vectors(ENCODER.fingerprint)
    assert built is not None
    return Peer("clamr", ask, time.perf_counter() - started, built.size, most=sys.maxsize)


def brute(store: Store, queries: list[NDArray[np.float32]], count: int) -> list[NDArray[np.float32]]:
    """The scores of all moments for each query, by one pass over what is stored."""
    scores = [np.full(count, -np.inf, np.float32) for _ in queries]
    stacked = np.concatenate(queries)
    ends = np.cumsum([len(query) for query in queries])
    order = {moment_id(number): number for number in range(count)}
    for batch in store.scan_packed(ENCODER.fingerprint):
        maxima = np.full((len(stacked), len(batch.moment_ids)), -np.inf, np.float32)
        for place in range(len(batch.moment_ids)):
            rows = batch.vectors[batch.indptr[place] : batch.indptr[place + 1]].astype(np.float32)
            maxima[:, place] = (stacked @ rows.T).max(axis=1, initial=-np.inf)
        numbers = [order[one] for one in batch.moment_ids]
        for query, part in zip(scores, np.split(maxima, ends[:-1]), strict=True):
            query[numbers] = part.sum(axis=0, dtype=np.float32)
    return scores


def differs(found: list[int], scores: NDArray[np.float32]) -> bool:
    """Whether a ranking is not that of the scores, beyond ties."""
    best = np.sort(scores)[::-1][: len(found)]
    return bool((np.abs(scores[found] - best) > 2 * TIE).any())


class Memory:
    """The largest anonymous resident memory of this process while it runs (Linux): mapped files do not count."""

    def __init__(self) -> None:
        self.largest = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            status = Path("/proc/self/status").read_text()
            anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.largest = max(self.largest, int(anonymous.split()[1]) * 1024)


def timed(
    peer: Peer, queries: list[NDArray[np.float32]], truth: list[NDArray[np.float32]], beside: Peer | None = None
) -> dict[str, Any]:
    """Asks a peer all queries (as many as it is asked at most) after one that warms it up.

    Before each, ``beside`` is asked the same, so that both are compared on a machine that is equally busy.
    """
    peer.ask(queries[-1], LIMIT)
    seconds, others, busy, recalls, wrong = [], [], [], [], 0
    for query, scores in list(zip(queries, truth, strict=True))[: peer.most]:
        if beside is not None:
            # Threads of numpy and torch keep a core busy for a while after their work is done.
            time.sleep(SETTLED)
            started = time.perf_counter()
            beside.ask(query, LIMIT)
            others.append(time.perf_counter() - started)
        started, spent = time.perf_counter(), time.process_time()
        found = peer.ask(query, LIMIT)
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - spent)
        best = set(np.argsort(-scores, kind="stable")[:LIMIT].tolist())
        recalls.append(len(best & set(found)) / LIMIT)
        wrong += differs(found, scores)
    return {
        "name": peer.name,
        "median_ms": statistics.median(seconds) * 1e3,
        "p99_ms": float(np.percentile(seconds, 99)) * 1e3,
        "best_ms": min(seconds) * 1e3,
        "processor_ms": statistics.median(busy) * 1e3,
        "recall@10": statistics.mean(recalls),
        "queries": len(seconds),
        "rankings_that_differ": wrong,
        "times_clamr": statistics.median(seconds) / statistics.median(others) if others else 1.0,
        "clamr_ms": statistics.median(others) * 1e3 if others else None,
        "build_s": peer.build,
        "size": peer.size,
        "note": peer.note,
    }


def all_peers(corpus: Corpus, folder: Path, threads: int, wanted: list[str]) -> list[Any]:
    """Functions that make each peer that is wanted, one after another: they would not fit into memory together."""
    makers: dict[str, Any] = {}
    rows, indptr = peers.loaded(corpus)
    makers["numpy"] = lambda: [peers.numpy_peer(rows, indptr)]
    makers["torch"] = lambda: peers.torch_peers(rows, indptr, threads)
    makers["maxsim-cpu"] = lambda: [peers.maxsim_cpu_peer(rows, indptr)]
    flat = folder / "flat"
    makers["lancedb"] = lambda: [peers.lancedb_flat(peers.lancedb_table(corpus, flat, "flat"), flat)]
    asked = [(20, 0), (20, 5), (20, 20), (64, 20)]
    for kind in ("IVF_PQ", "IVF_RQ"):
        makers[kind] = lambda kind=kind: peers.lancedb_index(corpus, folder / kind, kind, asked)
    return [(name, make) for name, make in makers.items() if name in wanted]


def apart(python: str, corpus: Corpus, queries: list[NDArray[np.float32]], threads: int) -> list[dict[str, Any]]:
    """Peers in another environment: they get the corpus as files, and give numbers and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        rows, indptr = peers.loaded(corpus)
        np.save(f"{folder}/rows.npy", rows.astype(np.float16))
        np.save(f"{folder}/indptr.npy", indptr)
        np.save(f"{folder}/queries.npy", np.stack(queries))
        script = Path(__file__).with_name("apart.py")
        command = [python, str(script), folder, str(threads), str(LIMIT)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def judged(found: dict[str, Any], truth: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Results of a peer in another environment, as :func:`timed` reports it."""
    seconds, numbers = found["seconds"], found["found"]
    best = [set(np.argsort(-scores, kind="stable")[:LIMIT].tolist()) for scores in truth]
    recalls = [len(one & set(other)) / LIMIT for one, other in zip(best, numbers, strict=False)]
    return {
        "name": found["name"],
        "median_ms": statistics.median(seconds) * 1e3,
        "p99_ms": float(np.percentile(seconds, 99)) * 1e3,
        "best_ms": min(seconds) * 1e3,
        "recall@10": statistics.mean(recalls),
        "queries": len(seconds),
        "build_s": found["build_s"],
        "size": found["size"],
        "note": found.get("note", ""),
    }


def table(rows: list[dict[str, Any]], vectors: int) -> str:
    """The results as text, the ratio to the first beside each."""
    lines = [
        f"{'':34} {'median':>10} {'p99':>10} {'best':>10} {'recall@10':>9} {'B/vector':>9} {'build':>9} {'times':>7}"
    ]
    lines += [
        f"{row['name']:34} {row['median_ms']:8.1f}ms {row['p99_ms']:8.1f}ms {row['best_ms']:8.1f}ms "
        f"{row['recall@10']:9.3f} {row['size'] / vectors:9.1f} {row['build_s']:8.1f}s "
        f"{row.get('times_clamr', row['median_ms'] / rows[0]['median_ms']):6.1f}x"
        for row in rows
    ]
    return "\n".join(lines)


def pooling(
    size: int, corpus: Corpus, folder: Path, queries: list[NDArray[np.float32]], truth: list[NDArray[np.float32]]
) -> dict[str, Any]:
    """Loss by pooled vectors: their exact ranking as against that of whole ones, how often the first is the same."""
    db = folder / f"{corpus.name}-pooled-{size}"
    store = write(corpus, db, ENCODER, lambda item: pooled(item, size))
    peer = ours(store, corpus)
    found = timed(peer, queries, truth)
    same = [peer.ask(query, 1)[0] == int(scores.argmax()) for query, scores in zip(queries, truth, strict=True)]
    vectors = sum(use.vectors for use in store.encoders())
    return {**found, "name": f"clamr --pool {size}", "vectors": vectors, "same_first": statistics.mean(same)}


def cold(db: Path, runs: int = 5) -> dict[str, float]:
    """Seconds of ``clamr search`` in a process of its own, the files in the system's cache."""
    command = [sys.executable, "-m", "clamr_cli", "--db", str(db), "search", "a red car on a street"]
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return {"median_s": statistics.median(seconds), "worst_s": max(seconds)}


def device() -> dict[str, Any]:
    """The machine, and versions of the packages."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": list(kernel.backends()),
        "python": platform.python_version(),
        "versions": versions,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=1_000_000, help="about how many, up to 10,000,000")
    parser.add_argument("--per", type=int, default=1000, help="vectors of a moment")
    parser.add_argument("--ragged", action="store_true", help="moments of different length")
    parser.add_argument("--tokens", type=int, default=32, help="of a query")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", default="numpy,torch,maxsim-cpu,lancedb,IVF_PQ,IVF_RQ", help="which, by commas")
    parser.add_argument("--peers-up-to", type=int, default=2_000_000, help="leave them out above so many vectors")
    parser.add_argument("--apart", metavar="PYTHON", help="an interpreter with fast-plaid or xtr-warp-rs")
    parser.add_argument("--pool", type=int, default=0, metavar="N", help="also measure what pooling N to one loses")
    parser.add_argument("--cold", action="store_true", help="also time the command from a cold shell")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the index there, and use one that is there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    print_kernel()
    corpus = Corpus(max(1, given.vectors // given.per), given.per, given.ragged)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = given.keep or Path(temporary)
        report = run(given, corpus, folder)
    out = given.json or RESULTS / f"search-{report['vectors']}.json"
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


def run(given: argparse.Namespace, corpus: Corpus, folder: Path) -> dict[str, Any]:
    db = folder / corpus.name / "index"
    started = time.perf_counter()
    # An index is whole once it is renamed.
    if not db.exists():
        write(corpus, db.with_name("making"), ENCODER)
        db.with_name("making").rename(db)
    store = Store.open(db)
    vectors = sum(use.vectors for use in store.encoders())
    print(f"{corpus.moments} moments, {vectors} vectors, written in {time.perf_counter() - started:.0f} s", flush=True)
    queries = corpus.queries(given.queries, given.tokens)
    truth = brute(store, queries, corpus.moments)
    rows, memory = [], Memory()
    with memory:
        clamr = ours(store, corpus)
        rows.append(timed(clamr, queries, truth))
    print(table(rows, vectors), flush=True)
    wanted = given.peers.split(",") if vectors <= given.peers_up_to else []
    for name, make in all_peers(corpus, folder / corpus.name, given.threads, wanted) if wanted else []:
        try:
            made = make()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            print(f"left out {name}: {error}", flush=True)
            continue
        for peer in made:
            rows.append(timed(peer, queries, truth, clamr))
            print(table([rows[0], rows[-1]], vectors).splitlines()[-1], flush=True)
        del made
        gc.collect()
    if given.apart:
        rows += [judged(found, truth) for found in apart(given.apart, corpus, queries, given.threads)]
    print(table(rows, vectors))
    report = {
        "device": device(),
        "vectors": vectors,
        "moments": corpus.moments,
        "tokens": given.tokens,
        "threads": given.threads,
        "anonymous_memory": memory.largest,
        "results": rows,
    }
    if given.pool:
        report["pooled"] = pooling(given.pool, corpus, folder, queries, truth)
        print(table([rows[0], report["pooled"]], vectors))
    if given.cold:
        report["cold"] = cold(db)
        print(f"clamr search from a cold shell: {report['cold']}")
    return report


if __name__ == "__main__":
    main()
