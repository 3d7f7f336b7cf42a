"""LoRA adapters in the published layout, read by name and applied in a few lines of our own.

The usual library applies an adapter through a pattern over module names. With today's names the published pattern also
matches the vision tower and the published tensors match nothing, without an error. Read here, every tensor is accounted
for, 4-bit layers need no other code, and no further package is needed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from clamr_cli.encoders.clamr.checkpoint import PROJECTION, listed, published, read_headers, renamed, unused
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clamr_cli.encoders.clamr.checkpoint import Stored
    from clamr_cli.encoders.clamr.sources import Files

_PREFIX: Final = "base_model.model."
_TENSOR: Final = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_BASE: Final = re.compile(rf"^{PROJECTION}(?:\.base_layer)?\.(?P<which>weight|bias)$")
_UNSUPPORTED: Final = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "fan_in_fan_out",
    "lora_bias",
)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The low-rank change of one linear layer: ``down`` [r, in], ``up`` [out, r], float32."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A loaded adapter: pairs by module name, the factor on them, and the projection's base where it is stored."""

    scale: float
    pairs: Mapping[str, Pair]
    projection_weight: torch.Tensor | None = None
    projection_bias: torch.Tensor | None = None

    def delta(self, module: str) -> torch.Tensor | None:
        """What the adapter adds to a layer's weight, [out, in] float32, or None."""
        pair = self.pairs.get(module)
        return None if pair is None else self.scale * (pair.up @ pair.down)


class LoraLinear(nn.Module):
    """A linear layer and its low-rank change, kept apart.

    In half precision most of the change is smaller than the rounding of the weights: merged, it would be lost.
    """

    def __init__(self, base: nn.Module, pair: Pair, scale: float, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(pair.down.to(device, dtype), requires_grad=False)
        self.up = nn.Parameter((pair.up * scale).to(device, dtype), requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply both, [..., in] to [..., out], with a single rounding of their sum."""
        kept = torch.as_tensor(self.base(inputs))
        low = nn.functional.linear(inputs, self.down).flatten(0, -2)
        return torch.addmm(kept.flatten(0, -2), low, self.up.T).view_as(kept)


def load_adapter(files: Files, shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read an adapter for a model whose linear layers have these names and weight shapes [out, in].

    Raises:
        ModelError: the adapter is of another kind, changes nothing, or has tensors missing, left over or misshapen.
    """
    config = files.json("adapter_config.json")
    scale = _scale(files.name, config)
    targets = _targets(files.name, config)
    stored = read_headers(files.weights())
    sides, base, unexpected = _sort(stored, shapes)
    needed = {name for name in shapes if targets(name)}
    missing = {
        f"{published(name)}.lora_{side}"
        for name in needed | set(sides)
        for side in "AB"
        if side not in sides.get(name, {})
    }
    _refuse(files.name, missing, unexpected)
    pairs = {name: _pair(files.name, name, found, shapes[name]) for name, found in sides.items()}
    _check_effect(files.name, {name: pairs[name] for name in needed})
    read = {which: place.read().float() for which, place in base.items()}
    return Adapter(scale, pairs, read.get("weight"), read.get("bias"))


def _scale(name: str, config: Mapping[str, Any]) -> float:
    """Alpha / r, after a look at everything that would make the adapter mean something else."""
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{name} is no LoRA adapter", "give the folder or hub id of one")
    strange = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        strange.append("bias")
    if strange:
        raise ModelError(
            f"the adapter {name} uses {', '.join(strange)}, which is not supported", "merge it into its base"
        )
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as problem:
        raise ModelError(f"the adapter {name} has no usable r and lora_alpha", "download it again") from problem


def _targets(name: str, config: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a linear layer must be in the adapter; its pattern is meant for the names of the time it was saved in."""
    wanted = config.get("target_modules")
    if isinstance(wanted, str) and wanted != "all-linear":
        try:
            pattern = re.compile(wanted)
        except re.error as problem:
            raise ModelError(f"the adapter {name} has a broken target pattern", "download it again") from problem
        return lambda module: pattern.fullmatch(published(module)) is not None
    if isinstance(wanted, list) and wanted:
        ends = tuple(str(end) for end in wanted)
        return lambda module: any(module == end or module.endswith(f".{end}") for end in ends)
    if wanted == "all-linear":
        return lambda _: True
    raise ModelError(f"the adapter {name} names no target modules", "download it again")


def _sort(
    stored: Mapping[str, Stored], shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, dict[str, Stored]], dict[str, Stored], list[str]]:
    """Halves by module and side, the projection's base where it is there, and the names that have no place."""
    sides: dict[str, dict[str, Stored]] = {}
    base: dict[str, Stored] = {}
    unexpected: list[str] = []
    for raw, place in stored.items():
        plain = raw.removeprefix(_PREFIX)
        if unused(plain):
            continue
        low_rank, projection = _TENSOR.match(plain), _BASE.match(plain)
        module = renamed(low_rank["module"]) if low_rank else ""
        if low_rank and module in shapes and low_rank["side"] not in sides.get(module, {}):
            sides.setdefault(module, {})[low_rank["side"]] = place
        elif projection:
            base[projection["which"]] = place
        else:
            unexpected.append(raw)
    return sides, base, unexpected


def _pair(name: str, module: str, found: Mapping[str, Stored], shape: tuple[int, int]) -> Pair:
    down, up = found["A"], found["B"]
    fits = down.shape[1:] == (shape[1],) and up.shape[:1] == (shape[0],) and down.shape[0] == up.shape[-1]
    if not fits:
        raise ModelError(
            f"the adapter {name} does not fit: {published(module)} is {list(shape)}, its halves are "
            f"{list(down.shape)} and {list(up.shape)}",
            "use the base model it was made for",
        )
    return Pair(down.read().float(), up.read().float())


def _refuse(name: str, missing: set[str], unexpected: list[str]) -> None:
    troubles = []
    if missing:
        troubles.append(f"{len(missing)} tensors are missing ({listed(missing)})")
    if unexpected:
        troubles.append(f"{len(unexpected)} tensors have no place ({listed(unexpected)})")
    if troubles:
        raise ModelError(
            f"the adapter {name} does not fit: {'; '.join(troubles)}", "use the base model it was made for"
        )


def _check_effect(name: str, pairs: Mapping[str, Pair]) -> None:
    """An adapter that was loaded or saved in part has halves that are still as they were at the start: zero."""
    idle = [module for module, pair in pairs.items() if not (pair.up.any() and pair.down.any())]
    if idle and len(idle) == len(pairs):
        raise ModelError(f"the adapter {name} changes nothing: all its tensors are zero", "use a trained adapter")
    if idle:
        names = listed(published(module) for module in idle)
        raise ModelError(f"the adapter {name} is there in part: {len(idle)} layers are zero ({names})", "save it again")
