"""Makes clips for tests: scenes, drawn text, the package's photos and narrations, tracks, tags and awkward headers.

A clip is built step by step and then written::

    Clip().photo("cat", 4).text(("Opening hours", "9 to 5"), 3).narration("bees", at=1).write(folder / "clip.mp4")
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

from clamr_cli.demo import NARRATIONS, RATE, camera_move, card, photo, samples_of

TICK = Fraction(1, 1000)


@dataclass(frozen=True)
class Scene:
    """Seconds of a photo, a title card or a plain colour, with an optional caption at the bottom."""

    seconds: float
    photo: str = ""
    lines: tuple[str, ...] = ()
    colour: str = ""

    def picture(self, size: tuple[int, int], progress: float) -> Image.Image:
        if self.lines:
            return card(self.lines, size, background=self.colour or "#14213d")
        if self.photo:
            return camera_move(photo(self.photo), size, progress)
        return Image.new("RGB", size, self.colour)


@dataclass
class Voice:
    """An audio track: what is said in it and when."""

    language: str = ""
    title: str = ""
    said: list[tuple[str, float]] = field(default_factory=list)
    default: bool = False


@dataclass(frozen=True)
class Lines:
    """A subtitle track of a Matroska file."""

    language: str
    lines: tuple[tuple[float, float, str], ...]


@dataclass
class Clip:
    """A clip under construction; every step returns the clip. Times in seconds, ``size`` is (width, height) as shown.

    ``rotation`` is what a player must turn the stored picture by, clockwise. ``jitter`` makes the frame rate vary:
    every other frame comes late by that share of its distance. ``mux`` are options of the container's writer.
    """

    size: tuple[int, int] = (480, 270)
    fps: int = 8
    gop: int = 16
    rotation: int = 0
    jitter: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)
    mux: Mapping[str, str] = field(default_factory=dict)
    cover: str = ""
    scenes: list[Scene] = field(default_factory=list)
    voices: list[Voice] = field(default_factory=list)
    subtitles: list[Lines] = field(default_factory=list)
    chapters: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(scene.seconds for scene in self.scenes)

    def photo(self, name: str, seconds: float) -> Self:
        """A photo of ``clamr_cli.demo.PHOTOS`` under a slow camera move."""
        self.scenes.append(Scene(seconds, photo=name))
        return self

    def text(self, lines: tuple[str, ...], seconds: float, *, background: str = "") -> Self:
        """A title card."""
        self.scenes.append(Scene(seconds, lines=lines, colour=background))
        return self

    def colour(self, colour: str, seconds: float) -> Self:
        """A plain colour."""
        self.scenes.append(Scene(seconds, colour=colour))
        return self

    def track(self, language: str = "", title: str = "", *, default: bool = False) -> Self:
        """A further audio track; narrations go into the last one."""
        self.voices.append(Voice(language, title, default=default))
        return self

    def narration(self, name: str, at: float) -> Self:
        """One of the package's narrations, in a first track of its own where there is none yet."""
        if not self.voices:
            self.track()
        self.voices[-1].said.append((name, at))
        return self

    def subtitle(self, language: str, *lines: tuple[float, float, str]) -> Self:
        """An embedded SubRip track (Matroska only): (start, end, text)."""
        self.subtitles.append(Lines(language, lines))
        return self

    def chapter(self, start: float, end: float, title: str) -> Self:
        """A chapter mark."""
        self.chapters.append((start, end, title))
        return self

    def write(self, path: Path | bytes) -> Path:
        """Encodes the clip; the file's ending chooses the container (H.264 and AAC, VP9 and Opus for .webm)."""
        name = path.decode(errors="surrogateescape") if isinstance(path, bytes) else str(path)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=_FORMATS[Path(name).suffix], options=dict(self.mux)) as target:
            target.metadata.update(self.tags)
            if self.chapters:
                target.set_chapters([_chapter(number, *one) for number, one in enumerate(self.chapters)])
            packets = [*self._film(target, web=name.endswith(".webm"))]
            packets += [one for voice in self.voices for one in self._sound(target, voice, web=name.endswith(".webm"))]
            packets += [one for track in self.subtitles for one in _subtitle_packets(target, track)]
            if self.cover:
                packets.append(_cover(target, self.cover))
            target.start_encoding()
            for step in sorted(packets, key=lambda step: step[0]):
                target.mux(step[1]())
            for stream in target.streams:
                if stream.type in ("video", "audio") and not stream.disposition & Disposition.attached_pic:
                    target.mux(stream.encode(None))
        Path(name).write_bytes(buffer.getvalue())
        return Path(name)

    def plan(self) -> Iterator[tuple[float, Scene, float]]:
        """All pictures: their times, scenes, and how far the scene is, in [0, 1]."""
        number = 0
        for scene in self.scenes:
            count = round(scene.seconds * self.fps)
            for step in range(count):
                late = self.jitter if number % 2 else 0.0
                yield (number + late) / self.fps, scene, step / max(1, count - 1)
                number += 1

    def _film(self, target: Any, *, web: bool) -> list[tuple[float, Any]]:
        if not self.scenes:
            return []
        options = {"deadline": "realtime", "cpu-used": "8"} if web else {"preset": "ultrafast", "sc_threshold": "0"}
        stream = target.add_stream("libvpx-vp9" if web else "libx264", rate=self.fps, options=options)
        stream.width, stream.height = self.size if self.rotation % 180 == 0 else self.size[::-1]
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", self.gop
        stream.codec_context.time_base = TICK
        if self.rotation:
            stream.set_display_rotation(-self.rotation)

        def encode(time: float, scene: Scene, progress: float) -> Any:
            stored = scene.picture(self.size, progress).rotate(self.rotation, expand=True)
            frame = av.VideoFrame.from_image(stored)
            frame.pts, frame.time_base = round(time / TICK), TICK
            return stream.encode(frame)

        return [(one[0], lambda one=one: encode(*one)) for one in self.plan()]

    def _sound(self, target: Any, voice: Voice, *, web: bool) -> list[tuple[float, Any]]:
        stream = target.add_stream("libopus" if web else "aac", rate=RATE, layout="mono")
        _describe(stream, voice.language, voice.title, default=voice.default)
        samples, step = self.samples(voice), 4800

        def encode(start: int) -> Any:
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + step], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            return stream.encode(frame)

        return [(start / RATE, lambda start=start: encode(start)) for start in range(0, len(samples), step)]

    def samples(self, voice: Voice) -> NDArray[np.float32]:
        """The sound of a track at 48 kHz, as long as the picture (or as what is said, where there is no picture)."""
        ends = [at + NARRATIONS[name].duration for name, at in voice.said]
        track = np.zeros(round((self.seconds or max(ends, default=1.0)) * RATE), np.float32)
        for name, at in voice.said:
            start = round(at * RATE)
            piece = samples_of(NARRATIONS[name].path)[: max(0, len(track) - start)]
            track[start : start + len(piece)] += piece
        return track


