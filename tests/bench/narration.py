"""Makes the package's narrations again, or hears whether they are understood: ``python -m tests.bench.narration``.

Making needs the program ``flite`` (Debian package of that name) with the voices slt, rms and awb::

    python -m tests.bench.narration --make     # writes clamr_cli/demo/assets/*.opus
    python -m tests.bench.narration            # word accuracy of the recogniser that the [offline] extra brings
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

import av
from faster_whisper import WhisperModel

from clamr_cli.demo import NARRATIONS, Narration
from clamr_cli.weights import locate

BIT_RATE = 20_000
STRETCH = 1.15


def make(narration: Narration) -> None:
    """Speaks one narration with flite and packs it as mono Opus."""
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder, "speech.wav")
        voice = ["-voice", narration.voice, "--setf", f"duration_stretch={STRETCH}"]
        subprocess.run(["flite", *voice, "-t", narration.text, "-o", str(wave)], check=True)
        with av.open(str(wave)) as source, av.open(str(narration.path), "w", format="ogg") as target:
            stream = target.add_stream("libopus", rate=48_000, layout="mono", bit_rate=BIT_RATE)
            resampler = av.AudioResampler("flt", "mono", 48_000, frame_size=960)
            frames = [out for frame in source.decode(audio=0) for out in resampler.resample(frame)]
            for frame in [*frames, *resampler.resample(None), None]:
                target.mux(stream.encode(frame))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def accuracy(said: str, heard: str) -> float:
    """1 - word error rate (substitutions, insertions and deletions over the words said)."""
    reference, other = words(said), words(heard)
    row = list(range(len(other) + 1))
    for number, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], number
        for column, candidate in enumerate(other, 1):
            cost = diagonal + (word != candidate)
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, cost)
    return 1.0 - row[-1] / len(reference)


def main() -> None:
    """Makes the files or measures them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="speak and encode the narrations first")
    if parser.parse_args().make:
        for narration in NARRATIONS.values():
            make(narration)
    with tempfile.TemporaryDirectory() as folder:
        model = WhisperModel(str(locate("whisper-base", Path(folder))), device="cpu", compute_type="int8")
        for narration in NARRATIONS.values():
            segments, info = model.transcribe(str(narration.path), beam_size=1, vad_filter=True)
            heard = " ".join(segment.text for segment in segments)
            share, size = accuracy(narration.text, heard), narration.path.stat().st_size
            print(f"{narration.name}\t{share:.3f}\t{info.duration:.2f} s\t{size} bytes\t{heard.strip()}")


if __name__ == "__main__":
    main()
