"""Fingerprints stay nearly the same when pictures are changed as copies are."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clamr_cli.demo import PHOTOS, photo
from clamr_cli.media.prints import FLAT, MIRROR, Prints, hash_pictures, levels_of

Picture = NDArray[np.uint8]


def grey(name: str) -> Picture:
    return np.asarray(photo(name).convert("L").resize((320, 180)), np.uint8)


def hashed(*pictures: Picture) -> NDArray[np.uint64]:
    small = [cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.concatenate([hash_pictures(np.asarray(picture, np.uint8)[None])[0] for picture in small])


def letterboxed(picture: Picture) -> Picture:
    return cv2.copyMakeBorder(picture, 30, 30, 0, 0, cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def with_logo(picture: Picture) -> Picture:
    """In bars, of which one has a logo."""
    copy = np.asarray(cv2.copyMakeBorder(picture, 0, 0, 40, 40, cv2.BORDER_CONSTANT), np.uint8)
    copy[8:28, 355:395] = 200
    return copy


CHANGES: dict[str, tuple[Callable[[Picture], Picture], int]] = {
    "scaled": (lambda picture: cv2.resize(picture, (100, 90), interpolation=cv2.INTER_AREA), 4),  # type: ignore[dict-item,return-value]
    "brighter": (lambda picture: (picture * 0.7 + 60).astype(np.uint8), 4),
    "letterboxed": (letterboxed, 10),
    "pillarboxed": (lambda picture: cv2.copyMakeBorder(picture, 0, 0, 40, 40, cv2.BORDER_CONSTANT), 10),  # type: ignore[dict-item,return-value]
    "in bars with a logo": (with_logo, 16),
    "cropped": (lambda picture: picture[4:-5, 8:-8], 20),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_has_nearly_the_same_hash(change: str) -> None:
    changed, most = CHANGES[change]
    for name in sorted(PHOTOS)[:6]:
        first, second = hashed(grey(name), changed(grey(name)))
        assert np.bitwise_count(first ^ second) <= most, name


def test_a_mirrored_picture_has_the_mirrored_hash() -> None:
    for name in sorted(PHOTOS)[:6]:
        first, second = hashed(grey(name), np.ascontiguousarray(grey(name)[:, ::-1]))
        assert np.bitwise_count(first ^ MIRROR ^ second) <= 3, name


def test_other_pictures_have_other_hashes() -> None:
    hashes = hashed(*map(grey, sorted(PHOTOS)))
    differing = np.bitwise_count(hashes[:, None] ^ hashes[None, :])[np.triu_indices(len(hashes), 1)]
    assert differing.min() > 14
    assert 28 < differing.mean() < 36


def test_a_picture_of_one_colour_has_no_hash() -> None:
    assert list(hashed(np.full((90, 160), 7, np.uint8), np.full((90, 160), 200, np.uint8))) == [FLAT, FLAT]


def test_fingerprints_survive_their_bytes() -> None:
    levels = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 16, 16)
    prints = Prints(np.array([0, 0.5], np.float32), np.array([1, 2**63 + 5], np.uint64), levels)
    times, hashes, rest = prints.blobs()
    again = Prints.of(times, hashes)
    assert (levels_of(rest) == levels).all()
    assert again.times.tolist() == [0.0, 0.5]
    assert again.hashes.tolist() == [1, 2**63 + 5]
