"""The model: the towers and the language model of a Qwen2.5 without a head, and the projection to 128 dimensions.

Batches of inputs go through it, with media decoded ahead and one copy back each. Sequences lie end to end in one row,
so that no padding is ever computed. Transformers calls :func:`packed_attention` for the text layers and for the vision
layers, whose windows are such sequences too. It hands over the borders between sequences only to implementations with
"flash" in their name, hence :data:`ATTENTION`.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from clamr_cli.encoders.clamr.projection import Projection
from clamr_cli.encoders.clamr.prompt import FACTOR, MERGE, PATCH, STEP, EncoderInput, Grid
from clamr_cli.encoders.hub import WAY_OUT
from clamr_cli.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from clamr_cli.types import FloatArray

ATTENTION: Final = "clamr_flash_packed"
_VARLEN_CAPABILITY: Final = (8, 0)

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of the pixels that CLIP was trained on, which every Qwen2.5 kept."""


MAX_THREADS: Final = 8
"""Threads that decode pictures at most. Threads suffice: decoding and resizing release the interpreter."""

_BUDGETS: Final[Mapping[str, int]] = {"cuda": 16384, "mps": 4096}
_CPU_BUDGET: Final = 2048
_AHEAD: Final = 2


class Placement(NamedTuple):
    """Device and precision of the model."""

    device: torch.device
    dtype: torch.dtype
    four_bit: bool = False


