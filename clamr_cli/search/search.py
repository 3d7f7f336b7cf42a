"""A query against the index: which moments may answer, exact MaxSim over all of their vectors, and why the best won.

Every stored vector of the encoder counts: no approximate index stands between a query and its answer, unless the
library is too large. The scan cache rules out what cannot be among the first (:mod:`clamr_cli.search.cascade`); what
can is scored from the stored vectors. Memory depends on the number of moments, not on the number of vectors.

A quoted phrase must stand in the text of one modality of a moment, across its lines. Case, white space, normal forms
and the shapes of apostrophes, quotation marks and dashes make no difference, see :func:`clamr_cli.text.plain`.

A negation leaves moments out: see :func:`moments_answering`.

Pictures and moments can be a query too, alone or with words: see :class:`Example`.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from clamr_cli import locations
from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.files import readable_now
from clamr_cli.kernel import usable_threads
from clamr_cli.search.cascade import (
    Candidates,
    Cascade,
    Float32,
    Int64,
    ScoringRule,
    align,
    comparable,
    kernel_scan,
    modality_maxima,
    per_modality,
    score_packed,
    segment_max,
    similarities,
    slot_weights,
    torch_scan,
    video_of,
    weighted,
)
from clamr_cli.search.confidence import DEFAULT, FOREIGN, PICTURES, Background, ConfidenceModel, Judge, model_of
from clamr_cli.search.lines import lines_of
from clamr_cli.store import CorruptCache, LastHit, Store, VideoFacts
from clamr_cli.store.tables import readable
from clamr_cli.text import UNSPACED, content_words, format_time, plain, shorten, standing_words, stands_among, words_of
from clamr_cli.types import (
    FAIR_FROM,
    MODALITY_IDS,
    MODALITY_OF_ID,
    SHOWN_MODALITIES,
    TAG_SOURCE,
    TEXT_MODALITIES,
    Document,
    Encoder,
    EncoderInfo,
    Evidence,
    FileRecord,
    FileState,
    Filters,
    ForeignQuery,
    Hit,
    Level,
    Modality,
    MomentRecord,
    Scoring,
    SearchOptions,
    Span,
    TokenVectors,
    WordEvidence,
    voice_label,
    voice_number,
)

if TYPE_CHECKING:
    from clamr_cli.search.workers import Workers

Result = TypeVar("Result")

SAMPLE: Final = 128
"""Moments of the library that hits are compared with."""

LEAST_CANDIDATES: Final = 100
"""Moments that an approximate index is asked for at least, and moments by their texts at most."""

_CANDIDATES_PER_HIT: Final = 10
_MOST_HITS: Final = 10_000
"""Hits that an approximate index is asked for at most."""

_MOST_NAMES: Final = 10
_LONGEST_NAME: Final = 40
"""Videos, and characters of their titles, that an error lists at most."""

_QUOTED: Final = re.compile(r'"([^"]*)"|“([^“”]*)”|„([^„“”]*)[“”]|”([^“”]*)”|«([^«»]*)»|»([^«»]*)«|＂([^＂]*)＂')

_CHUNK: Final = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word of a query, or a frame or line of an example, and the query vectors that stand for it."""

    text: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Pictures, or moments, as a query.

    Attributes:
        tokens: vectors as documents have them. Each is compared with vectors of like modality only
            (:func:`clamr_cli.search.cascade.comparable`).
        words: the frames and lines that they stand for.
        own: ids of moments that are no answers: those that the example is of, and their neighbours.
    """

    tokens: TokenVectors
    words: tuple[QueryWord, ...]
    own: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Query:
    """A query: its words and quoted phrases, its vectors, and how to match them.

    Attributes:
        store: the index that it is asked of.
        texts: of the query, and of those it is combined with, without quotation marks.
        phrases: those that were in quotation marks, each of which must stand in a moment.
        encoder: encodes the text; the moments it encoded are searched.
        options: filters, modalities, weights, scoring and how many.
        example: to be answered too; the first text may then be empty. Its vectors come before those of the texts, and
            the fewer of the two are repeated so that the example and the first text weigh about the same.
    """

    store: Store
    texts: tuple[str, ...]
    phrases: tuple[str, ...]
    encoder: Encoder
    options: SearchOptions
    example: Example | None = None

    @classmethod
    def of(
        cls, store: Store, text: str, encoder: Encoder, options: SearchOptions, example: Example | None = None
    ) -> Query:
        """A query as it was written, combined with those of the options.

        Raises:
            UsageError: one of them is empty.
        """
        texts, phrases = zip(*map(split_phrases, (text, *options.also)), strict=True)
        if not all(texts[1:] if example else texts):
            raise UsageError("the query is empty", 'write what to look for, e.g. clamr search "a dog on a beach"')
        unique = tuple(dict.fromkeys(phrase for some in phrases for phrase in some))
        return cls(store, texts, unique, encoder, options, example)

    @property
    def text(self) -> str:
        """All texts in one, as the offsets of the tokens count."""
        return " ".join(self.texts)

    @cached_property
    def _encoded(self) -> list[TokenVectors]:
        # Encoding may load a model, so this comes after all cheap checks.
        texts = [text for text in self.texts if text]
        encoded = encode_queries(self.store, self.encoder, texts)
        start, parts = 0, []
        for text, part in zip(texts, encoded, strict=True):
            # A token that is no part of the text has the offsets (0, 0).
            offsets = part.offsets + start * part.offsets.any(axis=1, keepdims=True).astype(np.int32)
            parts.append(replace(part, offsets=offsets))
            start += len(text) + 1
        if self.example is None:
            return parts
        tokens = self.example.tokens
        if not self.texts[0]:
            return [tokens, *parts]
        repeats = [
            max(1, round(len(other) / max(1, len(one)))) for one, other in ((tokens, parts[0]), (parts[0], tokens))
        ]
        both = (part for part, count in zip((tokens, parts[0]), repeats, strict=True) for _ in range(count))
        return [joined(list(both)), *parts[1:]]

    @cached_property
    def tokens(self) -> TokenVectors:
        """Its vectors, those of combined queries one after another."""
        return joined(self._encoded)

    @cached_property
    def words(self) -> list[QueryWord]:
        """Labels of its vectors: frames and lines of the example, and the words of the texts."""
        words = query_words(self.text, self.tokens)
        if self.example is None:
            return words
        size = len(self.example.tokens)
        copies = range(0, int(np.count_nonzero(self.tokens.modality_ids)), size)
        repeated = [
            replace(word, rows=tuple(row + start for start in copies for row in word.rows))
            for word in self.example.words
        ]
        return [*repeated, *words]

    @cached_property
    def vectors(self) -> Float32:
        """Its vectors [q, 128], as the kernel takes them."""
        return np.ascontiguousarray(self.tokens.vectors, np.float32)

    @cached_property
    def rule(self) -> ScoringRule:
        """Rule of scoring."""
        weights = slot_weights(self.options.weights, frozenset(self.options.modalities) or None)
        parts = tuple(map(len, self._encoded)) if len(self.texts) > 1 else ()
        kinds = None if self.example is None else self.tokens.modality_ids
        return ScoringRule(self.options.scoring, weights, parts, kinds)

    @property
    def confidence_model(self) -> ConfidenceModel:
        """The model that its hits are judged by."""
        if self.example is None:
            return model_of(self.encoder.info.name, FOREIGN if isinstance(self.tokens, ForeignQuery) else "")
        if any(self.texts):
            return model_of(DEFAULT)
        # Scores of text with text were not measured: how far they stand out is all that counts then.
        shows_only = bool((self.example.tokens.modality_ids == MODALITY_IDS[Modality.VIDEO]).all())
        return model_of(self.encoder.info.name if shows_only else DEFAULT, PICTURES)


def joined(parts: Sequence[TokenVectors]) -> TokenVectors:
    """Token vectors one after another."""
    if len(parts) == 1:
        return parts[0]
    return TokenVectors(
        **{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(TokenVectors)}
    )


def search(
    store: Store,
    encoder: Encoder,
    text: str,
    options: SearchOptions,
    *,
    device: str = "cpu",
    example: Example | None = None,
    workers: Workers | None = None,
) -> list[Hit]:
    """The best videos for a query with their best moment, or the best moments.

    Args:
        store: the index.
        encoder: encodes the query; the moments it encoded are searched.
        text: what to look for.
        options: filters, modalities, weights, scoring and how many.
        device: "cuda" to compare vectors there; anything else is this machine's processor.
        example: to be answered too; the text may then be empty.
        workers: scan with them, wherever they are, and not here.

    Returns:
        At most ``options.limit`` hits after the first ``options.offset``, best first, ties in the order of their ids. A
        hit's scores are weighted, the similarities of its evidence are plain cosines.

    Raises:
        UsageError: the query is empty, or a filter cannot be used.
        ModelError: the device is not there.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    query = Query.of(store, text, encoder, options, example)
    candidates = select_candidates(store, query)
    if candidates is None:
        return []
    approximate = (
        not (options.exact or query.phrases)
        and candidates.vectors > options.scan_limit * (workers.threads if workers else usable_threads())
        and store.has_approximate_index()
    )
    if approximate:
        candidates = Candidates(candidates.snapshot, candidates.videos, nearest(store, query), candidates.without)
    candidates = without_negated(store, query, candidates, workers)
    first = literal_moments(store, query.text, query.tokens) if query.rule.counts_texts and example is None else ()
    count, of_each_video = options.offset + options.limit, not options.moments
    if workers is None:
        scan = torch_scan(query.vectors, device) if device == "cuda" else kernel_scan(query.vectors)

        def top(candidates: Candidates) -> list[tuple[str, float]]:
            cascade = Cascade(candidates, query.vectors, [query.rule], scan, first)
            return cascade.top(count, of_each_video=of_each_video)

        ranking = without_corrupt_cache(store, query, candidates, top)
    else:
        fingerprint = encoder.info.fingerprint
        ranking = workers.top(
            candidates, fingerprint, query.vectors, query.rule, first, count, of_each_video=of_each_video
        )
    hits = [hit for hit, _ in hits_of(store, query, ranking[options.offset :])]
    return [replace(hit, rank=hit.rank + options.offset, approximate=approximate) for hit in hits]


