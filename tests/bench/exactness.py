"""Counts rankings that are not those of brute force: ``python -m tests.bench.exactness [--queries N]``.

Makes a ragged, clustered library of its own (``tests.bench.corpus``), packs it, and asks random queries of 1 to 32
tokens: by turns near what a moment holds and anywhere. Each is ranked by the cascade with every kernel that runs
on this machine, and by a float32 brute force over the stored float16 vectors. Rankings are the same where they differ
in ties at most.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.search.cascade import Candidates, Cascade, kernel_scan
from tests.bench.corpus import Corpus, moment_id, print_kernel, unit, write
from tests.bench.search import ENCODER, LIMIT, RESULTS, RULE, brute, device, differs

MOST_TOKENS = 32


def asked(corpus: Corpus, count: int) -> list[NDArray[np.float32]]:
    """Queries [1 to 32, 128] of both kinds by turns."""
    rng = np.random.default_rng(1)
    near = corpus.queries(count, MOST_TOKENS)
    found = []
    for number, rows in enumerate(near):
        tokens = int(rng.integers(1, MOST_TOKENS + 1))
        anywhere = unit(rng.standard_normal((tokens, rows.shape[1]), dtype=np.float32))
        found.append(anywhere if number % 2 else rows[:tokens])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--per", type=int, default=100, help="vectors of a moment, from half to half more")
    parser.add_argument("--json", type=Path, default=RESULTS / "exactness.json", metavar="FILE")
    given = parser.parse_args()
    print_kernel()
    corpus = Corpus(given.moments, given.per, ragged=True)
    queries = asked(corpus, given.queries)
    with tempfile.TemporaryDirectory() as folder:
        store = write(corpus, Path(folder) / "index", ENCODER)
        store.pack_vectors(ENCODER.fingerprint)
        vectors = sum(use.vectors for use in store.encoders())
        truth = brute(store, queries, corpus.moments)
        number_of = {moment_id(number): number for number in range(corpus.moments)}
        wrong = {}
        for backend in kernel.backends():
            wrong[backend] = 0
            for query, scores in zip(queries, truth, strict=True):
                candidates = Candidates(store.snapshot(ENCODER.fingerprint))
                cascade = Cascade(candidates, query, [RULE], kernel_scan(query, backend=backend))
                found = [number_of[one] for one, _ in cascade.top(LIMIT, of_each_video=False)]
                wrong[backend] += len(found) < LIMIT or differs(found, scores)
            print(f"{backend:12} {wrong[backend]} of {len(queries)} rankings differ from brute force", flush=True)
    report = {"device": device(), "vectors": vectors, "queries": len(queries), "rankings_that_differ": wrong}
    given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
