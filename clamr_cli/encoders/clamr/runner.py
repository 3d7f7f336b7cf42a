"""Prompts and pictures in, vectors out: batches by token budget, pictures decoded ahead, one copy back per batch."""

from __future__ import annotations

import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from clamr_cli.encoders.clamr import audio, frames, packing
from clamr_cli.encoders.clamr.sources import WAY_OUT
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.backbone import Backbone
    from clamr_cli.encoders.clamr.packing import Job, Work
    from clamr_cli.types import FloatArray

_BUDGETS: Final[Mapping[str, int]] = {"cuda": 16384, "mps": 4096, "cpu": 2048}
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Media:
    """What a document shows and sounds like, ready for the model."""

    pixels: NDArray[np.uint8] | None
    features: NDArray[np.float32] | None


def _decode(work: Work, factor: int) -> _Media:
    return _Media(
        frames.pixels_of(work.images, factor) if work.images else None,
        audio.features(work.samples) if work.samples is not None else None,
    )


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

    def run(self, works: Sequence[Work]) -> list[FloatArray]:
        """Vectors [n, 128] of each piece of work, in order; float32 from a float32 model, else float16.

        Raises:
            MediaError: a picture is damaged.
            ModelError: the device does not hold even a single document, or the model gives no finite numbers.
        """
        results: dict[int, FloatArray] = {}
        groups = packing.plan([len(work.job.prompt) for work in works], self._budget)
        waiting: deque[tuple[list[int], _Copy]] = deque()
        for group, media in self._decoded(groups, works):
            waiting.append((group, _Copy(self._forward([works[place].job for place in group], media), self.exact)))
            if len(waiting) > 1:
                results.update(_share_out(*waiting.popleft(), works))
        for group, copy in waiting:
            results.update(_share_out(group, copy, works))
        return [results[place] for place in range(len(works))]

    @property
    def exact(self) -> bool:
        """Whether vectors come back as float32."""
        return self._backbone.placement.dtype == torch.float32

    def _decoded(self, groups: Sequence[list[int]], works: Sequence[Work]) -> Iterator[tuple[list[int], list[_Media]]]:
        """Groups with their pixels and features, made on other threads while earlier groups are computed."""
        factor = self._backbone.patch * self._backbone.merge
        with ThreadPoolExecutor(self._workers) as pool:
            started: deque[tuple[list[int], list[Future[_Media]]]] = deque()
            for group in [*groups, *itertools.repeat(None, _AHEAD)]:
                if group is not None:
                    started.append((group, [pool.submit(_decode, works[place], factor) for place in group]))
                if started and (group is None or len(started) > _AHEAD):
                    ready, futures = started.popleft()
                    yield ready, [future.result() for future in futures]

    def _forward(self, jobs: list[Job], media: list[_Media]) -> torch.Tensor:
        """Vectors of all jobs in a row, on the device; in halves where the device is too small for all at once."""
        try:
            pixels = [one.pixels for one in media if one.pixels is not None]
            features = [one.features for one in media if one.features is not None]
            return self._backbone(packing.pack(jobs, self._backbone.rule), pixels, features)
        except torch.OutOfMemoryError as problem:
            if len(jobs) == 1:
                what = f"the GPU's memory does not hold a document of {len(jobs[0].prompt)} tokens"
                raise ModelError(what, f"close what else uses the GPU, try 4 bits, {WAY_OUT}") from problem
        torch.cuda.empty_cache()
        middle = len(jobs) // 2
        halves = [self._forward(jobs[part], media[part]) for part in (slice(middle), slice(middle, None))]
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


def _share_out(group: list[int], copy: _Copy, works: Sequence[Work]) -> dict[int, FloatArray]:
    """Cut a batch's vectors into those of its members."""
    vectors: NDArray[Any] = copy.wait()
    if not np.isfinite(vectors).all():
        raise ModelError("the model gives no finite numbers", "use dtype bfloat16 or float32, or download it again")
    borders = np.cumsum([len(works[place].job.prompt) for place in group])[:-1]
    # Copies, so that one document kept does not keep its whole batch.
    return {place: part.copy() for place, part in zip(group, np.split(vectors, borders), strict=True)}
