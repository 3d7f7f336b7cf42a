"""What a run tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from clamr_cli.synth.plan import Job


class Outcome(StrEnum):
    """What became of a query."""

    WRITTEN = "written"
    DROPPED = "dropped"
    FAILED = "failed"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Judged:
    """A query is settled.

    Attributes:
        outcome: ``unseen`` where it would need frames and the model takes none.
        record: what is written of it, ready for ``json.dumps``.
        why: the reason where it was not written; one line, with what to do where something can be done.
        again: whether the first answer was refused and a second one judged.
    """

    job: Job
    outcome: Outcome
    record: dict[str, Any]
    why: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """A video is behind the run; ``asked`` says whether anything was left to ask of it."""

    video: int
    asked: bool


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the user should know that is no failure of a query."""

    text: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The run stopped by itself after too many failures in a row."""

    failures: int


SynthEvent: TypeAlias = Judged | Passed | Remark | GaveUp
