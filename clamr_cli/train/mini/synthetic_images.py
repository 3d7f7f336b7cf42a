"""Synthetic images with captions: images generated without any photo, and photos in other styles.

Photos of people and things show the connector neither screens full of text, nor plain colours, nor what is drawn or
without colours. Everything is seeded.
"""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clamr_cli.encoders.mini.vision import NAMED_COLOURS

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Scene = tuple[Image.Image, tuple[str, ...]]

_SIZE: Final = (480, 320)
_NEAR: Final = 18
_font = ImageFont.load_default
_COLOURS: Final = tuple(name for name in sorted(NAMED_COLOURS) if name != "skin")
_WORDS: Final = (
    "time", "people", "world", "first", "year", "great", "house", "small", "large", "number", "water", "school",
    "place", "right", "hand", "part", "group", "system", "program", "question", "work", "government", "night",
    "point", "home", "story", "fact", "month", "book", "word", "business", "issue", "side", "kind", "head",
)  # fmt: skip


class SyntheticImage(NamedTuple):
    """A JPEG and its five captions."""

    jpeg: bytes
    captions: tuple[str, ...]


def generate(rng: random.Random) -> SyntheticImage:
    """A plain colour, shapes, a slide, a title, code, a program or a chart."""
    image, captions = rng.choice(_SCENES)(rng)
    return SyntheticImage(encode_jpeg(np.asarray(image)), captions)


def restyle(jpeg: bytes, captions: Sequence[str], rng: random.Random) -> SyntheticImage:
    """A photo in another style: black and white, old film, pixel art, cartoon, painting, sketch or night.

    Its captions name the style.
    """
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    apply, forms = rng.choice(_STYLES)
    changed = tuple(rng.choice(forms).format(caption[:1].lower() + caption[1:]) for caption in captions)
    return SyntheticImage(encode_jpeg(apply(pixels, rng)), changed)


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG of pixels [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _shade(rng: random.Random, name: str) -> Colour:
    """The colour, or one close to it."""
    red, green, blue = (min(255, max(0, value + rng.randint(-_NEAR, _NEAR))) for value in NAMED_COLOURS[name])
    return red, green, blue


def _canvas(ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", _SIZE, ground)
    return picture, ImageDraw.Draw(picture)


def _phrase(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(least, most)))


def _plain(rng: random.Random) -> Scene:
    name = rng.choice(_COLOURS)
    picture, _ = _canvas(_shade(rng, name))
    return picture, (
        f"plain {name} background", f"solid {name} screen", f"{name} colour", f"nothing but {name}",
        f"empty {name} frame",
    )  # fmt: skip


def _shapes(rng: random.Random) -> Scene:
    ground, ink = rng.sample(_COLOURS, 2)
    shape = rng.choice(sorted(_OUTLINES))
    picture, draw = _canvas(_shade(rng, ground))
    count = rng.choice((1, 1, 1, 3, 6))
    for _ in range(count):
        size = rng.randint(60, 130) // (1 if count == 1 else 2)
        x, y = rng.randint(size, _SIZE[0] - size), rng.randint(size, _SIZE[1] - size)
        points = [(x + size * right, y + size * down) for right, down in _OUTLINES[shape]]
        draw.polygon(points, fill=_shade(rng, ink))
    thing = f"a {ink} {shape}" if count == 1 else f"{ink} {shape}s"
    return picture, (
        f"{thing} on a {ground} background", f"{thing} on {ground}", f"illustration of {thing}",
        f"simple drawing of {thing}", f"{ink} {shape} icon on {ground}",
    )  # fmt: skip


def _around(corners: int, *radii: float) -> list[tuple[float, float]]:
    """Corners on a circle, clockwise from the top, with alternating radii."""
    angles = [2 * np.pi * number / corners - np.pi / 2 for number in range(corners)]
    pairs = zip(itertools.cycle(radii), angles, strict=False)
    return [(radius * float(np.cos(angle)), radius * float(np.sin(angle))) for radius, angle in pairs]


def _heart() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 60)
    across = 16 * np.sin(turns) ** 3
    up = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return [(float(x) / 17, -float(y) / 17) for x, y in zip(across, up, strict=True)]


