"""Asks about a long video that was never seen before: ``python -m tests.bench.frames [--hours 2] [--json OUT]``.

The file is made first, 1920 x 1080: photos under a camera that never rests, so that hardly a candidate frame can be
left out, title cards, and a subtitle file with what is said, so that no speech has to be recognised. Some minutes are
drawn, and their packets repeated, as for ``tests.bench.long``. Measured are the first question, which prepares the
video, further questions by processes of their own, and an export of 32 pictures. ``--read`` has the title cards read
too, which takes as long as there is text.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from PIL import Image

from clamr_cli.config import default_cache
from clamr_cli.demo import NARRATIONS, PHOTOS, Spoken, camera_move, card, photo, sound, write_video
from tests.bench.long import FPS, SIZE, repeat
from tests.bench.process import Measured, measure

QUESTIONS = ("a cup of coffee", "a rocket on the launch pad", "when is the old bridge closed to cars?", "stars")
SCENE = 10.0
PACKAGES = ("av", "numpy", "torch", "pylance", "lancedb")


def scenes(seconds: float) -> Iterator[Image.Image]:
    """Ten seconds each of a photo under a camera that sways and, every sixth time, of a title card."""
    names = sorted(PHOTOS)
    each = round(SCENE * FPS)
    for number in range(round(seconds / SCENE)):
        still = card((f"Chapter {number}", "Lisbon Express"), SIZE) if number % 6 == 5 else None
        for frame in range(each):
            sway = 2.0 * math.sin(frame / FPS + number)
            yield still or camera_move(photo(names[number % len(names)]), SIZE, sway)


def make(target: Path, hours: float, piece: float) -> None:
    """Writes the long file, by way of a short one."""
    short = target.with_name("piece.mp4")
    spoken = [Spoken(narration, 5.0 + 30.0 * place) for place, narration in enumerate(NARRATIONS.values())]
    write_video(short, scenes(piece), FPS, SIZE, sound(spoken, piece))
    repeat(short, target, round(hours * 3600 / piece))


def subtitles(path: Path, hours: float, piece: float) -> None:
    """Texts of the narrations, at the times at which the long file has them."""
    spoken = [(5.0 + 30.0 * place, narration) for place, narration in enumerate(NARRATIONS.values())]
    cues = []
    for number in range(round(hours * 3600 / piece)):
        for at, narration in spoken:
            start = number * (piece + 0.1) + at
            cues.append(f"{clock(start)} --> {clock(start + narration.duration)}\n{narration.text}\n")
    path.write_text("\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, 1)), encoding="utf-8")


def clock(seconds: float) -> str:
    """A time as SubRip has it."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{thousandths:03}"


def ask(db: Path, video: Path, question: str, *more: str, every: float = 0.1) -> Measured:
    """One ``clamr frames``, in a process of its own."""
    command = [sys.executable, "-m", "clamr_cli", "--db", str(db), "frames", str(video), question, "--json", *more]
    done = measure(command, {**os.environ, "CLAMR_CACHE": str(default_cache())}, every=every)
    if done.code:
        sys.exit(f"clamr frames ended with {done.code}")
    return done


def candidates(db: Path, video: Path) -> int:
    """Number of frames that the video was prepared with: all are chosen when more are asked for."""
    return len(
        ask(db, video, QUESTIONS[0], "--no-asr", "--no-ocr", "-k", "1000000", "--select", "top").out.splitlines()
    )


def main() -> None:
    """Makes, prepares, asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--piece", type=float, default=180.0, help="seconds that are drawn and then repeated")
    parser.add_argument("--read", action="store_true", help="read on-screen text too")
    parser.add_argument("--video", type=Path, help="an existing file instead, with subtitles beside it")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to a file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        target = options.video or Path(place, "long.mp4")
        if options.video is None:
            make(target, options.hours, options.piece)
            subtitles(target.with_suffix(".srt"), options.hours, options.piece)
        db = Path(place, "index")
        without = ("--no-asr",) if options.read else ("--no-asr", "--no-ocr")
        first = ask(db, target, QUESTIONS[0], *without, every=1.0)
        print(f"first question: {first.seconds:.0f} s, peak {first.peak / 1e9:.2f} GB", flush=True)
        later = [ask(db, target, question, *without) for question in QUESTIONS * 3]
        median = statistics.median(one.seconds for one in later)
        print(f"further questions: {median:.2f} s, peak {max(one.peak for one in later) / 1e9:.2f} GB", flush=True)
        written = ask(db, target, QUESTIONS[1], *without, "--out", str(Path(place, "out")))
        print(f"with 32 pictures written: {written.seconds:.2f} s", flush=True)
        figures = {
            "hours": options.hours,
            "size": list(SIZE),
            "bytes": target.stat().st_size,
            "read": options.read,
            "candidates": candidates(db, target),
            "index_bytes": sum(path.stat().st_size for path in db.rglob("*") if path.is_file()),
            "first": figures_of(first),
            "further_seconds": sorted(round(one.seconds, 3) for one in later),
            "further_median_seconds": round(median, 3),
            "further": figures_of(later[-1]),
            "export": figures_of(written),
            "device": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def figures_of(run: Measured) -> dict[str, float]:
    """A measured run as JSON."""
    return {
        "seconds": round(run.seconds, 3),
        "cpu": round(run.cpu, 3),
        "peak_bytes": run.peak,
        "largest_process_bytes": run.largest,
    }


if __name__ == "__main__":
    main()
