"""The model: Qwen2.5-VL's vision tower and language model without a head, the projection, and how they are loaded.

Modules come from transformers; their tensors are put in by name here, so that none can stay at its random start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from clamr_cli.encoders.clamr import attention, memory
from clamr_cli.encoders.clamr.adapter import Adapter, LoraLinear, load_adapter
from clamr_cli.encoders.clamr.checkpoint import PROJECTION, match, read_headers
from clamr_cli.encoders.clamr.positions import PositionRule
from clamr_cli.encoders.clamr.projection import Projection, as_torch_draws, draw
from clamr_cli.encoders.clamr.sources import declared_elements
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.checkpoint import Stored
    from clamr_cli.encoders.clamr.options import ClamrOptions
    from clamr_cli.encoders.clamr.packing import Packed
    from clamr_cli.encoders.clamr.sources import Files

MODEL_TYPE: Final = "qwen2_5_vl"
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
_PROJECTION_TENSORS: Final = (f"{PROJECTION}.weight", f"{PROJECTION}.bias")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how precisely the model runs."""

    device: torch.device
    dtype: torch.dtype
    four_bit: bool = False

    @classmethod
    def of(cls, options: ClamrOptions, device: torch.device) -> Placement:
        """What the settings mean on this device: bfloat16 on CUDA, float32 elsewhere, if nothing else is asked for."""
        default = torch.bfloat16 if device.type == "cuda" else torch.float32
        dtype = default if options.dtype == "auto" else getattr(torch, options.dtype)
        return cls(device, dtype, options.quantize == "4bit")


