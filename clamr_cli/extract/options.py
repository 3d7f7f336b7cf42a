"""Options and values of speech and text recognition; cheap to import, so that commands can say what they want."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from clamr_cli import weights
from clamr_cli.types import Device, OcrEngine

ASR_VERSION: Final = "1"
"""Changes when the same sound and options would give other segments."""

OCR_VERSION: Final = "2"
"""Changes when the same pictures and options would give other segments."""

READABLE_BEFORE: Final = 1280
"""Pixels of the longer side up to which version 1 read pictures as they are; larger ones were shrunk to it."""


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """Options of speech recognition.

    Attributes:
        model: a ``whisper-...`` name of ``clamr models``, or the folder of a CTranslate2 Whisper model.
        language: two-letter code of what is spoken; empty means detect.
        device: where to compute.
        compute_type: CTranslate2's; ``auto`` is int8 on a CPU and float16 on CUDA.
        beam: hypotheses kept by the search; 1 is greedy.
        threads: CPU threads, 0 for CTranslate2's choice.
    """

    model: str = "whisper-base"
    language: str = ""
    device: Device = "auto"
    compute_type: str = "auto"
    beam: int = 5
    threads: int = 0

    @property
    def version(self) -> str:
        """Key under which results may be kept: equal keys, equal results (device and threads change nothing)."""
        return f"asr{ASR_VERSION}:{self.model}:{self.language}:{self.compute_type}:{self.beam}"


@dataclass(frozen=True, slots=True)
class OcrOptions:
    """Options of text recognition.

    Attributes:
        engine: ``easyocr``, or ``rapidocr`` (an extra, several times faster on CPUs).
        languages: EasyOCR's language codes, of one script beside ``en``.
        device: where to compute.
        threads: CPU threads for finding text, 0 for one per core.
        look: how far a picture is shrunk when looking whether there is text at all.
        canvas: pixels of its longer side at most when reading.
        min_confidence: readings below it are dropped.
    """

    engine: OcrEngine = "easyocr"
    languages: tuple[str, ...] = ("en",)
    device: Device = "auto"
    threads: int = 0
    look: float = 0.4
    canvas: int = 4096
    min_confidence: float = 0.3

    @property
    def version(self) -> str:
        """Key under which results may be kept: equal keys, equal results (device and threads change nothing)."""
        return self._key(OCR_VERSION, self.canvas)

    @property
    def version_before(self) -> str:
        """The key of version 1, which shrank large pictures, and read no turned text."""
        return self._key("1", READABLE_BEFORE)

    def _key(self, version: str, canvas: int) -> str:
        languages = "+".join(sorted(self.languages))
        return f"ocr{version}:{self.engine}:{languages}:{self.look}:{canvas}:{self.min_confidence}"

    def locate(self, cache: Path) -> Path | None:
        """The verified folder of the engine's weights; None for an engine that carries its own.

        Raises:
            ModelError: they are not installed or damaged.
            UsageError: no recogniser reads these languages.
        """
        return weights.locate(weights.ocr_weights(self.languages), cache) if self.engine == "easyocr" else None


class Box(NamedTuple):
    """A box in a picture, in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def area(self) -> int:
        return self.width * self.height

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def union(self, other: Box) -> Box:
        return Box(
            min(self.left, other.left), min(self.top, other.top), max(self.right, other.right),
            max(self.bottom, other.bottom),
        )  # fmt: skip

    def moved(self, right: int, down: int) -> Box:
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line read in a picture.

    Attributes:
        text: what was read.
        confidence: how sure the engine is, in [0, 1].
        box: where it is.
        turns: quarter turns against the clock that made it level; 0 for level text.
    """

    text: str
    confidence: float
    box: Box
    turns: int = 0