_THIN: Final = 0.3
_OUTLINES: Final[Mapping[str, Sequence[tuple[float, float]]]] = {
    "circle": _around(72, 1.0),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": _around(3, 1.0),
    "hexagon": _around(6, 1.0),
    "star": _around(10, 1.0, 0.4),
    "heart": _heart(),
    "arrow": [(-1, -_THIN), (0, -_THIN), (0, -1), (1, 0), (0, 1), (0, _THIN), (-1, _THIN)],
    "cross": [
        (-_THIN, -1), (_THIN, -1), (_THIN, -_THIN), (1, -_THIN), (1, _THIN), (_THIN, _THIN),
        (_THIN, 1), (-_THIN, 1), (-_THIN, _THIN), (-1, _THIN), (-1, -_THIN), (-_THIN, -_THIN),
    ],
    "stripe": [(-9, -0.4), (9, -0.4), (9, 0.4), (-9, 0.4)],
}  # fmt: skip
"""Corners of shapes around their centre."""


def _slide(rng: random.Random) -> Scene:
    pairs = (("white", "black"), ("navy", "white"), ("black", "white"), ("beige", "dark red"), ("light grey", "navy"))
    ground, ink = rng.choice(pairs)
    picture, draw = _canvas(_shade(rng, ground))
    draw.text((30, 24), _phrase(rng, 1, 3).title(), fill=_shade(rng, ink), font=_font(34))
    for number in range(rng.randint(2, 5)):
        draw.text((44, 90 + 42 * number), f"- {_phrase(rng, 3, 6)}", fill=_shade(rng, ink), font=_font(20))
    return picture, (
        "presentation slide with text", "slide with bullet points", "lecture slide", f"text on a {ground} slide",
        "powerpoint presentation",
    )  # fmt: skip


def _title(rng: random.Random) -> Scene:
    ground, ink = rng.sample(_COLOURS, 2)
    picture, draw = _canvas(_shade(rng, ground))
    middle, size = _SIZE[0] / 2, rng.randint(36, 56)
    draw.text((middle, 130), _phrase(rng, 1, 3).title(), fill=_shade(rng, ink), font=_font(size), anchor="mm")
    draw.text((middle, 200), _phrase(rng, 2, 4), fill=_shade(rng, ink), font=_font(22), anchor="mm")
    return picture, (
        f"title card on a {ground} background", "large text in the middle of the screen", f"{ink} text on {ground}",
        "opening title", "words on a plain background",
    )  # fmt: skip


def _code(rng: random.Random) -> Scene:
    dark = rng.random() < 0.6
    ground, side = ((30, 32, 38), (45, 48, 56)) if dark else ((250, 250, 250), (230, 232, 236))
    names = ("light blue", "light green", "orange", "pink", "white") if dark else ("blue", "dark green", "red", "black")
    picture, draw = _canvas(ground)
    draw.rectangle((0, 0, 90, _SIZE[1]), fill=side)
    for number in range(rng.randint(9, 15)):
        x = 104 + 18 * rng.choice((0, 0, 1, 1, 2, 3))
        for _ in range(rng.randint(1, 5)):
            word = rng.choice(_WORDS)
            draw.text((x, 10 + 20 * number), word, fill=_shade(rng, rng.choice(names)), font=_font(14))
            x += 9 * len(word) + 8
    return picture, (
        "source code in an editor", "programming screen recording",
        f"code editor with a {'dark' if dark else 'light'} theme", "screen recording of writing code",
        "computer screen with program code",
    )  # fmt: skip


def _interface(rng: random.Random) -> Scene:
    accent = rng.choice(("blue", "green", "orange", "purple", "dark grey", "teal"))
    picture, draw = _canvas((248, 248, 248))
    draw.rectangle((0, 0, _SIZE[0], 34), fill=_shade(rng, accent))
    draw.text((12, 8), _phrase(rng, 1, 3), fill="white", font=_font(15))
    for number in range(rng.randint(3, 7)):
        top = 50 + 38 * number
        draw.rectangle((16, top, rng.randint(200, 460), top + 28), outline=(190, 190, 190), fill="white")
        draw.text((24, top + 6), _phrase(rng, 2, 5), fill=(60, 60, 60), font=_font(14))
    return picture, (
        "web page in a browser", "computer screen with a window", "screen recording of an app",
        "website user interface", "screenshot of software",
    )  # fmt: skip


