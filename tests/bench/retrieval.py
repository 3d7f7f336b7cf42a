"""nDCG@10 by modality on a folder of videos with queries: ``python -m tests.bench.retrieval DIR [--db DIR]``.

DIR holds videos and ``queries.json``, a list of ``{"video": file name, "query": text, "modality": what it aims at}``.
The folder is indexed (again only what changed) and searched as users do; each query has one right video. Beside the
default search, every modality is tried alone, and how often the aimed modality won in the right video is told.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clamr_cli import encoders, pipeline
from clamr_cli.config import default_cache
from clamr_cli.search import search
from clamr_cli.store import Store
from clamr_cli.types import SHOWN_MODALITIES, Finished, Modality, SearchOptions, Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.types import Encoder

_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with the file it must find and the modality it aims at."""

    video: str
    query: str
    modality: Modality


@dataclass(frozen=True, slots=True)
class Found:
    """The rank of the right file from 0, None beyond the tenth, and the modality that won in it."""

    rank: int | None
    modality: Modality | None

    @property
    def gain(self) -> float:
        """What it adds to nDCG@10 with one right answer."""
        return 0.0 if self.rank is None else 1 / math.log2(self.rank + 2)


def main() -> None:
    """Index, ask everything, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--db", type=Path, help="keep the index here")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--encoder", default=encoders.DEFAULT)
    parser.add_argument("--misses", action="store_true", help="print queries whose video was not first")
    asked = parser.parse_args()
    rows = json.loads((asked.folder / "queries.json").read_text())
    queries = [Asked(row["video"], row["query"], Modality(row["modality"])) for row in rows]
    with tempfile.TemporaryDirectory() as place:
        store = Store.open(asked.db or Path(place) / "index", create=True)
        options = pipeline.IndexOptions(cache=asked.cache, encoder=asked.encoder)
        for event in pipeline.index(store, [str(asked.folder)], options):
            if isinstance(event, Skipped | Finished):
                print(event)
        encoder = encoders.create(asked.encoder, cache=asked.cache)
        report(store, encoder, queries, misses=asked.misses)


def report(store: Store, encoder: Encoder, queries: Sequence[Asked], *, misses: bool) -> None:
    """Print a line for the default search, for the other scoring and for each modality alone."""
    ways = {"all modalities": SearchOptions(limit=_DEPTH)}
    ways["modality-max"] = SearchOptions(limit=_DEPTH, scoring="modality-max")
    ways |= {f"{one.value} alone": SearchOptions(limit=_DEPTH, modalities=(one,)) for one in SHOWN_MODALITIES}
    print(f"{'nDCG@10':16}" + "".join(f"{one.value:>10}" for one in SHOWN_MODALITIES) + f"{'all':>10}")
    for name, options in ways.items():
        found = [find(store, encoder, one, options) for one in queries]
        print(f"{name:16}" + _cells(queries, [100 * one.gain for one in found]))
        if name == "all modalities":
            print(f"{'R@1':16}" + _cells(queries, [100.0 * (one.rank == 0) for one in found]))
            right = [100.0 * (one.modality == aim.modality) for one, aim in zip(found, queries, strict=True)]
            print(f"{'modality right':16}" + _cells(queries, right))
            missed = [pair for pair in zip(queries, found, strict=True) if misses and pair[1].rank != 0]
    for aim, one in missed:
        print(f"  rank {'-' if one.rank is None else one.rank + 1}: {aim.query!r} ({aim.modality}, {aim.video})")


def find(store: Store, encoder: Encoder, asked: Asked, options: SearchOptions) -> Found:
    """Where the right file is among the first ten."""
    for hit in search(store, encoder, asked.query, options):
        if Path(hit.path).name == asked.video:
            return Found(hit.rank - 1, hit.modality)
    return Found(None, None)


def _cells(queries: Sequence[Asked], values: Sequence[float]) -> str:
    """Means by the aimed modality and over all queries."""
    groups: dict[Modality, list[float]] = defaultdict(list)
    for query, value in zip(queries, values, strict=True):
        groups[query.modality].append(value)
    means = [sum(groups[one]) / len(groups[one]) if groups[one] else math.nan for one in SHOWN_MODALITIES]
    return "".join(f"{mean:10.1f}" for mean in [*means, sum(values) / len(values)])


if __name__ == "__main__":
    main()
