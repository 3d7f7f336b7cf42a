"""Finds copies among 200 derived clips: ``python -m tests.bench.duplicates VIDEOS --clips DIR [--json OUT]``.

The clips are made once, from the videos of a folder, and kept in ``--clips``: pieces of 5 to 24 seconds, 320 pixels wide,
encoded anew at other rates and distances of keyframes, scaled, in black bars, cropped by 5 %, 4 % faster or slower, with a
logo and a subtitle, brighter or darker, after a black lead-in, mirrored, with other sound, and joined in compilations.
Unrelated ones are other pieces of the same videos, photographs under a moving camera, and drifting textures.

Each clip is a list of pieces of a source, so which clips share what is known exactly. Two clips are a pair if they share a
piece of 3 seconds; pieces of 1 to 3 seconds count neither way. A range is right if in both clips its intersection with the
true one is at least 0.7 of their union (IoU). Precision and recall are of pairs, and of ranges among all that were found.

Beside it, two published ways for whole videos, written here after their descriptions: one wavelet hash of a collage of a
frame a second (videohash, alike up to 15 % of bits), and the signs of a cosine transform of ten frames of the first half
minute without bars (vid_dup_finder, as in czkawka, alike up to 30 % of bits, lengths within 20 %). Only their pairs are
measured. Beside all pairs those of each half of the sources are counted, which shows how much they differ; the thresholds
of the product were seen on both. ``--synthetic N`` measures time and memory of the comparison on N videos of 10 minutes of drawn fingerprints,
``--cost`` that of the hashes against the decoding of the videos.
"""
# ruff: noqa: E501 -- the plan of the clips is a table

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import platform
import random
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import scipy.fft

from clamr_cli.demo import PHOTOS, camera_move, photo
from clamr_cli.edit.duplicates import Overlap, certain, implied, overlaps
from clamr_cli.media.audio import read_audio
from clamr_cli.media.prints import CLOSE, INTERVAL, Prints, read_prints, read_sound_print
from clamr_cli.media.probe import probe
from clamr_cli.types import Span

WIDTH, RATE = 320, 16_000
LEAST, IGNORED, RIGHT = 3.0, 1.0, 0.7
COUNTS = {
    "low rate": 18, "scaled": 18, "letterbox": 12, "pillarbox": 6, "cropped": 18, "trimmed": 24, "speed": 18,
    "overlay": 18, "brightness": 14, "lead-in": 12, "mirrored": 6, "other sound": 6, "compilation": 12,
}  # fmt: skip
"""Derived clips of each kind; the originals and the unrelated ones make them 200 and more."""


@dataclass
class Piece:
    """A stretch of a source and where the clip shows it, in seconds; ``speed`` is seconds of source a second of clip."""

    source: str
    start: float
    end: float
    at: float
    speed: float = 1.0

    @property
    def length(self) -> float:
        return (self.end - self.start) / self.speed


@dataclass
class Clip:
    """A clip to be made: its pieces and how they are changed."""

    name: str
    kind: str
    pieces: list[Piece]
    gop: int
    crf: int
    lead: float = 0.0


