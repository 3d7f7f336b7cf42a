"""Vectors without any weights: equal words agree fully, others hardly. For tests and for trying things out.

It ranks by real overlap of words, and by the names of the colours that fill a frame, so that "red" finds a red image.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clamr_cli.encoders import Rows
from clamr_cli.errors import MediaError
from clamr_cli.text import WORD, TextTrack
from clamr_cli.types import DIMENSION, TEXT_MODALITIES, Document, EncoderInfo, Modality, TokenVectors

COLOURS: Final = {
    "black": (16, 16, 16),
    "white": (240, 240, 240),
    "gray": (128, 128, 128),
    "red": (210, 30, 30),
    "orange": (240, 140, 20),
    "yellow": (235, 220, 40),
    "green": (40, 160, 50),
    "cyan": (60, 200, 210),
    "blue": (40, 70, 200),
    "purple": (130, 50, 170),
    "pink": (240, 150, 190),
    "brown": (120, 75, 35),
}
"""Colour names and the sRGB value each stands for; a pixel has the name of the nearest."""

# Underscores join words in file names; a word ends there.
_THUMBNAIL: Final = 16
_LEAST_SHARE: Final = 0.15
_MOST_COLOURS: Final = 3
_INFO: Final = EncoderInfo("hashed", "hashed-2")


class HashedEncoder:
    """One vector per word, by a stable hash; up to three per frame, of its main colours' names."""

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> HashedEncoder:  # noqa: ARG003 -- nothing to load
        """A ready encoder."""
        return cls()

    @classmethod
    def describe(cls, *, cache: Path) -> EncoderInfo:  # noqa: ARG003 -- every encoder's describe takes it
        """Name and fingerprint."""
        return _INFO

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return _INFO

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """A vector per colour of each frame and per word of each text."""
        vectors = []
        for document in documents:
            rows = Rows()
            for number, frame in enumerate(document.frames):
                for name in colours(frame.jpeg):
                    rows.add(word_vector(name), modality=Modality.VIDEO, span=frame.span, segment=number)
            for modality in TEXT_MODALITIES:
                track = TextTrack.join(document.segments(modality))
                for match in WORD.finditer(track.text):
                    rows.add(word_vector(match.group()), modality=modality, place=track.locate(*match.span()))
            vectors.append(rows.done())
        return vectors

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """A vector per word; a query without words has the vector of the empty word, which nothing matches."""
        vectors = []
        for query in queries:
            rows = Rows()
            for match in WORD.finditer(query):
                rows.add(word_vector(match.group()), offsets=match.span())
            if not rows.vectors:
                rows.add(word_vector(""))
            vectors.append(rows.done())
        return vectors


@lru_cache(maxsize=65536)
def word_vector(word: str) -> NDArray[np.float32]:
    """The unit vector [128] of a word: Gaussian noise seeded by it, whatever its case and compatibility forms."""
    folded = unicodedata.normalize("NFKC", word).lower()
    seed = int.from_bytes(hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    vector /= np.linalg.norm(vector)
    vector.flags.writeable = False
    return vector


def colours(jpeg: bytes) -> list[str]:
    """Names of the colours that fill much of an image, the largest first; at least one.

    Raises:
        MediaError: it is not an image.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            small = image.convert("RGB").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise MediaError(f"a frame is not an image: {error}", "index the video again") from error
    pixels = np.asarray(small, dtype=np.int32).reshape(-1, 1, 3)
    names = list(COLOURS)
    nearest = ((pixels - np.array(list(COLOURS.values()))) ** 2).sum(axis=-1).argmin(axis=-1)
    ranked = Counter(nearest.tolist()).most_common(_MOST_COLOURS)
    return [
        names[index] for rank, (index, count) in enumerate(ranked) if not rank or count >= _LEAST_SHARE * len(pixels)
    ]
