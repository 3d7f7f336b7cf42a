"""Batches of all processes as one, with gradients into the own part."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional


class Processes(Protocol):
    """What is needed of an ``accelerate.Accelerator``."""

    @property
    def num_processes(self) -> int:
        """How many there are."""
        ...

    @property
    def process_index(self) -> int:
        """The number of this one."""
        ...

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all processes, which have one shape, joined along the first dimension; without gradient."""
        ...


def everyones(accelerator: Processes, own: torch.Tensor, *, empty: float = 0) -> list[torch.Tensor]:
    """A tensor of every process, in their order; the own one keeps its gradient.

    Args:
        accelerator: of this process.
        own: [n, ...], where n and the second dimension may differ between processes.
        empty: fills second dimensions up to the longest.
    """
    if accelerator.num_processes == 1:
        return [own]
    shape = torch.tensor([own.shape[:2] if own.dim() > 1 else (len(own), 0)], device=own.device)
    shapes = accelerator.gather(shape).view(-1, 2)
    rows, width = int(shapes[:, 0].max()), int(shapes[:, 1].max())
    wide = _widened(own, width, empty) if own.dim() > 1 else own
    # Gloo gathers no booleans.
    sent = wide.detach().to(torch.uint8) if wide.dtype == torch.bool else wide.detach()
    filled = functional.pad(sent, (*(0, 0) * (sent.dim() - 1), 0, rows - len(sent)))
    gathered = accelerator.gather(filled.contiguous()).view(-1, *filled.shape).to(wide.dtype)
    parts = [part[:count] for part, count in zip(gathered, shapes[:, 0].tolist(), strict=True)]
    parts[accelerator.process_index] = wide
    return parts


def _widened(tensor: torch.Tensor, width: int, empty: float) -> torch.Tensor:
    """The tensor with its second dimension filled up."""
    missing = width - tensor.shape[1]
    filled = tensor.new_full((tensor.shape[0], missing, *tensor.shape[2:]), empty)
    return torch.cat([tensor, filled], dim=1) if missing else tensor


def summed_over_processes(accelerator: Processes, loss: torch.Tensor) -> torch.Tensor:
    """The same value, with a gradient as many times as large as there are processes.

    Each process has only its own part of the gradient of the common loss. Their sum is wanted, and distributed training
    takes the mean.
    """
    return loss + (accelerator.num_processes - 1) * (loss - loss.detach())
