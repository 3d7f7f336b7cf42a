"""Tensors of safetensors files under the names that current transformers use, none missing and none left over.

Checkpoints name their tensors as the library did when they were saved: ``model.layers.0...`` and ``visual...`` before,
``model.language_model.layers.0...`` and ``model.visual...`` since. Loaded without renaming, the language model stays
random without an error; here whatever does not fit is an error that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from safetensors import SafetensorError, safe_open

from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import torch

PROJECTION: Final = "custom_text_proj"
_RENAMES: Final = (
    (re.compile(r"^model\.language_model\."), "language_model."),
    (re.compile(r"^model\.(visual|audio_tower)\."), r"\1."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\b"), r"language_model.\1"),
)
_SHOWN: Final = 12
_SPEAKING: Final = ("lm_head.", "talker.", "token2wav.")
"""Parts that write or speak; nothing of them goes into a vector."""


def unused(name: str) -> bool:
    """Whether a tensor belongs to a part that vectors do not need."""
    return name.removeprefix("thinker.").startswith(_SPEAKING)


def renamed(name: str) -> str:
    """A tensor's or module's name of any layout, as the model's own modules are called here."""
    name = name.removeprefix("thinker.")
    for pattern, replacement in _RENAMES:
        if pattern.search(name):
            return pattern.sub(replacement, name)
    return name


def published(name: str) -> str:
    """The name that the published checkpoints use for one of ours."""
    return re.sub(r"^language_model\.", "model.", name)


def listed(names: Iterable[str]) -> str:
    """Names for an error message: all of a few, the first of many."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:_SHOWN])
    return shown if len(ordered) <= _SHOWN else f"{shown} and {len(ordered) - _SHOWN} more"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: its name there, its shape, and bytes per element."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU in the dtype it has in the file.

        Raises:
            ModelError: the file is damaged.
        """
        try:
            with safe_open(self.path, framework="pt") as opened:
                return opened.get_tensor(self.name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{self.path.name} is damaged at {self.name}", "download the model again") from problem


def read_headers(paths: Sequence[Path]) -> dict[str, Stored]:
    """All tensors of some files by the names they have there.

    Raises:
        ModelError: a file is damaged, or a tensor stands in two of them.
    """
    found: dict[str, Stored] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 -- not a mapping
                    if name in found:
                        raise ModelError(
                            f"{name} stands in {found[name].path.name} and {path.name}", "keep one of them"
                        )
                    found[name] = Stored(path, name, tuple(opened.get_slice(name).get_shape()))
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path.name} is damaged", "download the model again") from problem
    return found


def match(
    stored: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]], optional: Collection[str], what: str
) -> dict[str, Stored]:
    """Give every tensor of the model its place in the files.

    Args:
        stored: the tensors of the files, see :func:`read_headers`; those of output parts are passed over.
        shapes: the model's tensors.
        optional: names that may be in the files although the model has no such tensor; they come back too.
        what: the model, for messages.

    Raises:
        ModelError: tensors are missing, left over or of another shape; it names them.
    """
    found: dict[str, Stored] = {}
    unexpected: list[str] = []
    for raw, place in stored.items():
        name = renamed(raw)
        if unused(raw):
            continue
        if name in found or (name not in shapes and name not in optional):
            unexpected.append(raw)
        else:
            found[name] = place
    missing = {published(name) for name in shapes if name not in found}
    wrong = {
        f"{published(name)} {list(found[name].shape)} for {list(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != tuple(shape)
    }
    _refuse(what, missing, unexpected, wrong)
    return found


def _refuse(what: str, missing: Collection[str], unexpected: Collection[str], wrong: Collection[str]) -> None:
    """Raise a ModelError where anything does not fit."""
    troubles = []
    if missing:
        troubles.append(f"{len(missing)} tensors are missing, they would stay random ({listed(missing)})")
    if unexpected:
        troubles.append(f"{len(unexpected)} tensors have no place ({listed(unexpected)})")
    if wrong:
        troubles.append(f"{len(wrong)} tensors have another shape ({listed(wrong)})")
    if troubles:
        raise ModelError(
            f"{what} does not fit: {'; '.join(troubles)}", "use a complete Qwen2.5 checkpoint of this size"
        )