def encode_queries(store: Store, encoder: Encoder, texts: Sequence[str]) -> list[TokenVectors]:
    """The vectors of queries to an index, see :func:`choose_reading`."""
    encoded = encoder.encode_queries(texts) if texts else []
    return [
        choose_reading(
            text,
            tokens,
            (standing_words(line) for _, line in store.texts(max(content_words(text), key=len, default=""))),
        )
        for text, tokens in zip(texts, encoded, strict=True)
    ]


def choose_reading(text: str, tokens: TokenVectors, moments: Iterable[Collection[str]]) -> TokenVectors:
    """The vectors of a query: where its words stand together in a moment, those in the encoder's language.

    A name that stands in a moment is no word of another language. But a single word of such a language is translated,
    though it stands there: its moments come first anyway (:func:`literal_moments`), and others may show what it means.

    Args:
        text: the query.
        tokens: its vectors.
        moments: the words that stand in each moment, or in those that hold its longest word.
    """
    words = content_words(text)
    if not isinstance(tokens, ForeignQuery) or (tokens.certain and len(words) == 1):
        return tokens
    return tokens.as_written if any(all(stands_among(word, there) for word in words) for there in moments) else tokens


def words_by_line(document: Document) -> list[frozenset[str]]:
    """The words that stand in each text of a document."""
    texts = (segment.text for modality in TEXT_MODALITIES for segment in document.segments(modality))
    return [frozenset(standing_words(text)) for text in texts]


