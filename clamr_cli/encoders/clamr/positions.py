"""Position ids of Qwen2.5-VL as the published code computed them: three axes, time, height and width.

Text counts up on all three axes at once. A video spans time, height and width from where the text before it ended, and
the text after it goes on at the maximum over *all* axes plus one. Newer library versions go on at the larger of height
and width alone, which moves every text token of a long video, so the rule is kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Grid:
    """A video in patches: ``time`` pairs of frames, ``height`` and ``width`` in patches of the vision tower."""

    time: int
    height: int
    width: int

    def tokens(self, merge: int) -> int:
        """How many tokens the video becomes when ``merge`` x ``merge`` patches are merged into one."""
        return self.time * (self.height // merge) * (self.width // merge)


@dataclass(frozen=True, slots=True)
class PositionRule:
    """Constants of the model: patches merged per side, and steps of the time axis per pair of frames."""

    merge: int = 2
    time_step: int = 2


def position_ids(length: int, video_start: int, grid: Grid | None, rule: PositionRule) -> NDArray[np.int64]:
    """Positions [3, length] of a sequence whose video tokens start at index ``video_start`` (ignored without a video).

    The sequence may end right after the video, never inside it.
    """
    if grid is None:
        return np.broadcast_to(np.arange(length, dtype=np.int64), (3, length)).copy()
    video = _video(grid, rule) + video_start
    before = np.broadcast_to(np.arange(video_start, dtype=np.int64), (3, video_start))
    rest = length - video_start - video.shape[1]
    after = np.broadcast_to(np.arange(rest, dtype=np.int64) + int(video.max()) + 1, (3, rest))
    return np.concatenate([before, video, after], axis=1)


def _video(grid: Grid, rule: PositionRule) -> NDArray[np.int64]:
    """Positions [3, tokens] of a video that starts at 0."""
    sizes = (grid.time, grid.height // rule.merge, grid.width // rule.merge)
    axes = np.indices(sizes, dtype=np.int64).reshape(3, -1)
    axes[0] *= rule.time_step
    return axes
