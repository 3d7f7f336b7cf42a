"""The options that say how videos are decoded, recognised and encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.cli.options import DeviceOption
from clamr_cli.cli.runtime import Context
from clamr_cli.types import OcrEngine

if TYPE_CHECKING:
    from clamr_cli.config import Settings
    from clamr_cli.index.options import IndexOptions


# Groups are without slots, since a class can inherit slots from one side only.
@dataclass(frozen=True, kw_only=True)
class ExtractionOptions:
    """The options that every command which prepares videos has."""

    no_speech: Annotated[bool, typer.Option("--no-speech", help="Recognise no speech (subtitles are still read).")] = (
        False
    )
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no on-screen text.")] = False
    encoder: Annotated[str | None, typer.Option("--encoder", metavar="NAME", help="Encode with this one.")] = None
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="Prefer tracks in, and expect, this language.")
    ] = None
    asr_model: Annotated[
        str | None, typer.Option("--asr-model", metavar="NAME", help="Speech model: see 'clamr models', or a folder.")
    ] = None
    ocr: Annotated[OcrEngine | None, typer.Option("--ocr", help="Reads on-screen text.")] = None
    ocr_lang: Annotated[
        list[str] | None,
        typer.Option("--ocr-lang", metavar="CODE", help="Languages of on-screen text; repeatable, or with commas."),
    ] = None
    device: DeviceOption = None

    def settings(self, context: Context, **more: object) -> Settings:
        """The settings with these options on top.

        Raises:
            UsageError: an invalid value.
        """
        return context.settings(
            encoder=self.encoder,
            language=self.language,
            asr_model=self.asr_model,
            ocr=self.ocr,
            ocr_languages=self.ocr_lang or None,
            speech=False if self.no_speech else None,
            text=False if self.no_ocr else None,
            device=self.device,
            **more,
        )


def index_options(settings: Settings, encoder_settings: Mapping[str, object]) -> IndexOptions:
    """The options of an index run by the settings, with the encoder's own settings."""
    from clamr_cli.extract.options import AsrOptions, OcrOptions
    from clamr_cli.index.options import IndexOptions

    language, device, threads = settings.language, settings.device, settings.threads
    return IndexOptions(
        cache=settings.cache,
        encoder=settings.encoder,
        encoder_settings=encoder_settings,
        device=device,
        exclude=settings.exclude,
        window=settings.window,
        language=language,
        asr=AsrOptions(settings.asr_model, language=language, device=device, threads=threads),
        ocr=OcrOptions(settings.ocr, settings.ocr_languages, device=device, threads=threads),
        speech=settings.speech,
        text=settings.text,
        time_limit=settings.time_limit,
        threads=threads,
    )
