"""Videos whose frames carry their number, with a beep at each whole second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS, CELL = 10, 16
SOUND = 48_000


def picture(number: int, size: tuple[int, int]) -> Any:
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    for bit in range(BITS):
        image[:CELL, bit * CELL : (bit + 1) * CELL] = 235 if number >> bit & 1 else 16
    return image


def number_of(image: Any, width: int = BITS * CELL) -> int:
    """The number that an RGB picture carries; the code fills ``width`` pixels of its top left."""
    cell = width / BITS
    rows = slice(int(cell / 4), int(cell * 3 / 4))
    cells = [image[rows, int((bit + 0.25) * cell) : int((bit + 0.75) * cell)].mean() for bit in range(BITS)]
    return sum((value > 125) << bit for bit, value in enumerate(cells))


def write(
    path: Path,
    rate: str = "25",
    seconds: float = 4.0,
    *,
    size: tuple[int, int] = (192, 96),
    gop: int = 25,
    stamps: Sequence[int] = (),
    sounds: Sequence[str] = ("eng",),
    rotation: int = 0,
    text: str = "",
    timecode: str = "",
    late: float = 0.0,
    codec: str = "libx264",
) -> str:
    """A video; ``stamps`` are of its frames in milliseconds, ``sounds`` are languages, ``late`` shifts all of it."""
    fraction = Fraction(rate)
    count = len(stamps) or int(seconds * fraction)
    with av.open(os.fspath(path), "w") as target:
        if timecode:
            target.metadata["timecode"] = timecode
        options = (
            {"preset": "ultrafast", "sc_threshold": "0", "bf": "2", "tune": "fastdecode"} if "x264" in codec else {}
        )
        film: Any = target.add_stream(codec, rate=fraction, options=options)
        film.width, film.height = size[::-1] if rotation % 180 else size
        film.pix_fmt, film.codec_context.gop_size = "yuv420p", gop
        base = Fraction(1, 1000) if stamps else 1 / fraction
        film.codec_context.time_base = base
        if rotation:
            film.set_display_rotation(-rotation)
        voices: list[Any] = []
        for language in sounds:
            voices.append(target.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=SOUND, layout="mono"))
            voices[-1].metadata["language"] = language
        texts: Any = target.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip") if text else None
        if text:
            texts.time_base = Fraction(1, 1000)
        steps: list[tuple[float, Any]] = []

        def film_packets(number: int, pts: int) -> Any:
            frame = av.VideoFrame.from_ndarray(np.rot90(picture(number, size), rotation // 90).copy())
            frame.pts, frame.time_base = pts + round(late / base), base
            return film.encode(frame)

        for number in range(count):
            pts = stamps[number] if stamps else number
            steps.append((float(pts * base), lambda number=number, pts=pts: film_packets(number, pts)))
        length = float((stamps[-1] if stamps else count) * base)
        samples = np.zeros((1, round(length * SOUND)), np.float32)
        for second in range(int(length)):
            start = second * SOUND
            samples[0, start : start + SOUND // 20] = 0.5 * np.sin(np.arange(SOUND // 20) * 0.13)
        for voice in voices:
            for start in range(0, samples.shape[1], 960):

                def sound_packets(voice: Any = voice, start: int = start) -> Any:
                    frame = av.AudioFrame.from_ndarray(samples[:, start : start + 960].copy(), "flt", "mono")
                    frame.sample_rate, frame.time_base = SOUND, Fraction(1, SOUND)
                    frame.pts = start + round(round(late / base) * base * SOUND)
                    return voice.encode(frame)

                steps.append((start / SOUND, sound_packets))
        if text:
            content = text.encode()
            packet = av.Packet(len(content).to_bytes(2, "big") + content if path.suffix == ".mp4" else content)
            packet.stream, packet.time_base = texts, Fraction(1, 1000)
            packet.pts = packet.dts = 1000 + round(late * 1000)
            packet.duration = 1500
            steps.append((1.0, lambda: packet))
        target.start_encoding()
        for _, step in sorted(steps, key=lambda step: step[0]):
            target.mux(step())
        for stream in (film, *voices):
            target.mux(stream.encode(None))
    return os.fspath(path)


def frames(path: Path | str, *, width: int = BITS * CELL) -> list[tuple[float, int]]:
    """Times, from the file's own zero, and numbers of all frames; stamps must rise."""
    from clamr_cli.media.frames import picture_of
    from clamr_cli.media.probe import probe

    info = probe(os.fspath(path))
    with av.open(os.fspath(path)) as source:
        stream = source.streams.video[0]
        zero = (source.start_time or 0) / av.time_base
        found = [
            (frame.time - zero, number_of(picture_of(frame, stream, info, 10_000), width))
            for frame in source.decode(stream)
        ]
    times = [time for time, _ in found]
    assert times == sorted(set(times))
    return found


def beeps(path: Path | str, track: int = 0) -> list[float]:
    """The seconds at which a beep begins."""
    with av.open(os.fspath(path)) as source:
        zero = (source.start_time or 0) / av.time_base
        loud: list[float] = []
        last = -1.0
        for frame in source.decode(source.streams.audio[track]):
            assert frame.time is not None
            samples = np.abs(frame.to_ndarray()[0])
            for place in np.flatnonzero(samples > 0.2):
                time = frame.time - zero + place / frame.sample_rate
                if time - last > 0.3:
                    loud.append(time)
                last = time
    return loud
