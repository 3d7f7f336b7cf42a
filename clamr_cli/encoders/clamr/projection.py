"""The 128-row projection's base matrix, which the published adapter needs and nobody published: it is drawn again.

The adapter holds only a low-rank change of ``custom_text_proj``; its base is whatever the training run drew at random.
That draw is known: the default CPU generator seeded with 42, first use, normal with the configuration's deviation, in
the dtype the base was loaded in. Training in 4 bits loads the rest in float16, so the float16 draw is the default.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from clamr_cli.encoders.hub import Files
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION

ProjectionInit = Literal["float16", "float32"]

_SEED: Final = 42
_STORED: Final = re.compile(r"(^|\.)custom_text_proj(\.base_layer)?\.weight$")


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The base of the projection: ``weight`` [128, hidden] float32, where it came from and its SHA-256.

    ``sha256`` is taken over the matrix in the dtype it was drawn in (little-endian, row by row).
    """

    weight: NDArray[np.float32]
    source: str
    sha256: str

    @classmethod
    def of(cls, weight: NDArray[np.floating], source: str) -> Projection:
        """The projection of a matrix, in the dtype it was drawn in."""
        digest = hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest()
        return cls(weight.astype(np.float32), source, digest)


def init_projection(kind: ProjectionInit, hidden: int, deviation: float) -> Projection:
    """Draw the [128, hidden] base matrix as the training run did.

    Box-Muller over blocks of 16 numbers: the first 8 uniforms give radii, the last 8 angles. The float16 draw is that
    of torch up to 2.6 bit for bit; newer versions draw in float32 and round. The float32 draw follows the formula in
    double precision and is rounded once: the same on every machine, and within 4e-8 of torch's kernels, which differ by
    as much among themselves; :func:`as_torch_draws` gives those of this machine.
    """
    random = np.random.RandomState(_SEED)._bit_generator.random_raw(DIMENSION * hidden)
    bits = random.astype(np.uint32).reshape(-1, 16)
    if kind == "float32":
        uniform = (bits & 0xFFFFFF) / float(1 << 24)
        radius = np.sqrt(-2.0 * np.log(1.0 - uniform[:, :8]))
        angle = 2.0 * np.pi * uniform[:, 8:]
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        values = np.asarray(deviation * pairs, dtype=np.float32)
    else:
        # The same with 11-bit uniforms, where every intermediate result is rounded to float16.
        half = np.float16
        uniform = ((bits & 0x7FF) / float(1 << 11)).astype(half)
        logarithm = np.log((half(1) - uniform[:, :8]).astype(np.float64)).astype(half)
        radius = np.sqrt(half(-2) * logarithm)
        angle = (2.0 * np.pi * uniform[:, 8:].astype(np.float64)).astype(half).astype(np.float64)
        cosine, sine = np.cos(angle).astype(half), np.sin(angle).astype(half)
        pairs = np.concatenate([radius * cosine, radius * sine], axis=1)
        # Adding the mean turns negative zeros into zeros, as the original does.
        values = np.asarray(pairs * half(deviation) + half(0), dtype=half)
    return Projection.of(values.reshape(DIMENSION, hidden), kind)


def as_torch_draws(projection: Projection, deviation: float) -> Projection:
    """A float32 draw with the bits of torch's own kernels on this machine, as the published code would get them here.

    Other projections, and draws of a torch that has changed its rule, come back as they are.
    """
    import torch

    if projection.source != "float32":
        return projection
    generator = torch.Generator().manual_seed(_SEED)
    weight = torch.empty(projection.weight.shape).normal_(0.0, deviation, generator=generator).numpy()
    close = np.allclose(weight, projection.weight, rtol=0.0, atol=1e-6 * deviation / 0.02)
    return Projection.of(weight, projection.source) if close else projection


def is_stored(files: Files) -> bool:
    """True if the projection's base is in the files, so that nothing has to be drawn.

    Raises:
        ModelError: a file is damaged.
    """
    for path in files.weights():
        try:
            # Names alone are read, and without torch.
            with safe_open(path, framework="numpy") as opened:
                if any(_STORED.search(name) for name in opened.keys()):  # noqa: SIM118 -- not a mapping
                    return True
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} is damaged", "download the model again") from error
    return False
