"""Many prompts in one row: which go together, and the arrays the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.encoders.clamr.positions import Grid, PositionRule, position_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from clamr_cli.encoders.clamr.prompt import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A prompt to encode and the patches of its video, if it has one."""

    prompt: Prompt
    grid: Grid | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A prompt with the pictures and samples it needs, not decoded yet."""

    job: Job
    images: tuple[Image.Image, ...] = ()
    samples: NDArray[np.int16] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Sequences end to end, T tokens in all.

    Attributes:
        input_ids: [T] int64.
        positions: [3, T] int64.
        borders: [sequences + 1] int32, where each starts and the last ends.
        video_index: [V] int64, places of the video tokens in order.
        audio_index: [A] int64, places of the audio tokens in order.
        grids: [videos, 3] int64.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    borders: NDArray[np.int32]
    video_index: NDArray[np.int64]
    audio_index: NDArray[np.int64]
    grids: NDArray[np.int64]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.borders).max())


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences, longest first, so that no group holds more than ``budget`` tokens unless it is a single one.

    The longest come first, so that a device too small for them says so at once.
    """
    groups: list[list[int]] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not groups or filled + lengths[index] > budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += lengths[index]
    return groups


def pack(jobs: Sequence[Job], rule: PositionRule) -> Packed:
    """Put sequences end to end."""
    starts = np.cumsum([0, *(len(job.prompt) for job in jobs)])
    video = [
        np.arange(job.prompt.video_tokens, dtype=np.int64) + start + job.prompt.video_start
        for job, start in zip(jobs, starts, strict=False)
    ]
    audio = [
        np.arange(job.prompt.audio_tokens, dtype=np.int64) + start + job.prompt.audio_start
        for job, start in zip(jobs, starts, strict=False)
    ]
    positions = [position_ids(len(job.prompt), job.prompt.video_start, job.grid, rule) for job in jobs]
    grids = [(job.grid.time, job.grid.height, job.grid.width) for job in jobs if job.grid is not None]
    return Packed(
        np.concatenate([job.prompt.input_ids for job in jobs]),
        np.concatenate(positions, axis=1),
        starts.astype(np.int32),
        np.concatenate(video),
        np.concatenate(audio),
        np.asarray(grids, dtype=np.int64).reshape(-1, 3),
    )