def literal_moments(store: Store, query: str, tokens: TokenVectors) -> frozenset[str]:
    """The moments that come first for a query, see :func:`comes_first`."""
    words = content_words(query)
    if len(words) != 1 and not isinstance(tokens, ForeignQuery):
        return frozenset()
    # Of several words that stand together, one of the two longest nearly always does.
    near = {pair for word in sorted(words, key=len)[-2:] for pair in store.texts(word)}
    return frozenset(
        moment_id for moment_id, text in near if comes_first(words, tokens, map(standing_words, text.split("\n")))
    )


_MOST_LETTERS: Final = 0.5
"""Share of the letters of a query's content words that stand in one line of what comes first."""


def comes_first(words: Sequence[str], tokens: TokenVectors, lines: Iterable[Collection[str]]) -> bool:
    """Whether a moment comes before those that answer a query by their vectors alone.

    One that holds the only content word does: nobody who looks for a name wants what only resembles it before what has
    it. For a query in another language so does one with a line that holds two of its words or more, and half of their
    letters: a text in that language was quoted, and the query's translation says less about it.

    Args:
        words: content words of the query.
        tokens: its vectors.
        lines: the words that stand in each text of the moment.
    """
    if len(words) == 1:
        return any(stands_among(words[0], line) for line in lines)
    if not isinstance(tokens, ForeignQuery):
        return False
    standing = ([len(word) for word in words if stands_among(word, line)] for line in lines)
    return any(len(letters) > 1 and sum(letters) >= _MOST_LETTERS * sum(map(len, words)) for letters in standing)


def background(store: Store, query: Query) -> Background:
    """A query's similarities to a sample of the library."""
    sample = store.sample(query.encoder.info.fingerprint, SAMPLE)
    maxima = score_packed(query.vectors, sample.vectors, sample.modality_ids, sample.indptr)
    return Background(maxima, [video_of(moment_id) for moment_id in sample.moment_ids], store.moment_count())


def select_candidates(store: Store, query: Query) -> Candidates | None:
    """The moments that pass the filters and hold the phrases of a query; None where no video passes.

    Raises:
        UsageError: a filter cannot be used.
        EncoderMismatch: the index has no vectors of the query's encoder.
    """
    videos = frozenset(select(store, query.options.filters))
    if not videos:
        return None
    require_vectors(store, query.encoder.info)
    moments = moments_with(store, query.phrases, videos) if query.phrases else None
    if query.options.filters.speakers:
        spoken = speaking(store, query.options.filters.speakers)
        moments = spoken if moments is None else moments & spoken
    own = query.example.own if query.example else frozenset()
    return Candidates(store.snapshot(query.encoder.info.fingerprint), videos, moments, own)


def without_negated(store: Store, query: Query, candidates: Candidates, workers: Workers | None = None) -> Candidates:
    """The candidates without those that answer a negated query.

    Raises:
        UsageError: a negated query is empty.
        CorruptCache, StoreError: the index cannot be read.
    """
    left_out = set(candidates.without)
    for text in query.options.without:
        left_out |= moments_answering(store, query.encoder, text, candidates, workers)
    if len(left_out) == len(candidates.without):
        return candidates
    return Candidates(candidates.snapshot, candidates.videos, candidates.moments, left_out)


