"""Misspelt words of a query: unknown to the index and to the dictionaries, and close to a word of the index."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import OSA

from clamr_cli.search.search import split_phrases
from clamr_cli.store import Store
from clamr_cli.text import STOP_WORDS, WRITTEN_WORD, plain, words_of

_LANGUAGES: Final = ("en", "es", "fr", "de", "it", "pt", "nl")
"""Languages whose words are left as they are, the most frequent one first."""

_SHORTEST: Final = 4
_LONG: Final = 7
"""Letters from which a word may differ in two places, and its first letter may be wrong."""


def correct(store: Store, query: str) -> tuple[str, Mapping[str, str]]:
    """A query with its misspelt words corrected, and the corrections by the word as it was written.

    A word is misspelt if no text of the index holds it (or its singular), no dictionary has it, and it differs from a
    word of the index by one letter that is wrong, absent, too much or in its neighbour's place; by two such letters if
    it is long. Of several such words the closest one is meant, and of those the most frequent. Words with digits, short
    words and what is in quotation marks stay.

    Raises:
        StoreError: the index cannot be read.
    """
    corrections: dict[str, str] = {}
    phrases = [word for phrase in split_phrases(query)[1] for word in words_of(phrase)]
    for match in WRITTEN_WORD.finditer(query):
        word = plain(match.group())
        if len(word) < _SHORTEST or word in STOP_WORDS or word in phrases or match.group() in corrections:
            continue
        # Most words are in the first dictionary, which is quicker than looking through the texts.
        if not word.isalpha() or is_in_dictionary(word, _LANGUAGES[0]):
            continue
        singular = word.removesuffix("s")
        if any({word, singular} & set(words_of(text)) for _, text in store.texts(singular)):
            continue
        best = closest(word, store.vocabulary())
        if best is not None and not any(is_in_dictionary(word, language) for language in _LANGUAGES[1:]):
            corrections[match.group()] = best
    return WRITTEN_WORD.sub(lambda match: corrections.get(match.group(), match.group()), query), corrections


def closest(word: str, vocabulary: Mapping[str, int]) -> str | None:
    """The word of a vocabulary that a word was meant to be, by its frequencies; None where none is close."""
    most = 2 if len(word) >= _LONG else 1
    candidates = [
        other
        for other in vocabulary
        if abs(len(other) - len(word)) <= most
        and len(other) >= _SHORTEST
        and other.isalpha()
        and (other[0] == word[0] or len(word) >= _LONG)
    ]
    found = process.extract(word, candidates, scorer=OSA.distance, score_cutoff=most, limit=None)
    # A wrong first letter is rare enough to be the only fault.
    near = [(distance, other) for other, distance, _ in found if other[0] == word[0] or distance == 1]
    return min(near, key=lambda pair: (pair[0], -vocabulary[pair[1]], pair[1]), default=(0, None))[1]


@cache
def _dictionary(language: str) -> bytes:
    """The dictionary of a language as JSON: frequencies by word."""
    return gzip.decompress(resources.files("spellchecker").joinpath(f"resources/{language}.json.gz").read_bytes())


def is_in_dictionary(word: str, language: str) -> bool:
    """Whether a dictionary has a word in lower case; its file is searched, which is quicker than reading it."""
    content = _dictionary(language)
    return any(f"{json.dumps(word, ensure_ascii=escaped)}:".encode() in content for escaped in (False, True))
