"""Batches of inputs through the model, with media decoded ahead and one copy back each; and whether a model fits."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from clamr_cli.encoders.clamr import audio, vision
from clamr_cli.encoders.clamr.model import pack
from clamr_cli.encoders.clamr.sources import WAY_OUT
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.model import Backbone
    from clamr_cli.encoders.clamr.prompt import EncoderInput
    from clamr_cli.types import FloatArray

_BUDGETS: Final[Mapping[str, int]] = {"cuda": 16384, "mps": 4096, "cpu": 2048}
_AHEAD: Final = 2
_HEADROOM: Final = 1.15
_SMALLEST: Final = 1 << 28
"""Bytes below which nothing is checked: such a model fits anywhere, its activations need more than its weights."""
_NF4_BYTES: Final = 0.56

Media = tuple["NDArray[np.uint8] | None", "NDArray[np.float32] | None"]
"""Pixels of an input's frames and log-mel features of its audio, see :func:`vision.pixels_of` and :mod:`audio`."""


def _decode(given: EncoderInput, factor: int) -> Media:
    return (
        vision.pixels_of(given.images, factor) if given.images else None,
        audio.features(given.samples) if given.samples is not None else None,
    )


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


class Runner:
    """Runs a model over many prompts.

    Args:
        backbone: the model.
        batch_tokens: tokens per forward pass; 0 for a default by device.
        workers: threads that decode pictures; 0 for as many as there are processors, eight at most. Threads suffice:
            decoding and resizing release the interpreter, and nothing has to be copied between processes.
    """

    def __init__(self, backbone: Backbone, batch_tokens: int = 0, workers: int = 0) -> None:
        self._backbone = backbone
        self._budget = batch_tokens or _BUDGETS.get(backbone.placement.device.type, _BUDGETS["cpu"])
        self._workers = workers or min(8, os.cpu_count() or 1)

    def run(self, inputs: Sequence[EncoderInput]) -> list[FloatArray]:
        """Vectors [n, 128] of each input, in order; float32 from a float32 model, else float16.

        Raises:
            MediaError: a picture is damaged.
            ModelError: the device does not hold even a single document, or the model gives no finite numbers.
        """
        results: dict[int, FloatArray] = {}
        groups = plan([len(given.prompt) for given in inputs], self._budget)
        waiting: deque[tuple[list[int], _Copy]] = deque()
        for group, media in self._decoded(groups, inputs):
            waiting.append((group, _Copy(self._forward([inputs[place] for place in group], media), self.exact)))
            if len(waiting) > 1:
                results.update(_share_out(*waiting.popleft(), inputs))
        for group, copy in waiting:
            results.update(_share_out(group, copy, inputs))
        return [results[place] for place in range(len(inputs))]

    @property
    def exact(self) -> bool:
        """True if vectors come back as float32."""
        return self._backbone.placement.dtype == torch.float32

    def _decoded(
        self, groups: Sequence[list[int]], inputs: Sequence[EncoderInput]
    ) -> Iterator[tuple[list[int], list[Media]]]:
        """Groups with their pixels and features, made on other threads while earlier groups are computed."""
        factor = self._backbone.patch * self._backbone.merge
        with ThreadPoolExecutor(self._workers) as pool:
            started: deque[tuple[list[int], list[Future[Media]]]] = deque()
            for group in [*groups, *itertools.repeat(None, _AHEAD)]:
                if group is not None:
                    started.append((group, [pool.submit(_decode, inputs[place], factor) for place in group]))
                if started and (group is None or len(started) > _AHEAD):
                    ready, futures = started.popleft()
                    yield ready, [future.result() for future in futures]

    def _forward(self, inputs: list[EncoderInput], media: list[Media]) -> torch.Tensor:
        """Vectors of all inputs in a row, on the device; in halves where the device is too small for all at once."""
        try:
            pixels = [array for array, _ in media if array is not None]
            features = [array for _, array in media if array is not None]
            return self._backbone(pack(inputs, self._backbone.rule), pixels, features)
        except torch.OutOfMemoryError as problem:
            if len(inputs) == 1:
                what = f"the GPU's memory does not hold a document of {len(inputs[0].prompt)} tokens"
                raise ModelError(what, f"close what else uses the GPU, try 4 bits, {WAY_OUT}") from problem
        torch.cuda.empty_cache()
        middle = len(inputs) // 2
        halves = [self._forward(inputs[part], media[part]) for part in (slice(middle), slice(middle, None))]
        return torch.cat(halves)


class _Copy:
    """Vectors on their way from the device: one copy, as narrow as they are kept, that runs beside the next batch."""

    def __init__(self, vectors: torch.Tensor, exact: bool) -> None:
        narrow = vectors.to(torch.float32 if exact else torch.float16)
        self._event: torch.cuda.Event | None = None
        self._host = narrow
        if narrow.is_cuda:
            self._host = torch.empty(narrow.shape, dtype=narrow.dtype, pin_memory=True)
            self._host.copy_(narrow, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> FloatArray:
        """The vectors, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.cpu().numpy()


def _share_out(group: list[int], copy: _Copy, inputs: Sequence[EncoderInput]) -> dict[int, FloatArray]:
    """Cut a batch's vectors into those of its members."""
    vectors: NDArray[Any] = copy.wait()
    if not np.isfinite(vectors).all():
        raise ModelError("the model gives no finite numbers", "use dtype bfloat16 or float32, or download it again")
    borders = np.cumsum([len(inputs[place].prompt) for place in group])[:-1]
    # Copies, so that one document kept does not keep its whole batch.
    return {place: part.copy() for place, part in zip(group, np.split(vectors, borders), strict=True)}


def bytes_of(shapes: Iterable[tuple[int, ...]], *, per_element: int, four_bit: bool) -> int:
    """Bytes that tensors of these shapes take; in 4 bits the matrices do, vectors stay as they are."""
    total = 0.0
    for shape in shapes:
        total += math.prod(shape) * (_NF4_BYTES if four_bit and len(shape) == 2 else per_element)
    return int(total)


def free_bytes(device: torch.device) -> int | None:
    """Bytes of memory that are free on a device, None where that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, IndexError):
        return None


def check_fits(name: str, needed: int, device: torch.device, free: int | None) -> None:
    """Refuse a model that does not fit.

    Raises:
        ModelError: it needs more than is free.
    """
    if free is None or needed < _SMALLEST or needed * _HEADROOM <= free:
        return
    beside = "memory" if torch.cuda.is_available() else "memory, and there is no GPU"
    where = "the GPU" if device.type == "cuda" else beside
    sizes = f"needs about {needed * _HEADROOM / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    hint = "close other programs, take a machine with a larger GPU"
    raise ModelError(f"{name} does not fit into {where}: it {sizes}", f"{hint}, {WAY_OUT}")
