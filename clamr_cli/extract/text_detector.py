"""Parts of pictures that changed and could hold text: what need not be looked at again. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from clamr_cli.extract.ocr_lines import Box

Grey = NDArray[np.uint8]
Blocks = NDArray[np.bool_]
"""[rows, columns] of squares of 16 pixels of a working copy."""

_BLOCK: Final = 16
_WORKING_SIDE: Final = 640
_LARGE: Final = 1280
"""Pixels of a picture's longer side from which the working copy is half of it: the text may be small."""

_NOISE: Final = 12
_CHANGED: Final = 1.0
_EDGE: Final = 16
_EDGES: Final = 5
_MOST_OF_IT: Final = 0.8
_TALL: Final = 1.8


def working_copy(image: NDArray[np.uint8]) -> Grey:
    """[h, w] grey copy of an [H, W, 3] RGB picture, its longer side at most 640 pixels, or half."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = 0.5 if max(grey.shape) > _LARGE else _WORKING_SIDE / max(grey.shape)
    if scale < 1.0:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, dtype=np.uint8)


def changed_blocks(before: Grey, now: Grey) -> Blocks:
    """Blocks that differ by more than coding noise does."""
    difference = np.abs(now.astype(np.int16) - before.astype(np.int16)) - _NOISE
    return _block_means(np.maximum(difference, 0)) > _CHANGED


def textured_blocks(grey: Grey) -> Blocks:
    """Blocks, and their neighbours, with the few strong edges that any letter has."""
    edges = np.zeros(grey.shape, dtype=np.int16)
    wide = grey.astype(np.int16)
    edges[:, 1:-1] = np.abs(wide[:, 2:] - wide[:, :-2]) >= _EDGE
    return _dilated(_block_means(edges) * _BLOCK * _BLOCK >= _EDGES)


def copy_blocks(before: Grey, now: Grey, blocks: Blocks) -> None:
    """Copy the pixels of some blocks from ``now`` into ``before``."""
    mask = np.repeat(np.repeat(blocks, _BLOCK, axis=0), _BLOCK, axis=1)[: now.shape[0], : now.shape[1]]
    before[mask] = now[mask]


def touches(blocks: Blocks, box: Box, scale: float) -> bool:
    """Whether a box of the picture (``scale`` pixels of the working copy per pixel) lies on any of the blocks."""
    left, top, right, bottom = (value * scale / _BLOCK for value in box)
    return bool(blocks[int(max(0, top)) : int(np.ceil(bottom)), int(max(0, left)) : int(np.ceil(right))].any())


def boxes_of(blocks: Blocks, scale: float, width: int, height: int) -> list[Box]:
    """Boxes in the picture around connected blocks, with a block's margin; all of it where they are most of it."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(_dilated(blocks).astype(np.uint8), connectivity=8)
    side = _BLOCK / scale
    boxes = []
    for left, top, columns, rows, _area in stats[1:count]:
        box = Box(int(left * side), int(top * side), int((left + columns) * side) + 1, int((top + rows) * side) + 1)
        boxes.append(_clipped(box, width, height))
    return united(boxes, width, height)


def with_margins(boxes: Iterable[Box], width: int, height: int) -> list[Box]:
    """Boxes of text with the room that a reader needs around them: half as much again as their height."""
    grown = []
    for left, top, right, bottom in boxes:
        size = max(16, min(bottom - top, right - left))
        beside, above = 3 * size // 2, 3 * size // 4
        grown.append(_clipped(Box(left - beside, top - above, right + beside, bottom + above), width, height))
    return united(grown, width, height)


def united(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """Disjoint boxes that cover the same; one of the whole picture where they are most of it."""
    result = list(boxes)
    while pair := next((p for p in combinations(range(len(result)), 2) if result[p[0]].overlaps(result[p[1]])), None):
        result[pair[0]] = result[pair[0]].union(result.pop(pair[1]))
    if sum(box.area for box in result) > _MOST_OF_IT * width * height:
        return [Box(0, 0, width, height)]
    return result


def is_tall(box: Box) -> bool:
    """Whether a box is that of text which runs upwards or downwards, or of one slim letter."""
    return box.height > _TALL * box.width


def turned_back(box: Box, turns: int, width: int, height: int) -> Box:
    """A box of a picture that was turned ``turns`` quarters against the clock, in the picture of this size before."""
    left, top, right, bottom = box
    if turns == 1:
        return Box(width - bottom, left, width - top, right)
    if turns == 2:
        return Box(width - right, height - bottom, width - left, height - top)
    return Box(top, height - right, bottom, height - left)


def _clipped(box: Box, width: int, height: int) -> Box:
    return Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))


def _dilated(blocks: Blocks) -> Blocks:
    return np.asarray(cv2.dilate(blocks.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=bool)


def _block_means(values: NDArray[np.int16]) -> NDArray[np.float32]:
    rows, columns = -(-values.shape[0] // _BLOCK), -(-values.shape[1] // _BLOCK)
    padded = np.zeros((rows * _BLOCK, columns * _BLOCK), dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    means: NDArray[np.float32] = padded.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return means
