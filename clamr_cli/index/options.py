"""The options of an index run, and the names under which its intermediate results are stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, Self

import msgspec

from clamr_cli import weights
from clamr_cli.errors import ModelError
from clamr_cli.extract.options import AsrOptions, OcrOptions

MEDIA_VERSION: Final = "1"
"""Changes when decoding, frame picking or subtitle reading would give other results for the same file."""


StoredStage = Literal["media", "speech", "text"]


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options of an index run.

    Attributes:
        cache: folder for weights and for frames and sound on their way; nothing in it is ever the only copy.
        encoder: a name of ``clamr_cli.encoders.TABLE``.
        encoder_settings: the encoder's own settings.
        device: "auto", "cpu", "cuda" or "mps".
        exclude: globs of names or paths to leave out.
        window: longest moment in seconds.
        language: prefer audio and subtitle tracks of this language, and expect it in speech; empty means detect.
        speech, text: whether to recognise speech and on-screen text; subtitles are read in any case.
        retry_failed: try files again that failed before though they have not changed.
        prune: forget at once what is missing below the targets, with what was extracted of it.
        time_limit: seconds without progress after which a decoder counts as hung.
        jobs: videos in flight at once: while one is decoded another is transcribed and a third read.
        threads: CPU threads of each recogniser; 0 is half the cores, since two of them work at a time.
        stretch: seconds of speech, or of frames with text, that are recognised at a time and stored at once: what an
            interruption can cost. Cuts lie where it is quiet.
    """

    cache: Path
    encoder: str = "mini"
    encoder_settings: Mapping[str, object] = field(default_factory=dict)
    device: str = "auto"
    exclude: tuple[str, ...] = ()
    window: float = 60.0
    language: str = ""
    asr: AsrOptions = field(default_factory=AsrOptions)
    ocr: OcrOptions = field(default_factory=OcrOptions)
    speech: bool = True
    text: bool = True
    retry_failed: bool = False
    prune: bool = False
    time_limit: float = 120.0
    jobs: int = 3
    threads: int = 0
    stretch: int = 600

    def with_threads(self) -> Self:
        """The same with a number of threads for every recogniser: together they should keep the cores busy."""
        threads = self.threads or max(1, (os.cpu_count() or 1) // 2)
        return replace(
            self,
            threads=threads,
            asr=replace(self.asr, threads=self.asr.threads or threads),
            ocr=replace(self.ocr, threads=self.ocr.threads or threads),
        )

    def check_models(self) -> None:
        """Check at once that no weights are missing, not after the first hour of work.

        Raises:
            ModelError: a recogniser's weights are absent or damaged.
        """
        required = {"--no-speech": self.asr.model} if self.speech else {}
        if self.text and self.ocr.engine == "easyocr":
            required["--no-ocr"] = weights.ocr_weights(self.ocr.languages)
        for option, name in required.items():
            try:
                weights.locate(name, self.cache)
            except ModelError as error:
                raise ModelError(error.what, f"{error.hint}, or index with {option}" if error.hint else "") from error


class Recipe(msgspec.Struct, frozen=True):
    """Versions and settings of everything that shapes a video's moments; equal recipes give equal moments.

    ``media``, ``speech`` and ``text`` are also the names under which the extraction of a content is stored.
    """

    media: str
    speech: str
    text: str
    window: float

    @classmethod
    def of(cls, options: IndexOptions) -> Recipe:
        """The recipe of these options."""
        language = options.language
        return cls(
            media=f"{MEDIA_VERSION}:{language}",
            speech=f"{options.asr.version}:{language}" if options.speech else "",
            text=options.ocr.version if options.text else "",
            window=options.window,
        )

    @classmethod
    def parse(cls, text: str) -> Recipe | None:
        """The recipe that :meth:`dump` wrote; None where it is another version's."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None

    def dump(self) -> str:
        """As text, equal for equal recipes."""
        return msgspec.json.encode(self).decode()

    def key(self, content_hash: str, stage: StoredStage) -> str:
        """The name under which a stage's result for a content is stored."""
        return f"{content_hash}/{stage}/{getattr(self, stage)}"
