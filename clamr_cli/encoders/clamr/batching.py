"""Batches of inputs through the model, with media decoded ahead and one copy back each."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from clamr_cli.encoders.clamr.hub import WAY_OUT
from clamr_cli.encoders.clamr.model import Backbone
from clamr_cli.encoders.clamr.prompt import EncoderInput
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from clamr_cli.types import FloatArray

_BUDGETS: Final[Mapping[str, int]] = {"cuda": 16384, "mps": 4096}
_CPU_BUDGET: Final = 2048
_AHEAD: Final = 2
MAX_THREADS: Final = 8
"""Threads that decode pictures at most. Threads suffice: decoding and resizing release the interpreter."""


def encode(
    backbone: Backbone, inputs: Sequence[EncoderInput], batch_tokens: int = 0, threads: int = 0
) -> list[FloatArray]:
    """Vectors [n, 128] of each input, in order; float32 from a float32 model, else float16.

    Args:
        backbone: the model.
        inputs: documents and queries, their media not decoded yet.
        batch_tokens: tokens per forward pass; 0 for a default by device.
        threads: that decode pictures; 0 for as many as there are processors, eight at most.

    Raises:
        MediaError: a picture is damaged.
        ModelError: the device does not hold even a single document, or the model gives no finite numbers.
    """
    budget = batch_tokens or _BUDGETS.get(backbone.placement.device.type, _CPU_BUDGET)
    dtype = torch.float32 if backbone.placement.dtype == torch.float32 else torch.float16
    results: dict[int, FloatArray] = {}
    waiting: deque[tuple[list[int], Callable[[], FloatArray]]] = deque()

    def collect(group: list[int], arrive: Callable[[], FloatArray]) -> None:
        """Cut a batch's vectors into those of its members."""
        vectors: NDArray[Any] = arrive()
        if not np.isfinite(vectors).all():
            raise ModelError("the model gives no finite numbers", "use dtype bfloat16 or float32, or download it again")
        borders = np.cumsum([len(inputs[place]) for place in group])[:-1]
        # Copies, so that one document kept does not keep its whole batch.
        results.update({place: part.copy() for place, part in zip(group, np.split(vectors, borders), strict=True)})

    for group, batch in _decode(plan([len(item) for item in inputs], budget), inputs, threads):
        # The copy of one batch runs beside the next.
        waiting.append((group, _start_copy(_forward(backbone, batch), dtype)))
        if len(waiting) > 1:
            collect(*waiting.popleft())
    for group, arrive in waiting:
        collect(group, arrive)
    return [results[place] for place in range(len(inputs))]


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences, longest first, so that no group holds more than ``budget`` tokens unless it is a single one.

    The longest come first, so that a device too small for them says so at once.
    """
    groups: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not groups or total + lengths[index] > budget:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += lengths[index]
    return groups


def _decode(
    groups: Sequence[list[int]], inputs: Sequence[EncoderInput], threads: int
) -> Iterator[tuple[list[int], list[EncoderInput]]]:
    """Groups with their inputs decoded, on other threads while earlier groups are computed."""
    with ThreadPoolExecutor(threads or min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        started: deque[tuple[list[int], list[Future[EncoderInput]]]] = deque()
        for group in [*groups, *itertools.repeat(None, _AHEAD)]:
            if group is not None:
                started.append((group, [pool.submit(inputs[place].decoded) for place in group]))
            if started and (group is None or len(started) > _AHEAD):
                ready, futures = started.popleft()
                yield ready, [future.result() for future in futures]


def _forward(backbone: Backbone, inputs: Sequence[EncoderInput]) -> torch.Tensor:
    """Vectors of all inputs in a row, on the device; in halves where the device is too small for all at once."""
    try:
        return backbone(inputs)
    except torch.OutOfMemoryError as error:
        if len(inputs) == 1:
            what = f"the GPU's memory does not hold a document of {len(inputs[0])} tokens"
            raise ModelError(what, f"close what else uses the GPU, try 4 bits, {WAY_OUT}") from error
    torch.cuda.empty_cache()
    middle = len(inputs) // 2
    return torch.cat([_forward(backbone, half) for half in (inputs[:middle], inputs[middle:])])


def _start_copy(vectors: torch.Tensor, dtype: torch.dtype) -> Callable[[], FloatArray]:
    """Start one copy from the device, as narrow as it is kept; the function waits for it."""
    narrow = vectors.to(dtype)
    if not narrow.is_cuda:
        return lambda: narrow.cpu().numpy()
    host = torch.empty(narrow.shape, dtype=dtype, pin_memory=True)
    host.copy_(narrow, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()

    def wait() -> FloatArray:
        event.synchronize()
        return host.numpy()

    return wait
