"""The options that say which model an encoder is made of; every command that encodes may inherit them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import typer


# Without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class EncoderFlags:
    """Settings of the CLaMR encoders; what is not given stays at the encoder's own default."""

    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Base model: a folder or hub id.")] = (
        None
    )
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="MODEL", help="LoRA adapter: a folder or hub id; none for none.")
    ] = None
    revision: Annotated[str | None, typer.Option("--revision", metavar="REV", help="Revision of the base model.")] = (
        None
    )
    adapter_revision: Annotated[
        str | None, typer.Option("--adapter-revision", metavar="REV", help="Revision of the adapter.")
    ] = None
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="auto, bfloat16, float16 or float32.")
    ] = None
    projection_init: Annotated[
        str | None,
        typer.Option("--projection-init", metavar="NAME", help="Draw of the projection: float16 (default) or float32."),
    ] = None
    template_vectors: Annotated[
        str | None, typer.Option("--template-vectors", metavar="WHAT", help="keep (default) or drop.")
    ] = None
    quantize: Annotated[str | None, typer.Option("--quantize", metavar="HOW", help="none (default) or 4bit.")] = None

    def encoder_settings(self) -> dict[str, object]:
        """The settings that were given, by the names the encoder has for them."""
        return {field.name: value for field in fields(EncoderFlags) if (value := getattr(self, field.name)) is not None}
