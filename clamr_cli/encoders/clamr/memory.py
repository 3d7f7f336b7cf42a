"""Whether a model fits: bytes it needs against bytes that are free, before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from clamr_cli.encoders.clamr.sources import WAY_OUT
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADROOM: Final = 1.15
_SMALLEST: Final = 1 << 28
"""Bytes below which nothing is checked: such a model fits anywhere, and its activations say more than its weights."""
_NF4_BYTES: Final = 0.56


def bytes_of(shapes: Iterable[tuple[int, ...]], *, per_element: int, four_bit: bool) -> int:
    """Bytes that tensors of these shapes take; in 4 bits the matrices do, vectors stay as they are."""
    total = 0.0
    for shape in shapes:
        elements = 1
        for size in shape:
            elements *= size
        total += elements * (_NF4_BYTES if four_bit and len(shape) == 2 else per_element)
    return int(total)


def free_bytes(device: torch.device) -> int | None:
    """Bytes of memory that are free on a device, None where that cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, IndexError):
        return None


def check_fits(name: str, needed: int, device: torch.device, free: int | None) -> None:
    """Refuse a model that does not fit.

    Raises:
        ModelError: it needs more than is free.
    """
    if free is None or needed < _SMALLEST or needed * _HEADROOM <= free:
        return
    where = "the GPU" if device.type == "cuda" else "memory, and there is no GPU" if not _gpu() else "memory"
    sizes = f"needs about {needed * _HEADROOM / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    hint = "close other programs, take a machine with a larger GPU"
    raise ModelError(f"{name} does not fit into {where}: it {sizes}", f"{hint}, {WAY_OUT}")


def _gpu() -> bool:
    return torch.cuda.is_available()


def pick_device(wanted: str) -> torch.device:
    """The device a name means; "auto" is a CUDA device where there is one, else the CPU.

    Raises:
        ModelError: the device is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if _gpu() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as problem:
        raise ModelError(f"there is no device called {wanted!r}", "use auto, cpu, cuda or mps") from problem
    if device.type == "cuda" and not _gpu():
        raise ModelError("there is no CUDA device on this machine", f"leave --device out to use the CPU, {WAY_OUT}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("there is no Apple GPU on this machine", f"leave --device out to use the CPU, {WAY_OUT}")
    return device
