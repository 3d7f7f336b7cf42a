"""Lexical vectors: equal words agree fully, alike ones (an ending, a misread letter) in part.

Hashed character n-grams as in Bojanowski et al., "Enriching Word Vectors with Subword Information" (arXiv 1607.04606),
without training: what matters here is that names, numbers and words of any language can be matched at all.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_GRAM: Final = 3

_INFLECTED_WEIGHT: Final = np.float32(0.3)
"""Weight of a word as a whole beside its n-grams, where words are inflected at both ends."""

UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no spaces between words, or particles right behind them: Thai, Lao, Burmese, Khmer,
Chinese, Japanese and Korean."""

_HIRAGANA: Final = {katakana: katakana - 0x60 for katakana in range(0x30A1, 0x30F7)}

_LATIN: Final = frozenset(
    {"LATIN", "FEMININE", "MASCULINE", "MICRO", "MODIFIER", "FULLWIDTH", "SUPERSCRIPT", "SUBSCRIPT", "SCRIPT"}
)
"""First words of the Unicode names of Latin letters, and of signs that are used with them."""

_JAMO: Final = ("\u1160", "\u11ff")
"""Vowels and finals of Korean syllables in their decomposed form."""


def lexical_vectors(words: Sequence[str], width: int) -> NDArray[np.float32]:
    """Unit vectors [n, width] of words; case, compatibility forms and accents do not matter."""
    if not words:
        return np.zeros((0, width), dtype=np.float32)
    return np.stack([_lexical_vector(word, width) for word in words])


@lru_cache(maxsize=65536)
def _lexical_vector(word: str, width: int) -> NDArray[np.float32]:
    folded = fold(word)
    if UNSPACED.match(word):
        # Two letters of a script without spaces: the first, and both.
        start, end = next(clusters(word))
        vector = _signs("=" + fold(word[start:end]), width)
        if end < len(word):
            vector = vector + _signs("=" + folded, width)
    else:
        if is_foreign(word[:1]):
            # Articles, prepositions and cases are written as part of the word: mostly the mean of the n-grams within.
            weight, marked = _INFLECTED_WEIGHT, folded
        else:
            weight, marked = np.float32(1.0), f"<{folded}>"
        grams = [marked[place : place + _GRAM] for place in range(len(marked) - _GRAM + 1)] or [marked]
        if marked == folded and len(folded) == _GRAM:
            grams += [folded[1:], folded[:-1]]  # a word of two letters with one before or behind it
        parts = np.sum([_signs(gram, width) for gram in grams], axis=0, dtype=np.float32)
        vector = weight * _signs("=" + folded, width) / np.sqrt(width) + parts / np.linalg.norm(parts)
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


@lru_cache(maxsize=65536)
def is_foreign(letter: str) -> bool:
    """Whether it is a letter of another script than Latin."""
    return not letter.isascii() and letter.isalpha() and unicodedata.name(letter, "").split(" ", 1)[0] not in _LATIN


def fold(word: str) -> str:
    """The word without case, compatibility forms, accents, shapeless signs and the difference of the two kana."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    if plain.isascii():
        return plain
    letters = (letter for letter in plain if not (unicodedata.combining(letter) or _is_shapeless(letter)))
    return "".join(letters).translate(_HIRAGANA)


def clusters(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each letter with its marks; a Korean syllable is one letter, however it is written."""
    start = 0
    for place, letter in enumerate(text):
        belongs = unicodedata.category(letter)[0] == "M" or _is_shapeless(letter) or _JAMO[0] <= letter <= _JAMO[1]
        if place and not belongs:
            yield start, place
            start = place
    if text:
        yield start, len(text)


def _is_shapeless(letter: str) -> bool:
    """Whether it is a joiner, a soft hyphen, a mark of direction, or chooses between forms of a sign."""
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"