def plan(folder: Path) -> list[Clip]:
    """The clips, drawn with a fixed seed."""
    draw = random.Random(16)
    sources = {
        path.name: probe(str(path)).duration for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".webm")
    }
    bases: list[tuple[str, float, float]] = []
    spare: list[tuple[str, float, float]] = []
    for name, length in sources.items():
        start = 0.0
        while length - start >= 5.0 and start < 80:
            end = min(length - 0.1, start + 24.0)
            # The last piece of a long video is one of the unrelated ones.
            (spare if start >= 24 and start + 48 > min(length, 80) else bases).append((name, start, end))
            start = end + 2.0
    clips: list[Clip] = []

    def add(kind: str, pieces: list[Piece], **more: float) -> None:
        gop, crf = draw.choice([12, 50, 100, 250]), draw.choice([26, 30, 34])
        clips.append(Clip(f"{len(clips):03d}-{kind.replace(' ', '-')}", kind, pieces, gop, 44 if kind == "low rate" else crf, **more))  # fmt: skip

    for base in bases:
        add("original", [Piece(*base, 0.0)])
    for kind, count in COUNTS.items():
        for number in range(count):
            name, start, end = bases[(number * 7 + len(kind)) % len(bases)]
            if kind == "compilation":
                pieces, at = [], 0.0
                for other in draw.sample(bases, 3):
                    length = min(draw.uniform(5, 9), other[2] - other[1])
                    begin = draw.uniform(other[1], other[2] - length)
                    pieces.append(Piece(other[0], begin, begin + length, at))
                    at += length
                add(kind, pieces)
            elif kind == "trimmed":
                length = min(draw.uniform(5, 10), end - start)
                begin = draw.uniform(start, end - length)
                add(kind, [Piece(name, begin, begin + length, 0.0)])
            elif kind == "speed":
                add(kind, [Piece(name, start, end, 0.0, draw.choice([0.96, 1.04]))])
            else:
                lead = draw.uniform(2, 5) if kind == "lead-in" else 0.0
                add(kind, [Piece(name, start, end, lead)], lead=lead)
    for base in spare:
        add("unrelated", [Piece(*base, 0.0)])
    for number, name in enumerate(sorted(PHOTOS)[:10]):
        add("unrelated", [Piece(f"photo:{name}", 0.0, 6.0 + number % 4, 0.0)])
    for number in range(6):
        add("unrelated", [Piece(f"texture:{number}", 0.0, 6.0 + number, 0.0)])
    return clips


