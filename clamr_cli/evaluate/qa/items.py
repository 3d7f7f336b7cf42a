"""A question of a collection, with what is known of its answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clamr_cli.types import Span

CLIP: Final = 2.0
"""Seconds of the clips that QVHighlights has graded (Lei et al., arXiv 2107.09609, section 3)."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question about one video.

    Attributes:
        id: unique in its collection.
        video: as the collection names it: a path, a file's name or an id.
        text: the question, or the words that describe a moment.
        choices: answers to choose from; none where a moment is to be found.
        answer: the right choice, from 0; None where the collection does not say.
        group: the class of the video's length, as the collection names it; may be empty.
        subtitles: the subtitle file as the collection names it; empty where it names none.
        late: seconds by which its subtitles are late: they belong to a longer video.
        windows: the stretches of the video that answer.
        marks: the frames that answer, counted from the video's first.
        grades: of clips of :data:`CLIP` seconds, by number: what each annotator gave, 0 to 4.
    """

    id: str
    video: str
    text: str
    choices: tuple[str, ...] = ()
    answer: int | None = None
    group: str = ""
    subtitles: str = ""
    late: float = 0.0
    windows: tuple[Span, ...] = ()
    marks: tuple[int, ...] = ()
    grades: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def has_evidence(self) -> bool:
        """Whether it is known where the answer is."""
        return bool(self.windows or self.marks)

    @property
    def mark(self) -> str:
        """A few letters that all of it makes: two questions that share an id differ by it."""
        return hashlib.blake2b(json.dumps(asdict(self)).encode(), digest_size=6).hexdigest()
