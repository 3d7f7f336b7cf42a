"""A made-up library of token vectors for benchmarks of searching: clustered like real ones, the same for the same seed.

Every moment draws its vectors around some of a few thousand common centres, so moments share topics, and the best ones
for a query lie close together. Queries are vectors of some moment with noise as strong as themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.store import Store
from clamr_cli.types import (
    DIMENSION,
    EncoderInfo,
    FileRecord,
    FileState,
    MediaInfo,
    MomentRecord,
    Span,
    TokenVectors,
    VideoFields,
    VideoRecord,
)

CENTRES, TOPICS, SPREAD, NOISE = 4096, 40, 0.6, 1.0
MOMENTS_PER_VIDEO = 20
MODALITY_SHARES = (0.35, 0.2, 0.35, 0.1)
"""Of video, on-screen text, speech and metadata."""


@dataclass(frozen=True)
class Corpus:
    """Size of the corpus: ``moments`` of ``per`` vectors each, of from half to half more where ``ragged``."""

    moments: int
    per: int
    ragged: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.moments}x{self.per}{'r' if self.ragged else ''}-{self.seed}"

    def centres(self) -> NDArray[np.float32]:
        """[centres, 128] float32."""
        return unit(np.random.default_rng(self.seed).standard_normal((CENTRES, DIMENSION)).astype(np.float32))

    def moment(self, number: int, centres: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """The vectors of a moment [n, 128] and their modality ids [n]."""
        rng = np.random.default_rng((self.seed, number))
        count = int(rng.integers(self.per // 2, self.per * 3 // 2 + 1)) if self.ragged else self.per
        topics = rng.choice(rng.integers(0, CENTRES, TOPICS), count)
        rows = around(centres[topics], SPREAD, rng)
        # What belongs together stands together: within a modality, topics come one after another.
        parts = np.searchsorted(np.cumsum(MODALITY_SHARES)[:-1] * count, np.arange(count), side="right")
        rows = rows[np.lexsort((topics, parts))]
        return rows.astype(np.float16), (1 + parts).astype(np.uint8)

    def queries(self, count: int, tokens: int) -> list[NDArray[np.float32]]:
        """Queries [tokens, 128]."""
        centres, rng = self.centres(), np.random.default_rng((self.seed, 1 << 40))
        found = []
        for _ in range(count):
            rows, _ = self.moment(int(rng.integers(self.moments)), centres)
            found.append(around(rows[rng.integers(0, len(rows), tokens)].astype(np.float32), NOISE, rng))
        return found


def print_kernel() -> None:
    """Print the kernel that searches use, and a warning where it is the slow one."""
    backend = kernel.backends()[0]
    print(f"kernel: {backend}", flush=True)
    if backend == kernel.NUMPY:
        build = "python -m clamr_cli.kernel.build"
        print(f"warning: the compiled kernel is absent, so these are figures of its fallback; {build} compiles it")


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def around(rows: NDArray[np.float32], much: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors near the given ones: noise of length ``much`` is added."""
    noise = rng.standard_normal(rows.shape, dtype=np.float32) * np.float32(much / np.sqrt(DIMENSION))
    return unit(rows + noise)


Batch = list[tuple[str, NDArray[np.float16], NDArray[np.uint8]]]
"""Ids, vectors and modality ids of some moments."""


def batches(corpus: Corpus, at_once: int = 3 * MOMENTS_PER_VIDEO) -> Iterator[Batch]:
    """Ids, vectors and modality ids of all moments, some at a time."""
    centres = corpus.centres()
    for first in range(0, corpus.moments, at_once):
        numbers = range(first, min(first + at_once, corpus.moments))
        yield [(moment_id(number), *corpus.moment(number, centres)) for number in numbers]


def moment_id(number: int) -> str:
    """The id of a moment."""
    video, place = divmod(number, MOMENTS_PER_VIDEO)
    return f"{video:012x}#{place}"


def write(
    corpus: Corpus, folder: Path, encoder: EncoderInfo, change: Callable[[TokenVectors], TokenVectors] | None = None
) -> Store:
    """An index of the corpus, as an index run leaves it but not packed; ``change`` is done to all vectors."""
    store = Store.open(folder, create=True)
    with store.writer("benchmark"):
        for found in batches(corpus):
            for video_id in dict.fromkeys(one.partition("#")[0] for one, _, _ in found):
                _put_video(store, video_id, [one for one, _, _ in found if one.startswith(f"{video_id}#")])
            made = {one: _tokens(rows, ids) for one, rows, ids in found}
            store.put_vectors(encoder, {one: change(item) for one, item in made.items()} if change else made)
        store.finish()
    return store


def _put_video(store: Store, video_id: str, moment_ids: list[str]) -> None:
    media = MediaInfo("mov", 60.0 * len(moment_ids), None, None, 640, 360, 0, 25.0, "h264", 0)
    spans = [Span(60.0 * number, 60.0 * number + 60.0) for number in range(len(moment_ids))]
    moments = [
        MomentRecord(one, video_id, span, (), (), (), (), ()) for one, span in zip(moment_ids, spans, strict=True)
    ]
    store.put_video(VideoRecord(video_id, video_id, media, VideoFields(title=video_id)), moments)
    store.put_files([FileRecord(f"/videos/{video_id}.mp4", "/videos", video_id, 1, 1, FileState.INDEXED)])


def _tokens(rows: NDArray[np.float16], ids: NDArray[np.uint8]) -> TokenVectors:
    count = len(rows)
    return TokenVectors(
        rows,
        ids,
        np.zeros((count, 2), np.float32),
        np.full(count, -1, np.int32),
        np.zeros((count, 2), np.int32),
        np.full(count, -1, np.int32),
    )
