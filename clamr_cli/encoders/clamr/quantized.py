"""Linear layers in 4 bits (NF4), as the published training and evaluation load them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clamr_cli.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from types import ModuleType


def quantize(model: nn.Module, device: torch.device) -> None:
    """Turn every linear layer of a model on the CPU into a 4-bit one and move the model to its device.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: it does not run here.
    """
    library = _library()
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    try:
        for name, layer in layers:
            model.set_submodule(name, _four_bit(library, layer, device))
        model.to(device)
    except (RuntimeError, NotImplementedError) as problem:
        raise ModelError(f"4-bit layers do not run on {device}: {problem}", "leave --quantize out") from problem


def _four_bit(library: ModuleType, layer: nn.Linear, device: torch.device) -> nn.Module:
    made: Any = library.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
        device="meta",
    )
    made.weight = library.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=made)
    made.bias = layer.bias
    return made.to(device)  # type: ignore[no-any-return]


def _library() -> ModuleType:
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError as problem:
        raise MissingExtra("loading in 4 bits", "quantize") from problem
    return bitsandbytes  # type: ignore[no-any-return]
