"""How the model is loaded: its modules come from transformers, their tensors are put in by name here.

So none can stay at its random start: whatever is missing, left over or of another shape is an error that names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from transformers import AutoConfig

from clamr_cli.encoders.clamr import attention, memory
from clamr_cli.encoders.clamr.adapter import Adapter, LoraLinear, load_adapter
from clamr_cli.encoders.clamr.backbone import DEVIATION, MEAN, Backbone, Placement
from clamr_cli.encoders.clamr.checkpoint import PROJECTION, match, read_headers
from clamr_cli.encoders.clamr.families import FAMILIES
from clamr_cli.encoders.clamr.projection import Projection, as_torch_draws, draw
from clamr_cli.encoders.clamr.sources import declared_elements
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clamr_cli.encoders.clamr.checkpoint import Stored
    from clamr_cli.encoders.clamr.options import ClamrOptions
    from clamr_cli.encoders.clamr.sources import Files

_PREPROCESSOR: Final = "preprocessor_config.json"
_PROJECTION_TENSORS: Final = (f"{PROJECTION}.weight", f"{PROJECTION}.bias")


def load_backbone(
    base: Files, adapter: Files | None, options: ClamrOptions, placement: Placement, kind: str
) -> Backbone:
    """Load a base model of a kind of :data:`FAMILIES`, apply an adapter, and complete the projection.

    Raises:
        ModelError: files are absent, damaged or do not fit, or there is too little memory.
        MissingExtra: 4 bits were asked for without bitsandbytes.
    """
    family = FAMILIES[kind]
    _check_pixels(base)
    config = family.part(read_config(base, kind))
    model = _empty_model(base.name, family.model, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = match(read_headers(base.weights()), shapes, _PROJECTION_TENSORS, base.name)
    needed = memory.bytes_of(shapes.values(), per_element=placement.dtype.itemsize, four_bit=placement.four_bit)
    memory.check_fits(base.name, needed, placement.device, memory.free_bytes(placement.device))
    loaded = load_adapter(adapter, linear_shapes(model, config.text_config.hidden_size)) if adapter else None
    projection, weight, bias = _projection(stored, loaded, options, config.text_config)
    _fill(model, stored, shapes, loaded, placement)
    if placement.four_bit:
        from clamr_cli.encoders.clamr.quantized import quantize

        quantize(model, placement.device)
    if loaded is not None and not _merges(placement):
        _attach(model, loaded, placement)
    _use_packed_attention(model)
    attention.prepare(placement.device)
    moved = weight.to(placement.device), bias.to(placement.device)
    return Backbone(model, *moved, projection, placement, family.time_step(config))


def check_declared(base: Files, placement: Placement) -> None:
    """Refuse a model that its index already says is too large, before gigabytes of it are fetched.

    Raises:
        ModelError: it needs more memory than is free.
    """
    shapes = [(declared_elements(base), 1)]
    needed = memory.bytes_of(shapes, per_element=placement.dtype.itemsize, four_bit=placement.four_bit)
    memory.check_fits(base.name, needed, placement.device, memory.free_bytes(placement.device))


def read_config(base: Files, wanted: str) -> Any:  # noqa: ANN401 -- a configuration class of transformers
    """The configuration of a base model.

    Raises:
        ModelError: it is of another kind than is wanted, or broken.
    """
    kind = base.json("config.json").get("model_type")
    if kind != wanted:
        hint = "use --encoder clamr with Qwen2.5-VL and --encoder clamr-omni with Qwen2.5-Omni"
        raise ModelError(f"{base.name} is a {kind} model, not {wanted}", hint)
    try:
        return AutoConfig.from_pretrained(base.folder)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise ModelError(f"config.json of {base.name} cannot be used: {problem}", "download it again") from problem


def _check_pixels(base: Files) -> None:
    """Raise a ModelError where the base wants its pixels normalised in another way than all Qwen2.5 do."""
    wanted = base.json(_PREPROCESSOR) if (base.folder / _PREPROCESSOR).is_file() else {}
    for name, usual in (("image_mean", MEAN), ("image_std", DEVIATION)):
        if name in wanted and list(wanted[name]) != list(usual):
            raise ModelError(f"{base.name} has another {name}, which is not supported", "use a Qwen2.5 base")


def _empty_model(name: str, model_class: Callable[[Any], Any], config: Any) -> Any:  # noqa: ANN401
    """The model without memory for its tensors; only the tables it computes itself are there."""
    if config.text_config.use_sliding_window:
        raise ModelError(f"{name} uses sliding windows, which is not supported", "use one of the 3B bases")
    with torch.device("meta"):
        model = model_class(config)
    for parent in list(model.modules()):
        for name_of_child, child in list(parent.named_children()):
            if any(buffer.is_meta for buffer in child.buffers(recurse=False)):
                setattr(parent, name_of_child, _computed(child))
    return model.eval()


def _computed(table: Any) -> nn.Module:  # noqa: ANN401 -- one of the library's tables of positions
    """The table again, this time with its values: its class computes them from what it was made with."""
    arguments = (table.length, table.channels) if hasattr(table, "length") else (table.config,)
    made: nn.Module = type(table)(*arguments)
    return made


def linear_shapes(model: nn.Module, hidden: int) -> dict[str, tuple[int, int]]:
    """Weight shapes [out, in] of everything an adapter may change, the projection from ``hidden`` with it."""
    found = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    return {**found, PROJECTION: (DIMENSION, hidden)}


def _projection(
    stored: Mapping[str, Stored],
    adapter: Adapter | None,
    options: ClamrOptions,
    text: Any,  # noqa: ANN401
) -> tuple[Projection, torch.Tensor, torch.Tensor]:
    """The base of the projection, and weight and bias in float32 with the adapter's change in them."""
    kept = adapter.projection_weight if adapter else None
    bias = adapter.projection_bias if adapter else None
    if kept is None and _PROJECTION_TENSORS[0] in stored:
        kept = stored[_PROJECTION_TENSORS[0]].read().float()
    if bias is None and _PROJECTION_TENSORS[1] in stored:
        bias = stored[_PROJECTION_TENSORS[1]].read().float()
    if kept is None:
        drawn = draw(options.draw, text.hidden_size, text.initializer_range)
        base = as_torch_draws(drawn, text.initializer_range)
    else:
        base = Projection.stored(kept.numpy())
    expected = (DIMENSION, text.hidden_size)
    if base.weight.shape != expected or (bias is not None and bias.shape != (DIMENSION,)):
        raise ModelError(
            f"the stored projection is {list(base.weight.shape)}, not {list(expected)}", "use the right base"
        )
    delta = adapter.delta(PROJECTION) if adapter else None
    weight = torch.from_numpy(base.weight) + (0.0 if delta is None else delta)
    return base, weight, torch.zeros(DIMENSION) if bias is None else bias


