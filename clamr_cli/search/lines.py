"""The lines of a hit that answer a query: what is said, written or noted in it, or a frame, with time and marks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clamr_cli.text import WORD, content_words, plain
from clamr_cli.types import Evidence, Line, Modality, MomentRecord, WordEvidence

_SLACK: Final = 0.05


@dataclass
class _Found:
    """A line with what matched in it."""

    evidence: list[Evidence] = field(default_factory=list)

    @property
    def score(self) -> float:
        return sum(part.similarity for part in self.evidence)


def lines_of(
    query: str,
    moment: MomentRecord,
    words: Sequence[WordEvidence],
    floors: Mapping[Modality, float],
    examples: Collection[str] = frozenset(),
) -> tuple[Line, ...]:
    """The best line of each modality of a moment, the best one first; those with a time of their own go before others.

    Evidence counts if its similarity is at least the modality's floor, or if the word itself stands there. Stop words
    count only where the query has no others. Metadata that holds for the whole moment has no time of its own. What
    matched one of ``examples``, frames and lines of an example, needs no word.
    """
    content = frozenset(content_words(query))
    found: dict[tuple[Modality, str, float], _Found] = {}
    for word in words:
        own = {plain(part) for part in WORD.findall(word.query_token)}
        is_example = word.query_token in examples
        if not (is_example or own & content):
            continue
        for modality, evidence in word.by_modality.items():
            literal = bool(evidence.text) and plain(evidence.text) == plain(word.query_token)
            # Floors of pictures are those of words for them.
            is_alike = is_example and modality is Modality.VIDEO
            if not (literal or is_alike) and evidence.similarity < floors.get(modality, 0.0):
                continue
            # Frames are told apart by their time, lines by their text: words of a line have times of their own.
            key = (modality, evidence.context, 0.0 if evidence.context else evidence.span.start)
            found.setdefault(key, _Found()).evidence.append(evidence)
    best: dict[Modality, Line] = {}
    scores: dict[Modality, float] = {}
    for (modality, text, _), line in found.items():
        if line.score > scores.get(modality, 0.0):
            best[modality] = _line(modality, text, line, moment, content, examples)
            scores[modality] = line.score
    return tuple(sorted(best.values(), key=lambda line: (not line.timed, -scores[line.modality])))


def _line(
    modality: Modality,
    text: str,
    found: _Found,
    moment: MomentRecord,
    content: frozenset[str],
    examples: Collection[str],
) -> Line:
    best = max(found.evidence, key=lambda part: part.similarity)
    span = best.span
    # Times of vectors are of single precision.
    lasting = span.start <= moment.span.start + _SLACK and span.end >= moment.span.end - _SLACK
    whole = modality is Modality.METADATA and lasting
    start = span.start
    if modality is Modality.VIDEO:
        frames = zip(moment.frame_spans, moment.frame_times, strict=True)
        start = next((time for frame, time in frames if frame.start <= start < frame.end), start)
    elif text:
        # From the first word that matched; what stands for the whole query begins with its line.
        single = [part for part in found.evidence if plain(part.query_token) in content and part.text != text]
        start = min((part.span.start for part in single), default=start)
    texts = [part.text for part in found.evidence if part.text and part.text != text]
    answered = tuple(dict.fromkeys(part.query_token for part in found.evidence if plain(part.query_token) in content))
    alike = [part for part in found.evidence if part.query_token in examples]
    if alike:
        answered = (f"like {max(alike, key=lambda part: part.similarity).query_token}", *answered)
    speaker = ""
    if modality is Modality.SPEECH:
        said = [part for part in moment.speech if part.text == text]
        speaker = min(said, key=lambda part: abs(part.span.start - start)).speaker if said else ""
    return Line(modality, start, text, answered, marks(text, content, texts), best.similarity, not whole, speaker)


def marks(text: str, content: frozenset[str], matched: Sequence[str] = ()) -> tuple[tuple[int, int], ...]:
    """The stretches ``text[start:end]`` that are words of a query or of what matched it, in order, none in another."""
    wanted = content | {plain(part) for other in matched if len(other.split()) <= 1 for part in WORD.findall(other)}
    stretches = [match.span() for match in WORD.finditer(text) if plain(match[0]) in wanted]
    # Scripts without spaces have words inside of what looks like one.
    stretches += [
        match.span() for other in matched if not other.isascii() for match in re.finditer(re.escape(other), text)
    ]
    result: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if not result or start >= result[-1][1]:
            result.append((start, end))
    return tuple(result)
