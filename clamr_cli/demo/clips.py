"""The clips of ``clamr demo``: what is in each is known, so demonstration and tests can say what must be found.

A clip is a list of scenes (a photo under a slow camera move, or a title card), narrations at known seconds, and
sometimes a sidecar in the form yt-dlp writes. File names tell nothing about the content.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clamr_cli.demo.narration import NARRATIONS
from clamr_cli.demo.pictures import camera_move, card, photo
from clamr_cli.demo.video import Spoken, sound, write_video
from clamr_cli.types import Modality, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from PIL import Image

FPS: Final = 8
SIZE: Final = (640, 360)


@dataclass(frozen=True, slots=True)
class Scene:
    """``duration`` seconds of a photo (a name of ``pictures.PHOTOS``) or, with ``lines``, of a title card."""

    duration: float
    photo: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """Something true of a clip: what it is, in which modality and when, and a query that must find it."""

    modality: Modality
    query: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip to be made: its file name, content, sidecar (yt-dlp's keys) and the facts that hold for it."""

    name: str
    scenes: tuple[Scene, ...]
    spoken: tuple[Spoken, ...] = ()
    silent: bool = False
    sidecar: Mapping[str, object] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return sum(scene.duration for scene in self.scenes)


def _say(name: str, at: float) -> Spoken:
    return Spoken(NARRATIONS[name], at)


def _said(name: str, at: float, query: str) -> Fact:
    narration = NARRATIONS[name]
    return Fact(Modality.SPEECH, query, narration.text, Span(at, at + narration.duration))


CLIPS: Final = (
    Clip(
        "IMG_2041.mp4",
        (Scene(9.0, "cat"),),
        silent=True,
        facts=(Fact(Modality.VIDEO, "a close-up of a cat", "a ginger cat", Span(0.0, 9.0)),),
    ),
    Clip(
        "memo-03.mp4",
        (Scene(13.0, "gravel"),),
        (_say("bread", 1.5),),
        facts=(_said("bread", 1.5, "leave the dough to rise in a warm kitchen"),),
    ),
    Clip(
        "IMG_2044.mp4",
        (Scene(4.0, "brick"), Scene(5.0, lines=("Lisbon Express", "departs 09:45", "Platform 9")), Scene(4.0, "brick")),
        silent=True,
        facts=(
            Fact(
                Modality.OCR,
                "Lisbon express departs platform 9",
                "Lisbon Express departs 09:45 Platform 9",
                Span(4.0, 9.0),
            ),
        ),
    ),
    Clip(
        "download (1).mp4",
        (Scene(8.0, "grass"),),
        silent=True,
        sidecar={
            "id": "fK2x9",
            "title": "Night ferry to Bornholm",
            "description": "Crossing the Baltic Sea from Sassnitz with bicycles and a tent.",
            "uploader": "Marit Holm",
            "upload_date": "20230714",
            "tags": ["ferry", "Baltic Sea", "Denmark"],
            "language": "en",
        },
        facts=(Fact(Modality.METADATA, "night ferry to Bornholm", "Night ferry to Bornholm", Span(0.0, 8.0)),),
    ),
    Clip(
        "rec_1830.webm",
        (Scene(3.0, lines=("City News", "Bridge closed to cars")), Scene(10.0, "camera")),
        (_say("bridge", 2.0),),
        facts=(_said("bridge", 2.0, "the city council voted to close the old bridge"),),
    ),
    Clip(
        "VID_20240518.mp4",
        (
            Scene(20.0, "astronaut"),
            Scene(20.0, "rocket"),
            Scene(6.0, lines=("Chapter Two", "The hidden orchard")),
            Scene(22.0, "coffee"),
            Scene(16.0, "galaxies"),
        ),
        (_say("volcano", 3.0), _say("bees", 50.0), _say("bicycle", 70.0)),
        facts=(
            _said("volcano", 3.0, "ash fell on the village when the volcano woke up"),
            Fact(Modality.VIDEO, "a rocket on the launch pad", "a rocket", Span(20.0, 40.0)),
            Fact(Modality.OCR, "chapter two the hidden orchard", "Chapter Two The hidden orchard", Span(40.0, 46.0)),
            _said("bees", 50.0, "honeybees tell where the flowers are by dancing"),
            _said("bicycle", 70.0, "how to change a flat tire of a bicycle"),
        ),
    ),
)


def make_clips(folder: Path) -> list[Path]:
    """Writes those of :data:`CLIPS` that are not yet in ``folder``, whole or not at all; all paths, in order.

    The same pictures and sounds every time; bytes may differ between builds of FFmpeg. Takes some seconds.

    Raises:
        ClamrError: the photos are not installed.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_make(clip, folder) for clip in CLIPS]


def _make(clip: Clip, folder: Path) -> Path:
    path = folder / clip.name
    if path.exists():
        return path
    if clip.sidecar:
        sidecar = path.with_name(f"{path.stem}.info.json")
        sidecar.write_text(json.dumps({**clip.sidecar, "duration": clip.duration}, indent=2), encoding="utf-8")
    # A hidden name, so that an index run beside this one does not meet half a file.
    draft = path.with_name(f".{path.name}.draft{path.suffix}")
    track = None if clip.silent else sound(clip.spoken, clip.duration)
    write_video(draft, pictures_of(clip), FPS, SIZE, track)
    draft.replace(path)
    return path


def pictures_of(clip: Clip) -> Iterator[Image.Image]:
    """Every picture of a clip, RGB of :data:`SIZE`, :data:`FPS` a second."""
    for scene in clip.scenes:
        count = round(scene.duration * FPS)
        still = card(scene.lines, SIZE) if scene.lines else None
        for number in range(count):
            yield still or camera_move(photo(scene.photo), SIZE, number / max(1, count - 1))
