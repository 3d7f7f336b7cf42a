"""The times that an answer cites, held against what was shown: a time that nothing shown has is invented."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clamr_cli.ask.material import Material

Source: TypeAlias = Literal["frame", "said", "written"]

_TIME: Final = r"(?:\d{1,3}:)?\d{1,3}:[0-5]\d(?:\.\d{1,3})?"
_RANGE: Final = re.compile(rf"(?<![\d:.])({_TIME})(?:\s*(?:-|–|—|to)\s*({_TIME}))?(?![\d:])", re.ASCII)
_BRACKETS: Final = re.compile(r"[\[【]([^\[\]【】\n]{1,200})[\]】]")

TOLERANCE: Final = 1.0
"""Seconds by which a cited time may miss what it cites: times are shown without fractions."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A time that an answer cites.

    Attributes:
        text: as the answer has it.
        start: seconds; ``end`` differs from it where a stretch is cited.
        end: seconds.
        source: what of the material has this time; None where nothing has: the time is invented.
    """

    text: str
    start: float
    end: float
    source: Source | None


def citations(answer: str, material: Material) -> tuple[Citation, ...]:
    """What an answer cites in square brackets, in its order, each once.

    A stretch counts as shown where something was shown at its start and at its end.
    """
    found: dict[str, Citation] = {}
    for bracket in _BRACKETS.finditer(answer):
        for text, start, end in _times(bracket[1]):
            if text not in found:
                first, last = _source(start, material), _source(end, material)
                found[text] = Citation(text, start, end, first if first and last else None)
    return tuple(found.values())


def marked(answer: str, cited: tuple[Citation, ...]) -> str:
    """The answer with a question mark after each time that is invented."""
    invented = {citation.text for citation in cited if citation.source is None}

    def mark(bracket: re.Match[str]) -> str:
        inside = _RANGE.sub(lambda found: f"{found[0]}?" if found[0] in invented else found[0], bracket[1])
        return f"{bracket[0][0]}{inside}{bracket[0][-1]}"

    return _BRACKETS.sub(mark, answer) if invented else answer


def _times(inside: str) -> Iterator[tuple[str, float, float]]:
    """The times in a bracket, whatever else stands in it."""
    for piece in _RANGE.finditer(inside):
        start = _seconds(piece[1])
        yield piece[0], start, _seconds(piece[2]) if piece[2] else start


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def _source(time: float, material: Material) -> Source | None:
    """What was shown at a time, frames before lines."""
    if any(
        abs(math.floor(shot.time) - time) < TOLERANCE or abs(shot.time - time) < TOLERANCE for shot in material.shots
    ):
        return "frame"
    near = (line for line in material.lines if line.span.start - TOLERANCE < time < line.span.end + TOLERANCE)
    line = next(near, None)
    return line.kind if line else None
