"""The bounds of the C kernel in numpy, bit for bit.

Sums of products of codes stay below 2**24 within a plane, so float32 matrix products of them are exact in any order.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.kernel import Quantized, bound_tokens

Float32 = NDArray[np.float32]


def bound(
    query: Float32, vectors: Quantized, ranges: NDArray[np.int64], planes: int, side: Literal[1, -1] = 1
) -> Float32:
    """Bounds of similarities, [r, q]."""
    tokens = bound_tokens(query, planes, vectors.max_norm, side)
    high = (tokens.codes + 64) >> 7 if planes == 2 else tokens.codes
    low = tokens.codes - (high << 7)
    columns = vectors.codes.astype(np.float32).T
    # Each product is exact; the sum of two planes is so in float64, and rounds once.
    products = high.astype(np.float32) @ columns
    if planes == 2:
        products = (products.astype(np.float64) * 128 + low.astype(np.float32) @ columns).astype(np.float32)
    values = products * vectors.scales + vectors.residuals * tokens.weights[:, None]
    maxima = np.full((len(ranges), len(query)), -np.inf, np.float32)
    for number, (start, end) in enumerate(ranges.tolist()):
        if start < end:
            maxima[number] = values[:, start:end].max(axis=1) * tokens.steps + tokens.offsets
    return maxima
