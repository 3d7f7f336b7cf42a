"""The model: the towers and the language model of a Qwen2.5 without a head, and the projection to 128 dimensions.

Sequences lie end to end in one row (:class:`Packed`), so that no padding is ever computed. Transformers calls
:func:`packed_attention` for the text layers and for the vision layers, whose windows are such sequences too. It hands
over the borders between sequences only to implementations with "flash" in their name, hence :data:`ATTENTION`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from clamr_cli.encoders.clamr.sources import WAY_OUT
from clamr_cli.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.options import ClamrOptions
    from clamr_cli.encoders.clamr.projection import Projection
    from clamr_cli.encoders.clamr.prompt import EncoderInput
    from clamr_cli.encoders.clamr.vision import Grid

ATTENTION: Final = "clamr_flash_packed"
_VARLEN_CAPABILITY: Final = (8, 0)

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of the pixels that CLIP was trained on, which every Qwen2.5 kept."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Device and precision of the model."""

    device: torch.device
    dtype: torch.dtype
    four_bit: bool = False

    @classmethod
    def of(cls, options: ClamrOptions, device: torch.device) -> Placement:
        """The placement that settings mean on a device: by default bfloat16 on CUDA and float32 elsewhere."""
        default = torch.bfloat16 if device.type == "cuda" else torch.float32
        dtype = default if options.dtype == "auto" else getattr(torch, options.dtype)
        return cls(device, dtype, options.quantize == "4bit")


def pick_device(wanted: str) -> torch.device:
    """The device a name means; "auto" is a CUDA device where there is one, else the CPU.

    Raises:
        ModelError: the device is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as problem:
        raise ModelError(f"invalid device: {wanted!r}", "use auto, cpu, cuda or mps") from problem
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("there is no CUDA device on this machine", f"leave --device out to use the CPU, {WAY_OUT}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("there is no Apple GPU on this machine", f"leave --device out to use the CPU, {WAY_OUT}")
    return device


@dataclass(frozen=True, slots=True)
class PositionRule:
    """Constants of the model: patches merged per side, and steps of the time axis per pair of frames."""

    merge: int = 2
    time_step: int = 2


def position_ids(length: int, video_start: int, grid: Grid | None, rule: PositionRule) -> NDArray[np.int64]:
    """Positions [3, length] of a sequence whose video tokens start at index ``video_start`` (ignored without a video).

    The three axes are time, height and width. Text counts up on all of them at once. A video spans them from where the
    text before it ended, and the text after it goes on at the maximum over *all* axes plus one, as in the published
    code. Newer library versions go on at the larger of height and width alone, which moves every text token of a long
    video, so the rule is kept here. The sequence may end right after the video, never inside it.
    """
    if grid is None:
        return np.broadcast_to(np.arange(length, dtype=np.int64), (3, length)).copy()
    axes = np.indices((grid.time, grid.height // rule.merge, grid.width // rule.merge), dtype=np.int64).reshape(3, -1)
    axes[0] *= rule.time_step
    video = axes + video_start
    before = np.broadcast_to(np.arange(video_start, dtype=np.int64), (3, video_start))
    rest = length - video_start - video.shape[1]
    after = np.broadcast_to(np.arange(rest, dtype=np.int64) + int(video.max()) + 1, (3, rest))
    return np.concatenate([before, video, after], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Sequences end to end, T tokens in all.

    Attributes:
        input_ids: [T] int64.
        positions: [3, T] int64.
        borders: [sequences + 1] int32, where each starts and the last ends.
        video_index: [V] int64, places of the video tokens in order.
        audio_index: [A] int64, places of the audio tokens in order.
        grids: [videos, 3] int64.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    borders: NDArray[np.int32]
    video_index: NDArray[np.int64]
    audio_index: NDArray[np.int64]
    grids: NDArray[np.int64]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.borders).max())


def pack(inputs: Sequence[EncoderInput], rule: PositionRule) -> Packed:
    """Put documents and queries end to end."""
    prompts = [given.prompt for given in inputs]
    starts = np.cumsum([0, *map(len, prompts)])

    def places(spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Indexes in the row of a stretch of each sequence, given by its first index and its length."""
        stretches = zip(starts, spans, strict=False)
        return np.concatenate([np.arange(count, dtype=np.int64) + start + first for start, (first, count) in stretches])

    positions = [position_ids(len(given.prompt), given.prompt.video_start, given.grid, rule) for given in inputs]
    grids = [(given.grid.time, given.grid.height, given.grid.width) for given in inputs if given.grid is not None]
    return Packed(
        np.concatenate([prompt.input_ids for prompt in prompts]),
        np.concatenate(positions, axis=1),
        starts.astype(np.int32),
        places([(prompt.video_start, prompt.video_tokens) for prompt in prompts]),
        places([(prompt.audio_start, prompt.audio_tokens) for prompt in prompts]),
        np.asarray(grids, dtype=np.int64).reshape(-1, 3),
    )


