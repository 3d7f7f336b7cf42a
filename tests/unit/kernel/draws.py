"""Random vectors, queries and ranges of every awkward kind."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from clamr_cli.types import DIMENSION


def unit_rows(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@st.composite
def collections(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """A query [q, 128] and vectors [n, 128] that may be close, far, opposite, spiky, tiny, huge or zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    query = unit_rows(rng, draw(st.sampled_from([1, 2, 15, 16, 17, 20, 32, 33, 47, 64, 65, 100])))
    vectors = unit_rows(rng, draw(st.integers(0, 300)))
    kind = draw(st.sampled_from(["far", "near", "opposite", "spiky", "scaled", "zeros", "subnormal"]))
    if kind in ("near", "opposite") and len(vectors):
        chosen = query[rng.integers(0, len(query), len(vectors))]
        vectors = chosen * (1 if kind == "near" else -1) + vectors * np.float32(draw(st.sampled_from([0.0, 0.01, 0.3])))
    if kind == "opposite":
        query = np.abs(query)
        vectors = -np.abs(vectors)
    if kind == "spiky":
        vectors[:, 0] += 30
        query[:, 1] -= 5
    if kind == "scaled":
        vectors *= np.float32(10.0) ** rng.integers(-4, 4, (len(vectors), 1)).astype(np.float32)
        query *= np.float32(10.0) ** rng.integers(-8, 8, (len(query), 1)).astype(np.float32)
    if kind == "zeros":
        vectors[rng.random(len(vectors)) < 0.5] = 0
        query[rng.random(len(query)) < 0.5] = 0
    if kind == "subnormal":
        vectors *= np.float32(2.0**-20)
        query *= np.float32(2.0**-110)
    return query.astype(np.float32), vectors.astype(np.float16)


def between(*offsets: int) -> NDArray[np.int64]:
    """The ranges between consecutive offsets, [r, 2]."""
    return np.stack([offsets[:-1], offsets[1:]], axis=1).astype(np.int64)


@st.composite
def ranges(draw: st.DrawFn, count: int) -> NDArray[np.int64]:
    """Consecutive ranges, or starts and ends in any order; many are empty, or hold one vector."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number = draw(st.sampled_from([0, 1, 2, 5, 40]))
    kind = draw(st.sampled_from(["consecutive", "all", "ones", "any"]))
    if kind == "all":
        return between(0, count)
    if kind == "ones":
        return between(*range(count + 1))
    if kind == "consecutive":
        return between(*np.sort(rng.integers(0, count + 1, number + 1)))
    return np.sort(rng.integers(0, count + 1, (number, 2)), axis=1)
