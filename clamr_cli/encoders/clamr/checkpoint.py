"""Checkpoints: a base model and its adapter, read by name, none of their tensors missing and none left over.

The modules come from transformers, their tensors are put in by name here. Checkpoints name their tensors as the library
did when they were saved: ``model.layers.0...`` and ``visual...`` before, ``model.language_model.layers.0...`` and
``model.visual...`` since. Loaded without renaming, the language model stays random without an error; here whatever is
missing, left over or of another shape is an error that names it.

LoRA adapters are applied in a few lines of our own. The usual library applies them through a pattern over module names:
with today's names the published pattern also matches the vision tower and the published tensors match nothing, without
an error. Read here, every tensor is accounted for, 4-bit layers need no other code, and no further package is needed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from clamr_cli.encoders.clamr import batching
from clamr_cli.encoders.clamr.model import ATTENTION, DEVIATION, MEAN, Backbone, Placement, kernel_works, quantize
from clamr_cli.encoders.clamr.projection import Projection, as_torch_draws, init_projection
from clamr_cli.encoders.clamr.sources import declared_elements, listed
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from clamr_cli.encoders.clamr.options import ClamrOptions
    from clamr_cli.encoders.clamr.sources import Files

PROJECTION: Final = "custom_text_proj"
_PROJECTION_TENSORS: Final = (f"{PROJECTION}.weight", f"{PROJECTION}.bias")
_RENAMES: Final = (
    (re.compile(r"^model\.language_model\."), "language_model."),
    (re.compile(r"^model\.(visual|audio_tower)\."), r"\1."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\b"), r"language_model.\1"),
)
_SPEAKING: Final = ("lm_head.", "talker.", "token2wav.")
"""Parts that write or speak; nothing of them goes into a vector."""

_PREPROCESSOR: Final = "preprocessor_config.json"
_PREFIX: Final = "base_model.model."
_HALF: Final = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
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


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of base model: Qwen2.5-VL, or Qwen2.5-Omni, which also takes audio.

    Attributes:
        kind: ``model_type`` of its configuration.
        model: the class without output head, whose parts are ``language_model``, ``visual`` and maybe ``audio_tower``.
        part: the configuration of that class inside the whole one.
        time_step: steps of the time axis per pair of frames, from that configuration.
    """

    kind: str
    model: Callable[[Any], Any]
    part: Callable[[Any], Any]
    time_step: Callable[[Any], int]


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    architecture.kind: architecture
    for architecture in (
        Architecture(
            "qwen2_5_vl",
            Qwen2_5_VLModel,
            lambda config: config,
            lambda part: part.vision_config.tokens_per_second,
        ),
        # A pair of frames counts as one second, the processor's own assumption for lists of frames.
        Architecture(
            "qwen2_5_omni",
            Qwen2_5OmniThinkerModel,
            lambda config: config.thinker_config,
            lambda part: part.position_id_per_seconds,
        ),
    )
}


def _unused(name: str) -> bool:
    """True if a tensor belongs to a part that vectors do not need."""
    return name.removeprefix("thinker.").startswith(_SPEAKING)


def renamed(name: str) -> str:
    """A tensor's or module's name of any layout, as the model's own modules are called here."""
    name = name.removeprefix("thinker.")
    for pattern, replacement in _RENAMES:
        if pattern.search(name):
            return pattern.sub(replacement, name)
    return name


def _published(name: str) -> str:
    """The name that the published checkpoints use for one of ours."""
    return re.sub(r"^language_model\.", "model.", name)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: the path, its name there, and its shape."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU in the dtype it has in the file.

        Raises:
            ModelError: the file is damaged.
        """
        try:
            with safe_open(self.path, framework="pt") as opened:
                return opened.get_tensor(self.name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{self.path.name} is damaged at {self.name}", "download the model again") from problem


def _read_headers(paths: Sequence[Path]) -> dict[str, StoredTensor]:
    """All tensors of some files by the names they have there.

    Raises:
        ModelError: a file is damaged, or a tensor is in two of them.
    """
    stored: dict[str, StoredTensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 -- not a mapping
                    if name in stored:
                        raise ModelError(f"{name} is in {stored[name].path.name} and {path.name}", "keep one of them")
                    stored[name] = StoredTensor(path, name, tuple(opened.get_slice(name).get_shape()))
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path.name} is damaged", "download the model again") from problem
    return stored


def _match(
    stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], model: str
) -> dict[str, StoredTensor]:
    """The stored tensor of every tensor of the model.

    Args:
        stored: the tensors of the files, see :func:`_read_headers`; those of output parts are passed over. The
            projection may be among them although the model has no such tensors; it comes back too.
        shapes: the model's tensors.
        model: its name, for messages.

    Raises:
        ModelError: tensors are missing, left over or of another shape; it names them.
    """
    matched: dict[str, StoredTensor] = {}
    unexpected: list[str] = []
    for raw, tensor in stored.items():
        name = renamed(raw)
        if _unused(raw):
            continue
        if name in matched or (name not in shapes and name not in _PROJECTION_TENSORS):
            unexpected.append(raw)
        else:
            matched[name] = tensor
    missing = [_published(name) for name in shapes if name not in matched]
    misshapen = [
        f"{_published(name)} {list(matched[name].shape)} for {list(shape)}"
        for name, shape in shapes.items()
        if name in matched and matched[name].shape != tuple(shape)
    ]
    problems = {
        "tensors are missing, they would stay random": missing,
        "tensors have no place": unexpected,
        "tensors have another shape": misshapen,
    }
    _refuse(model, problems, "use a complete Qwen2.5 checkpoint of this size")
    return matched


def _refuse(what: str, problems: Mapping[str, Iterable[str]], hint: str) -> None:
    """Raise a ModelError if there are names of tensors under any problem."""
    lists = [(text, set(names)) for text, names in problems.items()]
    texts = [f"{len(names)} {text} ({listed(names)})" for text, names in lists if names]
    if texts:
        raise ModelError(f"{what} does not fit: {'; '.join(texts)}", hint)


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
        """The change of a layer's weight, [out, in] float32, None for a layer that the adapter leaves alone."""
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
        full = torch.as_tensor(self.base(inputs))
        low = nn.functional.linear(inputs, self.down).flatten(0, -2)
        return torch.addmm(full.flatten(0, -2), low, self.up.T).view_as(full)


