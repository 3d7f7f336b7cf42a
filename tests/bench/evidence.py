"""Separates right from wrong evidence: ``python -m tests.bench.evidence queries.json --db INDEX [--encoder NAME]``.

Takes labelled queries whose modality is known. For each word of a query that is no stop word, and for the query as a
whole, the most similar frame, line or word of the answering video in the modality that the query aims at is right
evidence; that of every other video in the same modality is wrong. Literal matches are left out: they are always shown.
Prints of each modality how many there are, how well the similarity tells them apart (AUROC), the similarity above which
5 % of the wrong ones lie, and the share of the right ones above it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from clamr_cli import config
from clamr_cli.encoders import create
from clamr_cli.evaluate.data import read_queries, resolve
from clamr_cli.search.cascade import Cascade, kernel_scan
from clamr_cli.search.search import Query, hits_of, select_candidates
from clamr_cli.store import Store
from clamr_cli.text import content_words, plain
from clamr_cli.types import Modality, SearchOptions

WRONG = 0.05
"""Share of wrong evidence that may be shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("queries", type=Path)
    parser.add_argument("--db", required=True)
    parser.add_argument("--encoder", default="mini")
    given = parser.parse_args()
    store = Store.open(given.db)
    encoder = create(given.encoder, cache=config.load().cache)
    labelled = [query for query in read_queries(given.queries) if query.modality is not None]
    names, _ = resolve({name for query in labelled for name in query.relevant}, store.files())
    right: defaultdict[Modality, list[float]] = defaultdict(list)
    wrong: defaultdict[Modality, list[float]] = defaultdict(list)
    for each in labelled:
        query = Query.of(store, each.text, encoder, SearchOptions(limit=100_000, moments=True))
        candidates = select_candidates(store, query)
        answers = {names[name] for name in each.relevant if name in names}
        if candidates is None or not answers:
            continue
        cascade = Cascade(candidates, query.vectors, [query.rule], kernel_scan(query.vectors))
        ranking, content = cascade.top(query.options.limit, of_each_video=True), set(content_words(query.text))
        for hit, match in hits_of(store, query, ranking):
            into = right if hit.video_id in answers else wrong
            for word in match.word_evidence():
                evidence = word.by_modality.get(each.modality)
                if evidence is None or not set(plain(word.query_token).split()) & content:
                    continue
                if plain(evidence.text) != plain(word.query_token):
                    into[each.modality].append(evidence.similarity)
    for modality in right:
        good, bad = np.sort(right[modality]), np.sort(wrong[modality])
        auroc = sum(np.searchsorted(bad, good, side).mean() / len(bad) / 2 for side in ("left", "right"))
        floor = float(np.quantile(bad, 1 - WRONG))
        steps = np.unique(np.concatenate((good, bad)))
        balance = [((good >= step).mean() + (bad < step).mean()) / 2 for step in steps]
        print(
            f"{modality:9} right {len(good):4} wrong {len(bad):5} AUROC {auroc:.3f}, at {WRONG:.0%} wrong: {floor:.2f} "
            f"keeps {(good >= floor).mean():.0%}, balanced: {steps[int(np.argmax(balance))]:.2f} ({max(balance):.0%})"
        )


if __name__ == "__main__":
    main()