def _chart(rng: random.Random) -> Scene:
    kind = rng.choice(("bar", "line", "pie"))
    picture, draw = _canvas((255, 255, 255))
    inks = [_shade(rng, name) for name in ("blue", "orange", "green", "red", "purple")]
    if kind == "pie":
        turn = 0.0
        for ink in inks:
            start, turn = turn, turn + rng.uniform(30, 70)
            draw.pieslice((120, 40, 360, 280), start, turn, fill=ink)
        draw.pieslice((120, 40, 360, 280), turn, 360, fill="grey")
    else:
        draw.line((50, 20, 50, 280, 450, 280), fill="black", width=2)
        heights = [280 - rng.randint(30, 240) for _ in range(8)]
        if kind == "bar":
            for number, top in enumerate(heights):
                draw.rectangle((64 + 48 * number, top, 98 + 48 * number, 279), fill=inks[0])
        else:
            draw.line([(60 + 54 * number, top) for number, top in enumerate(heights)], fill=inks[1], width=4)
    return picture, (
        f"{kind} chart", f"graph of data, a {kind} chart", "diagram with numbers", "statistics on a chart",
        f"infographic with a {kind} graph",
    )  # fmt: skip


# Colours and shapes come more often: every other scene is one of them.
_SCENES: Final = (_plain, _shapes, _plain, _shapes, _slide, _title, _code, _interface, _chart)


def _black_and_white(pixels: Pixels, rng: random.Random) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    contrast = np.clip((grey.astype(np.float32) - 128) * rng.uniform(0.9, 1.5) + 128, 0, 255)
    return np.asarray(cv2.cvtColor(contrast.astype(np.uint8), cv2.COLOR_GRAY2RGB))


def _film(pixels: Pixels, rng: random.Random) -> Pixels:
    """Black and white with grain, soft, darker at the corners."""
    soft = cv2.GaussianBlur(_black_and_white(pixels, rng), (0, 0), rng.uniform(0.8, 2.0)).astype(np.float32)
    height, width = soft.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    soft *= (1 - 0.4 * (x**2 + y**2) / 2)[:, :, None]
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(5, 18), (height, width, 1))
    grainy: Pixels = np.clip(soft + grain, 0, 255).astype(np.uint8)
    return grainy


def _reduce_colours(pixels: Pixels, colours: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).quantize(colours, dither=Image.Dither.NONE).convert("RGB"))


def _pixel_art(pixels: Pixels, rng: random.Random) -> Pixels:
    height, width = pixels.shape[:2]
    across = rng.randint(28, 72)
    small = cv2.resize(pixels, (across, max(8, across * height // width)), interpolation=cv2.INTER_AREA)
    flat = _reduce_colours(small, rng.randint(6, 16))
    return np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST))


def _cartoon(pixels: Pixels, rng: random.Random) -> Pixels:
    """Flat colours with dark outlines."""
    smooth = pixels
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 9, 60, 9)
    flat = _reduce_colours(smooth, rng.randint(8, 18))
    lines = cv2.adaptiveThreshold(
        cv2.medianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), 7), 255, cv2.ADAPTIVE_THRESH_MEAN_C,
        cv2.THRESH_BINARY, 9, rng.choice((3, 4, 6)),
    )  # fmt: skip
    outlined: Pixels = np.where(lines[:, :, None] == 0, flat // 4, flat)
    return outlined


def _painting(pixels: Pixels, rng: random.Random) -> Pixels:
    return np.asarray(cv2.stylization(pixels, sigma_s=rng.uniform(20, 60), sigma_r=rng.uniform(0.3, 0.6)))


def _pencil(pixels: Pixels, rng: random.Random) -> Pixels:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(255 - grey, (0, 0), rng.uniform(5, 12))
    lines = cv2.divide(grey, 255 - soft, scale=256)
    return np.asarray(cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB))


def _night(pixels: Pixels, rng: random.Random) -> Pixels:
    dark = (pixels / 255.0) ** rng.uniform(1.3, 2.0) * np.array([0.35, 0.4, 0.6]) * 255
    darkened: Pixels = np.clip(dark, 0, 255).astype(np.uint8)
    return darkened


_STYLES: Final[Sequence[tuple[Callable[[Pixels, random.Random], Pixels], tuple[str, ...]]]] = (
    (_black_and_white, ("black and white photo of {}", "{} in black and white", "monochrome picture: {}")),
    (_film, ("old black and white film of {}", "silent movie scene, {}", "vintage footage of {}")),
    (_pixel_art, ("pixel art of {}", "8-bit style {}", "retro video game graphics of {}", "pixelated {}")),
    (_cartoon, ("cartoon of {}", "animated {}", "animation of {}", "illustration of {}", "comic style {}")),
    (_painting, ("painting of {}", "watercolour of {}", "illustrated {}", "drawing of {}")),
    (_pencil, ("pencil drawing of {}", "sketch of {}", "line drawing of {}")),
    (_night, ("{} at night", "{} in the dark", "dark night scene of {}")),
)