_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".m4a": "mp4"}


def _describe(stream: Any, language: str, title: str = "", *, default: bool = False) -> None:
    if language:
        stream.metadata["language"] = language
    if title:
        stream.metadata["title"] = title
    stream.disposition = Disposition.default if default else Disposition(0)


def _chapter(number: int, start: float, end: float, title: str) -> dict[str, Any]:
    times = {"start": round(start / TICK), "end": round(end / TICK), "time_base": TICK}
    return {"id": number, **times, "metadata": {"title": title}}


def _subtitle_packets(target: Any, track: Lines) -> list[tuple[float, Any]]:
    stream = target.add_mux_stream("subrip")
    stream.time_base = TICK
    _describe(stream, track.language)

    def packet(start: float, end: float, text: str) -> Any:
        one = av.Packet(text.encode())
        one.stream, one.time_base = stream, TICK
        one.pts = one.dts = round(start / TICK)
        one.duration = round((end - start) / TICK)
        return one

    return [(line[0], lambda line=line: packet(*line)) for line in track.lines]


def _cover(target: Any, name: str) -> tuple[float, Any]:
    """A still picture in the file, as players show it for music."""
    stream = target.add_stream("mjpeg", rate=1)
    image = photo(name).resize((160, 160))
    stream.width, stream.height = image.size
    stream.pix_fmt = "yuvj420p"
    stream.disposition = Disposition.attached_pic
    data = io.BytesIO()
    image.save(data, "JPEG")

    def packet() -> Any:
        one = av.Packet(data.getvalue())
        one.stream, one.pts, one.dts, one.is_keyframe = stream, 0, 0, True
        return one

    return -1.0, packet
