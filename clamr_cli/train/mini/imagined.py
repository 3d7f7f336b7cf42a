"""Pictures that are only imagined: what the connector might have said of a scene that only captions tell of.

A few hundred photos are too few to learn from which words a picture answers, but there are captions of many more
scenes. What the connector says of a photo follows from its captions as far as a linear map knows, and misses them by a
residual; a scene without a photo gets the map's prediction and the residual of a photo whose captions are near. Text in
place of pictures as in Gu et al., "I Can't Believe There's No Images!" (arXiv 2211.09778) and Nukrai et al., "Text-Only
Training for Image Captioning using Noise-Injected CLIP" (arXiv 2211.00575), with real residuals instead of noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini.heads import unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_RIDGE: Final = 20.0
_NEAR: Final = 20
"""Photos among which the residual is drawn."""


def imagine(rows: Array, captions: Array, scenes: Array, seed: int) -> Array:
    """Picture rows of scenes.

    Args:
        rows: [photos, 11, 384], what connectors say of photos that they were not trained on.
        captions: [photos, 384], the mean of each photo's captions.
        scenes: [scenes, 384], the mean of each scene's captions.
        seed: of the draw of residuals.

    Returns:
        [scenes, 11, 384], of unit length.
    """
    centre = captions.mean(axis=0)
    centred = captions - centre
    products = centred.T @ centred
    products[np.diag_indices_from(products)] += _RIDGE * np.trace(products) / len(products)
    flat = rows.reshape(len(rows), -1)
    weight = np.linalg.solve(products, centred.T @ (flat - flat.mean(axis=0)))
    residuals = flat - flat.mean(axis=0) - centred @ weight
    predicted = (scenes - centre) @ weight + flat.mean(axis=0)
    nearest = np.argsort(-unit(scenes) @ unit(captions).T, axis=1)[:, : min(_NEAR, len(rows))]
    drawn = np.random.default_rng(seed).integers(0, nearest.shape[1], len(scenes))
    chosen = residuals[nearest[np.arange(len(scenes)), drawn]]
    return unit((predicted + chosen).reshape(len(scenes), *rows.shape[1:])).astype(np.float32)
