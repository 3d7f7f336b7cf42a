"""clamr: search a folder of videos by what is seen, said, written on screen and noted about it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clamr_cli.api import load_encoder

__all__ = ["__version__", "load_encoder"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- the type of whatever is asked for
    """``clamr_cli.load_encoder``, without making every other import of the package pay for it."""
    if name == "load_encoder":
        return importlib.import_module("clamr_cli.api").load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
