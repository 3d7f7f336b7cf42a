"""RapidOCR behind the seam of :mod:`clamr_cli.extract.ocr`: PaddleOCR's models on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import rapidocr

from clamr_cli.errors import ModelError
from clamr_cli.extract.clean import clean
from clamr_cli.extract.ocr_lines import TextLine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clamr_cli.extract.ocr_lines import Box
    from clamr_cli.extract.options import OcrOptions

_MODELS: Final = {"Det.model_path": "*_det_*.onnx", "Rec.model_path": "*_rec_*.onnx"}
_LOOK: Final = 1.5
"""Its detector is cheap enough to look more closely than the options ask."""


class RapidOcrEngine:
    """RapidOCR with the models its package carries, which read Chinese, English, Japanese and Latin scripts.

    Raises:
        ModelError: this version of the package carries no models; it would fetch them by itself.
    """

    source: Final = "rapidocr"
    sure: Final = 0.87

    def __init__(self, options: OcrOptions) -> None:
        self.options = options
        folder = Path(rapidocr.__file__).parent / "models"
        params: dict[str, Any] = {"Global.log_level": "error", "Global.use_cls": False}
        # Crops come shrunk already; the default would enlarge them.
        params |= {"Det.limit_type": "max", "Det.limit_side_len": options.canvas, "Global.width_height_ratio": -1}
        for parameter, pattern in _MODELS.items():
            found = sorted(folder.glob(pattern))
            if not found:
                # Named paths are also what keeps RapidOCR from downloading.
                raise ModelError(
                    f"{folder} holds no {pattern}", "pip install 'rapidocr>=3.10', which carries its models"
                )
            params[parameter] = str(found[0])
        if options.threads:
            params["EngineConfig.onnxruntime.intra_op_num_threads"] = options.threads
        if options.device == "cuda":
            params["EngineConfig.onnxruntime.use_cuda"] = True
        self._ocr = rapidocr.RapidOCR(params=params)

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        """See :meth:`clamr_cli.extract.ocr.OcrEngine.find_text`."""
        shrunk, factor = _shrunk(image, min(1.0, scale * _LOOK))
        found = self._ocr(shrunk, use_det=True, use_rec=False, use_cls=False)
        return [] if found.boxes is None else [_box(corners, factor) for corners in found.boxes]

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        """See :meth:`clamr_cli.extract.ocr.OcrEngine.read`."""
        shrunk, factor = _shrunk(image, scale)
        found = self._ocr(shrunk, use_det=True, use_rec=True, use_cls=False)
        if found.boxes is None or found.txts is None:
            return []
        lines = (
            (clean(text), float(score), _box(corners, factor))
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        )
        return [TextLine(*line) for line in lines if line[0]]


def _shrunk(image: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.uint8], float]:
    """The picture in BGR as RapidOCR takes it, and the factor that leads back."""
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if scale < 1.0:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(picture, dtype=np.uint8), 1.0 / scale


def _box(corners: NDArray[np.float32], factor: float) -> Box:
    left, top = np.floor(corners.min(axis=0) * factor)
    right, bottom = np.ceil(corners.max(axis=0) * factor)
    return int(left), int(top), int(right), int(bottom)
