"""The naive way to index, to be measured against: ``python -m tests.bench.naive CACHE FILE...``.

The same sampled frames as clamr takes, each at its full size and each read by EasyOCR, one after another; then Whisper
over the whole sound. The same models, library defaults otherwise. Prints a JSON object per file.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import easyocr
from faster_whisper import WhisperModel, decode_audio

from clamr_cli.media.frames import sample_frames
from clamr_cli.media.probe import probe
from clamr_cli.weights import locate

SURE = 0.5
"""Confidence from which a reading counts."""


@dataclass
class Reading:
    """Text and speech that were recognised in a file, and the seconds it took."""

    file: str
    duration: float
    frames: int = 0
    decode: float = 0.0
    ocr: float = 0.0
    speech: float = 0.0
    written: list[str] = field(default_factory=list)
    said: str = ""


def read(path: str, reader: easyocr.Reader, whisper: WhisperModel) -> Reading:
    """Index one file the naive way."""
    info = probe(path)
    found = Reading(path, info.duration)
    clock = time.perf_counter()
    for sample in sample_frames(path, info, max_side=1 << 20):
        now = time.perf_counter()
        found.decode += now - clock
        found.frames += 1
        found.written += [text for _, text, sure in reader.readtext(sample.image) if sure >= SURE]
        clock = time.perf_counter()
        found.ocr += clock - now
    if info.audio:
        segments, _ = whisper.transcribe(decode_audio(path), word_timestamps=True)
        found.said = " ".join(segment.text.strip() for segment in segments)
    found.speech = time.perf_counter() - clock
    return found


def main() -> None:
    """Read all files."""
    cache, *files = sys.argv[1:]
    weights = str(locate("easyocr-en", Path(cache)))
    reader = easyocr.Reader(["en"], gpu=False, model_storage_directory=weights, download_enabled=False, verbose=False)
    whisper = WhisperModel(str(locate("whisper-base", Path(cache))), device="cpu", compute_type="int8")
    for path in files:
        print(json.dumps(asdict(read(path, reader, whisper))), flush=True)


if __name__ == "__main__":
    main()
