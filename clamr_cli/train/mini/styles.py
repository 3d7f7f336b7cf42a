"""Photos in other styles: black and white, old film, pixel art, cartoons, paintings, sketches, night; captions say so.

Photos of people and things teach the connector what is in a picture, but not that it is drawn or without colours.
Everything is seeded.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from PIL import Image

from clamr_cli.train.mini.made import Made, jpeg_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


def _thrice(grey: Pixels) -> Pixels:
    """One channel as three."""
    coloured: Pixels = np.repeat(grey[:, :, None], 3, axis=2)
    return coloured


def _grey(pixels: Pixels, chance: random.Random) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    contrast = np.clip((grey.astype(np.float32) - 128) * chance.uniform(0.9, 1.5) + 128, 0, 255)
    return _thrice(contrast.astype(np.uint8))


def _film(pixels: Pixels, chance: random.Random) -> Pixels:
    """Black and white with grain, soft, darker at the corners."""
    soft = cv2.GaussianBlur(_grey(pixels, chance), (0, 0), chance.uniform(0.8, 2.0)).astype(np.float32)
    height, width = soft.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    soft *= (1 - 0.4 * (x**2 + y**2) / 2)[:, :, None]
    grain = np.random.default_rng(chance.getrandbits(32)).normal(0, chance.uniform(5, 18), (height, width, 1))
    grainy: Pixels = np.clip(soft + grain, 0, 255).astype(np.uint8)
    return grainy


def _palette(pixels: Pixels, colours: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).quantize(colours, dither=Image.Dither.NONE).convert("RGB"))


def _blocks(pixels: Pixels, chance: random.Random) -> Pixels:
    height, width = pixels.shape[:2]
    across = chance.randint(28, 72)
    small = cv2.resize(pixels, (across, max(8, across * height // width)), interpolation=cv2.INTER_AREA)
    flat = _palette(small, chance.randint(6, 16))
    return np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST))


def _cartoon(pixels: Pixels, chance: random.Random) -> Pixels:
    """Flat colours with dark outlines."""
    smooth = pixels
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 9, 60, 9)
    flat = _palette(smooth, chance.randint(8, 18))
    lines = cv2.adaptiveThreshold(
        cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 7), 255, cv2.ADAPTIVE_THRESH_MEAN_C,
        cv2.THRESH_BINARY, 9, chance.choice((3, 4, 6)),
    )  # fmt: skip
    outlined: Pixels = np.where(lines[:, :, None] == 0, flat // 4, flat)
    return outlined


def _painting(pixels: Pixels, chance: random.Random) -> Pixels:
    return np.asarray(cv2.stylization(pixels, sigma_s=chance.uniform(20, 60), sigma_r=chance.uniform(0.3, 0.6)))


def _pencil(pixels: Pixels, chance: random.Random) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(255 - grey, (0, 0), chance.uniform(5, 12))
    lines = cv2.divide(grey, 255 - soft, scale=256)
    return _thrice(np.asarray(lines))


def _night(pixels: Pixels, chance: random.Random) -> Pixels:
    dark = (pixels / 255.0) ** chance.uniform(1.3, 2.0) * np.array([0.35, 0.4, 0.6]) * 255
    darkened: Pixels = np.clip(dark, 0, 255).astype(np.uint8)
    return darkened


_STYLES: Final[Sequence[tuple[Callable[[Pixels, random.Random], Pixels], tuple[str, ...]]]] = (
    (_grey, ("black and white photo of {}", "{} in black and white", "monochrome picture: {}")),
    (_film, ("old black and white film of {}", "silent movie scene, {}", "vintage footage of {}")),
    (_blocks, ("pixel art of {}", "8-bit style {}", "retro video game graphics of {}", "pixelated {}")),
    (_cartoon, ("cartoon of {}", "animated {}", "animation of {}", "illustration of {}", "comic style {}")),
    (_painting, ("painting of {}", "watercolour of {}", "illustrated {}", "drawing of {}")),
    (_pencil, ("pencil drawing of {}", "sketch of {}", "line drawing of {}")),
    (_night, ("{} at night", "{} in the dark", "dark night scene of {}")),
)


def styled(jpeg: bytes, captions: Sequence[str], chance: random.Random) -> Made:
    """A photo in one of the styles, its captions saying so."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    make, forms = chance.choice(_STYLES)
    said = tuple(chance.choice(forms).format(_lower(caption)) for caption in captions)
    return Made(jpeg_of(make(pixels, chance)), said)


def _lower(caption: str) -> str:
    return caption[:1].lower() + caption[1:]