def _merges(placement: Placement) -> bool:
    """Whether the adapter is added to the weights; see :class:`LoraLinear` for why only in float32."""
    return placement.dtype == torch.float32 and not placement.four_bit


def _fill(
    model: nn.Module,
    stored: Mapping[str, Stored],
    shapes: Mapping[str, tuple[int, ...]],
    adapter: Adapter | None,
    placement: Placement,
) -> None:
    """Put the tensors in, each in its final dtype and place, with the adapter added where it is merged."""
    # Layers to be quantised stay on the CPU until then.
    device = torch.device("cpu") if placement.four_bit else placement.device
    state: dict[str, torch.Tensor] = {}
    for name in shapes:
        tensor = stored[name].read()
        delta = adapter.delta(name.removesuffix(".weight")) if adapter and _merges(placement) else None
        if delta is not None:
            tensor = tensor.float() + delta
        state[name] = tensor.to(device, placement.dtype)
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False)
    model.to(device)


def _attach(model: nn.Module, adapter: Adapter, placement: Placement) -> None:
    """Put the adapter's halves beside the layers they change."""
    for name, pair in adapter.pairs.items():
        if name != PROJECTION:
            base = model.get_submodule(name)
            beside = LoraLinear(base, pair, adapter.scale, placement.dtype, placement.device)
            model.set_submodule(name, beside)


def _use_packed_attention(model: nn.Module) -> None:
    """Set once the model stands: when it is made, names with "flash" are checked against installed packages."""
    for part in model.modules():
        config: Any = getattr(part, "config", None)
        if config is not None:
            config._attn_implementation = attention.NAME