def moments_answering(
    store: Store, encoder: Encoder, text: str, candidates: Candidates, workers: Workers | None = None
) -> frozenset[str]:
    """The candidates that answer a query, as a negation takes it: all modalities count, whatever the search asks for.

    A moment answers where the words stand in the text of one of its modalities, one after another, or where its score
    alone would make a hit at least fair (:meth:`clamr_cli.search.confidence.Judge.level`). Neither filters nor the scan
    cache change that level, and :meth:`Cascade.reaching` decides exactly who reaches it. A negation in quotation marks
    goes by the words alone.
    """
    query = Query.of(store, text, encoder, SearchOptions())
    edges = ("", "") if UNSPACED.search(query.text) else (r"(?<!\w)", r"(?!\w)")
    stands = re.compile(re.escape(plain(query.text)).join(edges))
    texts = store.texts(max(words_of(query.text), key=len, default=""))
    near = {moment_id for moment_id, words in texts if stands.search(plain(words))}
    owners = sorted({video_of(moment_id) for moment_id in near})
    answering = frozenset(
        moment.moment_id
        for moment in (store.moments(owners) if owners else [])
        if moment.moment_id in near
        and any(stands.search(plain(" ".join(part.text for part in moment.segments(one)))) for one in TEXT_MODALITIES)
    )
    if query.phrases:
        return answering
    level = Judge(query.text, query.rule, background(store, query), model_of(encoder.info.name)).level(FAIR_FROM)
    if workers is not None:
        fingerprint = encoder.info.fingerprint
        return answering | workers.reaching(candidates, fingerprint, query.vectors, query.rule, level)

    def reaching(candidates: Candidates) -> frozenset[str]:
        return Cascade(candidates, query.vectors, [query.rule], kernel_scan(query.vectors)).reaching(level)

    return answering | without_corrupt_cache(store, query, candidates, reaching)


def require_vectors(store: Store, encoder: EncoderInfo) -> None:
    """Refuse to search with an encoder that the index has no vectors of.

    Raises:
        EncoderMismatch: what the index has instead, and what to do.
    """
    lacking = [
        part
        for part in store.parts
        if not part.has_vectors(encoder.fingerprint) and (len(store.parts) == 1 or part.moment_count())
    ]
    if not lacking:
        return
    uses = lacking[0].encoders()
    others = ", ".join(f"{use.info.name} ({use.info.fingerprint[:8]}, {use.moments} moments)" for use in uses)
    same = any(use.info.name == encoder.name for use in uses)
    of = f"this version of encoder {encoder.name}" if same else f"encoder {encoder.name}"
    index = "the index" if len(store.parts) == 1 else f"the index at {lacking[0].uri}"
    raise EncoderMismatch(
        f"{index} has no vectors of {of}; it has those of: {others or 'none'}",
        f"clamr index --encoder {encoder.name}",
    )


def nearest(store: Store, query: Query) -> frozenset[str]:
    """Candidates in a library too large to compare with: by an index of LanceDB and, if hybrid, by words of texts.

    What the index says of a query of many vectors is not MaxSim, so it is asked for many times the moments that are
    shown, which LanceDB then compares by their vectors. A moment that it does not give is missed.
    """
    options = query.options
    limit = max(LEAST_CANDIDATES, min(options.offset + options.limit, _MOST_HITS) * _CANDIDATES_PER_HIT)
    moments = store.nearest(query.encoder.info.fingerprint, query.tokens.vectors, limit)
    return frozenset(moments) | frozenset(store.matching_text(query.text, LEAST_CANDIDATES) if options.hybrid else ())


def without_corrupt_cache(
    store: Store, query: Query, candidates: Candidates, work: Callable[[Candidates], Result]
) -> Result:
    """The result of some work, done again without the scan cache where that is not what was written."""
    try:
        return work(candidates)
    except CorruptCache:
        snapshot = store.snapshot(query.encoder.info.fingerprint, use_cache=False)
        return work(Candidates(snapshot, candidates.videos, candidates.moments, candidates.without))


def hits_of(store: Store, query: Query, ranking: Sequence[tuple[str, float]]) -> list[tuple[Hit, Match]]:
    """Hits with their evidence. A moment that another process took away meanwhile is left out."""
    if not ranking:
        return []
    encoder, options = query.encoder.info, query.options
    ids = list(dict.fromkeys(video_of(moment_id) for moment_id, _ in ranking))
    videos = {video.video_id: video for video in store.videos(ids)}
    moments = {moment.moment_id: moment for moment in store.moments(ids)}
    vectors = dict(store.scan_vectors(encoder.fingerprint, [moment_id for moment_id, _ in ranking]))
    files = store.files(ids)
    there = readable_now(files)
    files_of: defaultdict[str, list[FileRecord]] = defaultdict(list)
    for file in files:
        files_of[file.video_id].append(file)
    text_modalities = [modality for modality in TEXT_MODALITIES if query.rule.weights[MODALITY_IDS[modality]] > 0]
    judge = Judge(query.text, query.rule, background(store, query), query.confidence_model, query.tokens)
    examples = frozenset(word.text for word in query.example.words) if query.example else frozenset()
    hits: list[tuple[Hit, Match]] = []
    for moment_id, score in ranking:
        video, moment, document = videos.get(video_of(moment_id)), moments.get(moment_id), vectors.get(moment_id)
        if video is None or moment is None or document is None:
            continue
        match = Match(query.text, query.tokens, moment, document, query.rule.weights, query.words)
        # Of several paths one that is there goes first, then one that is indexed.
        best = min(
            files_of[video.video_id],
            key=lambda file: (file.path not in there, file.state is not FileState.INDEXED, file.path),
            default=None,
        )
        texts = [segment.text for modality in text_modalities for segment in moment.segments(modality)]
        if Modality.METADATA in text_modalities:
            texts += [video.fields.title, *(os.path.basename(file.path) for file in files_of[video.video_id])]
        most = hits[0][0].confidence if hits else 1.0
        confidence = judge.confidence(score, texts, video.video_id, match.winner, match.best, most)
        hit = Hit(
            rank=len(hits) + 1,
            video_id=video.video_id,
            moment_id=moment_id,
            path="" if best is None else best.path,
            title=video.fields.title,
            score=score,
            span=moment.span,
            at=match.strongest_time(encoder.floors),
            modality=match.winner,
            modalities={modality: match.scores.get(modality) for modality in SHOWN_MODALITIES},
            evidence=match.evidence(),
            confidence=confidence,
            level=level_of(confidence, score / len(query.tokens), options.floor),
            offline=best is not None and best.path not in there,
            lines=lines_of(query.text, moment, match.word_evidence(), encoder.evidence_floors, examples),
            tags=tuple(part.text for part in moment.metadata if part.source == TAG_SOURCE),
        )
        hits.append((hit, match))
    return hits


