"""An encoder without weights that ranks by real overlap of words: equal words give equal vectors.

Vectors of different words are nearly orthogonal.

It is for tests, and for trying out everything around an encoder. Pictures are words too: the names of their colours.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import unicodedata
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from PIL import Image

from clamr_cli.text import TextTrack
from clamr_cli.types import DIMENSION, MODALITY_IDS, TEXT_MODALITIES, EncoderInfo, Modality, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.types import Document

VERSION: Final = "1"

_WORD: Final = re.compile(r"\w+")
_COLOURS: Final = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (220, 30, 30),
    "green": (30, 160, 50), "blue": (40, 70, 210), "yellow": (240, 220, 40), "orange": (245, 140, 30),
    "purple": (130, 50, 160), "pink": (245, 150, 190), "brown": (120, 75, 40), "cyan": (40, 210, 220),
}  # fmt: skip
_NAMES: Final = tuple(_COLOURS)
_VALUES: Final = np.array(list(_COLOURS.values()), np.float32)
_SMALLEST_SHARE: Final = 0.15
"""Part of a picture that a colour must fill to be named."""

Row = tuple[str, int, tuple[float, float], int, tuple[int, int]]


@functools.lru_cache(maxsize=65536)
def vector_of(word: str) -> NDArray[np.float32]:
    """The unit vector of a word: [128] float32, the same on every machine."""
    seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(DIMENSION).astype(np.float32)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn)
    return unit


def words_of(text: str) -> Iterable[tuple[str, int, int]]:
    """The words of a text in the form they are compared in, with their character offsets."""
    for match in _WORD.finditer(text):
        yield unicodedata.normalize("NFKC", match.group()).casefold(), match.start(), match.end()


def colours_of(jpeg: bytes) -> list[str]:
    """Names of the colours that fill much of a picture, the largest first."""
    with Image.open(io.BytesIO(jpeg)) as image:
        small = np.asarray(image.convert("RGB").resize((16, 16)), np.float32).reshape(-1, 1, 3)
    nearest = ((small - _VALUES) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(_NAMES))
    ranked = sorted(range(len(_NAMES)), key=lambda number: (-int(counts[number]), number))
    return [_NAMES[number] for number in ranked if counts[number] >= _SMALLEST_SHARE * len(nearest)]


class HashedEncoder:
    """See the module."""

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> Self:  # noqa: ARG003 -- the seam of all encoders
        """Make one; it needs none of what it is given."""
        return cls()

    @classmethod
    def describe(cls, *, cache: Path) -> EncoderInfo:  # noqa: ARG003 -- the seam of all encoders
        """Name and fingerprint."""
        return EncoderInfo("hashed", f"hashed-{VERSION}")

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return EncoderInfo("hashed", f"hashed-{VERSION}")

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """A vector per colour of each frame and per word of each text."""
        return [_pack(_rows(document)) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """A vector per word; a query without words gives one vector that matches nothing in particular."""
        return [_pack(_query_rows(query)) for query in queries]


def _query_rows(query: str) -> list[Row]:
    rows: list[Row] = [(word, 0, (0.0, 0.0), -1, (start, end)) for word, start, end in words_of(query)]
    return rows or [("", 0, (0.0, 0.0), -1, (0, 0))]


def _rows(document: Document) -> list[Row]:
    video = MODALITY_IDS[Modality.VIDEO]
    rows: list[Row] = [
        (colour, video, (frame.span.start, frame.span.end), number, (0, 0))
        for number, frame in enumerate(document.frames)
        for colour in colours_of(frame.jpeg)
    ]
    for modality in TEXT_MODALITIES:
        track = TextTrack.join(document.segments(modality))
        for word, start, end in words_of(track.text):
            place = track.locate(start, end)
            if place is not None:
                span = (place.span.start, place.span.end)
                rows.append((word, MODALITY_IDS[modality], span, place.segment, (place.start, place.end)))
    return rows


def _pack(rows: Sequence[Row]) -> TokenVectors:
    return TokenVectors(
        vectors=np.array([vector_of(row[0]) for row in rows], np.float32).reshape(-1, DIMENSION),
        modality_ids=np.array([row[1] for row in rows], np.uint8),
        spans=np.array([row[2] for row in rows], np.float32).reshape(-1, 2),
        segments=np.array([row[3] for row in rows], np.int32),
        offsets=np.array([row[4] for row in rows], np.int32).reshape(-1, 2),
        input_ids=np.full(len(rows), -1, np.int32),
    )