class Backbone:
    """A loaded model, ready to turn packed sequences into vectors.

    Attributes:
        model: a model class of transformers with ``language_model``, ``visual`` and maybe ``audio_tower``, all frozen.
        head: weight [128, hidden] and bias [128] of the projection, float32, with the adapter's change in them.
        rule: constants of its position ids.
        patch, merge: pixels per side of a patch, patches per side of a video token.
        projection: the base of the projection with its origin and hash.
        placement: device and dtype.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 -- a model class of transformers
        weight: torch.Tensor,
        bias: torch.Tensor,
        projection: Projection,
        placement: Placement,
        time_step: int,
    ) -> None:
        vision = model.config.vision_config
        self.rule = PositionRule(vision.spatial_merge_size, time_step)
        self.patch, self.merge = vision.patch_size, vision.spatial_merge_size
        self.projection, self.placement = projection, placement
        self.model, self.head = model, (weight, bias)
        self._pair = vision.temporal_patch_size
        self._mean, self._deviation = (
            torch.tensor(values, device=placement.device).mul(255).view(1, 3, 1, 1) for values in (MEAN, DEVIATION)
        )

    @torch.inference_mode()
    def __call__(
        self, packed: Packed, pixels: Sequence[NDArray[np.uint8]], features: Sequence[NDArray[np.float32]] = ()
    ) -> torch.Tensor:
        """Unit vectors [T, 128] float32 on the model's device, one per token."""
        projected = nn.functional.linear(self.hidden(packed, pixels, features).float(), *self.head)
        return nn.functional.normalize(projected, dim=-1)

    def hidden(
        self, packed: Packed, pixels: Sequence[NDArray[np.uint8]], features: Sequence[NDArray[np.float32]] = ()
    ) -> torch.Tensor:
        """Hidden states [T, hidden] after the final norm; gradients flow where something of the model is trained."""
        embedded = self.model.language_model.embed_tokens(self._moved(packed.input_ids))
        if len(packed.grids):
            video = self.vision(packed.grids, pixels).to(embedded.dtype)
            embedded = embedded.index_copy(0, self._moved(packed.video_index), video)
        if features:
            audio = self.audio(features).to(embedded.dtype)
            embedded = embedded.index_copy(0, self._moved(packed.audio_index), audio)
        borders = self._moved(packed.borders)
        output = self.model.language_model(
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

    def vision(self, grids: NDArray[np.int64], pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Vision embeddings [V, hidden] of videos in order; ``pixels`` as :func:`vision.pixels_of` gives them."""
        patches = torch.cat([self.patches(array) for array in pixels]).to(self.placement.dtype)
        output = self.model.visual(patches, grid_thw=self._moved(grids))
        return torch.as_tensor(output.pooler_output)

    def audio(self, features: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Audio embeddings [A, hidden] of log-mel features [128, frames] each, in order."""
        whole = self._moved(np.concatenate(features, axis=1)).to(self.placement.dtype)
        lengths = self._moved(np.asarray([array.shape[1] for array in features], dtype=np.int64))
        return torch.as_tensor(self.model.audio_tower(whole, feature_lens=lengths).last_hidden_state)

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
        for layer in [*self.model.language_model.layers, *self.model.visual.blocks]:
            layer.compile(dynamic=True, backend=backend)

    def _moved(self, array: NDArray[Any]) -> torch.Tensor:
        """An array on the model's device; pinned on the way to a GPU, so that the copy runs beside the computing."""
        tensor = torch.from_numpy(array)
        if self.placement.device.type == "cuda":
            return tensor.pin_memory().to(self.placement.device, non_blocking=True)
        return tensor.to(self.placement.device)


def quantize(model: nn.Module, device: torch.device) -> None:
    """Turn every linear layer of a model on the CPU into a 4-bit one and move the model to its device.

    The layers become NF4, as the published training and evaluation load them.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: it does not run here.
    """
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError as problem:
        raise MissingExtra("loading in 4 bits", "quantize") from problem
    library: Any = bitsandbytes.nn
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    try:
        for name, layer in layers:
            sizes, dtype = (layer.in_features, layer.out_features), layer.weight.dtype
            quantized = library.Linear4bit(
                *sizes, bias=layer.bias is not None, compute_dtype=dtype, quant_type="nf4", device="meta"
            )
            quantized.weight = library.Params4bit(
                layer.weight.data, requires_grad=False, quant_type="nf4", module=quantized
            )
            quantized.bias = layer.bias
            model.set_submodule(name, quantized.to(device))
        model.to(device)
    except (RuntimeError, NotImplementedError) as problem:
        raise ModelError(f"4-bit layers do not run on {device}: {problem}", "leave --quantize out") from problem


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 -- given by the caller, always None here
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    is_causal: bool | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention inside each sequence.

    Args:
        module: the layer; its ``is_causal`` counts where the argument is None.
        query: [1, heads, tokens, width] of all sequences in a row; ``key`` and ``value`` may have fewer heads.
        key: see ``query``.
        value: see ``query``.
        attention_mask: not used, the borders suffice.
        scaling: factor on the products.
        cu_seq_lens_q: [sequences + 1] int32, where each sequence starts and the last ends.
        max_length_q: the longest sequence.
        is_causal: whether tokens see only those before them.

    Returns:
        [1, tokens, heads, width], and None for weights, which are not computed.
    """
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    fast = query.is_cuda and query.dtype != torch.float32 and not query.requires_grad and kernel_works(query.device)
    # Only forward results of the kernel are compared; training takes the function whose gradients are known.
    kernel = _varlen if fast else attention_by_length
    return kernel(query[0], key[0], value[0], cu_seq_lens_q, max_length_q, scaling, causal).unsqueeze(0), None


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """Torch's own variable-length flash attention; [heads, tokens, width] to [tokens, heads, width]."""
    from torch.nn.attention.varlen import varlen_attn

    result = varlen_attn(
        query.transpose(0, 1).contiguous(),
        key.transpose(0, 1).contiguous(),
        value.transpose(0, 1).contiguous(),
        borders,
        borders,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=query.shape[0] != key.shape[0],
    )
    assert isinstance(result, torch.Tensor)
    return result


def attention_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,  # noqa: ARG001 -- the same signature as `_varlen`
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """Scaled dot product attention, once for all sequences of the same length."""
    starts: dict[int, list[int]] = {}
    for start, end in itertools.pairwise(borders.tolist()):
        if end > start:
            starts.setdefault(end - start, []).append(start)
    # By token first: that is how the layers laid them out, so views and row copies suffice.
    by_token = [tensor.transpose(0, 1) for tensor in (query, key, value)]
    result = torch.empty(by_token[0].shape, dtype=query.dtype, device=query.device)
    for length, firsts in starts.items():
        rows: slice | torch.Tensor = slice(firsts[0], firsts[-1] + length)
        if firsts[-1] - firsts[0] != (len(firsts) - 1) * length:
            rows = (
                torch.tensor(firsts, device=query.device)[:, None] + torch.arange(length, device=query.device)
            ).flatten()
        queries, keys, values = (
            (tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows))
            .reshape(len(firsts), length, *tensor.shape[1:])
            .transpose(1, 2)
            for tensor in by_token
        )
        attended = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            is_causal=causal and length > 1,
            scale=scaling,
            enable_gqa=query.shape[0] != key.shape[0],
        )
        result[rows] = attended.transpose(1, 2).flatten(0, 1)
    return result


_working: dict[torch.device, bool] = {}


def kernel_works(device: torch.device) -> bool:
    """True if the variable-length kernel runs on this device and agrees with the plain one; tried once."""
    if device not in _working:
        recent = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _VARLEN_CAPABILITY
        _working[device] = recent and kernel_agrees(device, _varlen)
    return _working[device]


def kernel_agrees(device: torch.device, kernel: Callable[..., torch.Tensor]) -> bool:
    """True if a kernel runs on a device and gives what :func:`attention_by_length` gives."""
    generator = torch.Generator(device).manual_seed(0)
    query, key, value = (
        torch.randn(heads, 300, 64, generator=generator, device=device, dtype=torch.bfloat16) for heads in (4, 2, 2)
    )
    borders = torch.tensor([0, 44, 300], dtype=torch.int32, device=device)
    try:
        result = kernel(query, key, value, borders, 256, 0.125, True)
    except (RuntimeError, ImportError):
        return False
    expected = attention_by_length(query, key, value, borders, 256, 0.125, True)
    return bool(torch.allclose(result.float(), expected.float(), atol=3e-2))


AttentionInterface.register(ATTENTION, packed_attention)
