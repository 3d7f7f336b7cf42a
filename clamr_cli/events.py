"""The events of long runs. The command line draws them, or prints them as JSON under their lower-case names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Stage = Literal["decode", "sample", "speech", "ocr", "encode"]

PREPARING: Final[Mapping[Stage, str]] = {
    "decode": "reading the video",
    "sample": "taking candidate frames",
    "speech": "recognising speech",
    "ocr": "reading on-screen text",
    "encode": "encoding the frames",
}
"""The work of each stage while one video is prepared for questions."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """The walk is over: how many files there are, how many need nothing, and how many will come up in the run.

    ``sizes`` are the bytes of those that will come up, by path.
    """

    files: int
    unchanged: int
    to_do: int
    sizes: Mapping[str, int] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage of one video moved on: ``done`` of ``total`` (seconds of video for media and speech, frames for ocr).

    ``sample`` is the taking of candidate frames of one long video, in seconds of it. ``checkpoint`` is as much of
    ``total`` as is stored already and need not be done again; the first event of a stage tells what earlier runs left.
    """

    path: str
    stage: Stage
    done: float
    total: float
    checkpoint: float = 0.0


@dataclass(frozen=True, slots=True)
class Indexed:
    """A video is searchable. ``reused`` names the stages that did not have to be done again; ``seconds`` by stage."""

    path: str
    video_id: str
    duration: float
    moments: int
    reused: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """A known video was found under another path; nothing had to be read again."""

    path: str
    video_id: str
    before: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file could not be indexed; it is recorded with its reason and stops nothing else."""

    path: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that was indexed is gone; its video leaves the index unless another file holds it."""

    path: str
    video_id: str


@dataclass(frozen=True, slots=True)
class Offline:
    """Indexed files were not met, and are not forgotten: their disk may be away. Their videos can still be found.

    ``path`` is the folder that they are missing from. ``missing`` is False where it could not be told whether they are
    there.
    """

    path: str
    files: int
    reason: str
    missing: bool = True


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that is no failure, e.g. that speech of a video was left out, and why."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. ``duration`` is the length of the videos that were worked on, in seconds."""

    indexed: int
    unchanged: int
    moved: int
    removed: int
    failed: int
    seconds: float
    offline: int = 0
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class VideoDone:
    """The ``number``-th video of a run is done; ``worked`` is False if nothing was left to do for it."""

    number: int
    worked: bool


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A run stopped by itself after so many failures in a row."""

    failures: int


Event = Discovered | Progress | Indexed | Moved | Skipped | Removed | Offline | Notice | Finished
