"""Settings of the CLaMR encoders, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from clamr_cli.encoders.clamr.projection import parse_draw
from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clamr_cli.encoders.clamr.projection import Draw

NO_ADAPTER: Final = "none"
_SHORT: Final = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "dtype": ("auto", "bfloat16", "float16", "float32"),
    "template_vectors": ("keep", "drop"),
    "context": ("joint", "separate"),
    "quantize": ("none", "4bit"),
}


@dataclass(frozen=True, slots=True)
class Published:
    """A published pair: the base model and its CLaMR adapter, both hub ids."""

    model: str
    adapter: str


@dataclass(frozen=True, slots=True)
class ClamrOptions:
    """How to make a CLaMR encoder.

    Attributes:
        model: the base: a hub id, or a folder with config.json, tokenizer.json and safetensors files; empty for the
            published one.
        adapter: the LoRA adapter, likewise; empty for the published one where the base is the published one and none
            otherwise; "none" for the plain base.
        revision, adapter_revision: branch, tag or commit on the hub.
        dtype: "auto" is bfloat16 on a CUDA device and float32 elsewhere.
        projection_init: how the projection's base was drawn, "float16" or "float32"; unused where the files hold it.
        template_vectors: "keep" the vectors of template tokens, as published, or "drop" them.
        context: "joint" encodes all modalities in one pass, as published; "separate" each on its own (the paper's
            comparison without contextualisation).
        quantize: "4bit" loads the linear layers as NF4 (needs bitsandbytes and CUDA).
        batch_tokens: tokens per forward pass, 0 for a default by device.
        compile: compile the layers with torch.compile; pays off over many documents.
    """

    model: str = ""
    adapter: str = ""
    revision: str = ""
    adapter_revision: str = ""
    dtype: str = "auto"
    projection_init: str = "float16"
    template_vectors: Literal["keep", "drop"] = "keep"
    context: Literal["joint", "separate"] = "joint"
    quantize: Literal["none", "4bit"] = "none"
    batch_tokens: int = 0
    compile: bool = False

    @property
    def draw(self) -> Draw:
        """The draw of the projection's base."""
        return parse_draw(self.projection_init)


def parse_options(settings: Mapping[str, object], published: Published) -> ClamrOptions:
    """Check settings and fill in the published model.

    ``None`` means the default; a ``dtype`` or a path may be any object whose text is one.

    Raises:
        UsageError: an unknown setting or value.
    """
    known = {field.name: field for field in fields(ClamrOptions)}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UsageError(
            f"encoder 'clamr' has no setting {', '.join(map(repr, unknown))}", f"it knows {', '.join(known)}"
        )
    given = {name: _plain(name, value) for name, value in settings.items() if value is not None}
    options = ClamrOptions(**cast("dict[str, Any]", given))
    parse_draw(options.projection_init)
    for name, choices in _CHOICES.items():
        value = getattr(options, name)
        if value not in choices:
            raise UsageError(f"{name} cannot be {value!r}", f"use one of {', '.join(choices)}")
    return _with_published(options, published)


def _plain(name: str, value: object) -> object:
    """A setting's value as its field has it: numbers and switches checked, all else as text."""
    if name == "compile":
        return _switch(value)
    if name == "batch_tokens":
        if not isinstance(value, int | str) or not str(value).isdecimal():
            raise UsageError(f"batch_tokens cannot be {value!r}", "give a whole number of tokens")
        return int(value)
    # torch.float32 writes itself with its module.
    text = str(value).removeprefix("torch.")
    return _SHORT.get(text, text) if name == "dtype" else text


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false", "1", "0"):
        return value in ("true", "1")
    raise UsageError(f"compile cannot be {value!r}", "use true or false")


def _with_published(options: ClamrOptions, published: Published) -> ClamrOptions:
    """Fill in the model and the adapter where they were left out."""
    model = options.model or published.model
    adapter = options.adapter or (published.adapter if model == published.model else NO_ADAPTER)
    values = {field.name: getattr(options, field.name) for field in fields(ClamrOptions)}
    return ClamrOptions(**{**values, "model": model, "adapter": "" if adapter == NO_ADAPTER else adapter})
