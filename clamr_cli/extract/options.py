"""Options and values of speech and text recognition; cheap to import, so that commands can say what they want."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from clamr_cli import weights
from clamr_cli.types import Device, OcrEngine

# Each changes when the same sound or pictures and options would give other segments.
ASR_VERSION: Final = "1"
OCR_VERSION: Final = "2"
READABLE_BEFORE: Final = 1280  # pixels of the longer side to which version 1 shrank larger pictures


@dataclass(frozen=True, slots=True)
class AsrOptions:
    """Options of speech recognition."""

    model: str = "whisper-base"  # a name of ``clamr models``, or the folder of a CTranslate2 Whisper model
    language: str = ""  # two-letter code of what is spoken; empty means detect
    device: Device = "auto"
    compute_type: str = "auto"  # CTranslate2's; ``auto`` is int8 on a CPU and float16 on CUDA
    beam: int = 5  # hypotheses kept by the search; 1 is greedy
    threads: int = 0  # of the CPU, 0 for CTranslate2's choice

    @property
    def version(self) -> str:
        """Key under which results may be kept: equal keys, equal results (device and threads change nothing)."""
        return f"asr{ASR_VERSION}:{self.model}:{self.language}:{self.compute_type}:{self.beam}"


@dataclass(frozen=True, slots=True)
class OcrOptions:
    """Options of text recognition."""

    engine: OcrEngine = "easyocr"  # ``rapidocr`` is an extra, several times faster on CPUs
    languages: tuple[str, ...] = ("en",)  # EasyOCR's codes, of one script beside ``en``
    device: Device = "auto"
    threads: int = 0  # of the CPU, for finding text; 0 for one per core
    look: float = 0.4  # how far a picture is shrunk when looking whether there is text at all
    canvas: int = 4096  # pixels of its longer side at most when reading
    min_confidence: float = 0.3  # readings below it are dropped

    @property
    def version(self) -> str:
        """Key under which results may be kept: equal keys, equal results (device and threads change nothing)."""
        languages = "+".join(sorted(self.languages))
        return f"ocr{OCR_VERSION}:{self.engine}:{languages}:{self.look}:{self.canvas}:{self.min_confidence}"

    @property
    def version_before(self) -> str:
        """The key of version 1, which shrank large pictures, and read no turned text."""
        languages = "+".join(sorted(self.languages))
        return f"ocr1:{self.engine}:{languages}:{self.look}:{READABLE_BEFORE}:{self.min_confidence}"

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
    """A line read in a picture."""

    text: str
    confidence: float  # of the engine, in [0, 1]
    box: Box
    turns: int = 0  # quarter turns against the clock that made it level
