"""What is shown of a video to answer a question: some of its frames, and the lines said or written around them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from clamr_cli.text import plain
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clamr_cli.types import Segment

Kind: TypeAlias = Literal["said", "written"]

MOST_CHARACTERS: Final = 12_000
"""Of all lines together: about 3,000 tokens of English, what 30 frames of 320 by 240 cost."""

_LONGEST_LINE: Final = 600


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame that is shown: when it was taken, in seconds, its JPEG bytes, and its place among the best, from 1."""

    time: float
    jpeg: bytes = field(repr=False)
    rank: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is shown: when it is said or on screen, and its text."""

    span: Span
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Material:
    """Frames and lines of one video, each in the order of time."""

    shots: tuple[Shot, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to answer from."""
        return not self.shots and not self.lines

    def best(self, count: int) -> Material:
        """The same with the best frames only; the lines stay."""
        kept = sorted(self.shots, key=lambda shot: shot.rank)[:count]
        return replace(self, shots=tuple(sorted(kept, key=lambda shot: shot.time)))


def in_time(shots: Iterable[Shot], lines: Iterable[Line]) -> Material:
    """Material in the order of time."""
    return Material(
        tuple(sorted(shots, key=lambda shot: (shot.time, shot.rank))),
        tuple(sorted(lines, key=lambda line: (line.span, line.kind, line.text))),
    )


def lines_near(
    spans: Sequence[Span],
    speech: Sequence[Segment],
    ocr: Sequence[Segment] = (),
    *,
    around: float,
    most: int = MOST_CHARACTERS,
) -> tuple[Line, ...]:
    """The lines in and around some stretches, in the order of time; a text that stays on screen stands once.

    Args:
        spans: what the frames stand for, the most important first: where not all lines fit, those of later ones are
            left out.
        speech: what is said, in any order.
        ocr: what is written on screen.
        around: seconds before and after each stretch.
        most: characters of all lines together at most.
    """
    found: dict[Line, None] = {}
    written: dict[str, Line] = {}
    left = most
    for span in spans:
        for line in _around(span, speech, ocr, around):
            known = line in found if line.kind == "said" else plain(line.text) in written
            if known or len(line.text) > left:
                continue
            written[plain(line.text)] = line
            found[line] = None
            left -= len(line.text)
    return in_time((), found).lines


def _around(span: Span, speech: Sequence[Segment], ocr: Sequence[Segment], around: float) -> list[Line]:
    near = Span(max(0.0, span.start - around), span.end + around)
    both: tuple[tuple[Kind, Sequence[Segment]], ...] = (("said", speech), ("written", ocr))
    lines = [
        Line(segment.span, text, kind)
        for kind, segments in both
        for segment in segments
        if segment.span.overlaps(near) and (text := one_line(segment.text))
    ]
    # Where they do not all fit, what is nearest to the frame comes first.
    return sorted(lines, key=lambda line: (_distance(line.span, span), line.span, line.kind, line.text))


def _distance(one: Span, other: Span) -> float:
    return max(0.0, one.start - other.end, other.start - one.end)


def one_line(text: str) -> str:
    """A text in one line of at most 600 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
