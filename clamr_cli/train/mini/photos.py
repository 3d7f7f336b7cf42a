"""The photos the recipe learns from, with what people say of them, and which of them are held out."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clamr_cli.train.mini.texts import CLIPS_AS_TEXTS, clip_captions
from clamr_cli.train.mini.words import fragment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HELD_OUT: Final = 5
"""One in so many photos is held out."""

CAPTIONS: Final = 5
"""Captions of a picture."""

_FEWEST, _LONGEST = 3, 16

_PER_CLASS: Final = 12
_FORMS: Final = ("{}", "a {}", "a photo of a {}", "close-up of a {}", "picture showing a {}")
_THINGS: Final = {"Faces": "face of a person", "Faces_easy": "face of a person", "car_side": "car from the side"}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo's file, its captions, and pieces of them: people ask in a few words."""

    name: str
    captions: tuple[str, ...]
    pieces: tuple[str, ...]


def photos(data: Path) -> list[Photo]:
    """The captioned photos in order of their names."""
    captions: dict[str, list[str]] = defaultdict(list)
    with (data / "train/flickr8k_1k/captions.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"].removesuffix(" .").strip())
    chance = random.Random(5)
    return [asking(name, captions[name], chance) for name in sorted(captions)]


def labelled_photos(data: Path) -> list[Photo]:
    """Photos of single things, with what they are: other pictures than people take, described in other ways."""
    found = []
    for folder in sorted((data / "train/caltech101").iterdir()):
        name = _THINGS.get(folder.name, folder.name.replace("_", " ").lower())
        captions = tuple(form.format(name) for form in _FORMS)
        found += [Photo(path.relative_to(data).as_posix(), captions, (name,)) for path in _first(folder)]
    return found


def _first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))[:_PER_CLASS]


def distinct(pictures: Sequence[Photo], ids: Sequence[int], most: int, chance: random.Random) -> list[int]:
    """Some pictures, at most ``most``, that share neither their file nor a caption: two would answer one query."""
    found: list[int] = []
    taken: set[str] = set()
    for index in chance.sample(ids, len(ids)):
        if len(found) == most:
            break
        names = {pictures[index].name, *pictures[index].captions}
        if taken.isdisjoint(names):
            taken |= names
            found.append(index)
    return found


def split_photos(all_photos: list[Photo]) -> tuple[list[int], list[int]]:
    """Indices of the training photos and of the held-out ones (every fifth)."""
    last = HELD_OUT - 1
    train = [index for index in range(len(all_photos)) if index % HELD_OUT != last]
    return train, [index for index in range(len(all_photos)) if index % HELD_OUT == last]


def scenes(data: Path) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Captions of scenes that there is no picture of: five that stand for it, and five that ask for it."""
    chance = random.Random(3)
    found = []
    for captions in clip_captions(data)[CLIPS_AS_TEXTS:]:
        fitting = sorted({caption.strip() for caption in captions if _FEWEST <= len(caption.split()) <= _LONGEST})
        if len(fitting) >= 2 * CAPTIONS:
            drawn = chance.sample(fitting, 2 * CAPTIONS)
            found.append((tuple(drawn[:CAPTIONS]), tuple(drawn[CAPTIONS:])))
    return found


def asking(name: str, captions: Sequence[str], chance: random.Random) -> Photo:
    """A picture with these captions and pieces of them."""
    return Photo(name, tuple(captions), tuple(fragment(chance, caption, 3, 6) for caption in captions))