def level_of(confidence: float, score: float, floor: float | None) -> Level:
    """The level of a hit; ``score`` is per query vector, ``floor`` the one that was asked for."""
    if floor is None:
        return Level.of(confidence)
    return Level.WEAK if score < floor else Level.of(max(confidence, FAIR_FROM))


# --- the videos and moments that may answer ---------------------------------------------------------------------------


def select(store: Store, filters: Filters) -> dict[str, VideoFacts]:
    """The videos that pass all filters, by id.

    A video without a date, language or known duration passes no filter on it.

    Raises:
        UsageError: a filter names a video the index does not have.
    """
    videos = {facts.video_id: facts for facts in store.catalog() if _passes(facts, filters)}
    allowed = set(videos)
    if filters.videos:
        allowed &= {store.resolve(prefix) for prefix in filters.videos}
    if filters.tags:
        wanted = {plain(tag) for tag in filters.tags}
        allowed &= {name for name, labels in store.labels().items() if wanted <= set(map(plain, labels.tags))}
    if filters.speakers:
        allowed &= {video_of(moment_id) for moment_id in speaking(store, filters.speakers)}
    if filters.path:
        allowed &= {file.video_id for file in files_matching(store.files(), filters.path)}
    return {video_id: facts for video_id, facts in videos.items() if video_id in allowed}


def speaking(store: Store, speakers: Sequence[str]) -> frozenset[str]:
    """The moments in which all of these speakers say something; a number stands for that speaker of the library."""
    named = store.speakers()
    moments: frozenset[str] | None = None
    for speaker in speakers:
        wanted = plain(speaker)
        number = voice_number(wanted)
        if number is not None:
            wanted = plain(named[number].name if number in named else voice_label(number))
            owners = [video_id for video_id, voices in store.voices().items() if number in voices.numbers]
        if number is None or number in named:
            # Names stand among the texts of a moment.
            texts = store.texts(max(words_of(wanted), key=len, default=""))
            owners = sorted({video_of(moment_id) for moment_id, text in texts if wanted in plain(text)})
        own = frozenset(
            moment.moment_id
            for moment in (store.moments(owners) if owners else [])
            if any(plain(line.speaker) == wanted for line in moment.speech)
        )
        moments = own if moments is None else moments & own
    return moments or frozenset()


def _passes(facts: VideoFacts, filters: Filters) -> bool:
    # Dates may lack their day or month. Only as much is compared as both have, so that --until 2024 takes in all of
    # 2024, and --since 2024-05 what is dated 2024.
    date = facts.date
    if filters.since is not None and not (date and date[: len(filters.since)] >= filters.since[: len(date)]):
        return False
    if filters.until is not None and not (date and date[: len(filters.until)] <= filters.until[: len(date)]):
        return False
    if filters.longer is not None and not facts.duration >= filters.longer:
        return False
    if filters.shorter is not None and not 0 < facts.duration <= filters.shorter:
        return False
    # The language of a tag without its region: en of en-US.
    languages = [re.split(r"[-_]", tag.strip().casefold())[0] for tag in (facts.language, filters.language or "")]
    return filters.language is None or languages[0] == languages[1]


def files_matching(files: Iterable[FileRecord], pattern: str) -> list[FileRecord]:
    """The files whose path matches a glob: as a whole, in its last parts, or by a folder above it.

    ``*`` matches across folders. ``/home/me/trips``, ``trips``, ``*.mp4`` and ``trips/*.mp4`` all find
    ``/home/me/trips/a.mp4``. Brackets are those of a name, as in ``[2019] Trip``, where one has them; otherwise they
    stand for one of the characters in them. Names are compared as people read them, see :func:`clamr_cli.text.plain`,
    but in their case.
    """
    files = list(files)
    for glob in dict.fromkeys((pattern.replace("[", "[[]"), pattern)):
        if matching := [file for file in files if _path_matches(file.path, glob)]:
            return matching
    return []