def load_adapter(files: Files, shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read an adapter for a model whose linear layers have these names and weight shapes [out, in].

    Raises:
        ModelError: the adapter is of another kind, changes nothing, or has tensors missing, left over or misshapen.
    """
    config = files.json("adapter_config.json")
    scale, is_target = _scale(files.name, config), _target_test(files.name, config)
    targets = {name for name in shapes if is_target(name)}
    halves: dict[str, dict[str, StoredTensor]] = {}
    base: dict[str, StoredTensor] = {}
    unexpected: list[str] = []
    for raw, tensor in _read_headers(files.weights()).items():
        plain = raw.removeprefix(_PREFIX)
        if _unused(plain):
            continue
        half, projection = _HALF.match(plain), _BASE.match(plain)
        module = renamed(half["module"]) if half else ""
        if half and module in shapes and half["side"] not in halves.get(module, {}):
            halves.setdefault(module, {})[half["side"]] = tensor
        elif projection:
            base[projection["which"]] = tensor
        else:
            unexpected.append(raw)
    sides = [(name, side) for name in targets | set(halves) for side in "AB"]
    missing = [f"{_published(name)}.lora_{side}" for name, side in sides if side not in halves.get(name, {})]
    problems = {"tensors are missing": missing, "tensors have no place": unexpected}
    _refuse(f"the adapter {files.name}", problems, "use the base model it was made for")
    pairs: dict[str, Pair] = {}
    for name, stored in halves.items():
        down, up, (rows, columns) = stored["A"], stored["B"], shapes[name]
        if down.shape[1:] != (columns,) or up.shape[:1] != (rows,) or down.shape[0] != up.shape[-1]:
            sizes = f"{_published(name)} is {[rows, columns]}, its halves are {list(down.shape)} and {list(up.shape)}"
            raise ModelError(f"the adapter {files.name} does not fit: {sizes}", "use the base model it was made for")
        pairs[name] = Pair(down.read().float(), up.read().float())
    # An adapter that was loaded or saved in part has halves that still have their initial value, zero.
    idle = [name for name in targets if not (pairs[name].up.any() and pairs[name].down.any())]
    if idle and len(idle) == len(targets):
        raise ModelError(f"the adapter {files.name} changes nothing: all its tensors are zero", "use a trained adapter")
    if idle:
        layers = listed(map(_published, idle))
        what = f"the adapter {files.name} is there in part: {len(idle)} layers are zero ({layers})"
        raise ModelError(what, "save it again")
    read = {which: tensor.read().float() for which, tensor in base.items()}
    return Adapter(scale, pairs, read.get("weight"), read.get("bias"))


def _scale(name: str, config: Mapping[str, Any]) -> float:
    """Alpha / r, after a check of everything that would make the adapter mean something else."""
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{name} is not a LoRA adapter", "give the folder or hub id of one")
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        what = f"the adapter {name} uses {', '.join(unsupported)}, which is not supported"
        raise ModelError(what, "merge it into its base")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as problem:
        raise ModelError(f"the adapter {name} has invalid r or lora_alpha", "download it again") from problem


def _target_test(name: str, config: Mapping[str, Any]) -> Callable[[str], bool]:
    """A predicate: a linear layer must be in the adapter. Patterns are meant for the names of the published layout."""
    targets = config.get("target_modules")
    if targets == "all-linear":
        return lambda _: True
    if isinstance(targets, str):
        try:
            pattern = re.compile(targets)
        except re.error as problem:
            raise ModelError(f"the adapter {name} has a broken target pattern", "download it again") from problem
        return lambda module: pattern.fullmatch(_published(module)) is not None
    if isinstance(targets, list) and targets:
        ends = tuple(str(end) for end in targets)
        return lambda module: any(module == end or module.endswith(f".{end}") for end in ends)
    raise ModelError(f"the adapter {name} names no target modules", "download it again")


def load_backbone(
    base: Files, adapter: Files | None, options: ClamrOptions, placement: Placement, kind: str
) -> Backbone:
    """Load a base model of a kind of :data:`ARCHITECTURES`, apply an adapter, and complete the projection.

    Raises:
        ModelError: files are absent, damaged or do not fit, or there is too little memory.
        MissingExtra: 4 bits were asked for without bitsandbytes.
    """
    architecture = ARCHITECTURES[kind]
    _check_pixels(base)
    config = architecture.part(_read_config(base, kind))
    model = _empty_model(base.name, architecture.model, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = _match(_read_headers(base.weights()), shapes, base.name)
    _check_memory(base.name, shapes.values(), placement)
    loaded = load_adapter(adapter, linear_shapes(model, config.text_config.hidden_size)) if adapter else None
    projection, weight, bias = _projection(stored, loaded, options, config.text_config)
    _fill(model, stored, shapes, loaded, placement)
    if placement.four_bit:
        quantize(model, placement.device)
    if loaded is not None and not _merges(placement):
        for name, pair in loaded.pairs.items():
            if name != PROJECTION:
                beside = LoraLinear(model.get_submodule(name), pair, loaded.scale, placement.dtype, placement.device)
                model.set_submodule(name, beside)
    # Set after the model is made, which checks names with "flash" against installed packages.
    for part in model.modules():
        if getattr(part, "config", None) is not None:
            part.config._attn_implementation = ATTENTION
    # Known before anything is compiled around it.
    kernel_works(placement.device)
    moved = weight.to(placement.device), bias.to(placement.device)
    return Backbone(model, *moved, projection, placement, architecture.time_step(config))


def check_declared(base: Files, placement: Placement) -> None:
    """Refuse a model that its index already says is too large, before gigabytes of it are fetched.

    Raises:
        ModelError: it needs more memory than is free.
    """
    _check_memory(base.name, [(declared_elements(base), 1)], placement)


def _check_memory(name: str, shapes: Iterable[tuple[int, ...]], placement: Placement) -> None:
    needed = batching.bytes_of(shapes, per_element=placement.dtype.itemsize, four_bit=placement.four_bit)
    batching.check_fits(name, needed, placement.device, batching.free_bytes(placement.device))


def _read_config(base: Files, wanted: str) -> Any:  # noqa: ANN401 -- a configuration class of transformers
    """The configuration of a base model.

    Raises:
        ModelError: it is of another kind than wanted, or broken.
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
                # One of the library's tables of positions: its class computes the values from these arguments.
                arguments = (child.length, child.channels) if hasattr(child, "length") else (child.config,)
                setattr(parent, name_of_child, type(child)(*arguments))
    return model.eval()


def linear_shapes(model: nn.Module, hidden: int) -> dict[str, tuple[int, int]]:
    """Weight shapes [out, in] of everything an adapter may change, the projection from ``hidden`` with it."""
    shapes = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    return {**shapes, PROJECTION: (DIMENSION, hidden)}


def _projection(
    stored: Mapping[str, StoredTensor],
    adapter: Adapter | None,
    options: ClamrOptions,
    text: Any,  # noqa: ANN401
) -> tuple[Projection, torch.Tensor, torch.Tensor]:
    """The base of the projection, and weight and bias in float32 with the adapter's change in them."""
    stored_weight = adapter.projection_weight if adapter else None
    bias = adapter.projection_bias if adapter else None
    if stored_weight is None and _PROJECTION_TENSORS[0] in stored:
        stored_weight = stored[_PROJECTION_TENSORS[0]].read().float()
    if bias is None and _PROJECTION_TENSORS[1] in stored:
        bias = stored[_PROJECTION_TENSORS[1]].read().float()
    if stored_weight is None:
        drawn = init_projection(options.projection_init, text.hidden_size, text.initializer_range)
        base = as_torch_draws(drawn, text.initializer_range)
    else:
        base = Projection.stored(stored_weight.numpy())
    expected = (DIMENSION, text.hidden_size)
    if base.weight.shape != expected or (bias is not None and bias.shape != (DIMENSION,)):
        raise ModelError(
            f"the stored projection is {list(base.weight.shape)}, not {list(expected)}", "use the right base"
        )
    delta = adapter.delta(PROJECTION) if adapter else None
    weight = torch.from_numpy(base.weight) + (0.0 if delta is None else delta)
    return base, weight, torch.zeros(DIMENSION) if bias is None else bias


def _merges(placement: Placement) -> bool:
    """True if the adapter is added to the weights; see :class:`LoraLinear` for why only in float32."""
    return placement.dtype == torch.float32 and not placement.four_bit


def _fill(
    model: nn.Module,
    stored: Mapping[str, StoredTensor],
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
