"""Attention over sequences that lie end to end in one row, so that no padding is ever computed.

Transformers calls this function for the text layers and for the vision layers, whose windows are such sequences too. It
hands over the borders between sequences only to implementations with "flash" in their name, hence :data:`NAME`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional
from transformers import AttentionInterface

if TYPE_CHECKING:
    from collections.abc import Callable

NAME: Final = "clamr_flash_packed"
_VARLEN_CAPABILITY: Final = (8, 0)


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
        attention_mask: not used, the borders say all.
        scaling: factor on the products.
        cu_seq_lens_q: [sequences + 1] int32, where each sequence starts and the last ends.
        max_length_q: the longest sequence.
        is_causal: whether tokens see only those before them.

    Returns:
        [1, tokens, heads, width], and None for weights that are never made.
    """
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    fast = query.is_cuda and query.dtype != torch.float32 and not query.requires_grad and _kernel_works(query.device)
    # The kernel was only compared on the way forward; training takes the one whose gradients are known.
    chosen = _kernel if fast else _by_length
    return chosen(query[0], key[0], value[0], cu_seq_lens_q, max_length_q, scaling, causal).unsqueeze(0), None


def _kernel(
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


def _by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,  # noqa: ARG001 -- the same face as `_kernel`
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
        rows = _rows(firsts, length, query.device)
        queries, keys, values = (
            (tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows))
            .reshape(len(firsts), length, *tensor.shape[1:])
            .transpose(1, 2)
            for tensor in by_token
        )
        found = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            is_causal=causal and length > 1,
            scale=scaling,
            enable_gqa=query.shape[0] != key.shape[0],
        )
        result[rows] = found.transpose(1, 2).flatten(0, 1)
    return result


def _rows(firsts: list[int], length: int, device: torch.device) -> slice | torch.Tensor:
    """The tokens of sequences of one length: a slice where they follow one another, else their indexes."""
    if firsts[-1] - firsts[0] == (len(firsts) - 1) * length:
        return slice(firsts[0], firsts[-1] + length)
    return (torch.tensor(firsts, device=device)[:, None] + torch.arange(length, device=device)).flatten()


def prepare(device: torch.device) -> None:
    """Find out which kernel a device has before anything is compiled around it."""
    if device.type == "cuda":
        _kernel_works(device)


_working: dict[torch.device, bool] = {}


def _kernel_works(device: torch.device) -> bool:
    """Whether the variable-length kernel runs on this device and agrees with the plain one; tried once."""
    if device not in _working:
        _working[device] = torch.cuda.get_device_capability(device) >= _VARLEN_CAPABILITY and _agrees(device, _kernel)
    return _working[device]


def _agrees(device: torch.device, kernel: Callable[..., torch.Tensor]) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    query, key, value = (
        torch.randn(heads, 300, 64, generator=generator, device=device, dtype=torch.bfloat16) for heads in (4, 2, 2)
    )
    borders = torch.tensor([0, 44, 300], dtype=torch.int32, device=device)
    try:
        found = kernel(query, key, value, borders, 256, 0.125, True)
    except (RuntimeError, ImportError):
        return False
    expected = _by_length(query, key, value, borders, 256, 0.125, True)
    return bool(torch.allclose(found.float(), expected.float(), atol=3e-2))


AttentionInterface.register(NAME, packed_attention)
