"""How videos are recognised: the options that every command which prepares videos has, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clamr_cli.cli.commands.index import Flags as IndexFlags
    from clamr_cli.cli.preparing import PreparingFlags
    from clamr_cli.config import Settings
    from clamr_cli.extract.options import AsrOptions, OcrOptions
    from clamr_cli.index.options import IndexOptions

Language: TypeAlias = Annotated[
    str | None, typer.Option("--language", metavar="CODE", help="Prefer tracks in, and expect, this language.")
]
AsrModel: TypeAlias = Annotated[
    str | None, typer.Option("--asr-model", metavar="NAME", help="Speech model: see 'clamr models', or a folder.")
]
Ocr: TypeAlias = Annotated[
    str | None, typer.Option("--ocr", metavar="ENGINE", help="Reads on-screen text: easyocr or rapidocr.")
]
OcrLanguages: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--ocr-lang", metavar="CODE", help="Languages of on-screen text; repeatable, or with commas."),
]
Device: TypeAlias = Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")]


def wanted(flags: IndexFlags | PreparingFlags) -> dict[str, object]:
    """The settings that the flags give, by name; None where they give none."""
    return {
        "encoder": flags.encoder,
        "language": flags.language,
        "asr_model": flags.asr_model,
        "ocr": flags.ocr,
        "ocr_languages": flags.ocr_lang or None,
        "speech": False if flags.no_speech else None,
        "text": False if flags.no_ocr else None,
        "device": flags.device,
    }


def chosen(settings: Settings, encoder_settings: Mapping[str, object]) -> IndexOptions:
    """How the settings have videos recognised and encoded.

    Args:
        settings: of this run.
        encoder_settings: the encoder's own.
    """
    from clamr_cli.index.options import IndexOptions

    return IndexOptions(
        cache=settings.cache,
        encoder=settings.encoder,
        encoder_settings=encoder_settings,
        device=settings.device,
        language=settings.language,
        asr=_asr(settings),
        ocr=_ocr(settings),
        speech=settings.speech,
        text=settings.text,
        time_limit=settings.time_limit,
        threads=settings.threads,
    )


def _asr(settings: Settings) -> AsrOptions:
    from clamr_cli.extract.options import AsrOptions

    return AsrOptions(settings.asr_model, language=settings.language, device=settings.device, threads=settings.threads)


def _ocr(settings: Settings) -> OcrOptions:
    from clamr_cli.extract.options import OcrOptions

    return OcrOptions(settings.ocr, settings.ocr_languages, device=settings.device, threads=settings.threads)
