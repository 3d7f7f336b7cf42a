"""Vectors of how words are spelled: equal words agree fully, alike ones (an ending, a misread letter) in part.

Hashed character n-grams as in Bojanowski et al., "Enriching Word Vectors with Subword Information" (arXiv 1607.04606),
without training: what matters here is that names, numbers and words of any language can be matched at all.
"""

from __future__ import annotations

import hashlib
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_GRAM: Final = 3


def spell(words: Sequence[str], width: int) -> NDArray[np.float32]:
    """Unit vectors [n, width] of words; case, compatibility forms and accents do not matter."""
    if not words:
        return np.zeros((0, width), dtype=np.float32)
    return np.stack([_spell(fold(word), width) for word in words])


def fold(word: str) -> str:
    """The word without case, compatibility forms and accents."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


@lru_cache(maxsize=65536)
def _spell(word: str, width: int) -> NDArray[np.float32]:
    """Half of the vector is the word as a whole, half the mean of its n-grams."""
    marked = f"<{word}>"
    grams = [marked[place : place + _GRAM] for place in range(len(marked) - _GRAM + 1)] or [marked]
    parts = np.sum([_signs(gram, width) for gram in grams], axis=0, dtype=np.float32)
    vector: NDArray[np.float32] = _signs("=" + word, width) / np.sqrt(width) + parts / np.linalg.norm(parts)
    vector = vector / np.linalg.norm(vector)
    vector.flags.writeable = False
    return vector


@lru_cache(maxsize=65536)
def _signs(text: str, width: int) -> NDArray[np.float32]:
    """Minus ones and ones, the same for a text on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=(width + 7) // 8).digest()
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:width]
    signs: NDArray[np.float32] = np.where(bits, np.float32(1.0), np.float32(-1.0))
    signs.flags.writeable = False
    return signs
