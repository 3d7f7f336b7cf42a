"""The joint transformer and its heads in torch; :mod:`clamr_cli.encoders.mini` runs the same in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clamr_cli.encoders.mini.networks import (
    FIRST_TEXT,
    HEAD_WIDTH,
    HEADS,
    INNER,
    LAYERS,
    LEXICAL,
    PASSAGE,
    QUERY_SENTENCE,
    SENTENCE_COPIES,
    WIDTH,
    WORD,
    Array,
)
from clamr_cli.train.losses import Encoded
from clamr_cli.types import DIMENSION, MODALITY_IDS, Modality

_SCALE: Final = 10.0
_NEVER: Final = -30.0
# Gates before training: logits of the semantic, lexical, prior and null part.
_GATES: Final[dict[str, list[list[float]]]] = {
    "query.word": [[0.0, 0.0, -1.0, 0.0]],
    "query.sentence": [[0.0, _NEVER, -1.0, -2.0]],
    "word": [[0.0, 0.0, -1.0, -1.0]] * 3,
    "passage": [[0.0, _NEVER, -1.0, -1.0]] * 3,
    "picture": [[1.0, _NEVER, 0.0, -1.0]] * 3,
}
_NAMES: Final = tuple(_GATES)
_LEXICAL_HEADS: Final = ("query_word", "word")

_TOGETHER: Final = 6
"""Documents that go through the joint transformer at once."""

_MODALITY_OF_KIND: Final = torch.tensor(
    [0, 0, *[MODALITY_IDS[Modality.VIDEO]] * 3] + [MODALITY_IDS[modality] for modality in (*WORD, *PASSAGE)] + [0]
)
"""Modality id of each kind of row; the last is that of padding (kind -1)."""


class PaddedRows(NamedTuple):
    """Rows of some documents or queries, padded.

    Attributes:
        rows: [b, n, 384].
        kinds: [b, n], -1 where padded.
        times: [b, n, 16], see :func:`clamr_cli.encoders.mini.networks.time_features`.
        lexical: [b, n, 48].
    """

    rows: Tensor
    kinds: Tensor
    times: Tensor
    lexical: Tensor

    @property
    def mask(self) -> Tensor:
        """[b, n], true for rows that are not padding."""
        return self.kinds >= 0


class Layer(nn.Module):
    """One pre-norm layer of self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.up = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[b, n, 384] to the same; ``mask`` [b, n] is true for rows that may be seen."""
        count, length, _ = hidden.shape
        parts = self.qkv(self.norm1(hidden)).view(count, length, 3, -1, HEAD_WIDTH)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(count, length, -1))
        result: Tensor = hidden + self.down(functional.gelu(self.up(self.norm2(hidden))))
        return result


class MiniModel(nn.Module):
    """Joint transformer, maps and gates.

    The correction that the joint transformer adds starts at zero, and the maps at the principal directions of their
    input [384, 77]: at first, rows are encoded as if they were separate. ``means`` [384] are those of each head's rows.
    """

    def __init__(self, directions: Array, means: Mapping[str, Array]) -> None:
        super().__init__()
        self.separate = False
        """If true, rows are encoded separately, without the joint transformer."""
        self.kind = nn.Parameter(torch.randn(len(HEADS), WIDTH) * 0.02)
        self.time = nn.Parameter(torch.zeros(16, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.correction = nn.Parameter(torch.zeros(WIDTH, WIDTH))
        self.maps = nn.ParameterDict({_key(name): torch.from_numpy(directions.copy()) for name in _NAMES})
        self.shifts = nn.ParameterDict({_key(name): torch.from_numpy(-means[name] @ directions) for name in _NAMES})
        self.gates = nn.ParameterDict({_key(name): torch.tensor(rows) for name, rows in _GATES.items()})
        self.tilts = nn.ParameterDict({_key(name): torch.zeros(len(directions), 4) for name in _NAMES[:-1]})
        heads = [_NAMES.index(head) for head, _ in HEADS]
        self.register_buffer("_head_of", torch.tensor(heads), persistent=False)
        self.register_buffer("_gate_of", torch.tensor([gate for _, gate in HEADS]), persistent=False)

    def contextual(self, batch: PaddedRows) -> Tensor:
        """[b, n, 384]: text rows with the transformer's correction added, of unit length; other rows unchanged."""
        if self.separate or not (batch.kinds >= FIRST_TEXT).any():
            return batch.rows
        result, lengths = batch.rows.clone(), batch.mask.sum(dim=1)
        # Documents of like length together: most of the batch would be padding.
        for members in torch.split(lengths.argsort(), _TOGETHER):
            longest = max(1, int(lengths[members].max()))
            part = PaddedRows(*(each[members, :longest] for each in batch))
            hidden = part.rows * WIDTH**0.5 + self.kind[part.kinds.clamp_min(0)]
            hidden = hidden + part.times @ self.time
            for layer in self.layers:
                hidden = layer(hidden, part.mask)
            changed = functional.normalize(part.rows + self.norm(hidden) @ self.correction, dim=-1)
            is_text = (part.kinds >= FIRST_TEXT).unsqueeze(-1)
            result[members, :longest] = torch.where(is_text, changed, part.rows)
        return result

    def vectors(self, batch: PaddedRows) -> Tensor:
        """[b, n, 128] token vectors, of unit length; zeros where padded."""
        vectors = batch.rows.new_zeros(*batch.kinds.shape, DIMENSION)
        rows = self.contextual(batch)
        heads = torch.where(batch.mask, self._head_of[batch.kinds.clamp_min(0)], -1)  # type: ignore[index]
        for number, name in enumerate(map(_key, _NAMES)):
            members = heads == number
            if not members.any():
                continue
            inputs = rows[members]
            semantic = functional.normalize(inputs @ self.maps[name] + self.shifts[name], dim=-1)
            gates = self._gate_of[batch.kinds[members]]  # type: ignore[index]
            logits, lexical = self.gates[name][gates], batch.lexical[members]
            if name in self.tilts:
                logits = logits + _SCALE * inputs @ self.tilts[name]
            if name not in _LEXICAL_HEADS:
                logits = torch.cat([logits[:, :1], torch.full_like(logits[:, 1:2], _NEVER), logits[:, 2:]], dim=1)
                lexical = torch.zeros_like(lexical)
            # The clamp keeps the square root's slope finite.
            shares = logits.softmax(dim=-1).clamp_min(1e-9).sqrt()
            null = [shares[:, 3:], torch.zeros_like(shares[:, 3:])]
            ends = null if name.startswith("query") else null[::-1]
            parts = [shares[:, :1] * semantic, shares[:, 1:2] * lexical, shares[:, 2:3], *ends]
            vectors[members] = torch.cat(parts, dim=1)
        return vectors

    def forward(self, queries: Mapping[str, Tensor], documents: Mapping[str, Tensor]) -> Encoded:
        """Token vectors of queries and documents; both arguments are the fields of :class:`PaddedRows` by name.

        The vector of a query's sentence is as long as its copies together.
        """
        query_rows, document_rows = PaddedRows(**queries), PaddedRows(**documents)
        copies = torch.where(query_rows.kinds == QUERY_SENTENCE, float(SENTENCE_COPIES), 1.0)
        query_vectors = self.vectors(query_rows) * copies[..., None]
        ids = _MODALITY_OF_KIND[document_rows.kinds]
        return Encoded(query_vectors, query_rows.mask, self.vectors(document_rows), document_rows.mask, ids)

    def tensors(self) -> dict[str, Array]:
        """The tensors under the names that the encoder reads; matrices are [in, out]."""
        named: dict[str, Tensor] = {
            "joint.kind": self.kind,
            "joint.time": self.time,
            "joint.correction": self.correction,
            "joint.norm.weight": self.norm.weight,
            "joint.norm.bias": self.norm.bias,
        }
        for number, layer in enumerate(self.layers):
            for name, tensor in layer.named_parameters():
                named[f"joint.{number}.{name}"] = tensor.T if tensor.ndim == 2 else tensor
        for name in _NAMES:
            for part, tensors in (
                ("weight", self.maps),
                ("bias", self.shifts),
                ("gate.bias", self.gates),
                ("gate.weight", self.tilts),
            ):
                if (key := _key(name)) in tensors:
                    named[f"{name}.{part}"] = tensors[key]
        return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in named.items()}


def _key(name: str) -> str:
    """Parameter names may have no dots."""
    return name.replace(".", "_")


def empty_rows(count: int, length: int) -> PaddedRows:
    """Rows of nothing but padding."""
    return PaddedRows(
        torch.zeros(count, length, WIDTH),
        torch.full((count, length), -1),
        torch.zeros(count, length, 16),
        torch.zeros(count, length, LEXICAL),
    )
