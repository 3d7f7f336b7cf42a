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
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from clamr_cli.encoders.clamr.model import ATTENTION, DEVIATION, MEAN, Backbone, Placement, kernel_works, quantize
from clamr_cli.encoders.clamr.projection import Projection, ProjectionInit, as_torch_draws, init_projection
from clamr_cli.encoders.clamr.prompt import MERGE, PATCH, STEP
from clamr_cli.encoders.hub import WAY_OUT, Files, shorten
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION

PROJECTION: Final = "custom_text_proj"
_PROJECTION_TENSORS: Final = (f"{PROJECTION}.weight", f"{PROJECTION}.bias")
_RENAMES: Final = (
    (re.compile(r"^model\.language_model\."), "language_model."),
    (re.compile(r"^model\.(visual|audio_tower)\."), r"\1."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\b"), r"language_model.\1"),
)
_SPEAKING: Final = ("lm_head.", "talker.", "token2wav.")  # parts that write or speak, not needed for vectors
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
_HEADROOM: Final = 1.15
_SMALLEST: Final = 1 << 28
"""Bytes below which memory is not checked: such a model fits anywhere, its activations need more than its weights."""

_NF4_BYTES: Final = 0.56
_AGAIN: Final = "download the model again"


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


class StoredTensor(NamedTuple):
    """A tensor in a file: the path, its name there, and its shape."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU in the dtype it has in the file."""
        try:
            with safe_open(self.path, framework="pt") as opened:
                return opened.get_tensor(self.name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path.name} is damaged at {self.name}", _AGAIN) from error


def _read_headers(paths: Sequence[Path]) -> dict[str, StoredTensor]:
    """All tensors of some files by the names they have there; none may be in two of them."""
    stored: dict[str, StoredTensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 -- not a mapping
                    if name in stored:
                        raise ModelError(f"{name} is in {stored[name].path.name} and {path.name}", "keep one of them")
                    stored[name] = StoredTensor(path, name, tuple(opened.get_slice(name).get_shape()))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path.name} is damaged", _AGAIN) from error
    return stored


def _refuse(what: str, problems: Mapping[str, Iterable[str]], hint: str) -> None:
    """Raise a ModelError if there are names of tensors under any problem."""
    lists = [(text, set(names)) for text, names in problems.items()]
    if texts := [f"{len(names)} {text} ({shorten(names)})" for text, names in lists if names]:
        raise ModelError(f"{what} does not fit: {'; '.join(texts)}", hint)


class Adapter(NamedTuple):
    """A loaded adapter, all tensors float32."""

    scale: float  # factor on the changes
    # The low-rank change of each linear layer by its module's name: `down` [r, in] and `up` [out, r].
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    projection_weight: torch.Tensor | None = None  # the projection's base where it is stored
    projection_bias: torch.Tensor | None = None

    def delta(self, module: str) -> torch.Tensor | None:
        """The change of a layer's weight, [out, in] float32, None for a layer that the adapter leaves alone."""
        if module not in self.pairs:
            return None
        down, up = self.pairs[module]
        return self.scale * (up @ down)


class LoraLinear(nn.Module):
    """A linear layer and its low-rank change, kept apart.

    In half precision most of the change is smaller than the rounding of the weights: merged, it would be lost.
    """

    def __init__(self, base: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = (nn.Parameter(half, requires_grad=False) for half in (down, up))

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
    scale, is_target = _read_lora_config(files)
    targets = {name for name in shapes if is_target(name)}
    halves: dict[str, dict[str, StoredTensor]] = {}
    base: dict[str, StoredTensor] = {}
    unexpected: list[str] = []
    for raw, tensor in _read_headers(files.weights()).items():
        plain = raw.removeprefix(_PREFIX)
        if renamed(plain).startswith(_SPEAKING):
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
    _refuse(f"the adapter {files.name}", problems, "use the base model it belongs to")
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, stored in halves.items():
        down, up, (rows, columns) = stored["A"], stored["B"], shapes[name]
        if down.shape[1:] != (columns,) or up.shape[:1] != (rows,) or down.shape[0] != up.shape[-1]:
            sizes = f"{_published(name)} is {[rows, columns]}, its halves are {list(down.shape)} and {list(up.shape)}"
            raise ModelError(f"the adapter {files.name} does not fit: {sizes}", "use the base model it belongs to")
        pairs[name] = down.read().float(), up.read().float()
    # An adapter that was loaded or saved in part has halves that still have their initial value, zero.
    idle = [name for name in targets if not all(half.any() for half in pairs[name])]
    if idle and len(idle) == len(targets):
        raise ModelError(f"the adapter {files.name} changes nothing: all its tensors are zero", "use a trained adapter")
    if idle:
        layers = shorten(map(_published, idle))
        what = f"the adapter {files.name} is there in part: {len(idle)} layers are zero ({layers})"
        raise ModelError(what, "save it again")
    tensors = {which: tensor.read().float() for which, tensor in base.items()}
    return Adapter(scale, pairs, tensors.get("weight"), tensors.get("bias"))


def _read_lora_config(files: Files) -> tuple[float, Callable[[str], bool]]:
    """The scale of an adapter, and a predicate: a linear layer must be in it. Patterns are for published names."""
    name, config = files.name, files.json("adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{name} is not a LoRA adapter", "give the folder or hub id of one")
    unsupported = [key for key in _UNSUPPORTED if config.get(key)] + ["bias"] * (config.get("bias", "none") != "none")
    if unsupported:
        what = f"the adapter {name} uses {', '.join(unsupported)}, which is not supported"
        raise ModelError(what, "merge it into its base")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"the adapter {name} has invalid r or lora_alpha", "download it again") from error
    targets = config.get("target_modules")
    if targets == "all-linear":
        return scale, lambda _: True
    if isinstance(targets, str):
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise ModelError(f"the adapter {name} has a broken target pattern", "download it again") from error
        return scale, lambda module: pattern.fullmatch(_published(module)) is not None
    if not isinstance(targets, list) or not targets:
        raise ModelError(f"the adapter {name} names no target modules", "download it again")
    ends = tuple(str(end) for end in targets)
    return scale, lambda module: any(module == end or module.endswith(f".{end}") for end in ends)


def load_backbone(
    base: Files, adapter: Files | None, projection_init: ProjectionInit, placement: Placement, kind: str
) -> Backbone:
    """Load a base model ("qwen2_5_vl" or "qwen2_5_omni"), apply an adapter, and complete the projection.

    Raises:
        ModelError: files are absent, damaged or do not fit, or there is too little memory.
        MissingExtra: 4 bits were asked for without bitsandbytes.
    """
    config = _read_config(base, kind)
    model = _empty_model(Qwen2_5_VLModel if kind == "qwen2_5_vl" else Qwen2_5OmniThinkerModel, config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = _match(_read_headers(base.weights()), shapes, base.name)
    check_memory(base.name, shapes.values(), placement)
    hidden = config.text_config.hidden_size
    loaded = load_adapter(adapter, linear_shapes(model, hidden)) if adapter else None
    # In half precision the adapter stays beside the layers, see LoraLinear.
    merged = loaded if placement.dtype == torch.float32 and not placement.four_bit else None
    # Layers to be quantised stay on the CPU until then.
    device = torch.device("cpu") if placement.four_bit else placement.device
    state: dict[str, torch.Tensor] = {}
    for name in shapes:
        tensor = stored[name].read()
        delta = merged.delta(name.removesuffix(".weight")) if merged else None
        if delta is not None:
            tensor = tensor.float() + delta
        state[name] = tensor.to(device, placement.dtype)
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False)
    model.to(device)
    if placement.four_bit:
        quantize(model, placement.device)
    if loaded is not None and merged is None:
        for name, (down, up) in loaded.pairs.items():
            if name != PROJECTION:
                halves = (half.to(placement.device, placement.dtype) for half in (down, up * loaded.scale))
                model.set_submodule(name, LoraLinear(model.get_submodule(name), *halves))
    # Set after the model is made, which checks names with "flash" against installed packages.
    for part in model.modules():
        if getattr(part, "config", None) is not None:
            part.config._attn_implementation = ATTENTION
    # Tried before anything is compiled around it.
    kernel_works(placement.device)
    weight, bias = (loaded.projection_weight, loaded.projection_bias) if loaded else (None, None)
    if weight is None and _PROJECTION_TENSORS[0] in stored:
        weight = stored[_PROJECTION_TENSORS[0]].read().float()
    if bias is None and _PROJECTION_TENSORS[1] in stored:
        bias = stored[_PROJECTION_TENSORS[1]].read().float()
    if weight is None:
        deviation = config.text_config.initializer_range
        projection = as_torch_draws(init_projection(projection_init, hidden, deviation), deviation)
    else:
        projection = Projection.of(weight.numpy(), "stored")
    if projection.weight.shape != (DIMENSION, hidden) or (bias is not None and bias.shape != (DIMENSION,)):
        what = f"the stored projection is {list(projection.weight.shape)}, not {[DIMENSION, hidden]}"
        raise ModelError(what, "use the right base")
    weight, bias = torch.from_numpy(projection.weight), torch.zeros(DIMENSION) if bias is None else bias
    if loaded and (delta := loaded.delta(PROJECTION)) is not None:
        weight = weight + delta
    # A pair of frames counts as one second in Omni, the processor's own assumption for lists of frames.
    vl = kind == "qwen2_5_vl"
    time_step = config.vision_config.tokens_per_second if vl else config.position_id_per_seconds
    return Backbone(model, weight, bias, projection, placement, time_step)


def _read_config(base: Files, kind: str) -> Any:  # noqa: ANN401 -- a configuration class of transformers
    """The configuration of a base of this kind, refused where it is broken or not supported."""
    actual = base.json("config.json").get("model_type")
    if actual != kind:
        hint = "use --encoder clamr with Qwen2.5-VL and --encoder clamr-omni with Qwen2.5-Omni"
        raise ModelError(f"{base.name} is a {actual} model, not {kind}", hint)
    try:
        whole: Any = AutoConfig.from_pretrained(base.folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"config.json of {base.name} cannot be used: {error}", "download it again") from error
    config = whole if kind == "qwen2_5_vl" else whole.thinker_config
    vision, preprocessor = config.vision_config, "preprocessor_config.json"
    pixels = base.json(preprocessor) if (base.folder / preprocessor).is_file() else {}
    expected = {
        "image_mean": (pixels.get("image_mean", MEAN), MEAN),
        "image_std": (pixels.get("image_std", DEVIATION), DEVIATION),
        "patch size": (
            (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size),
            (PATCH, MERGE, STEP),
        ),
    }
    for what, (value, usual) in expected.items():
        if tuple(value) != usual:
            raise ModelError(f"{base.name} has another {what}, which is not supported", "use a Qwen2.5 base")
    if config.text_config.use_sliding_window:
        raise ModelError(f"{base.name} uses sliding windows, which is not supported", "use one of the 3B bases")
    return config


def _empty_model(model_class: Callable[[Any], Any], config: Any) -> Any:  # noqa: ANN401
    """The model without memory for its tensors; only the tables it computes itself are there."""
    with torch.device("meta"):
        model = model_class(config)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if any(buffer.is_meta for buffer in child.buffers(recurse=False)):
                # One of the library's tables of positions: its class computes the values from these arguments.
                arguments = (child.length, child.channels) if hasattr(child, "length") else (child.config,)
                setattr(parent, name, type(child)(*arguments))
    return model.eval()


def _match(
    stored: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]], model: str
) -> dict[str, StoredTensor]:
    """The stored tensor of every tensor of the model, and the projection's; a ModelError names what does not fit."""
    matched: dict[str, StoredTensor] = {}
    unexpected: list[str] = []
    for raw, tensor in stored.items():
        name = renamed(raw)
        if name.startswith(_SPEAKING):
            continue
        if name in matched or (name not in shapes and name not in _PROJECTION_TENSORS):
            unexpected.append(raw)
        else:
            matched[name] = tensor
    problems = {
        "tensors are missing, they would stay random": [_published(name) for name in shapes if name not in matched],
        "tensors have no place": unexpected,
        "tensors have another shape": [
            f"{_published(name)} {list(matched[name].shape)} for {list(shape)}"
            for name, shape in shapes.items()
            if name in matched and matched[name].shape != tuple(shape)
        ],
    }
    _refuse(model, problems, "use a complete Qwen2.5 checkpoint of this size")
    return matched