def _path_matches(path: str, pattern: str) -> bool:
    for name, glob in ((path, pattern), (plain(path, case=True), plain(pattern, case=True))):
        for whole in (glob,) if os.path.isabs(glob) else (glob, f"*/{glob}"):
            if fnmatch.fnmatchcase(name, whole) or fnmatch.fnmatchcase(name, f"{whole.rstrip('/')}/*"):
                return True
    return False


def file_named(files: Sequence[FileRecord], name: str) -> FileRecord | None:
    """The file of a path: the one with exactly this path, else the only one whose path reads the same."""
    absolute = locations.absolute(name)
    same = [file for file in files if file.path in (name, absolute)]
    same = same or [file for file in files if plain(file.path, case=True) == plain(absolute, case=True)]
    return same[0] if len(same) == 1 or (same and same[0].path in (name, absolute)) else None


def last_hit(store: Store, name: str) -> LastHit | None:
    """The hit of the last search whose rank this is; None where there is none, or a file is called so."""
    if not (name.isascii() and name.isdigit()) or os.path.isfile(name):
        return None
    search = store.last_search()
    return next((hit for hit in search.hits if hit.rank == int(name)), None) if search else None


def video_named(store: Store, name: str) -> str:
    """The id of the video that a user names.

    A name is a rank of the last search, an id or the beginning of one, the path of an indexed file, or a part of a
    title or file name that no other video has. A whole id, title or file name goes before parts of others.

    Raises:
        UsageError: no video is called so, or several are; the message lists them.
    """
    if (hit := last_hit(store, name)) is not None and store.videos([hit.video_id]):
        return hit.video_id
    catalog, files = store.catalog(), store.files()
    file = file_named(files, name) if name else None
    if file is not None and file.video_id:
        return file.video_id
    names: defaultdict[str, list[str]] = defaultdict(list)
    for facts in catalog:
        names[facts.video_id].append(plain(facts.title))
    for indexed in files:
        if indexed.video_id in names:
            names[indexed.video_id].append(plain(os.path.basename(indexed.path)))
    wanted = plain(name)
    begins = [video_id for video_id in names if name and video_id.startswith(name)]
    whole = [video_id for video_id in names if video_id == name] or [
        video_id for video_id, own in names.items() if wanted and wanted in own
    ]
    parts = [video_id for video_id, own in names.items() if wanted and any(wanted in text for text in own)]
    videos = whole or list(dict.fromkeys((*begins, *parts)))
    if len(videos) == 1:
        return videos[0]
    if not videos:
        hint = "list them with: clamr ls"
        if name.isascii() and name.isdigit() and (search := store.last_search()) is not None and search.hits:
            hint = f"the last search had the ranks {search.hits[0].rank} to {search.hits[-1].rank}; {hint}"
        raise UsageError(f"no video of the index has an id, title or file name like {name!r}", hint)
    if videos == begins:
        return store.resolve(name)
    titles = {facts.video_id: facts.title for facts in catalog}
    shown = ", ".join(f"{video_id} ({shorten(titles[video_id], _LONGEST_NAME)})" for video_id in videos[:_MOST_NAMES])
    more = f" and {len(videos) - _MOST_NAMES} more" if len(videos) > _MOST_NAMES else ""
    raise UsageError(f"{name!r} is in the names of {len(videos)} videos: {shown}{more}", "give more of it, or the id")


def split_phrases(query: str) -> tuple[str, tuple[str, ...]]:
    """A query without its quotation marks, and the phrases that were in them; a mark without its other half stays."""
    phrases = [plain(match[match.lastindex or 0]) for match in _QUOTED.finditer(query)]
    text = _QUOTED.sub(lambda match: match[match.lastindex or 0], query)
    return text.strip(), tuple(dict.fromkeys(phrase for phrase in phrases if phrase))


def moments_with(store: Store, phrases: Sequence[str], videos: Collection[str]) -> frozenset[str]:
    """The moments of the given videos that hold every phrase."""
    # All texts of a moment in one are looked through first: that costs no reading of whole records.
    wanted = [plain(readable(phrase)) for phrase in phrases]
    texts = ((moment_id, plain(text)) for moment_id, text in store.texts())
    near = {moment_id for moment_id, text in texts if all(phrase in text for phrase in wanted)}
    owners = sorted({moment_id.partition("#")[0] for moment_id in near} & set(videos))
    moments = store.moments(owners) if owners else []
    return frozenset(one.moment_id for one in moments if one.moment_id in near and holds(one, phrases))


def holds(moment: MomentRecord, phrases: Sequence[str]) -> bool:
    """Whether each phrase stands in the text of one modality of a moment."""
    texts = [plain(" ".join(part.text for part in moment.segments(modality))) for modality in TEXT_MODALITIES]
    return all(any(phrase in text for text in texts) for phrase in phrases)


# --- evidence of a moment: for each word of the query the frame, line or word it was matched by -----------------------


