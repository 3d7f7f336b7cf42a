"""Settings of the CLaMR encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec

from clamr_cli.encoders.clamr.projection import ProjectionInit
from clamr_cli.errors import UsageError

NO_ADAPTER: Final = "none"
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "dtype": {
        "bf16": "bfloat16",
        "fp16": "float16",
        "fp32": "float32",
        **{f"torch.{name}": name for name in ("bfloat16", "float16", "float32")},
    },
    "projection_init": {
        **dict.fromkeys(("float16-legacy", "float16_legacy", "fp16", "fp16_legacy"), "float16"),
        "fp32": "float32",
    },
}


class ClamrOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a CLaMR encoder.

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
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    projection_init: ProjectionInit = "float16"
    template_vectors: Literal["keep", "drop"] = "keep"
    context: Literal["joint", "separate"] = "joint"
    quantize: Literal["none", "4bit"] = "none"
    batch_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    compile: bool = False


def parse_options(settings: Mapping[str, object], published_base: str, published_adapter: str) -> ClamrOptions:
    """Check settings and fill in the published base and adapter; "none" becomes an empty adapter.

    ``None`` means the default; a ``dtype`` or a path may be any object whose text is one.

    Raises:
        UsageError: an unknown setting or value.
    """
    values = {
        name: value if isinstance(value, bool) else _ALIASES.get(name, {}).get(str(value), str(value))
        for name, value in settings.items()
        if value is not None
    }
    types = get_type_hints(ClamrOptions)
    if unknown := sorted(set(values) - set(types)):
        raise UsageError(f"invalid settings of the encoder: {', '.join(map(repr, unknown))}", f"use {', '.join(types)}")
    try:
        options = msgspec.convert(values, ClamrOptions, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rstrip("`").rpartition("$.")[2]
        choices = ("true", "false") if types[name] is bool else get_args(types[name])
        hint = f"use {', '.join(choices)}" if choices else "use a whole number, 0 or more"
        raise UsageError(f"invalid {name}: {values[name]!r}", hint) from error
    model = options.model or published_base
    adapter = options.adapter or (published_adapter if model == published_base else NO_ADAPTER)
    return msgspec.structs.replace(options, model=model, adapter="" if adapter == NO_ADAPTER else adapter)
