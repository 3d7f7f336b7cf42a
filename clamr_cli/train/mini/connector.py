"""The connector: ridge regression from what the picture model sees to what people say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini.heads import CLASS_SHARE, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.heads import PictureFeatures

    Array = NDArray[np.float32]
    Ids = NDArray[np.int64]

FOLDS: Final = 5
ALWAYS: Final = -1
"""The fold of pictures that every connector may know."""

NEVER: Final = -2
"""The fold of held-out pictures."""

_RIDGE: Final = 2.0

MEAN_SHARE: Final = 0.5
"""Part of the captions' mean that is taken out of what the connector says, so that pictures differ by what differs."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A ridge regression: [1306, 384] and [384]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Pictures to fit to.

    Attributes:
        inputs: [n, 1306], the whole pictures' :meth:`PictureFeatures.inputs`.
        targets: [n, 384], the mean of what is said of each.
        folds: [n], of each the fold whose connector must not know it, or :data:`ALWAYS` or :data:`NEVER`.
        weight: how much one of them counts.
    """

    inputs: Array
    targets: Array
    folds: Ids
    weight: float


def fit(samples: Sequence[Sample], mean: Array, without: int | None = None) -> Linear:
    """Fit to everything but held-out pictures and those of one fold.

    Args:
        samples: what to fit to.
        mean: [384], of the captions; :data:`MEAN_SHARE` of it is taken out.
        without: the fold to leave out.
    """
    kept = [np.flatnonzero((one.folds != NEVER) & (one.folds != without)) for one in samples]
    inputs, targets = (
        np.concatenate([part[rows] for part, rows in zip(parts, kept, strict=True)])
        for parts in ([one.inputs for one in samples], [one.targets for one in samples])
    )
    share = np.concatenate([np.full(len(rows), one.weight) for one, rows in zip(samples, kept, strict=True)])
    share /= share.mean()
    inputs_mean, targets_mean = (np.average(each, axis=0, weights=share) for each in (inputs, targets))
    centred = (inputs - inputs_mean) * np.sqrt(share)[:, None]
    products = centred.T @ centred
    products[np.diag_indices_from(products)] += _RIDGE * np.trace(products) / len(products)
    weight = np.linalg.solve(products, centred.T @ ((targets - targets_mean) * np.sqrt(share)[:, None]))
    bias = targets_mean - inputs_mean @ weight - MEAN_SHARE * mean
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def apply(connector: Linear, seen: PictureFeatures, classes: Array) -> Array:
    """What the picture head gets: [n, 11, 384] of the whole, the classes and the regions, as the encoder makes them.

    Args:
        connector: fitted.
        seen: of n pictures.
        classes: [1000, 384], sentence vectors of the classes' names.
    """
    named = unit(seen.probabilities @ classes)
    whole = unit(seen.inputs() @ connector.weight + connector.bias + np.float32(CLASS_SHARE) * named)
    rows: Array = np.concatenate([whole[:, :1], named[:, :1], whole[:, 1:]], axis=1)
    return rows


def unseen(
    samples: Sequence[Sample], mean: Array, seen: PictureFeatures, folds: Ids, classes: Array
) -> tuple[Array, Linear]:
    """Rows of all pictures, each from a connector that does not know it, and the connector that knows all it may.

    A connector knows its own pictures too well; gates trained on those would trust pictures too much.

    Args:
        samples: what connectors are fitted to.
        mean: see :func:`fit`.
        seen: of n pictures.
        folds: [n], of each the fold that leaves it out, or :data:`NEVER`.
        classes: see :func:`apply`.
    """
    final = fit(samples, mean)
    rows = np.zeros((len(seen), seen.inputs().shape[1] + 1, classes.shape[1]), np.float32)
    for fold in np.unique(folds).tolist():
        here = np.flatnonzero(folds == fold)
        rows[here] = apply(final if fold < 0 else fit(samples, mean, without=fold), seen.take(here), classes)
    return rows, final