def frames_of(folder: Path, piece: Piece, fps: int) -> Iterator[np.ndarray]:
    """The frames of a piece at the clip's rate, 320 pixels wide."""
    wanted = np.arange(0.0, piece.length, 1 / fps) * piece.speed + piece.start
    kind, _, name = piece.source.partition(":")
    if kind == "photo":
        for moment in wanted:
            yield np.asarray(camera_move(photo(name), (WIDTH, 180), moment / piece.end))
        return
    if kind == "texture":
        noise = np.random.default_rng(int(name)).normal(size=(45, 400, 3))
        large = cv2.resize(noise, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        for moment in wanted:
            left = int(moment * 40)
            yield np.clip(128 + 60 * large[:180, left : left + WIDTH], 0, 255).astype(np.uint8)
        return
    with av.open(str(folder / piece.source)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        zero = (stream.start_time or 0) * stream.time_base
        if piece.source.endswith(".mp4"):
            container.seek(int((max(0.0, piece.start - 0.5) + float(zero)) / stream.time_base), stream=stream)
        number, last = 0, None
        for frame in whole_frames(container, stream):
            moment = float(frame.pts * stream.time_base - zero)
            while number < len(wanted) and last is not None and wanted[number] < moment - 1e-3:
                yield last
                number += 1
            if number == len(wanted):
                return
            if moment > wanted[number] - 0.2:
                height = max(2, round(frame.height * WIDTH / frame.width / 2) * 2)
                last = frame.reformat(WIDTH, height, "rgb24", interpolation="AREA").to_ndarray()
        while last is not None and number < len(wanted):
            yield last
            number += 1


def whole_frames(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a video; a damaged packet costs its own."""
    for packet in container.demux(stream):
        with contextlib.suppress(av.error.InvalidDataError):
            yield from packet.decode()


def changed(image: np.ndarray, kind: str) -> np.ndarray:
    """A frame as a kind of copy shows it."""
    height, width = image.shape[:2]
    if kind == "scaled":
        return cv2.resize(image, (200, 128), interpolation=cv2.INTER_AREA)
    if kind == "letterbox":
        return cv2.copyMakeBorder(image, height // 6, height // 6, 0, 0, cv2.BORDER_CONSTANT)
    if kind == "pillarbox":
        return cv2.copyMakeBorder(image, 0, 0, width // 6, width // 6, cv2.BORDER_CONSTANT)
    if kind == "cropped":
        return image[round(height * 0.02) : round(height * 0.97), round(width * 0.03) : round(width * 0.98)]
    if kind == "mirrored":
        return np.ascontiguousarray(image[:, ::-1])
    if kind == "brightness":
        return np.clip(image.astype(np.float32) * 0.8 + 35, 0, 255).astype(np.uint8)
    if kind == "overlay":
        image = image.copy()
        cv2.rectangle(image, (width - 52, 8), (width - 10, 28), (230, 30, 30), -1)
        cv2.putText(image, "LOGO", (width - 50, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
        cv2.putText(
            image, "And this is what he said", (50, height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 2
        )
    return image


def sound_of(folder: Path, clip: Clip, kept: dict[str, np.ndarray]) -> np.ndarray:
    """The sound of a clip, float32 at 16 kHz; empty where its sources have none."""
    parts = [np.zeros(round(clip.lead * RATE), np.float32)]
    for number, piece in enumerate(clip.pieces):
        if ":" in piece.source:
            return np.zeros(0, np.float32)
        if piece.source not in kept:
            info = probe(str(folder / piece.source))
            chunks = (
                [chunk for _, chunk in read_audio(str(folder / piece.source), info.audio[:1], rate=RATE)]
                if info.audio
                else []
            )
            kept[piece.source] = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        whole = kept[piece.source]
        places = (piece.start + np.arange(0, piece.length, 1 / RATE) * piece.speed) * RATE
        parts.append(
            np.interp(places, np.arange(len(whole)), whole).astype(np.float32)
            if len(whole)
            else np.zeros(len(places), np.float32)
        )
        if clip.kind == "other sound":
            noise = np.random.default_rng(number).normal(size=len(places))
            steps = np.repeat(np.random.default_rng(1).uniform(0.05, 0.5, len(places) // 4000 + 1), 4000)[: len(places)]
            parts[-1] = (noise * steps).astype(np.float32)
    joined = np.concatenate(parts)
    return joined if np.abs(joined).max(initial=0) > 1e-3 else np.zeros(0, np.float32)


def make(folder: Path, clip: Clip, target: Path, kept: dict[str, np.ndarray]) -> None:
    """Write a clip."""
    fps = 25
    partial = target.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as out:
        video = out.add_stream("libx264", rate=fps)
        sound = sound_of(folder, clip, kept)
        audio = out.add_stream("aac", rate=RATE, layout="mono") if len(sound) else None
        started = False

        def write(image: np.ndarray) -> None:
            nonlocal started
            image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
            if not started:
                video.width, video.height, video.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
                video.options = {"crf": str(clip.crf), "preset": "ultrafast", "g": str(clip.gop), "threads": "1"}
                started = True
            if image.shape[:2] != (video.height, video.width):
                image = cv2.resize(image, (video.width, video.height))
            for packet in video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")):
                out.mux(packet)

        for piece in clip.pieces:
            for number, image in enumerate(frames_of(folder, piece, fps)):
                image = changed(image, clip.kind)
                for _ in range(round(clip.lead * fps) if number == 0 else 0):
                    write(np.zeros_like(image))
                write(image)
        for packet in video.encode():
            out.mux(packet)
        if audio is not None:
            for start in range(0, len(sound), 1024):
                frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                for packet in audio.encode(frame):
                    out.mux(packet)
            for packet in audio.encode():
                out.mux(packet)
    partial.rename(target)


def truth(a: Clip, b: Clip) -> list[tuple[Span, Span]]:
    """The ranges that two clips share."""
    shared = []
    for one, other in itertools.product(a.pieces, b.pieces):
        start, end = max(one.start, other.start), min(one.end, other.end)
        if one.source == other.source and end - start >= IGNORED:
            shared.append(
                tuple(Span((start - p.start) / p.speed + p.at, (end - p.start) / p.speed + p.at) for p in (one, other))
            )
    return shared


def iou(one: Span, other: Span) -> float:
    common = min(one.end, other.end) - max(one.start, other.start)
    return max(0.0, common) / (max(one.end, other.end) - min(one.start, other.start))


def agreement(one: tuple[Span, Span], other: tuple[Span, Span]) -> float:
    return min(iou(one[0], other[0]), iou(one[1], other[1]))


def score(
    clips: list[Clip], found: dict[tuple[int, int], list[tuple[Span, Span]]], half: frozenset[str] | None = None
) -> dict[str, object]:
    """Precision and recall of pairs and ranges, and what was missed or wrong; of ``half`` of the sources alone."""
    right = wrong = missed = ranges_right = ranges_wrong = ranges_missed = 0
    agreements: list[float] = []
    details: list[str] = []
    kinds: dict[str, list[int]] = {}
    among = [n for n, clip in enumerate(clips) if half is None or {piece.source for piece in clip.pieces} <= half]
    pieces = 0
    for a, b in itertools.combinations(among, 2):
        true = truth(clips[a], clips[b])
        long = [pair for pair in true if pair[0].duration >= LEAST and pair[1].duration >= LEAST]
        ranges = found.get((a, b), [])
        if long and not ranges:
            missed += 1
            details.append(f"missed {clips[a].name} {clips[b].name} {long}")
        right += bool(long and ranges)
        pieces += len(long)
        for kind in {clips[a].kind, clips[b].kind} if long else ():
            kinds.setdefault(kind, [0, 0])
            kinds[kind][0] += bool(ranges)
            kinds[kind][1] += 1
        if ranges and not true:
            wrong += 1
            details.append(f"wrong {clips[a].name} {clips[b].name} {ranges}")
        for pair in long:
            best = max((agreement(pair, one) for one in ranges), default=0.0)
            ranges_missed += best < RIGHT
            if ranges:
                agreements.append(best)
                if best < RIGHT:
                    details.append(f"off {best:.2f} {clips[a].name} {clips[b].name} true {pair} found {ranges}")
        for one in ranges:
            best = max((agreement(pair, one) for pair in true), default=0.0)
            ranges_right += best >= RIGHT
            ranges_wrong += best < RIGHT
    found_pairs = right + wrong
    return {
        "true_pairs": right + missed,
        "pair_precision": round(right / max(1, found_pairs), 4),
        "pair_recall": round(right / max(1, right + missed), 4),
        "true_ranges": pieces,
        "range_precision": round(ranges_right / max(1, ranges_right + ranges_wrong), 4),
        "range_recall": round(1 - ranges_missed / max(1, pieces), 4),
        "mean_iou": round(float(np.mean(agreements)) if agreements else 0.0, 4),
        "found_by_kind": {kind: f"{some} of {total}" for kind, (some, total) in sorted(kinds.items())},
        "details": details,
    }


def small_frames(path: Path, times: int | None, first: float = 1e9) -> list[np.ndarray]:
    """Grey frames of a clip, one a second, or some evenly from its first seconds."""
    frames, due = [], 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        length = min(first, float(stream.duration * stream.time_base))
        step = 1.0 if times is None else length / times
        for frame in container.decode(stream):
            if frame.time >= due and frame.time < length and (times is None or len(frames) < times):
                frames.append(frame.reformat(144, 144, "gray", interpolation="AREA").to_ndarray())
                due += step
    return frames


def collage_hash(path: Path) -> np.ndarray:
    """64 bits: the low band of a Haar wavelet of a square collage of one frame a second, against its median."""
    frames = small_frames(path, None)
    side = int(np.ceil(np.sqrt(len(frames))))
    collage = np.zeros((side * 144, side * 144), np.uint8)
    for number, frame in enumerate(frames):
        y, x = divmod(number, side)
        collage[y * 144 : (y + 1) * 144, x * 144 : (x + 1) * 144] = frame
    low = cv2.resize(collage.astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA)
    return (low > np.median(low)).ravel()


def ten_frames_hash(path: Path) -> np.ndarray:
    """The signs of the low frequencies in space and time of ten frames without bars."""
    frames = np.stack((small_frames(path, 10, 30.0) * 10)[:10])
    bright = frames.max(axis=0) > 28
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if len(rows) > 16 and len(columns) > 16:
        frames = frames[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = np.stack([cv2.resize(frame.astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA) for frame in frames])
    return (scipy.fft.dctn(small)[:6, :6, :6] > 0).ravel()[1:]


def baseline(clips: list[Clip], paths: list[Path], hashes: list[np.ndarray], most: float, *, tolerance: float = 1e9):
    """Pairs whose hashes differ in at most a share of bits, and whose lengths are alike."""
    lengths = [probe(str(path)).duration for path in paths]
    found = {}
    for a, b in itertools.combinations(range(len(clips)), 2):
        alike = abs(lengths[a] - lengths[b]) <= tolerance * max(lengths[a], lengths[b])
        if alike and np.mean(hashes[a] != hashes[b]) <= most:
            found[a, b] = [(Span(0.0, lengths[a]), Span(0.0, lengths[b]))]
    result = score(clips, found)
    return {name: result[name] for name in ("pair_precision", "pair_recall")}


def synthetic(count: int) -> dict[str, object]:
    """Time and memory for many videos: 10 minutes, a shot every 4 seconds, one in ten with a copied minute."""
    draw = np.random.default_rng(7)
    videos = []
    likely = np.clip(draw.normal(0.5, 0.15, 64), 0.1, 0.9)
    for number in range(count):
        shots = (draw.random((150, 64)) < likely).astype(np.uint64)
        frames = np.repeat(shots, 8, axis=0)
        # Pictures within a shot differ a little.
        frames ^= draw.random(frames.shape) < 0.04
        hashes = (frames << np.arange(64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
        if number % 10 == 9:
            noise = (draw.random((120, 64)) < 0.06).astype(np.uint64)
            hashes[400:520] = videos[number - 1].hashes[100:220] ^ (noise << np.arange(64, dtype=np.uint64)).sum(
                axis=1, dtype=np.uint64
            )
        videos.append(Prints(np.arange(1200, dtype=np.float32) / 2, hashes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    found = overlaps(videos, [600.0] * count)
    planted = {(number - 1, number) for number in range(9, count, 10)}
    pairs = {(one.a, one.b) for one in found}
    return {
        "videos": count,
        "hashes": count * 1200,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "before_mb": before // 1024,
        "planted": len(planted),
        "planted_found": len(planted & pairs),
        "others_found": len(pairs - planted),
    }


def cost(folder: Path) -> dict[str, object]:
    """CPU seconds of decoding videos as an index run does, without and with hashes, best of three."""
    from clamr_cli.media.frames import sample_frames
    from clamr_cli.media.key_frames import pick_frames
    from clamr_cli.media.prints import PrintMaker

    def run(path: str, *, hashed: bool) -> float:
        info = probe(path)
        began = time.process_time()
        maker = PrintMaker(info)
        for _ in pick_frames(sample_frames(path, info, watch=maker.add if hashed else None), info.duration):
            pass
        if hashed:
            maker.prints()
        return time.process_time() - began

    plain = hashed = 0.0
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".webm")]
    for path in paths:
        plain += min(run(str(path), hashed=False) for _ in range(3))
        hashed += min(run(str(path), hashed=True) for _ in range(3))
    return {
        "videos": len(paths),
        "decode_s": round(plain, 2),
        "with_hashes_s": round(hashed, 2),
        "slower": round(hashed / plain - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--synthetic", type=int, nargs="*", default=[])
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--baselines", action="store_true")
    arguments = parser.parse_args()
    clips = plan(arguments.videos)
    arguments.clips.mkdir(parents=True, exist_ok=True)
    kept: dict[str, np.ndarray] = {}
    for number, clip in enumerate(clips):
        target = arguments.clips / f"{clip.name}.mp4"
        if not target.exists():
            make(arguments.videos, clip, target, kept)
            print(f"\rmade {number + 1} of {len(clips)}", end="", file=sys.stderr, flush=True)
    paths = [arguments.clips / f"{clip.name}.mp4" for clip in clips]
    infos = [probe(str(path)) for path in paths]
    began = time.process_time()
    prints = [read_prints(str(path), info, interval=INTERVAL) for path, info in zip(paths, infos, strict=True)]
    hashing = time.process_time() - began
    began = time.process_time()
    lengths = [info.duration for info in infos]
    found = overlaps(prints, lengths)
    comparing = time.process_time() - began
    began = time.process_time()
    heard = [
        read_sound_print(str(path), info.audio) if info.audio else np.zeros((0, 8), np.uint8)
        for path, info in zip(paths, infos, strict=True)
    ]
    listening = time.process_time() - began
    began = time.process_time()
    judged = [certain(one, prints, lengths, heard) for one in found]
    judging = time.process_time() - began
    began = time.process_time()
    close = functools.cache(lambda number: read_prints(str(paths[number]), infos[number], interval=CLOSE))
    for number, (one, sure) in enumerate(zip(found, judged, strict=True)):
        if len(one.ranges) > len(sure.ranges if sure else ()):
            judged[number] = certain(one, prints, lengths, heard, close=close)
    closely = time.process_time() - began
    found = [sure for sure in judged if sure is not None]
    found += implied(found, prints, lengths, heard, prints.__getitem__)
    ranges = {(one.a, one.b): [(each.a, each.b) for each in one.ranges] for one in found}
    result: dict[str, Any] = {
        "clips": len(clips),
        "seconds_of_video": round(sum(info.duration for info in infos)),
        "hash_cpu_s": round(hashing, 1),
        "compare_cpu_s": round(comparing, 2),
        "sound_cpu_s": round(listening, 1),
        "certain_cpu_s": round(judging, 1),
        "close_cpu_s": round(closely, 1),
        "looked_at_closely": close.cache_info().currsize,
        **score(clips, ranges),
    }
    sources = sorted({piece.source for clip in clips for piece in clip.pieces})
    for number in range(2):
        scored = score(clips, ranges, frozenset(sources[number::2]))
        result[f"half {number + 1}"] = {name: scored[name] for name in scored if "pair" in name or "range_" in name}
    result["sound"] = sound(clips, found)
    if arguments.baselines:
        collages = [collage_hash(path) for path in paths]
        tens = [ten_frames_hash(path) for path in paths]
        result["collage (videohash)"] = baseline(clips, paths, collages, 0.15)
        result["ten frames (czkawka)"] = baseline(clips, paths, tens, 0.3, tolerance=0.2)
    if arguments.synthetic:
        result["synthetic"] = [synthetic(count) for count in arguments.synthetic]
    if arguments.cost:
        result["cost"] = cost(arguments.videos)
    details = result.pop("details")
    print(*details, sep="\n", file=sys.stderr)
    for kind, count in result["found_by_kind"].items():
        some, total = map(int, count.split(" of "))
        print(f"{kind:12} recall {some / total:.3f} of {total} pairs", file=sys.stderr)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def sound(clips: list[Clip], found: list[Overlap]) -> dict[str, int]:
    """How often the sound of true pairs was called the same, other, or not comparable; by what it is."""
    counts: dict[str, int] = {}
    for one in found:
        a, b = clips[one.a], clips[one.b]
        if truth(a, b):
            is_other = "other sound" in (a.kind, b.kind) and a.kind != b.kind
            said = one.sound or "unknown"
            name = f"{'other' if is_other else 'same'} called {said}"
            counts[name] = counts.get(name, 0) + 1
    return counts


if __name__ == "__main__":
    main()
