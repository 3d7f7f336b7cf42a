"""The scan on a graphics card, by torch. Asked for by name only, since loading torch takes a second.

The query stays float32 here, so bounds are those of :mod:`clamr_cli.kernel`, with the same room for rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.devices import choose_device
from clamr_cli.kernel import FLOAT_SLACK, batches
from clamr_cli.search.cascade import Scan
from clamr_cli.search.scoring import Float32, Int64
from clamr_cli.store import ScanFile

if TYPE_CHECKING:
    import torch

_VECTORS_AT_ONCE: Final = 1 << 18
"""Vectors multiplied at once, one segment at least: their similarities to 64 tokens are 64 MiB."""


def torch_scan(query: Float32, device: str) -> Scan:
    """The scan by torch on one device; files are copied there once. ``query`` is [q, 128] float32.

    Raises:
        ModelError: there is no such device.
    """
    import torch

    device = choose_device(device)
    tokens = torch.from_numpy(query).to(device).T.contiguous()
    norms = torch.linalg.vector_norm(tokens.double(), dim=0).float() * (1 + 2.0**-20)
    files: dict[str, tuple[torch.Tensor, ...]] = {}

    def copied(array: NDArray[np.generic]) -> torch.Tensor:
        # Mapped arrays cannot be written to, which torch would warn of: each piece is copied.
        pieces = (array[first : first + _VECTORS_AT_ONCE] for first in range(0, len(array), _VECTORS_AT_ONCE))
        return torch.cat([torch.from_numpy(np.array(piece)).to(device) for piece in pieces])

    def scan(file: ScanFile, ranges: Int64, side: Literal[1, -1], planes: int) -> Float32:  # noqa: ARG001 -- one precision here
        bounds = np.full((len(ranges), len(query)), -np.inf, np.float32)
        filled = np.flatnonzero(ranges[:, 1] > ranges[:, 0])
        if not len(filled):
            return bounds
        if file.name not in files:
            files[file.name] = tuple(copied(array) for array in (file.codes, file.scales, file.residuals))
        codes, scales, residuals = files[file.name]
        counts = ranges[filled, 1] - ranges[filled, 0]
        for some in batches(counts, _VECTORS_AT_ONCE):
            starts, lengths = ranges[filled[some], 0], counts[some]
            before = np.cumsum(lengths) - lengths
            rows = torch.from_numpy(np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))).to(device)
            values = (codes[rows].float() @ tokens) * scales[rows, None]
            values += (side * norms) * residuals[rows, None]
            segments = torch.from_numpy(lengths).to(device)
            best = torch.segment_reduce(values, "max", lengths=segments, axis=0)
            best += (side * FLOAT_SLACK * file.max_norm) * norms
            bounds[filled[some]] = best.cpu().numpy()
        return bounds

    return scan