def query_words(query: str, tokens: TokenVectors) -> list[QueryWord]:
    """The words of a query with their vectors, in order; vectors of examples, which have a modality, are left out.

    Word pieces and repeated vectors of a word are put together. Vectors that stand for no part of the query (offsets
    (0, 0)) make one last entry whose text is the whole query.
    """
    chunks = [chunk.span() for chunk in _CHUNK.finditer(query)]
    rows_of: dict[tuple[int, int], list[int]] = {}
    whole: list[int] = []
    for row, (start, end) in enumerate(tokens.offsets.tolist()):
        if tokens.modality_ids[row]:
            continue
        # Byte-level tokenizers count the space before a word as part of it.
        first = start + len(query[start:end]) - len(query[start:end].lstrip())
        chunk = next(((a, b) for a, b in chunks if a <= first < min(b, end)), None)
        if chunk is None:
            whole.append(row)
            continue
        if UNSPACED.search(query[slice(*chunk)]):
            chunk = (first, min(end, chunk[1]))
        rows_of.setdefault(chunk, []).append(row)
    words = [_query_word(query, chunk, rows, tokens) for chunk, rows in sorted(rows_of.items())]
    return [*words, QueryWord(query.strip(), tuple(whole))] if whole else words


def _query_word(query: str, chunk: tuple[int, int], rows: Sequence[int], tokens: TokenVectors) -> QueryWord:
    """A word without the punctuation around it, whose vectors match any punctuation and say nothing of the word."""
    telling = [row for row in rows if any(char.isalnum() for char in query[slice(*tokens.offsets[row].tolist())])]
    text = query[slice(*chunk)]
    if not telling:
        return QueryWord(text, tuple(rows))
    inner = [number for number, char in enumerate(text) if char.isalnum()]
    return QueryWord(text[inner[0] : inner[-1] + 1], tuple(telling))


def cut_around(text: str, start: int, end: int) -> tuple[str, str]:
    """The words that ``text[start:end]`` touches, and the whole line they stand in.

    An empty stretch gives the first line for both.
    """
    start, end = max(0, min(start, len(text))), max(0, min(end, len(text)))
    while start < end and text[start].isspace():
        start += 1
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    line = text[line_start:line_end].strip()
    if start >= end:
        return line, line
    end = min(end, line_end)
    if not UNSPACED.search(text[start:end]):
        while start > line_start and text[start].isalnum() and text[start - 1].isalnum():
            start -= 1
        while end < line_end and text[end - 1].isalnum() and text[end].isalnum():
            end += 1
    return text[start:end].strip(), line


