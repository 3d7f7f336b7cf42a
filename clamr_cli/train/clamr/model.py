"""The model that is trained: a CLaMR encoder's backbone with low-rank adapters from peft, and its batches.

Module names are those of the published checkpoints (``model.layers...``, ``custom_text_proj``), so that the published
target pattern fits and the encoder reads a saved adapter by name. The projection's base is saved with the adapter; the
published one lacks it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from clamr_cli.encoders.clamr import ClamrEncoder
from clamr_cli.encoders.clamr.checkpoint import PROJECTION, Adapter, renamed
from clamr_cli.encoders.clamr.model import MAX_THREADS, Backbone
from clamr_cli.encoders.clamr.prompt import EncoderInput
from clamr_cli.encoders.hub import shorten
from clamr_cli.errors import ModelError
from clamr_cli.train.clamr.pairs import Pair
from clamr_cli.train.losses import Batch, Encoded
from clamr_cli.types import DIMENSION, Document

TARGETS: Final = "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"
"""The published pattern."""

WEIGHTS_FILE: Final = "adapter_model.safetensors"
_NAME: Final = "default"
_PREFIX: Final = "base_model.model."


class LoraOptions(NamedTuple):
    """A low-rank adapter: rank, alpha (its scale times the rank) and dropout; the defaults are the paper's."""

    rank: int = 128
    alpha: float = 128
    dropout: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """The documents and queries of a batch, their media decoded."""

    documents: Sequence[EncoderInput]
    queries: Sequence[EncoderInput]


class Collator:
    """Builds batches from examples with the prompts of an encoder; ``threads`` decode images, 0 for a default."""

    def __init__(self, encoder: ClamrEncoder, threads: int = 0) -> None:
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(threads or min(MAX_THREADS, os.cpu_count() or 1), "images")

    def __call__(self, examples: Sequence[tuple[Pair, Document]]) -> Batch:
        """One batch; a document of several examples is in it once."""
        by_moment = {pair.moment: (pair, document) for pair, document in examples}
        positions = {moment: position for position, moment in enumerate(by_moment)}
        documents = [self._encoder.prepare(document) for _, document in by_moment.values()]
        queries = [self._encoder.prepare_query(pair.query) for pair, _ in examples]
        answers = [torch.tensor(pair.answers) for pair, _ in examples]
        return {
            "inputs": {"model_input": ModelInput(list(self._pool.map(EncoderInput.decoded, documents)), queries)},
            "targets": torch.tensor([positions[pair.moment] for pair, _ in examples]),
            "query_modalities": torch.tensor([pair.modality for pair, _ in examples]),
            "document_keys": torch.tensor([pair.video for pair, _ in by_moment.values()]),
            "document_ids": torch.tensor([pair.document for pair, _ in by_moment.values()]),
            "answers": pad_sequence(answers, batch_first=True, padding_value=-1),
        }


class TrainableEncoder(nn.Module):
    """A backbone whose language model and projection have adapters; everything else is frozen.

    The backbone is loaded without an adapter. The projection's base, rank and alpha are those of the starting adapter
    if there is one.

    Raises:
        ModelError: the starting adapter changes other layers than are trained.
    """

    def __init__(self, backbone: Backbone, lora: LoraOptions, start: Adapter | None = None) -> None:
        super().__init__()
        self._backbone = backbone
        self.model = backbone.model.language_model
        self.visual = backbone.model.visual
        if hasattr(backbone.model, "audio_tower"):
            self.audio_tower = backbone.model.audio_tower
        weight, bias = backbone.weight, backbone.bias
        if start is not None:
            weight = weight if start.projection_weight is None else start.projection_weight
            bias = bias if start.projection_bias is None else start.projection_bias
            rank = next(iter(start.pairs.values()))[0].shape[0]
            lora = LoraOptions(rank, start.scale * rank)
        self.custom_text_proj = nn.Linear(weight.shape[1], DIMENSION, device=backbone.placement.device)
        self.custom_text_proj.load_state_dict({"weight": weight, "bias": bias})
        self.custom_text_proj.requires_grad_(False)
        self.is_loaded_in_4bit = backbone.placement.four_bit
        self.adapter_config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=TARGETS,
            bias="none",
            init_lora_weights="gaussian",
        )
        inject_adapter_in_model(self.adapter_config, self, _NAME)
        for parameter in self.parameters():
            if parameter.requires_grad:
                # Steps of 1e-5 are lost in half precision.
                parameter.data = parameter.data.float()
        if start is None:
            return
        layers = {renamed(name): module for name, module in self.named_modules() if hasattr(module, "lora_A")}
        if other := shorten(layers.keys() ^ start.pairs.keys()):
            what = f"the adapter to start from changes other layers than are trained ({other})"
            raise ModelError(what, "start from a CLaMR adapter, or leave --adapter out")
        for name, layer in layers.items():
            for half, tensor in zip((layer.lora_A, layer.lora_B), start.pairs[name], strict=True):
                half[_NAME].weight.data.copy_(tensor)

    @property
    def trained_parameters(self) -> int:
        """The number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, model_input: ModelInput) -> Encoded:
        """Unit vectors of the documents and queries."""
        documents, queries = model_input.documents, model_input.queries
        hidden = self._backbone.hidden([*documents, *queries])
        with torch.autocast(hidden.device.type, enabled=False):
            vectors = nn.functional.normalize(self.custom_text_proj(hidden.float()), dim=-1)
        lengths = [len(item) for item in (*documents, *queries)]
        parts = torch.split(vectors, lengths)
        padded, masks = [], []
        for rows in (slice(len(documents)), slice(len(documents), None)):
            padded.append(pad_sequence(list(parts[rows]), batch_first=True))
            counts = torch.tensor(lengths[rows], device=hidden.device)
            masks.append(torch.arange(padded[-1].shape[1], device=hidden.device) < counts[:, None])
        ids = [torch.from_numpy(item.modality_ids.astype("int64")) for item in documents]
        modality_ids = pad_sequence(ids, batch_first=True).to(hidden.device)
        return Encoded(padded[1], masks[1], padded[0], masks[0], modality_ids)

    def enable_checkpointing(self) -> None:
        """Recompute the activations inside the layers of the language model on the backward pass, to save memory."""
        # The older name goes with version 6 of transformers.
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next(method for name in names if (method := getattr(self.model, name, None)))
        enable({"use_reentrant": False})

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter in the published layout, with the projection's base; ``base`` is the base model's name."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            _PREFIX + name.replace(f".{_NAME}.", "."): value.detach().float().cpu().contiguous()
            for name, value in self.state_dict().items()
            if "lora_" in name or name.startswith(f"{PROJECTION}.base_layer.")
        }
        self.adapter_config.base_model_name_or_path = base
        self.adapter_config.save_pretrained(str(folder))
        # Written last and renamed: a folder that has this file is complete.
        temporary = folder / f"{WEIGHTS_FILE}.new"
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.replace(folder / WEIGHTS_FILE)
