"""Model weights: where they are, and whether they may be trusted.

Nothing here downloads except :func:`pull`, and nothing that fails its checksum is ever handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clamr_cli.weights.catalog import Model, WeightFile, model, names, ocr_weights
from clamr_cli.weights.locate import Status, locate, status

__all__ = ["Model", "Status", "WeightFile", "locate", "model", "names", "ocr_weights", "pull", "status"]


def pull(
    name: str, cache: Path, progress: Callable[[int, int], None] | None = None, *, endpoint: str | None = None
) -> Path:
    """Fetch a model into the cache folder, check every file, and return its folder.

    Args:
        name: a name of the table.
        cache: the cache folder.
        progress: called with (bytes done, bytes in all); the latter is the table's size, which is rounded for some.
        endpoint: address of a hub mirror; None is the hub itself.

    Raises:
        ModelError: unknown name, nothing to fetch it from, no network, refused, damaged on the way, or no space.
    """
    # The one lazy seam here: the network libraries take half a second to import.
    from clamr_cli.weights import download

    return download.pull(name, cache, progress, endpoint=endpoint)