class Match:
    """A query and a moment side by side: which vector of the moment answers each token of the query.

    Attributes:
        scores: the weighted MaxSim score of each modality that may answer and that the moment has.
        winner: the modality with the highest score by the vectors that decide, None where there is none.
        best: [q] the weighted similarity by which each token is answered, 0 where nothing may answer.
    """

    def __init__(
        self,
        query: str,
        tokens: TokenVectors,
        moment: MomentRecord,
        document: TokenVectors,
        weights: Float32,
        words: Sequence[QueryWord] | None = None,
    ) -> None:
        """Align the tokens of a query with the vectors of a moment.

        Args:
            query: the text.
            tokens: its vectors, q of them.
            moment: the moment's texts and times.
            document: its vectors, n of them.
            weights: [SLOTS] factors by modality id, 0 for what may not answer.
            words: that the vectors stand for; None finds them in the text.
        """
        self._words = query_words(query, tokens) if words is None else words
        self._moment, self._document, self._weights = moment, document, weights
        self._values = similarities(tokens.vectors, document.vectors)
        kinds = tokens.modality_ids
        self._best, self._by_modality = align(self._values, document.modality_ids, weights, kinds)
        self.best: Float32 = np.zeros(len(self._best), np.float32)
        if (rows := np.flatnonzero(self._best >= 0)).size:
            chosen = self._best[rows]
            self.best[rows] = self._values[rows, chosen] * weights[document.modality_ids[chosen]]
        indptr = np.array([0, len(document)], np.int64)
        maxima = modality_maxima(self._values, document.modality_ids, indptr)
        # Of an example only vectors of like modality count.
        maxima = np.where(comparable(kinds)[:, None] | ~np.isfinite(maxima), maxima, np.float32(0.0))
        sums = per_modality(weighted(maxima, weights))[0]
        deciding = per_modality(weighted(maxima[: tokens.deciding], weights))[0]
        self.scores = {modality: float(sums[MODALITY_IDS[modality]]) for modality in self._by_modality}
        self.winner = max(self.scores, key=lambda modality: float(deciding[MODALITY_IDS[modality]]), default=None)

    def evidence(self) -> tuple[Evidence, ...]:
        """For each query word the evidence that won, in the order of the query."""
        return tuple(winner for winner in self._winners if winner is not None)

    def word_evidence(self) -> tuple[WordEvidence, ...]:
        """For each query word the evidence that won, and the best of each modality that may answer."""
        return tuple(
            WordEvidence(
                word.text,
                winner,
                {
                    modality: evidence
                    for modality, columns in self._by_modality.items()
                    if (evidence := self._best_of(word, columns)) is not None
                },
            )
            for word, winner in zip(self._words, self._winners, strict=True)
        )

    @cached_property
    def _winners(self) -> list[Evidence | None]:
        """For each query word the evidence that won."""
        return [self._best_of(word, self._best) for word in self._words]

    def shares(self, scoring: Scoring) -> Mapping[Modality, float]:
        """The part of the score that each modality won, in [0, 1], largest first; those that won nothing are left out.

        With ``modality-max`` one modality makes the whole score. Similarities below zero win nothing. What is missing
        to 1 was won by tokens of no modality.
        """
        if scoring == "modality-max":
            return {} if self.winner is None else {self.winner: 1.0}
        rows = np.flatnonzero(self._best >= 0)
        ids = self._document.modality_ids[self._best[rows]]
        won = np.maximum(self._values[rows, self._best[rows]] * self._weights[ids], 0.0)
        if not won.sum() > 0:
            return {}
        parts = {modality: float(won[ids == number].sum() / won.sum()) for number, modality in MODALITY_OF_ID.items()}
        return dict(sorted(((m, part) for m, part in parts.items() if part > 0), key=lambda item: -item[1]))

    def strongest_time(self, floors: Mapping[Modality, float] = MappingProxyType({})) -> float:
        """The second of the moment where the evidence is strongest: the start of the best segment or frame.

        Most metadata holds for the whole video. Where it wins, the best evidence that has a time counts instead: a
        chapter, or what is shown, said or written on screen, if that is the best answer to a word of the query or good
        enough by itself. Else it is the start of the moment. ``floors`` are those of
        :class:`clamr_cli.types.EncoderInfo`.
        """
        span = self._moment.span
        start = None if self.winner is None else self._best_start(self.winner)
        if start is None:
            timed = self._best_timed(floors)
            start = None if timed is None else self._best_start(timed)
        return span.start if start is None else min(max(start, span.start), span.end)

    def _best_of(self, word: QueryWord, columns: Int64) -> Evidence | None:
        """Of a word's vectors the one that is matched best, by ``columns`` [q]; None where nothing may answer."""
        document = self._document
        rows = np.array([row for row in word.rows if columns[row] >= 0], np.int64)
        if not rows.size:
            return None
        chosen = columns[rows]
        place = int((self._values[rows, chosen] * self._weights[document.modality_ids[chosen]]).argmax())
        column = int(chosen[place])
        modality = MODALITY_OF_ID.get(int(document.modality_ids[column]))
        text, context = self._words_at(modality, column)
        span = self._moment.span
        if modality is not None:
            start, end = document.spans[column].tolist()
            span = Span(start, max(start, end))
        return Evidence(word.text, modality, span, text, float(self._values[rows[place], column]), context)

    def _words_at(self, modality: Modality | None, column: int) -> tuple[str, str]:
        """Text of a vector, and its line."""
        if modality is None:
            return "", ""
        number = int(self._document.segments[column])
        if modality not in TEXT_MODALITIES:
            times = self._moment.frame_times
            frame = modality is Modality.VIDEO and 0 <= number < len(times)
            time = times[number] if frame else float(self._document.spans[column, 0])
            return f"{'frame' if modality is Modality.VIDEO else 'sound'} at {format_time(time)}", ""
        segments = self._moment.segments(modality)
        if not 0 <= number < len(segments):
            return "", ""
        start, end = self._document.offsets[column].tolist()
        return cut_around(segments[number].text, start, end)

    def _best_timed(self, floors: Mapping[Modality, float]) -> Modality | None:
        """The best modality beside metadata, if it answers a word of the query better than metadata does, or well."""
        alone = {name: value for name, value in self.scores.items() if name is not Modality.METADATA}
        best = max(alone, key=lambda name: alone[name], default=None)
        if best is None or alone[best] <= 0:
            return None
        won = self._document.modality_ids[self._best[self._best >= 0]]
        answers = bool(np.isin(won, [MODALITY_IDS[name] for name in alone]).any())
        enough = alone[best] >= floors.get(best, 0.0) * len(self._values)
        return best if answers or enough else None

    def _best_start(self, modality: Modality) -> float | None:
        """Start of the best segment or frame of a modality; None where there is none, or it holds all the time.

        Segments are compared by the sum over query tokens of the best similarity within.
        """
        document, moment = self._document, self._moment
        columns = np.flatnonzero(document.modality_ids == MODALITY_IDS[modality])
        if not columns.size:
            return None
        numbers = document.segments[columns]
        columns = columns[np.argsort(numbers, kind="stable")]
        _, counts = np.unique(numbers, return_counts=True)
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        best = int(segment_max(self._values[:, columns], indptr).sum(axis=0).argmax())
        columns = columns[indptr[best] : indptr[best + 1]]
        number = int(document.segments[columns[0]])
        spans = [segment.span for segment in moment.segments(modality)]
        if modality is Modality.VIDEO:
            spans = list(moment.frame_spans)
        if not 0 <= number < len(spans):
            return float(document.spans[columns, 0].min()) if modality is not Modality.METADATA else None
        span = spans[number]
        lasting = modality is Modality.METADATA and span.start <= moment.span.start and span.end >= moment.span.end
        return None if lasting else span.start
