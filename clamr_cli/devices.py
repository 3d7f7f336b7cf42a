"""The device that models run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clamr_cli.errors import ModelError

_ABSENT: Final = {"cuda": "no CUDA device on this machine", "mps": "no Apple GPU on this machine"}


def choose_device(name: str, *, automatic: Sequence[str] = ("cuda", "mps"), hint: str = "use --device auto") -> str:
    """The device that a name means; "auto" is the first of ``automatic`` that is there, else the CPU.

    Raises:
        ModelError: the device is not there; ``hint`` says what to do.
    """
    # Slow to import, and whoever asks loads it anyway.
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next((device for device in automatic if available[device]), "cpu")
    kind = name.partition(":")[0]
    if kind not in available:
        raise ModelError(f"invalid device: {name!r}", "use auto, cpu, cuda or mps")
    if not available[kind]:
        raise ModelError(_ABSENT[kind], hint)
    return name
