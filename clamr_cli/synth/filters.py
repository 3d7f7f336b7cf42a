"""Which queries are kept: none that repeats another, and none that leaks what gives its video away.

A leak is what nobody who looks for a video would type, but only somebody who has its files or its transcript: a file
name, an id, an address, a long quotation, talk about the transcript itself. A model trained or judged on such queries
learns to match strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clamr_cli.synth.plan import Job

LONGEST_WORDS: Final = 30
LONGEST_CHARACTERS: Final = 220
LONGEST_QUOTE: Final = 7
"""Consecutive words of the source that a query may repeat; two characters of a script without spaces count as one."""

SHORTEST_COPY: Final = 3
"""Words up to which a query may be all that its source says."""

ALIKE: Final = 0.8
"""Share of common words (Jaccard) above which two queries of one video say the same."""


class Reason(StrEnum):
    """Why a query is not kept."""

    EMPTY = "empty"
    TOO_LONG = "too long"
    REFUSED = "no query but a refusal"
    ABOUT_SOURCE = "talks about its source"
    FILE_NAME = "gives away the file name"
    VIDEO_ID = "gives away the video id"
    ADDRESS = "holds an address"
    QUOTE = "quotes its source at length"
    COPY = "is its source, word for word"
    EXAMPLE = "copies an example"
    REPEATS_VIDEO = "repeats a query of the same video"
    REPEATS = "repeats a query of another video"


_IDEOGRAPHS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD: Final = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")
_REFUSAL: Final = re.compile(
    r"^(?:i['’]?m (?:sorry|unable|not able)|sorry\b"
    r"|i (?:can(?:no|['’])t|am unable|do not have|don['’]t have|apologi[sz]e)"
    r"|as an ai\b|unfortunately\b|there (?:is|are) no (?:text|speech|material|information|images?|frames?)\b"
    r"|no (?:material|information|text|speech) (?:is |was |were )?(?:provided|given|available)\b)",
    re.IGNORECASE,
)
_SOURCE_TALK: Final = re.compile(
    # Words that mean the source wherever they stand; "the title" or "the frame" may be a boxer's or a bicycle's.
    r"\b(?:the|this|its|provided|given|above)\s+(?:video\s+)?"
    r"(?:transcripts?|transcription|subtitles?|captions?|metadata|ocr(?: text)?|on-?screen text)\b"
    r"|\b(?:this|provided|given|above)\s+(?:video|clip|footage|frames?|images?|screenshots?|materials?|title|description)\b"
    r"|\b(?:in|from|of|by) the (?:video|frames|footage|clip|images|screenshots|description)\b"
    r"|\bvideo(?:['’]s)? (?:transcript|subtitle|caption|title|description|metadata|frame)s?\b"
    r"|\bon-?screen text\b|\bsearch query\b",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(
    r"https?:|www\.|\b[\w.+-]+@[\w-]+\.\w|\b[\w-]+\.(?:com|org|net|tv|gov|edu|io|info|biz|co\.[a-z]{2})\b",
    re.IGNORECASE,
)
_COMMON: Final = frozenset(
    (
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "with",
        "and",
        "or",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "into",
        "over",
        "about",
        "after",
        "before",
        "during",
        "near",
        "how",
        "what",
        "when",
        "where",
        "who",
        "why",
        "do",
        "does",
        "did",
        "up",
        "out",
    )
)


@dataclass(slots=True)
class Verdicts:
    """Judges queries in turn and remembers those that were kept, whose repetition is then refused.

    Attributes:
        examples: words of queries that prompts show; to give one back is no answer.
    """

    examples: set[tuple[str, ...]] = field(default_factory=set)
    _exact: dict[tuple[str, ...], str] = field(default_factory=dict)
    _bags: dict[frozenset[str], str] = field(default_factory=dict)
    _of_video: dict[str, list[frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def knowing(cls, examples: Iterable[str]) -> Verdicts:
        """Without kept queries."""
        return cls({tuple(words_of(text)) for text in examples})

    def judge(self, query: str, job: Job) -> Reason | None:
        """Why a cleaned query must not be kept, None where it may."""
        return (
            self._unusable(query)
            or leak(query, job)
            or (Reason.EXAMPLE if tuple(words_of(query)) in self.examples else None)
            or self._repetition(query, job.video_id)
        )

    def keep(self, query: str, video_id: str) -> None:
        """Remember a query of a video."""
        words, bag = words_of(query), content_of(query)
        self._exact.setdefault(tuple(words), video_id)
        self._bags.setdefault(bag, video_id)
        self._of_video.setdefault(video_id, []).append(bag)

    @staticmethod
    def _unusable(query: str) -> Reason | None:
        words = words_of(query)
        if not words:
            return Reason.EMPTY
        if _REFUSAL.search(query):
            return Reason.REFUSED
        if length(words) > LONGEST_WORDS or len(query) > LONGEST_CHARACTERS:
            return Reason.TOO_LONG
        return None

    def _repetition(self, query: str, video_id: str) -> Reason | None:
        bag = content_of(query)
        if any(alike(bag, other) for other in self._of_video.get(video_id, ())):
            return Reason.REPEATS_VIDEO
        owner = self._exact.get(tuple(words_of(query))) or self._bags.get(bag)
        if owner is None:
            return None
        return Reason.REPEATS_VIDEO if owner == video_id else Reason.REPEATS


def leak(query: str, job: Job) -> Reason | None:
    """What a query gives away of its video, if anything."""
    if _ADDRESS.search(query):
        return Reason.ADDRESS
    if job.video_id and job.video_id.casefold() in query.casefold():
        return Reason.VIDEO_ID
    if names_file(query, job.path):
        return Reason.FILE_NAME
    if _SOURCE_TALK.search(query):
        return Reason.ABOUT_SOURCE
    asked, source = words_of(query), words_of(job.text)
    if longest_quote(asked, source) > LONGEST_QUOTE:
        return Reason.QUOTE
    # Of a title of two or three words little else can be asked than its words.
    return Reason.COPY if asked == source and length(asked) > SHORTEST_COPY else None


def names_file(query: str, path: str) -> bool:
    """Whether a query holds a file's name, a part of it that only a machine would write, or is all of its words.

    Parts that a machine writes have at least six characters, a digit among them: ``IMG_0042``, ``dQw4w9WgXcQ``,
    ``20240517``. Ordinary words of a file name are ordinary words of a query.
    """
    name = PurePath(path).name.casefold()
    stem = PurePath(path).stem.casefold()
    asked = query.casefold()
    if name and name != stem and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", asked):
        return True
    parts = [stem, *re.split(r"[\s()\[\]{}.,;]+", stem)]
    machine = [part for part in parts if len(part) >= 6 and " " not in part and any(map(str.isdigit, part))]
    if any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", asked) for part in machine):
        return True
    words = words_of(stem)
    return len(words) >= 3 and words == words_of(query)


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded, without punctuation; in scripts without spaces every character is a word.

    >>> words_of("Bees' dance, 2nd_take")
    ['bees', 'dance', '2nd', 'take']
    """
    return _WORD.findall(text.casefold())


def content_of(query: str) -> frozenset[str]:
    """The words that carry a query, without order, common words and plural endings; all words where none would stay."""
    words = words_of(query)
    telling = [word for word in words if word not in _COMMON]
    return frozenset(_singular(word) for word in telling or words)


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two sets of words are the same but for a little."""
    return len(one & other) >= ALIKE * len(one | other)


def longest_quote(query: Sequence[str], source: Sequence[str]) -> float:
    """The length of the longest run of words that both share, in words (:func:`length`)."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(source):
        places.setdefault(word, []).append(place)
    best = 0.0
    for start in range(len(query)):
        for place in places.get(query[start], ()):
            run = list(_common_run(query[start:], source[place:]))
            best = max(best, length(run))
    return best


def length(words: Sequence[str]) -> float:
    """How many words these are; a character of a script without spaces counts half."""
    return sum(0.5 if len(word) == 1 and re.match(f"[{_IDEOGRAPHS}]", word) else 1.0 for word in words)


def _common_run(query: Sequence[str], source: Sequence[str]) -> Iterator[str]:
    for mine, theirs in zip(query, source, strict=False):
        if mine != theirs:
            return
        yield mine


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
