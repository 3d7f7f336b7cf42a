"""Pictures drawn from nothing: plain colours, shapes, slides, titles, code, programs and charts, with captions.

Photos teach the connector nothing of screens full of text, or of a colour and nothing else. Everything is seeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clamr_cli.encoders.mini.colours import NAMED
from clamr_cli.train.mini.made import Made, jpeg_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    Colour = tuple[int, int, int]
    Scene = tuple[Image.Image, tuple[str, ...]]

_SIZE: Final = (480, 320)
_NEAR: Final = 18
_SKIN: Final = "skin"
_COLOURS: Final = tuple(name for name in sorted(NAMED) if name != _SKIN)
_WORDS: Final = (
    "time", "people", "world", "first", "year", "great", "house", "small", "large", "number", "water", "school",
    "place", "right", "hand", "part", "group", "system", "program", "question", "work", "government", "night",
    "point", "home", "story", "fact", "month", "book", "word", "business", "issue", "side", "kind", "head",
)  # fmt: skip


def drawn(chance: random.Random) -> Made:
    """A picture drawn from nothing, with five captions."""
    picture, captions = chance.choice(_SCENES)(chance)
    return Made(jpeg_of(np.asarray(picture)), captions)


def _shade(chance: random.Random, name: str) -> Colour:
    """The colour, or one close to it."""
    red, green, blue = (min(255, max(0, value + chance.randint(-_NEAR, _NEAR))) for value in NAMED[name])
    return red, green, blue


def _sheet(ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", _SIZE, ground)
    return picture, ImageDraw.Draw(picture)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _line(chance: random.Random, least: int, most: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(least, most)))


# --- colours and shapes -----------------------------------------------------------------------------------------------


def _plain(chance: random.Random) -> Scene:
    name = chance.choice(_COLOURS)
    picture, _ = _sheet(_shade(chance, name))
    return picture, (
        f"plain {name} background", f"solid {name} screen", f"{name} colour", f"nothing but {name}",
        f"empty {name} frame",
    )  # fmt: skip


def _shapes(chance: random.Random) -> Scene:
    ground, ink = chance.sample(_COLOURS, 2)
    shape = chance.choice(sorted(_OUTLINES))
    picture, draw = _sheet(_shade(chance, ground))
    count = chance.choice((1, 1, 1, 3, 6))
    for _ in range(count):
        size = chance.randint(60, 130) // (1 if count == 1 else 2)
        x, y = chance.randint(size, _SIZE[0] - size), chance.randint(size, _SIZE[1] - size)
        points = [(x + size * right, y + size * down) for right, down in _OUTLINES[shape]]
        draw.polygon(points, fill=_shade(chance, ink))
    thing = f"a {ink} {shape}" if count == 1 else f"{ink} {shape}s"
    return picture, (
        f"{thing} on a {ground} background", f"{thing} on {ground}", f"illustration of {thing}",
        f"simple drawing of {thing}", f"{ink} {shape} icon on {ground}",
    )  # fmt: skip


def _around(corners: int, *radii: float) -> list[tuple[float, float]]:
    """Corners on a circle from the top on, at radii that take turns."""
    turns = [2 * np.pi * number / corners - np.pi / 2 for number in range(corners)]
    reach = [radii[number % len(radii)] for number in range(corners)]
    return [(r * float(np.cos(turn)), r * float(np.sin(turn))) for r, turn in zip(reach, turns, strict=True)]


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
"""Corners of shapes about their middle."""


# --- text, programs and charts ----------------------------------------------------------------------------------------


def _slide(chance: random.Random) -> Scene:
    pairs = (("white", "black"), ("navy", "white"), ("black", "white"), ("beige", "dark red"), ("light grey", "navy"))
    ground, ink = chance.choice(pairs)
    picture, draw = _sheet(_shade(chance, ground))
    draw.text((30, 24), _line(chance, 1, 3).title(), fill=_shade(chance, ink), font=_font(34))
    for number in range(chance.randint(2, 5)):
        draw.text((44, 90 + 42 * number), f"- {_line(chance, 3, 6)}", fill=_shade(chance, ink), font=_font(20))
    return picture, (
        "presentation slide with text", "slide with bullet points", "lecture slide", f"text on a {ground} slide",
        "powerpoint presentation",
    )  # fmt: skip


def _title(chance: random.Random) -> Scene:
    ground, ink = chance.sample(_COLOURS, 2)
    picture, draw = _sheet(_shade(chance, ground))
    middle, size = _SIZE[0] / 2, chance.randint(36, 56)
    draw.text((middle, 130), _line(chance, 1, 3).title(), fill=_shade(chance, ink), font=_font(size), anchor="mm")
    draw.text((middle, 200), _line(chance, 2, 4), fill=_shade(chance, ink), font=_font(22), anchor="mm")
    return picture, (
        f"title card on a {ground} background", "large text in the middle of the screen", f"{ink} text on {ground}",
        "opening title", "words on a plain background",
    )  # fmt: skip


def _code(chance: random.Random) -> Scene:
    dark = chance.random() < 0.6
    ground, side = ((30, 32, 38), (45, 48, 56)) if dark else ((250, 250, 250), (230, 232, 236))
    names = ("light blue", "light green", "orange", "pink", "white") if dark else ("blue", "dark green", "red", "black")
    picture, draw = _sheet(ground)
    draw.rectangle((0, 0, 90, _SIZE[1]), fill=side)
    for number in range(chance.randint(9, 15)):
        x = 104 + 18 * chance.choice((0, 0, 1, 1, 2, 3))
        for _ in range(chance.randint(1, 5)):
            word = chance.choice(_WORDS)
            draw.text((x, 10 + 20 * number), word, fill=_shade(chance, chance.choice(names)), font=_font(14))
            x += 9 * len(word) + 8
    return picture, (
        "source code in an editor", "programming screen recording",
        f"code editor with a {'dark' if dark else 'light'} theme", "screen recording of writing code",
        "computer screen with program code",
    )  # fmt: skip


def _interface(chance: random.Random) -> Scene:
    accent = chance.choice(("blue", "green", "orange", "purple", "dark grey", "teal"))
    picture, draw = _sheet((248, 248, 248))
    draw.rectangle((0, 0, _SIZE[0], 34), fill=_shade(chance, accent))
    draw.text((12, 8), _line(chance, 1, 3), fill="white", font=_font(15))
    for number in range(chance.randint(3, 7)):
        top = 50 + 38 * number
        draw.rectangle((16, top, chance.randint(200, 460), top + 28), outline=(190, 190, 190), fill="white")
        draw.text((24, top + 6), _line(chance, 2, 5), fill=(60, 60, 60), font=_font(14))
    return picture, (
        "web page in a browser", "computer screen with a window", "screen recording of an app",
        "website user interface", "screenshot of software",
    )  # fmt: skip


def _chart(chance: random.Random) -> Scene:
    kind = chance.choice(sorted(_CHARTS))
    picture, draw = _sheet((255, 255, 255))
    _CHARTS[kind](draw, chance, [_shade(chance, name) for name in ("blue", "orange", "green", "red", "purple")])
    return picture, (
        f"{kind} chart", f"graph of data, a {kind} chart", "diagram with numbers", "statistics on a chart",
        f"infographic with a {kind} graph",
    )  # fmt: skip


def _pie(draw: ImageDraw.ImageDraw, chance: random.Random, inks: Sequence[Colour]) -> None:
    turn = 0.0
    for ink in inks:
        end = turn + chance.uniform(30, 70)
        draw.pieslice((120, 40, 360, 280), turn, end, fill=ink)
        turn = end
    draw.pieslice((120, 40, 360, 280), turn, 360, fill="grey")


def _bars(draw: ImageDraw.ImageDraw, chance: random.Random, inks: Sequence[Colour]) -> None:
    draw.line((50, 20, 50, 280, 450, 280), fill="black", width=2)
    for number in range(8):
        draw.rectangle((64 + 48 * number, 280 - chance.randint(30, 240), 98 + 48 * number, 279), fill=inks[0])


def _curve(draw: ImageDraw.ImageDraw, chance: random.Random, inks: Sequence[Colour]) -> None:
    draw.line((50, 20, 50, 280, 450, 280), fill="black", width=2)
    points = [(60 + 54 * number, 280 - chance.randint(30, 240)) for number in range(8)]
    draw.line(points, fill=inks[1], width=4)


_CHARTS: Final[dict[str, Callable[[ImageDraw.ImageDraw, random.Random, Sequence[Colour]], None]]] = {
    "bar": _bars,
    "line": _curve,
    "pie": _pie,
}
# Colours and shapes come more often: every other scene is one of them.
_SCENES: Final = (_plain, _shapes, _plain, _shapes, _slide, _title, _code, _interface, _chart)
