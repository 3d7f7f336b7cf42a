"""From segments of text to passages: short stretches of whole sentences that are read together, word by word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.pre_tokenizers import Split

from clamr_cli.encoders.mini.lexical import UNSPACED, clusters, is_foreign
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
            known = self._unknown not in pieces and not is_foreign(text[start])
            unspaced = not known and UNSPACED.match(text[start]) is not None
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
    places = [(run[0] + start, run[0] + end) for start, end in clusters(text[slice(*run)])]
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
