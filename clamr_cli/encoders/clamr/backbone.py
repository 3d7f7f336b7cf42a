"""The model: the towers and the language model of a Qwen2.5 without a head, and the projection to 128 dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from clamr_cli.encoders.clamr.positions import PositionRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.options import ClamrOptions
    from clamr_cli.encoders.clamr.packing import Packed
    from clamr_cli.encoders.clamr.projection import Projection

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of the pixels that CLIP was trained on, which every Qwen2.5 kept."""


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
        self._model, self._weight, self._bias = model, weight, bias
        self._pair = vision.temporal_patch_size
        self._mean, self._deviation = (
            torch.tensor(values, device=placement.device).mul(255).view(1, 3, 1, 1) for values in (MEAN, DEVIATION)
        )

    @torch.inference_mode()
    def __call__(
        self, packed: Packed, pixels: Sequence[NDArray[np.uint8]], features: Sequence[NDArray[np.float32]] = ()
    ) -> torch.Tensor:
        """Unit vectors [T, 128] float32 on the model's device, one per token."""
        projected = nn.functional.linear(self.hidden(packed, pixels, features).float(), self._weight, self._bias)
        return nn.functional.normalize(projected, dim=-1)

    @property
    def model(self) -> Any:  # noqa: ANN401 -- a model class of transformers
        """The model itself, whose parts are ``language_model``, ``visual`` and maybe ``audio_tower``, all frozen."""
        return self._model

    @property
    def head(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [128, hidden] and bias [128] of the projection, float32, with the adapter's change in them."""
        return self._weight, self._bias

    def hidden(
        self, packed: Packed, pixels: Sequence[NDArray[np.uint8]], features: Sequence[NDArray[np.float32]] = ()
    ) -> torch.Tensor:
        """Hidden states [T, hidden] after the final norm; gradients flow where something of the model is trained."""
        embedded = self._model.language_model.embed_tokens(self._moved(packed.input_ids))
        if len(packed.grids):
            seen = self.vision(packed.grids, pixels).to(embedded.dtype)
            embedded = embedded.index_copy(0, self._moved(packed.video_index), seen)
        if features:
            heard = self.audio(features).to(embedded.dtype)
            embedded = embedded.index_copy(0, self._moved(packed.audio_index), heard)
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

    def vision(self, grids: NDArray[np.int64], pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Vision embeddings [V, hidden] of videos in order; ``pixels`` as :func:`frames.pixels_of` gives them."""
        patches = torch.cat([self.patches(array) for array in pixels]).to(self.placement.dtype)
        output = self._model.visual(patches, grid_thw=self._moved(grids))
        return torch.as_tensor(output.pooler_output)

    def audio(self, features: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Audio embeddings [A, hidden] of log-mel features [128, frames] each, in order."""
        whole = self._moved(np.concatenate(features, axis=1)).to(self.placement.dtype)
        lengths = self._moved(np.asarray([array.shape[1] for array in features], dtype=np.int64))
        return torch.as_tensor(self._model.audio_tower(whole, feature_lens=lengths).last_hidden_state)

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
