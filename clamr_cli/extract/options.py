"""Options of the recognisers, apart from them so that naming one costs no import of a recogniser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ASR_VERSION: Final = "1"
"""Changes when the same sound and options would give other segments."""

OCR_VERSION: Final = "1"
"""Changes when the same pictures and options would give other segments."""


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """How speech is recognised.

    Attributes:
        model: a name of ``clamr models`` or the folder of a CTranslate2 Whisper model.
        language: two-letter code that is spoken, empty to detect it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads, 0 for the library's own choice.
    """

    model: str = "whisper-base"
    language: str = ""
    device: str = "auto"
    threads: int = 0

    @property
    def version(self) -> str:
        """Equal for options that give equal results."""
        return f"whisper{ASR_VERSION}:{self.model}:{self.language}"


@dataclass(frozen=True, slots=True)
class OcrOptions:
    """How on-screen text is recognised.

    Attributes:
        engine: "easyocr" or "rapidocr".
        languages: codes as EasyOCR names them.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads, 0 for the library's own choice.
    """

    engine: Literal["easyocr", "rapidocr"] = "easyocr"
    languages: tuple[str, ...] = ("en",)
    device: str = "auto"
    threads: int = 0

    @property
    def version(self) -> str:
        """Equal for options that give equal results."""
        return f"{self.engine}{OCR_VERSION}:{','.join(self.languages)}"