def position_ids(length: int, video_start: int, grid: Grid | None, time_step: int) -> NDArray[np.int64]:
    """Positions [3, length] of a sequence whose video tokens start at index ``video_start`` (ignored without a video).

    The three axes are time, height and width. Text counts up on all of them at once. A video spans them from where the
    text before it ended, ``time_step`` per pair of frames, and the text after it goes on at the maximum over *all* axes
    plus one, as in the published code. Newer library versions go on at the larger of height and width alone, which
    moves every text token of a long video, so the rule is kept here. The sequence may end right after the video, never
    inside it.
    """
    if grid is None:
        return np.broadcast_to(np.arange(length, dtype=np.int64), (3, length)).copy()
    axes = np.indices((grid.time, grid.height // MERGE, grid.width // MERGE), dtype=np.int64).reshape(3, -1)
    axes[0] *= time_step
    video = axes + video_start
    before = np.broadcast_to(np.arange(video_start, dtype=np.int64), (3, video_start))
    rest = length - video_start - video.shape[1]
    after = np.broadcast_to(np.arange(rest, dtype=np.int64) + int(video.max()) + 1, (3, rest))
    return np.concatenate([before, video, after], axis=1)


class Backbone:
    """A loaded model, ready to turn prompts into vectors.

    ``model`` is a model class of transformers with ``language_model``, ``visual`` and maybe ``audio_tower``, all
    frozen; ``weight`` [128, hidden] and ``bias`` [128] are those of the projection with the adapter's change, float32.
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
        self.model, self.projection, self.placement, self.time_step = model, projection, placement, time_step
        self.weight, self.bias = weight.to(placement.device), bias.to(placement.device)
        self._mean, self._deviation = (
            torch.tensor(values, device=placement.device).mul(255).view(1, 3, 1, 1) for values in (MEAN, DEVIATION)
        )

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[EncoderInput]) -> torch.Tensor:
        """Unit vectors [T, 128] float32 on the model's device, one per token of all inputs in order."""
        return nn.functional.normalize(
            nn.functional.linear(self.hidden(inputs).float(), self.weight, self.bias), dim=-1
        )

    def hidden(self, inputs: Sequence[EncoderInput]) -> torch.Tensor:
        """Hidden states [T, hidden] after the final norm; gradients flow where something of the model is trained.

        Args:
            inputs: documents and queries with their media decoded; T tokens in all.
        """
        starts = np.cumsum([0, *map(len, inputs)])
        input_ids = self._to_device(np.concatenate([item.input_ids for item in inputs]))
        embedded = self.model.language_model.embed_tokens(input_ids)
        rows = list(zip(starts.tolist(), inputs, strict=False))
        if pixels := [item.pixels for item in inputs if item.pixels is not None]:
            grids = np.asarray([item.grid for item in inputs if item.grid is not None], dtype=np.int64)
            places = np.concatenate([start + np.asarray(item.video, dtype=np.int64) for start, item in rows])
            embedded = embedded.index_copy(0, self._to_device(places), self.vision(grids, pixels).to(embedded.dtype))
        if features := [item.features for item in inputs if item.features is not None]:
            places = np.concatenate([start + np.asarray(item.audio, dtype=np.int64) for start, item in rows])
            embedded = embedded.index_copy(0, self._to_device(places), self.audio(features).to(embedded.dtype))
        positions = [position_ids(len(item), item.video.start, item.grid, self.time_step) for item in inputs]
        borders = self._to_device(starts.astype(np.int32))
        longest = max(map(len, inputs))
        output = self.model.language_model(
            inputs_embeds=embedded.unsqueeze(0),
            position_ids=self._to_device(np.concatenate(positions, axis=1)).unsqueeze(1),
            # The borders keep sequences apart; a mask is never needed.
            attention_mask={"full_attention": None},
            use_cache=False,
            cu_seq_lens_q=borders,
            cu_seq_lens_k=borders,
            max_length_q=longest,
            max_length_k=longest,
        )
        return torch.as_tensor(output.last_hidden_state[0])

    def vision(self, grids: NDArray[np.int64], pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Vision embeddings [V, hidden] of videos in order, of grids [videos, 3] and pixels of each."""
        patches = torch.cat([self.patches(array) for array in pixels]).to(self.placement.dtype)
        return torch.as_tensor(self.model.visual(patches, grid_thw=self._to_device(grids)).pooler_output)

    def audio(self, features: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Audio embeddings [A, hidden] of log-mel features [128, frames] each, in order."""
        whole = self._to_device(np.concatenate(features, axis=1)).to(self.placement.dtype)
        lengths = self._to_device(np.asarray([array.shape[1] for array in features], dtype=np.int64))
        return torch.as_tensor(self.model.audio_tower(whole, feature_lens=lengths).last_hidden_state)

    def patches(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """One video's patches [patches, 3 * 2 * 14 * 14] float32, normalised, those of one token side by side."""
        normal = (self._to_device(pixels).float() - self._mean) / self._deviation
        frames, _, height, width = normal.shape
        rows, columns = height // FACTOR, width // FACTOR
        split = normal.view(frames // STEP, STEP, 3, rows, MERGE, PATCH, columns, MERGE, PATCH)
        return split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * STEP * PATCH**2)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the layers of both towers; the first batches take longer."""
        for layer in [*self.model.language_model.layers, *self.model.visual.blocks]:
            layer.compile(dynamic=True, backend=backend)

    def _to_device(self, array: NDArray[Any]) -> torch.Tensor:
        """An array on the model's device; pinned on the way to a GPU, so that the copy runs beside the computing."""
        tensor = torch.from_numpy(array)
        if self.placement.device.type == "cuda":
            return tensor.pin_memory().to(self.placement.device, non_blocking=True)
        return tensor.to(self.placement.device)


def encode(
    backbone: Backbone, inputs: Sequence[EncoderInput], batch_tokens: int = 0, threads: int = 0
) -> list[FloatArray]:
    """Vectors [n, 128] of each input, in order; float32 from a float32 model, else float16.

    Args:
        backbone: the model.
        inputs: documents and queries, their media not decoded yet.
        batch_tokens: tokens per forward pass; 0 for a default by device.
        threads: that decode pictures; 0 for as many as there are processors, eight at most.

    Raises:
        MediaError: a picture is damaged.
        ModelError: the device does not hold even a single document, or the model gives no finite numbers.
    """
    budget = batch_tokens or _BUDGETS.get(backbone.placement.device.type, _CPU_BUDGET)
    dtype = torch.float32 if backbone.placement.dtype == torch.float32 else torch.float16
    results: dict[int, FloatArray] = {}
    waiting: deque[tuple[list[int], Callable[[], FloatArray]]] = deque()

    def collect(group: list[int], arrive: Callable[[], FloatArray]) -> None:
        """Cut a batch's vectors into those of its members."""
        vectors: NDArray[Any] = arrive()
        if not np.isfinite(vectors).all():
            raise ModelError("the model gives no finite numbers", "use dtype bfloat16 or float32, or download it again")
        borders = np.cumsum([len(inputs[place]) for place in group])[:-1]
        # Copies, so that one document kept does not keep its whole batch.
        results.update({place: part.copy() for place, part in zip(group, np.split(vectors, borders), strict=True)})

    for group, batch in _decode(plan([len(item) for item in inputs], budget), inputs, threads):
        # The copy of one batch runs beside the next.
        waiting.append((group, _start_copy(_forward(backbone, batch), dtype)))
        if len(waiting) > 1:
            collect(*waiting.popleft())
    for group, arrive in waiting:
        collect(group, arrive)
    return [results[place] for place in range(len(inputs))]


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group sequences, longest first, so that no group holds more than ``budget`` tokens unless it is a single one.

    The longest come first, so that a device too small for them says so at once.
    """
    groups: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not groups or total + lengths[index] > budget:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += lengths[index]
    return groups


def _decode(
    groups: Sequence[list[int]], inputs: Sequence[EncoderInput], threads: int
) -> Iterator[tuple[list[int], list[EncoderInput]]]:
    """Groups with their inputs decoded, on other threads while earlier groups are computed."""
    with ThreadPoolExecutor(threads or min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        started: deque[tuple[list[int], list[Future[EncoderInput]]]] = deque()
        for group in [*groups, *itertools.repeat(None, _AHEAD)]:
            if group is not None:
                started.append((group, [pool.submit(inputs[place].decoded) for place in group]))
            if started and (group is None or len(started) > _AHEAD):
                ready, futures = started.popleft()
                yield ready, [future.result() for future in futures]


def _forward(backbone: Backbone, inputs: Sequence[EncoderInput]) -> torch.Tensor:
    """Vectors of all inputs in a row, on the device; in halves where the device is too small for all at once."""
    try:
        return backbone(inputs)
    except torch.OutOfMemoryError as error:
        if len(inputs) == 1:
            what = f"the GPU's memory does not hold a document of {len(inputs[0])} tokens"
            raise ModelError(what, f"close what else uses the GPU, try 4 bits, {WAY_OUT}") from error
    torch.cuda.empty_cache()
    middle = len(inputs) // 2
    return torch.cat([_forward(backbone, half) for half in (inputs[:middle], inputs[middle:])])


def _start_copy(vectors: torch.Tensor, dtype: torch.dtype) -> Callable[[], FloatArray]:
    """Start one copy from the device, as narrow as it is kept; the function waits for it."""
    narrow = vectors.to(dtype)
    if not narrow.is_cuda:
        return lambda: narrow.cpu().numpy()
    host = torch.empty(narrow.shape, dtype=dtype, pin_memory=True)
    host.copy_(narrow, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()

    def wait() -> FloatArray:
        event.synchronize()
        return host.numpy()

    return wait


def quantize(model: nn.Module, device: torch.device) -> None:
    """Turn every linear layer of a model on the CPU into a 4-bit one and move the model to its device.

    The layers become NF4, as the published training and evaluation load them.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: it does not run here.
    """
    try:
        import bitsandbytes  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtra("loading in 4 bits", "quantize") from error
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
    except RuntimeError as error:
        raise ModelError(f"4-bit layers do not run on {device}: {error}", "leave --quantize out") from error


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
    """Attention inside each sequence; the library's interface.

    ``query`` [1, heads, tokens, width] holds all sequences in a row; ``key`` and ``value`` may have fewer heads.
    ``cu_seq_lens_q`` [sequences + 1] int32 is where each sequence starts and the last ends. ``is_causal`` is that of
    the layer where it is None. Returns [1, tokens, heads, width], and None for weights, which are not computed.
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

    queries, keys, values = (tensor.transpose(0, 1).contiguous() for tensor in (query, key, value))
    result = varlen_attn(
        queries,
        keys,
        values,
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
    gqa = query.shape[0] != key.shape[0]
    for length, firsts in starts.items():
        rows: slice | torch.Tensor = slice(firsts[0], firsts[-1] + length)
        if firsts[-1] - firsts[0] != (len(firsts) - 1) * length:
            within = torch.arange(length, device=query.device)
            rows = (torch.tensor(firsts, device=query.device)[:, None] + within).flatten()
        parts = [tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows) for tensor in by_token]
        queries, keys, values = (part.reshape(len(firsts), length, *part.shape[1:]).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=causal and length > 1, scale=scaling, enable_gqa=gqa
        )
        result[rows] = attended.transpose(1, 2).flatten(0, 1)
    return result


@cache
def kernel_works(device: torch.device) -> bool:
    """True if the variable-length kernel runs on this device and agrees with the plain one; tried once."""
    recent = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _VARLEN_CAPABILITY
    return recent and kernel_agrees(device, _varlen)


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
