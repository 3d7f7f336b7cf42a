"""The scan on a graphics card: the same bounds, by torch. Asked for by name only, since loading torch takes a second.

The query stays float32 here, so a bound is ``scale * (q . code) + |q| * residual`` and room for rounding. With
``u = 2**-24`` and to first order, the sum of 128 products is off by at most ``128 u * |q| * |scale * code|``, in
whatever order; the exact side by ``128 u * |q| * |v|``; the product with the scale, that of length and residual, and
their sum by ``3 u * |q| * reach``. Both ``|scale * code|`` and ``|v|`` are at most ``reach``, so :data:`SLACK` of
``512 u`` is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from clamr_cli.search import scoring as maxsim
    from clamr_cli.store import ScanFile

    Int64 = NDArray[np.int64]

SLACK: Final = 2.0**-15

_VECTORS_AT_ONCE: Final = 1 << 18
"""Vectors multiplied at once, one segment at least: their similarities to 64 tokens are 64 MiB."""


class TorchScanner:
    """The scan by torch on one device; parts are copied there once. See :class:`clamr_cli.search.bounds.Scanner`."""

    def __init__(self, query: maxsim.Float32, device: str) -> None:
        """Take the query [q, 128] float32 to the device.

        Raises:
            UsageError: there is no such device.
        """
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("there is no CUDA device here", "use --device auto")
        self._torch, self._device = torch, torch.device(device)
        self._query = torch.from_numpy(query).to(self._device).T.contiguous()
        self._lengths = torch.linalg.vector_norm(self._query.double(), dim=0).float() * (1 + 2.0**-20)
        self._parts: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def upper(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:  # noqa: ARG002 -- one precision here
        """At least the best similarity of each range of a part's vectors for each query token: [r, q]."""
        return self._scan(part, ranges, 1.0)

    def lower(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:  # noqa: ARG002
        """At most that."""
        return self._scan(part, ranges, -1.0)

    def _scan(self, part: ScanFile, ranges: Int64, side: float) -> maxsim.Float32:
        lengths = ranges[:, 1] - ranges[:, 0]
        found = np.full((len(ranges), self._query.shape[1]), -np.inf, np.float32)
        filled = np.flatnonzero(lengths > 0)
        ends = np.cumsum(lengths[filled])
        for some in np.split(filled, np.flatnonzero(np.diff(ends // _VECTORS_AT_ONCE)) + 1):
            if len(some):
                found[some] = self._maxima(part, ranges[some], side)
        return found

    def _maxima(self, part: ScanFile, ranges: Int64, side: float) -> maxsim.Float32:
        """Bounds of some segments, none of them empty."""
        torch = self._torch
        codes, scales, residuals = self._loaded(part)
        lengths = ranges[:, 1] - ranges[:, 0]
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        rows = torch.from_numpy(np.repeat(ranges[:, 0] - before, lengths) + np.arange(int(lengths.sum())))
        rows = rows.to(self._device)
        values = (codes[rows].float() @ self._query) * scales[rows, None]
        values += (side * self._lengths) * residuals[rows, None]
        segments = torch.from_numpy(lengths).to(self._device)
        best = torch.segment_reduce(values, "max", lengths=segments, axis=0)
        best += (side * SLACK * part.max_norm) * self._lengths
        array: maxsim.Float32 = best.cpu().numpy()
        return array

    def _loaded(self, part: ScanFile) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if part.name not in self._parts:
            made = (self._copied(array) for array in (part.codes, part.scales, part.residuals))
            self._parts[part.name] = (next(made), next(made), next(made))
        return self._parts[part.name]

    def _copied(self, array: NDArray[np.generic]) -> torch.Tensor:
        """An array on the device, a piece in this memory at a time."""
        pieces = (array[first : first + _VECTORS_AT_ONCE] for first in range(0, len(array), _VECTORS_AT_ONCE))
        # Mapped arrays cannot be written to, which torch would warn of: each piece is copied.
        return self._torch.cat([self._torch.from_numpy(np.array(piece)).to(self._device) for piece in pieces])
