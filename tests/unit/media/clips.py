"""Short clips made on the spot: drawn pictures, tones and subtitles, encoded and muxed by PyAV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (320, 180)) -> Picture:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def card(text: str, *, size: tuple[int, int] = (320, 180), at: tuple[int, int] = (20, 60), height: int = 32) -> Picture:
    """White text on dark blue."""
    return written(plain((20, 20, 90), size), text, at=at, height=height)


def written(picture: Picture, text: str, *, at=(20, 60), height: int = 32, fill=(255, 255, 255)) -> Picture:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(at, text, fill=fill, font=ImageFont.load_default(height))
    return np.asarray(image)


def moving(time: float, size: tuple[int, int] = (320, 180)) -> Picture:
    """A bright ball that circles over a gradient."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    picture = np.stack([columns * 120 // size[0], rows * 120 // size[1], np.full_like(rows, 60)], -1).astype(np.uint8)
    x, y = size[0] * (0.5 + 0.3 * math.cos(time)), size[1] * (0.5 + 0.3 * math.sin(time))
    picture[(columns - x) ** 2 + (rows - y) ** 2 < (size[1] / 8) ** 2] = (250, 220, 40)
    return picture


@dataclass
class Sound:
    """A tone of ``frequency`` Hz from ``start`` to ``end`` seconds on the time line."""

    start: float = 0.0
    end: float = 2.0
    frequency: float = 440.0
    codec: str = "aac"
    rate: int = 16000
    language: str = ""
    default: bool = False
    gap: tuple[float, float] = (0.0, 0.0)
    """Seconds for which there are no packets at all."""
    loud: tuple[float, float] = (0.0, math.inf)
    """Seconds outside which it is silent."""


@dataclass
class Clip:
    """The content of a file. ``picture`` maps a time to an image, or is None for a file without a picture."""

    picture: Callable[[float], Picture] | None = moving
    seconds: float = 2.0
    fps: int = 25
    codec: str = "libx264"
    gop: int = 25
    options: dict[str, str] = field(default_factory=dict)
    times: Iterable[float] | None = None
    """Times of the frames where they are not evenly spaced."""
    sounds: tuple[Sound, ...] = ()
    subtitles: tuple[tuple[str, str, tuple[tuple[float, float, str], ...]], ...] = ()
    """(codec, language, lines of (start, end, text))."""
    tags: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    matrix: tuple[int, int, int, int] | None = None
    """The display matrix: the ends of a step to the right (x, y) and of one down (x, y)."""
    aspect: Fraction | None = None
    cover: bool = False
    mux: dict[str, str] = field(default_factory=dict)
    format: str | None = None

    def write(self, path: Path | str) -> str:
        with av.open(str(path), "w", format=self.format, options=self.mux) as container:
            container.metadata.update(self.tags)
            jobs = [self._video(container)] if self.picture else []
            jobs += [_tone(container, sound) for sound in self.sounds]
            jobs += [_lines(container, *track) for track in self.subtitles]
            if self.cover:
                jobs.append(_cover(container))
            packets = sorted(
                (packet for job in [list(job) for job in jobs] for packet in job), key=lambda item: item[0]
            )
            for _, packet in packets:
                container.mux(packet)
        return str(path)

    def _video(self, container):
        # The threads of libvpx wait busily for each other.
        fast = {"libx264": {"preset": "ultrafast", "sc_threshold": "0"}, "libvpx": {"threads": "1"}}.get(self.codec, {})
        stream = container.add_stream(self.codec, rate=self.fps, options={**fast, "g": str(self.gop), **self.options})
        first = self.picture(0.0)
        stream.width, stream.height = first.shape[1], first.shape[0]
        stream.pix_fmt = "yuvj420p" if self.codec == "mjpeg" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000 if self.times else self.fps)
        if self.aspect:
            stream.codec_context.sample_aspect_ratio = self.aspect
        if self.rotation:
            stream.set_display_rotation(-self.rotation)
        if self.matrix:
            right_x, right_y, down_x, down_y = (part << 16 for part in self.matrix)
            stream.set_display_matrix((right_x, right_y, 0, down_x, down_y, 0, 0, 0, 1 << 30))
        times = self.times or [index / self.fps for index in range(round(self.seconds * self.fps))]

        def job():
            for time in times:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(self.picture(time)), format="rgb24")
                frame.pts, frame.time_base = round(time / stream.time_base), stream.time_base
                yield from ((time, packet) for packet in stream.encode(frame))
            yield from ((self.seconds, packet) for packet in stream.encode(None))

        return job()


def restamp(source: Path | str, target: Path | str, change, **mux: str) -> str:
    """Copy a clip with other time stamps.

    ``change`` maps ("video" or "audio", number of the packet, pts, dts), in seconds, to a new (pts, dts), or to None
    for a packet that is to be left out.
    """
    numbers: dict[str, int] = {}
    with av.open(str(source)) as whole, av.open(str(target), "w", options=mux) as container:
        outputs = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if not packet.size:
                continue
            kind, base = packet.stream.type, float(packet.time_base)
            numbers[kind] = numbers.get(kind, -1) + 1
            stamps = change(kind, numbers[kind], packet.pts * base, packet.dts * base)
            if stamps is not None:
                packet.pts, packet.dts = (None if stamp is None else round(stamp / base) for stamp in stamps)
                packet.stream = outputs[packet.stream.index]
                container.mux(packet)
    return str(target)


def _tone(container, sound: Sound):
    stream = container.add_stream(sound.codec, rate=sound.rate, layout="mono")
    if sound.language:
        stream.metadata["language"] = sound.language
    stream.disposition = 1 if sound.default else 0

    def job():
        step = 1024
        first, last = round(sound.start * sound.rate), round(sound.end * sound.rate)
        resampler = av.AudioResampler(stream.codec_context.format, "mono", sound.rate, frame_size=None)
        for begin in range(first, last, step):
            if sound.gap[0] <= begin / sound.rate < sound.gap[1]:
                continue
            count = min(step, last - begin)
            volume = 0.5 if sound.loud[0] <= begin / sound.rate < sound.loud[1] else 0.0
            wave = volume * np.sin(2 * math.pi * sound.frequency * (begin + np.arange(count)) / sound.rate)
            frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = sound.rate, begin, Fraction(1, sound.rate)
            for ready in resampler.resample(frame):
                yield from ((begin / sound.rate, packet) for packet in stream.encode(ready))
        yield from ((sound.end, packet) for packet in stream.encode(None))

    return job()


def _lines(container, codec: str, language: str, lines):
    stream = container.add_mux_stream(codec)
    stream.metadata["language"] = language
    stream.time_base = Fraction(1, 1000)

    def job():
        for start, end, text in lines:
            content = text.encode()
            packet = av.Packet(len(content).to_bytes(2, "big") + content if codec == "mov_text" else content)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(start * 1000)
            packet.duration = round((end - start) * 1000)
            yield start, packet

    return job()


def _cover(container):
    stream = container.add_stream("mjpeg", rate=1)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic

    def job():
        frame = av.VideoFrame.from_ndarray(plain((200, 0, 0), (64, 64)), format="rgb24")
        frame.pts = 0
        yield from ((0.0, packet) for packet in [*stream.encode(frame), *stream.encode(None)])

    return job()
