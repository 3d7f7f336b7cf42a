"""The two kinds of base model: Qwen2.5-VL, and Qwen2.5-Omni, which also listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of base model.

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


FAMILIES: Final[Mapping[str, Family]] = {
    family.kind: family
    for family in (
        Family("qwen2_5_vl", Qwen2_5_VLModel, lambda config: config, lambda part: part.vision_config.tokens_per_second),
        # A pair of frames counts as one second, the processor's own assumption for lists of frames.
        Family(
            "qwen2_5_omni",
            Qwen2_5OmniThinkerModel,
            lambda config: config.thinker_config,
            lambda part: part.position_id_per_seconds,
        ),
    )
}