def linear_shapes(model: nn.Module, hidden: int) -> dict[str, tuple[int, int]]:
    """Weight shapes [out, in] of everything an adapter may change, the projection from ``hidden`` with it."""
    shapes = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    return {**shapes, PROJECTION: (DIMENSION, hidden)}


def check_memory(name: str, shapes: Iterable[tuple[int, ...]], placement: Placement, free: int | None = None) -> None:
    """Refuse a model whose tensors need more than the bytes that are free on the device (by default as it says).

    Raises:
        ModelError: it does not fit.
    """
    # In 4 bits the matrices are, vectors stay as they are.
    matrix = _NF4_BYTES if placement.four_bit else placement.dtype.itemsize
    sizes = (math.prod(shape) * (matrix if len(shape) == 2 else placement.dtype.itemsize) for shape in shapes)
    needed, free = int(sum(sizes)), _free_bytes(placement.device) if free is None else free
    if free is None or needed < _SMALLEST or needed * _HEADROOM <= free:
        return
    beside = "memory" if torch.cuda.is_available() else "memory, and there is no GPU"
    where = "the GPU" if placement.device.type == "cuda" else beside
    amounts = f"needs about {needed * _HEADROOM / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    hint = f"close other programs, take a machine with a larger GPU, {WAY_OUT}"
    raise ModelError(f"{name} does not fit into {where}: it {amounts}", hint)


def _free_bytes(device: torch.device) -> int | None:
    """Bytes of memory that are free on a device, None where that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, IndexError):
        return None
