"""Ways to choose the frames that a question is answered from, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from clamr_cli import frames
from clamr_cli.errors import UsageError
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.frames import FrameHit, Prepared
    from clamr_cli.types import Encoder, Scoring

Sampling: TypeAlias = Literal["uniform", "dense", "clamr", "clamr+speech"]

_SUBTITLES: Final = "+subs"
_SAMPLINGS: Final[tuple[Sampling, ...]] = ("uniform", "dense", "clamr", "clamr+speech")
_RANKED: Final[Mapping[Sampling, tuple[Modality, ...]]] = {
    "clamr": (Modality.VIDEO,),
    "clamr+speech": (Modality.VIDEO, Modality.SPEECH),
}
"""What may answer where frames are ranked: the picture alone, or what is said around it too."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How frames are chosen, and whether the model is shown what is said around them.

    ``uniform`` takes k frames at equal distances, ``dense`` as many as the model may be shown, ``clamr`` the k that
    answer best by picture, ``clamr+speech`` those that answer best by picture and speech together.
    """

    sampling: Sampling
    subtitles: bool = False

    @property
    def name(self) -> str:
        """As people write it: ``clamr+speech+subs``."""
        return self.sampling + (_SUBTITLES if self.subtitles else "")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What ranks the frames; nothing does where they are sampled."""
        return _RANKED.get(self.sampling, ())


ALL: Final = tuple(Strategy(sampling, subtitles) for subtitles in (False, True) for sampling in _SAMPLINGS)
"""In the order of reports."""


def parse(name: str) -> Strategy:
    """A strategy by its name.

    Raises:
        UsageError: there is none of that name.
    """
    for strategy in ALL:
        if strategy.name == name.strip().lower():
            return strategy
    raise UsageError(f"there is no strategy {name!r}", f"use {', '.join(one.name for one in ALL)}")


@dataclass(frozen=True, slots=True)
class Picking:
    """How many frames are chosen and how.

    Attributes:
        k: frames of a strategy.
        dense: frames of ``dense``.
        select: which of the ranked ones, see :func:`clamr_cli.frames.selection.select`.
        scoring: how they are scored.
    """

    k: int = 32
    dense: int = 768
    select: frames.Strategy = "diverse"
    scoring: Scoring = "token-max"


def pick(strategy: Strategy, prepared: Prepared, encoder: Encoder, text: str, picking: Picking) -> list[FrameHit]:
    """The frames that a strategy chooses, the most important first; all of them where there are fewer than it wants.

    Sampled frames have no best one: they come in an order that is spread over the video however few are looked at.
    """
    if strategy.modalities:
        choice = frames.Choice(picking.k, picking.select, strategy.modalities, picking.scoring)
        return frames.find(prepared, encoder, text, choice)
    return spread(frames.uniform(prepared, picking.dense if strategy.sampling == "dense" else picking.k))


def spread(hits: Sequence[FrameHit]) -> list[FrameHit]:
    """The same in the order of van der Corput's sequence: every beginning of it is spread over the whole."""
    bits = max(1, (len(hits) - 1).bit_length())
    return [hits[place] for place in sorted(range(len(hits)), key=lambda place: f"{place:0{bits}b}"[::-1])]
