"""Text in words: passages, which are short stretches of whole sentences that are read together, and lexical vectors.

By their lexical vectors equal words agree fully, alike ones (an ending, a misread letter) in part. They are hashed
character n-grams as in Bojanowski et al., "Enriching Word Vectors with Subword Information" (arXiv 1607.04606), without
training: what matters here is that names, numbers and words of any language can be matched at all.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.pre_tokenizers import Split

from clamr_cli.errors import ModelError

PASSAGE_TOKENS: Final = 40
"""Sentences are read together up to so many tokens: about what the sentence vector was trained on."""

LONGEST_PASSAGE: Final = 126
"""Tokens of a passage at most, so that a longer sentence is cut; with the two marks at its ends it makes 128."""

_CHARACTERS_PER_TOKEN: Final = 24
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_WRITTEN: Final = re.compile(r"\w")
_HINT: Final = "fetch it again: clamr models pull minilm-l6"

_APART: Final = r"(?:[^\p{Latin}\p{Common}\P{L}][\p{M}ー]*|ー)+|\p{So}"
"""Letters of other scripts than Latin, and signs such as emoji: words of their own even without spaces around them."""

_GRAM: Final = 3

_INFLECTED_WEIGHT: Final = np.float32(0.3)
"""Weight of a word as a whole beside its n-grams, where words are inflected at both ends."""

_UNSPACED: Final = re.compile(
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


@dataclass(frozen=True, slots=True)
class PassageWord:
    """A word of a passage: ``segments[segment].text[start:end]``, and its word pieces.

    ``first`` and ``count`` place its word pieces in the passage's ids; a word that the text model does not know has
    none. ``number`` is the vocabulary's id of a word that is one piece, else -1.
    """

    segment: int
    start: int
    end: int
    text: str
    first: int
    count: int
    number: int


@dataclass(slots=True)
class Passage:
    """Token ids with the marks at both ends, and the words that are worth a vector (punctuation is not)."""

    ids: list[int] = field(default_factory=list)
    words: list[PassageWord] = field(default_factory=list)

    @property
    def known(self) -> int:
        """The number of words that the text model knows; without any, the passage has no meaning to compare."""
        return sum(word.count > 0 for word in self.words)

    def text(self, texts: Sequence[str]) -> str:
        """Its text, where ``texts`` are those that it was cut from; from the first word to the last."""
        ends: dict[int, tuple[int, int]] = {}
        for word in self.words:
            ends[word.segment] = (ends.get(word.segment, (word.start, 0))[0], word.end)
        return " ".join(texts[segment][start:end] for segment, (start, end) in ends.items())


class _Token(NamedTuple):
    """A word, or a unit of a script without spaces, before it has a place in a passage.

    ``sentence`` counts within the segment; ``pieces`` is empty where the text model does not know the word.
    """

    segment: int
    sentence: int
    start: int
    end: int
    pieces: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.pieces) or 1


class PassageTokenizer:
    """Cuts text into passages with the text model's own tokenizer.

    The text model knows words of Latin letters, and of other scripts at most single letters. Words that it does not
    know are kept from it: all of them would get like states. Only their spelling counts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        apart = Split(Regex(_APART), "isolated")
        tokenizer.pre_tokenizer = PreTokenizers([tokenizer.pre_tokenizer, apart]) if tokenizer.pre_tokenizer else apart
        self._tokenizer = tokenizer
        marks = []
        for mark in ("[CLS]", "[SEP]", "[UNK]"):
            number = tokenizer.token_to_id(mark)
            if number is None:
                raise ModelError(f"the tokenizer lacks {mark}", _HINT)
            marks.append(number)
        self._open, self._close, self._unknown = marks

    @classmethod
    def load(cls, path: Path) -> PassageTokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            ModelError: the file is absent or no tokenizer.
        """
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"cannot read the tokenizer {path}: {error}", _HINT) from error

    def query(self, text: str) -> Passage:
        """A query as one passage, cut at :data:`LONGEST_PASSAGE` tokens; without words where the text has none."""
        return self._passage(list(self._tokens([text], LONGEST_PASSAGE)), [text])

    def passages(self, texts: Sequence[str], *, across: bool, limit: int) -> list[Passage]:
        """Cut texts into passages, in order, until ``limit`` tokens are used up.

        ``across`` lets a passage reach over several texts (speech, whose segments end anywhere); otherwise each text
        has its own (fields of metadata and lines on screen have nothing to do with each other).
        """
        passages: list[list[_Token]] = []
        for sentence in _sentences(self._tokens(texts, limit)):
            joins = passages and (across or passages[-1][-1].segment == sentence[0].segment)
            if joins and _size(passages[-1]) + _size(sentence) <= PASSAGE_TOKENS:
                passages[-1] += sentence
            else:
                passages.append(sentence)
        return [self._passage(tokens, texts) for tokens in passages]

    def _tokens(self, texts: Sequence[str], limit: int) -> Iterator[_Token]:
        """The words of all texts, until the next would go over the limit."""
        used = 0
        for segment, text in enumerate(texts):
            for token in self._words(segment, text[: limit * _CHARACTERS_PER_TOKEN]):
                used += token.size
                if used > limit:
                    return
                yield token

    def _words(self, segment: int, text: str) -> Iterator[_Token]:
        """The words of one text, with the number of the sentence each stands in."""
        # The tokenizer takes no lone surrogates, which stand for the bytes of file names that are no UTF-8.
        encoding = self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False)
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        sentence = first = 0
        run = (0, 0)  # letters without spaces between words
        while first < len(encoding.ids):
            last = first
            while last + 1 < len(encoding.ids) and encoding.word_ids[last + 1] == encoding.word_ids[first]:
                last += 1
            start, end = encoding.offsets[first][0], encoding.offsets[last][1]
            pieces = tuple(encoding.ids[first : last + 1])
            first = last + 1
            known = self._unknown not in pieces and not _is_foreign(text[start])
            unspaced = not known and _UNSPACED.match(text[start]) is not None
            if unspaced and start == run[1]:
                run = (run[0], end)
                continue
            yield from _units(segment, sentence, text, run)
            while sentence < len(ends) and ends[sentence] <= start:
                sentence += 1
            run = (start, end) if unspaced else (0, 0)
            if not unspaced:
                # A word cut into more pieces than a passage holds says nothing beyond its beginning.
                yield _Token(segment, sentence, start, end, pieces[:LONGEST_PASSAGE] if known else ())
        yield from _units(segment, sentence, text, run)

    def _passage(self, tokens: Sequence[_Token], texts: Sequence[str]) -> Passage:
        """Words put together with the marks at both ends."""
        passage = Passage(ids=[self._open])
        for segment, _, start, end, pieces in tokens:
            text = texts[segment][start:end]
            if _WRITTEN.search(text) or (not pieces and unicodedata.category(text[0]) == "So"):
                number = pieces[0] if len(pieces) == 1 else -1
                passage.words.append(PassageWord(segment, start, end, text, len(passage.ids), len(pieces), number))
            passage.ids.extend(pieces)
        passage.ids.append(self._close)
        return passage


def _units(segment: int, sentence: int, text: str, run: tuple[int, int]) -> Iterator[_Token]:
    """The units of a run of letters without spaces between words: each letter with the one after it."""
    places = [(run[0] + start, run[0] + end) for start, end in _clusters(text[slice(*run)])]
    for number, (start, end) in enumerate(places):
        yield _Token(segment, sentence, start, places[number + 1][1] if number + 1 < len(places) else end, ())


def _sentences(tokens: Iterator[_Token]) -> Iterator[list[_Token]]:
    """Group words by sentence; sentences that are too long for one passage are cut between words."""
    sentence: list[_Token] = []
    for token in tokens:
        ended = sentence and (sentence[-1].segment, sentence[-1].sentence) != (token.segment, token.sentence)
        if ended or _size(sentence) + token.size > LONGEST_PASSAGE:
            yield sentence
            sentence = []
        sentence.append(token)
    if sentence:
        yield sentence


def _size(tokens: Sequence[_Token]) -> int:
    return sum(token.size for token in tokens)


def lexical_vectors(words: Sequence[str], width: int) -> NDArray[np.float32]:
    """Unit vectors [n, width] of words; case, compatibility forms and accents do not matter."""
    if not words:
        return np.zeros((0, width), dtype=np.float32)
    return np.stack([_lexical_vector(word, width) for word in words])


@lru_cache(maxsize=65536)
def _lexical_vector(word: str, width: int) -> NDArray[np.float32]:
    folded = _fold(word)
    if _UNSPACED.match(word):
        # Two letters of a script without spaces: the first, and both.
        start, end = next(_clusters(word))
        vector = _signs("=" + _fold(word[start:end]), width)
        if end < len(word):
            vector = vector + _signs("=" + folded, width)
    else:
        if _is_foreign(word[:1]):
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
def _is_foreign(letter: str) -> bool:
    """Whether it is a letter of another script than Latin."""
    return not letter.isascii() and letter.isalpha() and unicodedata.name(letter, "").split(" ", 1)[0] not in _LATIN


def _fold(word: str) -> str:
    """The word without case, compatibility forms, accents, shapeless signs and the difference of the two kana."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    if plain.isascii():
        return plain
    letters = (letter for letter in plain if not (unicodedata.combining(letter) or _is_shapeless(letter)))
    return "".join(letters).translate(_HIRAGANA)


def _clusters(text: str) -> Iterator[tuple[int, int]]:
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
