"""From answers to queries: cleaned of quotes and labels, without repetition, without what leaks the source.

A leak is what nobody who looks for a video would type, but only somebody who has its files or its transcript: a file
name, an id, an address, a long quotation, talk about the transcript itself. A model trained or judged on such queries
learns to match strings.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from clamr_cli.llm import readable
from clamr_cli.synth.prompts import PlannedQuery
from clamr_cli.text import UNSPACED_LETTERS

LONGEST_WORDS: Final = 30
LONGEST_CHARACTERS: Final = 220
LONGEST_QUOTE: Final = 7
"""Consecutive words of the source that a query may repeat; two characters of a script without spaces count as one."""

SHORTEST_COPY: Final = 3
"""Words up to which a query may be all that its source says."""

SIMILAR: Final = 0.8
"""Share of common words (Jaccard) above which two queries of one video say the same."""


class Reason(StrEnum):
    """A reason to drop a query."""

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


_MARKUP: Final = re.compile(r"^\s*(?:```|~~~)\s*\w*\s*$|</?query>|\*\*", re.IGNORECASE | re.MULTILINE)
_TURN: Final = re.compile(r"<\|[^<>|]{0,40}\|>|<(?:end|start)_of_turn>", re.IGNORECASE)
_LABEL: Final = re.compile(
    r"^(?:(?:here(?:'s| is)|this is|sure[,!.]?|okay[,!.]?|certainly[,!.]?)[^:：\n]{0,60}[:：]"
    r"|(?:(?:the|my|one|a|final|best|base|video|search|user|speech|ocr|metadata|synthetic|suggested|possible) )*"
    r"(?:query|queries|question|answer|output|response|result|search)(?: \d{1,2})?\s*[:：])\s*",
    re.IGNORECASE,
)
_BULLET: Final = re.compile(r"^(?:[-*+•–—>#]+|\(?\d{1,2}[.)](?!\d))\s+")
_QUOTES: Final = "\"\" '' `` “” „“ „” «» »« ‘’ ‚‘ 「」 『』 ** __ () [] {}"
_WORD: Final = re.compile(rf"[{UNSPACED_LETTERS}]|[^\W_{UNSPACED_LETTERS}]+")
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
    re.findall(
        r"\w+",
        "a an the of in on at to for from by with and or as is are was were be been being it its this that these those "
        "into over about after before during near how what when where who why do does did up out",
    )
)


def clean_query(answer: str) -> str:
    """The query in an answer: its first line with a word, without labels, bullets and quotes; empty if there is none.

    Models quote, label and number though told not to.
    """
    text = _MARKUP.sub("", readable(_TURN.sub("\n", answer)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line]
    # A line that ends in a colon announces the query.
    while len(lines) > 1 and lines[0].endswith((":", "：")):
        del lines[0]
    return next((query for line in lines if any(map(str.isalnum, query := _unwrap(line)))), "")


def _unwrap(line: str) -> str:
    """A line without what is put around queries, layer after layer."""
    before = None
    while line != before:
        before = line
        line = _LABEL.sub("", _BULLET.sub("", line)).strip()
        quotes = line[:1] + line[-1:]
        # In "a" and "b" the first and the last quote do not belong together.
        if len(line) > 1 and quotes in _QUOTES and not set(quotes) & set(line[1:-1]):
            line = line[1:-1].strip()
    return line


class QueryFilter:
    """Checks queries in turn and remembers those that were kept, whose repetition is then refused.

    Args:
        examples: queries that prompts show; to give one back is not an answer.
    """

    def __init__(self, examples: Iterable[str] = ()) -> None:
        self._examples = {tuple(words_of(text)) for text in examples}
        self._owner_of_words: dict[tuple[str, ...], str] = {}
        self._owner_of_content: dict[frozenset[str], str] = {}
        self._of_video: defaultdict[str, list[frozenset[str]]] = defaultdict(list)

    def check(self, query: str, planned: PlannedQuery) -> Reason | None:
        """The reason to drop a cleaned query; None if it may be kept."""
        words, content = tuple(words_of(query)), content_of(query)
        if not words:
            return Reason.EMPTY
        if _REFUSAL.search(query):
            return Reason.REFUSED
        if length(words) > LONGEST_WORDS or len(query) > LONGEST_CHARACTERS:
            return Reason.TOO_LONG
        if leak := find_leak(query, planned):
            return leak
        if words in self._examples:
            return Reason.EXAMPLE
        for other in self._of_video[planned.video_id]:
            if len(content & other) >= SIMILAR * len(content | other):
                return Reason.REPEATS_VIDEO
        owner = self._owner_of_words.get(words) or self._owner_of_content.get(content)
        if owner is None:
            return None
        return Reason.REPEATS_VIDEO if owner == planned.video_id else Reason.REPEATS

    def remember(self, query: str, video_id: str) -> None:
        content = content_of(query)
        self._owner_of_words.setdefault(tuple(words_of(query)), video_id)
        self._owner_of_content.setdefault(content, video_id)
        self._of_video[video_id].append(content)


def find_leak(query: str, planned: PlannedQuery) -> Reason | None:
    """The reason why a query gives its video away, if it does."""
    if _ADDRESS.search(query):
        return Reason.ADDRESS
    if planned.video_id and planned.video_id.casefold() in query.casefold():
        return Reason.VIDEO_ID
    if names_file(query, planned.path):
        return Reason.FILE_NAME
    if _SOURCE_TALK.search(query):
        return Reason.ABOUT_SOURCE
    words, source = words_of(query), words_of(planned.text)
    if longest_quote(words, source) > LONGEST_QUOTE:
        return Reason.QUOTE
    # Small models put the title in front of what they write, as a label, or copy a line with its label.
    label, _, rest = query.partition(":")
    labelled = bool(source and rest) and source in (words, words_of(label), words_of(rest))
    # Of a title of two or three words little else can be asked than its words.
    return Reason.COPY if labelled or (words == source and length(words) > SHORTEST_COPY) else None


def names_file(query: str, path: str) -> bool:
    """Whether a query holds a file's name, a part of it that only a machine would write, or is all of its words.

    Parts that a machine writes have at least six characters, a digit among them: ``IMG_0042``, ``dQw4w9WgXcQ``,
    ``20240517``. Ordinary words of a file name are ordinary words of a query.
    """
    name, stem = PurePath(path).name.casefold(), PurePath(path).stem.casefold()
    parts = [stem, *re.split(r"[\s()\[\]{}.,;]+", stem)]
    given_away = [part for part in parts if len(part) >= 6 and " " not in part and any(map(str.isdigit, part))]
    if name != stem:
        given_away.append(name)
    if any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", query.casefold()) for part in given_away):
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
    content = [word for word in words if word not in _COMMON] or words
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in content
    )


def longest_quote(query: Sequence[str], source: Sequence[str]) -> float:
    """The length of the longest run of words that both share, in words (:func:`length`)."""
    places = defaultdict(list)
    for place, word in enumerate(source):
        places[word].append(place)
    best = 0.0
    runs: dict[int, float] = {}
    for word in query:
        runs = {place: runs.get(place - 1, 0.0) + length([word]) for place in places.get(word, ())}
        best = max(best, *runs.values(), 0.0)
    return best


def length(words: Sequence[str]) -> float:
    """The number of words; a character of a script without spaces counts half."""
    return sum(0.5 if len(word) == 1 and re.match(f"[{UNSPACED_LETTERS}]", word) else 1.0 for word in words)