class Backbone:
    """A loaded model, ready to turn packed sequences into vectors.

    Attributes:
        rule: constants of its position ids.
        patch, merge: pixels per side of a patch, patches per side of a video token.
        projection: the base of the projection with its origin and hash.
        placement: device and dtype.
    """

    def __init__(
        self,
        model: Qwen2_5_VLModel,
        weight: torch.Tensor,
        bias: torch.Tensor,
        projection: Projection,
        placement: Placement,
    ) -> None:
        vision = model.config.vision_config
        self.rule = PositionRule(vision.spatial_merge_size, vision.tokens_per_second)
        self.patch, self.merge = vision.patch_size, vision.spatial_merge_size
        self.projection, self.placement = projection, placement
        self._model, self._weight, self._bias = model, weight, bias
        self._pair = vision.temporal_patch_size
        self._mean, self._deviation = (
            torch.tensor(values, device=placement.device).mul(255).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION)
        )

    @torch.inference_mode()
    def __call__(self, packed: Packed, pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Unit vectors [T, 128] float32 on the model's device, one per token."""
        projected = nn.functional.linear(self.hidden(packed, pixels).float(), self._weight, self._bias)
        return nn.functional.normalize(projected, dim=-1)

    @torch.inference_mode()
    def hidden(self, packed: Packed, pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Hidden states [T, hidden] after the final norm."""
        embedded = self._model.language_model.embed_tokens(self._moved(packed.input_ids))
        if len(packed.grids):
            seen = self.vision(packed.grids, pixels).to(embedded.dtype)
            embedded = embedded.index_copy(0, self._moved(packed.video_index), seen)
        borders = self._moved(packed.borders)
        output = self._model.language_model(
            inputs_embeds=embedded.unsqueeze(0),
            position_ids=self._moved(packed.positions).unsqueeze(1),
            # The borders keep sequences apart; a mask is never needed.
            attention_mask={"full_attention": None},
            use_cache=False,
            cu_seq_lens_q=borders,
            cu_seq_lens_k=borders,
            max_length_q=packed.longest,
            max_length_k=packed.longest,
        )
        return torch.as_tensor(output.last_hidden_state[0])

    @torch.inference_mode()
    def vision(self, grids: NDArray[np.int64], pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Vision embeddings [V, hidden] of videos in order; ``pixels`` as :func:`frames.pixels_of` gives them."""
        patches = torch.cat([self.patches(array) for array in pixels]).to(self.placement.dtype)
        output = self._model.visual(patches, grid_thw=self._moved(grids))
        return torch.as_tensor(output.pooler_output)

    def patches(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """One video's patches [patches, 3 * 2 * 14 * 14] float32, normalised, those of one token side by side."""
        normal = (self._moved(pixels).float() - self._mean) / self._deviation
        frames, _, height, width = normal.shape
        rows, columns = height // (self.patch * self.merge), width // (self.patch * self.merge)
        split = normal.view(
            frames // self._pair, self._pair, 3, rows, self.merge, self.patch, columns, self.merge, self.patch
        )
        return split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * self._pair * self.patch**2)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the layers of both towers; the first batches take longer."""
        for layer in [*self._model.language_model.layers, *self._model.visual.blocks]:
            layer.compile(dynamic=True, backend=backend)

    def _moved(self, array: NDArray[Any]) -> torch.Tensor:
        """An array on the model's device; pinned on the way to a GPU, so that the copy runs beside the computing."""
        tensor = torch.from_numpy(array)
        if self.placement.device.type == "cuda":
            return tensor.pin_memory().to(self.placement.device, non_blocking=True)
        return tensor.to(self.placement.device)


def load_backbone(base: Files, adapter: Files | None, options: ClamrOptions, placement: Placement) -> Backbone:
    """Load a base model, apply an adapter, and complete the projection.

    Raises:
        ModelError: files are absent, damaged or do not fit, or there is too little memory.
        MissingExtra: 4 bits were asked for without bitsandbytes.
    """
    config = read_config(base)
    model = _empty_model(base.name, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = match(read_headers(base.weights()), shapes, _PROJECTION_TENSORS, base.name)
    needed = memory.bytes_of(shapes.values(), per_element=placement.dtype.itemsize, four_bit=placement.four_bit)
    memory.check_fits(base.name, needed, placement.device, memory.free_bytes(placement.device))
    loaded = load_adapter(adapter, _linear_shapes(model, config.text_config.hidden_size)) if adapter else None
    projection, weight, bias = _projection(stored, loaded, options, config.text_config)
    _fill(model, stored, shapes, loaded, placement)
    if placement.four_bit:
        from clamr_cli.encoders.clamr.quantized import quantize

        quantize(model, placement.device)
    if loaded is not None and not _merges(placement):
        _attach(model, loaded, placement)
    _use_packed_attention(model)
    return Backbone(model, weight.to(placement.device), bias.to(placement.device), projection, placement)


def check_declared(base: Files, placement: Placement) -> None:
    """Refuse a model that its index already says is too large, before gigabytes of it are fetched.

    Raises:
        ModelError: it needs more memory than is free.
    """
    shapes = [(declared_elements(base), 1)]
    needed = memory.bytes_of(shapes, per_element=placement.dtype.itemsize, four_bit=placement.four_bit)
    memory.check_fits(base.name, needed, placement.device, memory.free_bytes(placement.device))


def read_config(base: Files) -> Any:  # noqa: ANN401 -- a configuration class of transformers
    """The configuration of a base model.

    Raises:
        ModelError: it is of another kind than Qwen2.5-VL, or broken.
    """
    kind = base.json("config.json").get("model_type")
    if kind != MODEL_TYPE:
        raise ModelError(f"{base.name} is a {kind} model, not {MODEL_TYPE}", "use a Qwen2.5-VL base")
    try:
        return AutoConfig.from_pretrained(base.folder)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise ModelError(f"config.json of {base.name} cannot be used: {problem}", "download it again") from problem


def _empty_model(name: str, config: Any) -> Qwen2_5_VLModel:  # noqa: ANN401
    """The model without memory for its tensors; only the tables it computes itself are there."""
    if config.text_config.use_sliding_window:
        raise ModelError(f"{name} uses sliding windows, which is not supported", "use Qwen2.5-VL-3B-Instruct")
    with torch.device("meta"):
        model = Qwen2_5_VLModel(config)
    for parent in list(model.modules()):
        for name_of_child, child in list(parent.named_children()):
            if any(buffer.is_meta for buffer in child.buffers(recurse=False)):
                setattr(parent, name_of_child, type(child)(child.config))
    return model.eval()


def _linear_shapes(model: nn.Module, hidden: int) -> dict[str, tuple[int, int]]:
    """Weight shapes [out, in] of everything an adapter may change."""
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


def _use_packed_attention(model: Qwen2_5_VLModel) -> None:
    """Set once the model stands: when it is made, names with "flash" are checked against installed packages."""
    for part in (model, model.language_model, model.visual):
        part.config._attn_implementation = attention.NAME
