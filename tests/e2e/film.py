"""A long film with twenty distinct scenes in which a few things are seen, said or written once, at known times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from clamr_cli.demo import NARRATIONS, Spoken, camera_move, card, photo, sound, write_video

FPS, SIZE = 2, (480, 270)
SCENE = 10.0
SEEN = {3: "cat", 11: "rocket", 18: "coffee"}
WRITTEN = {6: ("Harbour Street 42", "open until midnight"), 14: ("Weekly chess club", "in the library")}
SAID = {1: "bees", 9: "bicycle", 16: "volcano"}
SCENES = 20
_GROUNDS = ("brick", "grass", "astronaut", "gravel", "camera", "retina", "galaxies")


@dataclass(frozen=True)
class Event:
    """A question, what answers it, and when that is there, in seconds."""

    modality: str
    question: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.modality}: {self.question}"


def _seen(number: int, question: str) -> Event:
    return Event("video", question, number * SCENE, (number + 1) * SCENE)


def _written(number: int, question: str) -> Event:
    return Event("ocr", question, number * SCENE, (number + 1) * SCENE)


def _said(number: int, question: str) -> Event:
    return Event("speech", question, number * SCENE, number * SCENE + NARRATIONS[SAID[number]].duration)


EVENTS = (
    _seen(3, "a close-up of a cat"),
    _seen(11, "a rocket on its launch pad"),
    _seen(18, "a cup of coffee"),
    _written(6, "until when is Harbour Street 42 open?"),
    _written(14, "where does the weekly chess club meet?"),
    _said(1, "how do honeybees tell each other where flowers are?"),
    _said(9, "how to change a flat tire of a bicycle"),
    _said(16, "what happened when the volcano woke up?"),
)


def write(path: Path) -> Path:
    """Writes the film: 200 seconds in which most scenes stand still."""
    spoken = [Spoken(NARRATIONS[name], number * SCENE) for number, name in SAID.items()]
    write_video(path, _pictures(), FPS, SIZE, sound(spoken, SCENES * SCENE))
    return path


def _pictures() -> Iterator[Image.Image]:
    count = round(SCENE * FPS)
    for number in range(SCENES):
        for step in range(count):
            if number in SEEN:
                yield camera_move(photo(SEEN[number]), SIZE, step / count)
            elif number in WRITTEN:
                yield card(WRITTEN[number], SIZE)
            else:
                yield _ground(number)


def _ground(number: int) -> Image.Image:
    """One of many backgrounds, no two alike: a photo, then upside down, mirrored and in other colours."""
    turn, which = divmod(number, len(_GROUNDS))
    picture = camera_move(photo(_GROUNDS[which]), SIZE, 0.3 * turn)
    if turn == 1:
        return ImageOps.flip(picture)
    if turn == 2:
        return ImageOps.colorize(ImageOps.grayscale(picture), "#102040", "#ffe0a0")
    return ImageOps.mirror(ImageOps.solarize(picture, 128)) if turn == 3 else picture
