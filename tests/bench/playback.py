"""Seconds from a seek to its frame in Chromium, for each way of playing: ``python -m tests.bench.playback``."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.browser import browsing, serving
from tests.clips import Clip

RESULTS = Path(__file__).with_name("results")
SECONDS = 40
SEEK = """
const [second, done] = arguments, video = document.querySelector("video"), began = performance.now();
video.addEventListener("seeked", () => done(performance.now() - began), { once: true });
video.currentTime = second;
"""


def make(folder: Path) -> dict[str, Path]:
    """One clip of 1280 x 720 as MP4, as MKV with the same packets, and as MPEG-4 part 2 in AVI."""
    folder.mkdir()
    clip = Clip(size=(1280, 720), fps=25, gop=50)
    for name in ("cat", "coffee", "rocket", "astronaut"):
        clip.photo(name, SECONDS / 4)
    paths = {"direct": clip.narration("bees", at=1).write(folder / "direct.mp4")}
    paths |= {"remux": folder / "remux.mkv", "transcode": folder / "transcode.avi"}
    with av.open(str(paths["direct"])) as source, av.open(str(paths["remux"]), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    with av.open(str(paths["direct"])) as source, av.open(str(paths["transcode"]), "w") as target:
        film: Any = target.add_stream("mpeg4", rate=25)
        film.width, film.height, film.pix_fmt, film.bit_rate = 1280, 720, "yuv420p", 3_000_000
        for number, frame in enumerate(source.decode(video=0)):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), av.video.frame.PictureType.NONE
            target.mux(film.encode(frame))
        target.mux(film.encode(None))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeks", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS / "playback.json")
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        make(base / "videos")
        (base / "clamr.toml").touch()
        environment = os.environ | {
            "CLAMR_CONFIG": str(base / "clamr.toml"), "CLAMR_DB": str(base / "index"),
            "CLAMR_CACHE": str(base / "cache"), "CLAMR_ENCODER": "hashed",
        }  # fmt: skip
        command = [sys.executable, "-m", "clamr_cli", "index", str(base / "videos"), "--encoder", "hashed"]
        subprocess.run([*command, "--no-speech", "--no-ocr"], env=environment, check=True, capture_output=True)
        with serving(environment, "--encoder", "hashed") as address, browsing(base / "profile") as browser:
            browser.get(address)
            listing = "const done = arguments[0]; fetch('/api/v1/videos').then((r) => r.json()).then(done)"
            for row in browser.execute_async_script(listing)["videos"]:
                way = Path(row["path"]).stem
                browser.get(f"{address.partition('?')[0]}?v={row['video_id']}")
                browser.execute_async_script(
                    "const done = arguments[0], v = document.querySelector('video');"
                    "const look = () => (v.readyState > 1 ? done() : setTimeout(look, 20)); look()"
                )
                assert browser.execute_script("return document.querySelector('#stage').dataset.way") == way
                draw = random.Random(0)
                # Each is far from the one before, so that nothing of it is loaded yet.
                seconds = [(10 * number + draw.uniform(1, 9)) % SECONDS for number in range(1, given.seeks + 1)]
                times = [browser.execute_async_script(SEEK, second) for second in seconds]
                figures[way] = {
                    # The first four are in parts of the video that were not played before.
                    "new_median_ms": round(statistics.median(times[:4])),
                    "median_ms": round(statistics.median(times)),
                    "max_ms": round(max(times)),
                }
                print(f"{way:10} {figures[way]}")
    report = {
        "clip": "1280x720, 25 fps, 40 s", "seeks": given.seeks, "first_frame_after_a_seek": figures,
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    given.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
