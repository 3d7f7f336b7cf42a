"""EasyOCR behind the seam of :mod:`clamr_cli.extract.ocr`: CRAFT finds the text, a CRNN reads it."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

import cv2
import easyocr
import numpy as np
import torch

from clamr_cli.errors import ModelError
from clamr_cli.extract.clean import clean
from clamr_cli.extract.ocr_lines import TextLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.extract.ocr_lines import Box
    from clamr_cli.extract.options import OcrOptions

# A look at a small copy must find what a look at the large one would, and CRAFT's scores fall with the size of letters.
_LOOK: Final = {"text_threshold": 0.2, "low_text": 0.2, "link_threshold": 0.2, "min_size": 4}


class EasyOcrEngine:
    """EasyOCR's reader with weights from a folder; never downloads.

    Raises:
        ModelError: the folder lacks the weights of these languages, or they are damaged.
    """

    source: Final = "easyocr"
    sure: Final = 0.5

    def __init__(self, model: Path, options: OcrOptions) -> None:
        self.options = options
        self._device = _device(options.device)
        self._threads = options.threads or os.cpu_count() or 1
        with _quiet(), _restored_path():
            try:
                self._reader = easyocr.Reader(
                    list(options.languages),
                    gpu=self._device if self._device != "cpu" else False,
                    model_storage_directory=str(model),
                    user_network_directory=str(model),
                    download_enabled=False,
                    verbose=False,
                    quantize=False,
                )
                if self._device == "cpu":
                    network = self._reader.detector.basenet
                    network.slice1 = InStrips(network.slice1)
            except (FileNotFoundError, RuntimeError, ValueError, KeyError, EOFError) as error:
                raise ModelError(f"EasyOCR cannot use {model} ({error})", "clamr models says what is there") from error

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        """See :meth:`clamr_cli.extract.ocr.OcrEngine.find_text`."""
        boxes, slanted = self._detect(image, scale, _LOOK)
        return [_box(corners) for corners in slanted] + [(b[0], b[2], b[1], b[3]) for b in boxes]

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        """See :meth:`clamr_cli.extract.ocr.OcrEngine.read`."""
        boxes, slanted = self._detect(image, scale, {"min_size": 8})
        if not boxes and not slanted:
            return []
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        batch = 1 if self._device == "cpu" else 16
        # The recogniser is a chain of small steps: threads that wait for each other cost more than they bring, twenty
        # times more while other processes use the cores too.
        with _quiet(), _threads(1):
            found = self._reader.recognize(grey, boxes, slanted, batch_size=batch, reformat=False)
        lines = ((clean(text), float(confidence), _box(corners)) for corners, text, confidence in found)
        return [TextLine(*line) for line in lines if line[0]]

    def _detect(
        self, image: NDArray[np.uint8], scale: float, thresholds: dict[str, float]
    ) -> tuple[list[list[int]], list[Any]]:
        with _quiet(), _threads(self._threads), torch.inference_mode():
            boxes, slanted = self._reader.detect(
                image, canvas_size=max(image.shape), mag_ratio=scale, reformat=False, **thresholds
            )
        return [[int(value) for value in box] for box in boxes[0]], slanted[0]


class InStrips(torch.nn.Module):
    """The first block of CRAFT, over a strip of the picture at a time: the same result in less memory.

    At full size its 64 channels are the largest thing there is: on a picture of 1280 x 720 the block adds up to 700 MB,
    in strips 260 MB. A strip is seen with more rows around it than the block's two convolutions, pooling and two
    convolutions reach.

    Args:
        block: takes [1, 3, h, w] and gives [1, c, h // 2, w // 2].
        rows: of a strip; even.
    """

    _AROUND: Final = 8

    def __init__(self, block: torch.nn.Module, rows: int = 96) -> None:
        super().__init__()
        self.block = block
        self.rows = rows

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """The block's result."""
        height = picture.shape[2]
        strips = []
        for top in range(0, height, self.rows):
            first, last = max(0, top - self._AROUND), min(height, top + self.rows + self._AROUND)
            seen = self.block(picture[:, :, first:last])
            skipped = (top - first) // 2
            strips.append(seen[:, :, skipped : skipped + (min(height, top + self.rows) - top) // 2])
        return torch.cat(strips, dim=2)


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _box(corners: Any) -> Box:  # noqa: ANN401  (EasyOCR gives lists of four points, or arrays)
    points = np.asarray(corners, dtype=np.float64)
    left, top = np.floor(points.min(axis=0))
    right, bottom = np.ceil(points.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that EasyOCR's way of using torch draws on every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _restored_path() -> Iterator[None]:
    """EasyOCR adds a folder of user networks to the import path; a folder of weights has no business there."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
