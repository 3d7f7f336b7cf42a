"""All pictures the recipe learns from, what is said of each, and which connector may know which.

Photos with captions, photos of single things, photos in other styles, drawn pictures, and scenes that only captions
tell of: these have no picture, and stand last.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.train.mini import styles
from clamr_cli.train.mini.connector import FOLDS, NEVER
from clamr_cli.train.mini.drawn import drawn
from clamr_cli.train.mini.photos import Photo, asking, labelled_photos, photos, scenes, split_photos

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.train.mini.made import Made

PHOTOS, THINGS, STYLED, DRAWN, IMAGINED = "photos", "things", "styled", "drawn", "imagined"

_STYLES_OF_EACH: Final = 2
_DRAWN: Final = 900


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The pictures.

    Attributes:
        pictures: all of them; held-out photos are among them, in no group.
        jpegs: of the first ones: all but the imagined.
        groups: indices of the pictures to train on, by name.
        folds: [jpegs], of each the fold whose connector must not know it; :data:`NEVER` where none may.
        imagined: captions that stand for each imagined picture; others ask for it.
    """

    pictures: list[Photo]
    jpegs: list[bytes]
    groups: dict[str, list[int]]
    folds: NDArray[np.int64]
    imagined: list[tuple[str, ...]]


def gallery(data: Path) -> Gallery:
    """The pictures of a data folder and those made of them, the same each time."""
    chance = random.Random(7)
    described, things, told = photos(data), labelled_photos(data), scenes(data)
    train, _ = split_photos(described)
    jpegs = [(data / "train/flickr8k_1k/images" / photo.name).read_bytes() for photo in described]
    again = [index for index in train for _ in range(_STYLES_OF_EACH)]
    styled = [styles.styled(jpegs[index], described[index].captions, chance) for index in again]
    made = [drawn(chance) for _ in range(_DRAWN)]
    parts: dict[str, list[Photo]] = {
        PHOTOS: described,
        THINGS: things,
        # Under the photo's own name: the two are never asked for in one batch.
        STYLED: [asking(described[index].name, one.captions, chance) for index, one in zip(again, styled, strict=True)],
        DRAWN: [_drawn(number, one) for number, one in enumerate(made)],
        IMAGINED: [asking(f"scene {number}", asked, chance) for number, (_, asked) in enumerate(told)],
    }
    groups, start = {}, 0
    for name, members in parts.items():
        groups[name] = list(range(start, start + len(members)))
        start += len(members)
    fold_of = np.full(len(described), NEVER)
    fold_of[chance.sample(train, len(train))] = np.arange(len(train)) % FOLDS
    groups[PHOTOS] = train
    return Gallery(
        pictures=[picture for members in parts.values() for picture in members],
        jpegs=[
            *jpegs,
            *((data / thing.name).read_bytes() for thing in things),
            *(one.jpeg for one in (*styled, *made)),
        ],
        groups=groups,
        folds=np.concatenate([fold_of, _by_thing(things), fold_of[again], np.arange(len(made)) % FOLDS]),
        imagined=[shown for shown, _ in told],
    )


def _drawn(number: int, made: Made) -> Photo:
    return Photo(f"drawn {number}", made.captions, made.captions)


def _by_thing(things: list[Photo]) -> NDArray[np.int64]:
    """Folds that no thing is in two of."""
    kinds = sorted({thing.captions for thing in things})
    fold = {captions: number % FOLDS for number, captions in enumerate(kinds)}
    return np.array([fold[thing.captions] for thing in things], dtype=np.int64)
