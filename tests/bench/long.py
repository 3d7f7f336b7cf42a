"""Indexes a long video of full size and follows its memory: ``python -m tests.bench.long [--hours 3] [--json OUT]``.

The file is made first: some minutes of 1920 x 1080 with photos under a moving camera, title cards and narration, whose
packets are then repeated, so that hours take seconds to write. Prints the wall time and the peak memory of all
processes of ``clamr index`` (see ``tests.bench.process``).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
from PIL import Image

from clamr_cli.config import default_cache
from clamr_cli.demo import NARRATIONS, PHOTOS, Spoken, camera_move, card, photo, sound, write_video
from tests.bench.index import clamr

FPS, SIZE = 24, (1920, 1080)
SCENE = 20.0


def scenes(seconds: float) -> Iterator[Image.Image]:
    """Photos and, every third scene, a title card."""
    names = sorted(PHOTOS)
    for number in range(round(seconds / SCENE)):
        still = card((f"Chapter {number}", "Lisbon Express"), SIZE) if number % 3 == 2 else None
        picture = photo(names[number % len(names)])
        for frame in range(round(SCENE * FPS)):
            yield still or camera_move(picture, SIZE, frame / (SCENE * FPS))


def repeat(source: Path, target: Path, times: int) -> None:
    """Writes a file's packets several times one after another."""
    with av.open(source) as read, av.open(target, "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        packets = [packet for packet in read.demux() if packet.size]
        copies = [(p.stream.index, bytes(p), p.pts, p.dts, p.duration, p.is_keyframe, p.time_base) for p in packets]
        lengths = {p.stream.index: 0.0 for p in packets}
        for index, _, pts, _, duration, _, base in copies:
            lengths[index] = max(lengths[index], float((pts + (duration or 0)) * base))
        length = max(lengths.values()) + 0.1
        for number in range(times):
            for index, content, pts, dts, duration, key, base in copies:
                packet = av.Packet(content)
                shift = round(number * length / base)
                packet.pts, packet.dts, packet.duration, packet.time_base = pts + shift, dts + shift, duration, base
                packet.is_keyframe = key
                packet.stream = streams[index]
                written.mux(packet)


def make(target: Path, hours: float, piece: float) -> None:
    """Writes the long file, by way of a short one."""
    short = target.with_name("piece.mp4")
    spoken = [Spoken(narration, 5.0 + 30.0 * place) for place, narration in enumerate(NARRATIONS.values())]
    fitting = [one for one in spoken if one.at + one.narration.duration < piece]
    write_video(short, scenes(piece), FPS, SIZE, sound(fitting, piece))
    repeat(short, target, round(hours * 3600 / piece))


def main() -> None:
    """Makes, indexes, measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--piece", type=float, default=180.0, help="seconds that are drawn and then repeated")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to a file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        target = Path(place, "long.mp4")
        make(target, options.hours, options.piece)
        size = target.stat().st_size
        print(f"{options.hours} h of {SIZE[0]} x {SIZE[1]}, {size / 2**20:.0f} MiB", flush=True)
        run = clamr(["index", str(target), "--json"], Path(place, "index"), default_cache())
    events = [json.loads(line) for line in run.out.splitlines()]
    (indexed,) = [event for event in events if event["event"] == "indexed"]
    gigabytes = run.peak / 1e9
    print(f"{run.seconds:.0f} s, peak {gigabytes:.2f} GB in all, {run.largest / 1e9:.2f} GB in one process: {indexed}")
    if options.json:
        figures = {"hours": options.hours, "bytes": size, "seconds": run.seconds, "cpu": run.cpu}
        figures |= {"peak_bytes": run.peak, "largest_process_bytes": run.largest, "indexed": indexed}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
