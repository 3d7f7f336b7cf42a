"""Libraries of more vectors than a search can compare with: an index of LanceDB gives candidates, scored exactly.

What the index says of a query of many vectors is no MaxSim, so it is asked for many times the moments that are shown,
which LanceDB then compares by their vectors. A moment that it does not give is missed: such answers are marked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.search.bounds import allowed

if TYPE_CHECKING:
    from collections.abc import Collection

    from clamr_cli.store import Snapshot, Store
    from clamr_cli.types import SearchOptions, TokenVectors

LEAST: Final = 100
"""Candidates at least, and moments by their texts at most."""

_PER_HIT: Final = 10


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def called_for(store: Store, fingerprint: str, videos: Collection[str], options: SearchOptions) -> bool:
    """Whether candidates must do: too many vectors may answer, there is an index, and the answer need not be exact."""
    if options.exact:
        return False
    vectors = answering(store.snapshot(fingerprint), videos)
    return vectors > options.scan_limit * cores() and store.has_approximate_index()


def answering(snapshot: Snapshot, videos: Collection[str]) -> int:
    """How many packed vectors the moments of some videos have; others are few."""
    count = 0
    for file in snapshot.files:
        count += int(np.diff(file.starts)[allowed(file, videos) & (file.places >= 0)].sum())
    return count


def candidates(
    store: Store, fingerprint: str, query: TokenVectors, text: str, options: SearchOptions
) -> frozenset[str]:
    """Moments that may answer best: by their vectors and, if hybrid, by the words of their texts."""
    found = store.nearest(fingerprint, query.vectors, max(LEAST, options.limit * _PER_HIT))
    return frozenset(found) | frozenset(store.matching_text(text, LEAST) if options.hybrid else ())
