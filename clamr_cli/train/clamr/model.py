"""The model that learns: a CLaMR encoder's own, with fresh or started low-rank adapters from peft, and how it is kept.

Module names are those of the published checkpoints (``model.layers...``, ``custom_text_proj``), so that the published
target pattern fits and what is written is read by name again. The projection's base is written with the adapter, which
the published one lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from clamr_cli.encoders.clamr.checkpoint import PROJECTION, renamed
from clamr_cli.encoders.clamr.sources import listed
from clamr_cli.errors import ModelError
from clamr_cli.train.batch import Encoded
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.checkpoint import Adapter
    from clamr_cli.encoders.clamr.model import Backbone, Packed

TARGETS: Final = "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"
"""The published pattern."""

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
_NAME: Final = "default"
_PREFIX: Final = "base_model.model."


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """A low-rank adapter: rank, factor times rank, and dropout before it; the defaults are the paper's."""

    rank: int = 128
    alpha: float = 128
    dropout: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Documents and then queries, end to end, as the model reads them.

    Attributes:
        packed: their tokens; the first ``documents`` sequences are documents.
        documents: how many.
        pixels: of each document that has frames.
        features: of each document that has audio.
        modality_ids: [D, S] int64, padded with 0.
    """

    packed: Packed
    documents: int
    pixels: tuple[NDArray[np.uint8], ...]
    features: tuple[NDArray[np.float32], ...]
    modality_ids: torch.Tensor


class Learner(nn.Module):
    """A backbone whose language model and projection have adapters; all else is frozen.

    Args:
        backbone: loaded without an adapter.
        lora: of a fresh adapter; rank and alpha are those of ``start`` where there is one.
        start: the adapter to go on from.

    Raises:
        ModelError: it changes other layers than are trained.
    """

    def __init__(self, backbone: Backbone, lora: LoraOptions, start: Adapter | None = None) -> None:
        super().__init__()
        self._backbone = backbone
        self.model = backbone.model.language_model
        self.visual = backbone.model.visual
        if hasattr(backbone.model, "audio_tower"):
            self.audio_tower = backbone.model.audio_tower
        self.custom_text_proj = _projection(backbone, start)
        self.is_loaded_in_4bit = backbone.placement.four_bit
        self.adapter_config = lora_config(_of(start) if start else lora)
        inject_adapter_in_model(self.adapter_config, self, _NAME)
        for parameter in self.parameters():
            if parameter.requires_grad:
                # Steps of 1e-5 are lost in half precision.
                parameter.data = parameter.data.float()
        if start is not None:
            self._take(start)

    def forward(self, reading: Reading) -> Encoded:
        """Unit vectors of the documents and queries."""
        hidden = self._backbone.hidden(reading.packed, reading.pixels, reading.features)
        with torch.autocast(hidden.device.type, enabled=False):
            vectors = nn.functional.normalize(self.custom_text_proj(hidden.float()), dim=-1)
        lengths = torch.from_numpy(reading.packed.borders).diff()
        parts = torch.split(vectors, lengths.tolist())
        documents, queries = parts[: reading.documents], parts[reading.documents :]
        counts = torch.split(lengths.to(hidden.device), [len(documents), len(queries)])
        padded = [pad_sequence(list(some), batch_first=True) for some in (documents, queries)]
        masks = [
            torch.arange(some.shape[1], device=hidden.device) < count[:, None]
            for some, count in zip(padded, counts, strict=True)
        ]
        return Encoded(padded[1], masks[1], padded[0], masks[0], reading.modality_ids.to(hidden.device))

    def compute_again(self) -> None:
        """Keep no activations inside the layers of the language model; they are computed again on the way back."""
        # The older name goes with version 6 of transformers.
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next(found for name in names if (found := getattr(self.model, name, None)))
        enable({"use_reentrant": False})

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter in the published layout, with the projection's base.

        Args:
            folder: where ``adapter_config.json`` and ``adapter_model.safetensors`` go.
            base: the base model's name, for the configuration.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            _PREFIX + name.replace(f".{_NAME}.", "."): value.detach().float().cpu().contiguous()
            for name, value in self.state_dict().items()
            if "lora_" in name or name.startswith(f"{PROJECTION}.base_layer.")
        }
        self.adapter_config.base_model_name_or_path = base
        self.adapter_config.save_pretrained(str(folder))
        # The last file to be there, so that a folder with it is whole.
        fresh = folder / f"{WEIGHTS_FILE}.new"
        save_file(tensors, fresh, metadata={"format": "pt"})
        fresh.replace(folder / WEIGHTS_FILE)

    def _take(self, start: Adapter) -> None:
        """Put the halves of an adapter in."""
        layers = {renamed(name): module for name, module in self.named_modules() if hasattr(module, "lora_A")}
        if other := listed(layers.keys() ^ start.pairs.keys()):
            what = f"the adapter to start from changes other layers than are trained ({other})"
            raise ModelError(what, "start from a CLaMR adapter, or leave --adapter out")
        for name, layer in layers.items():
            layer.lora_A[_NAME].weight.data.copy_(start.pairs[name].down)
            layer.lora_B[_NAME].weight.data.copy_(start.pairs[name].up)


def lora_config(lora: LoraOptions) -> LoraConfig:
    """The adapter as peft describes it, with the published targets."""
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=TARGETS,
        bias="none",
        init_lora_weights="gaussian",
    )


def _of(start: Adapter) -> LoraOptions:
    """The rank of an adapter, and the alpha that gives its factor."""
    rank = next(iter(start.pairs.values())).down.shape[0]
    return LoraOptions(rank, start.scale * rank)


def _projection(backbone: Backbone, start: Adapter | None) -> nn.Linear:
    """The base of the projection, frozen: the starting adapter's, else the base model's, else drawn."""
    weight, bias = backbone.head
    if start is not None and start.projection_weight is not None:
        weight = start.projection_weight
    if start is not None and start.projection_bias is not None:
        bias = start.projection_bias
    layer = nn.Linear(weight.shape[1], DIMENSION, device=backbone.placement.device)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def trained_numbers(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
