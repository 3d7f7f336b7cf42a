"""Pictures to make clips of: photos that an installed package carries, slow camera moves over them, and title cards.

The photos are scikit-image's own (EasyOCR depends on it), used where its documentation says that they are in the public
domain or given under CC0: astronaut (NASA), rocket (SpaceX), hubble_deep_field (NASA), chelsea and clock_motion
(Stefan van der Walt), coffee (Rachel Michetti), camera (Lav Varshney), brick, grass and gravel (CC0 textures), retina
(Mikael Häggström).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont

from clamr_cli.errors import ClamrError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Size = tuple[int, int]

PHOTOS: Final = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
"""What is seen -> file of scikit-image's data folder."""


@lru_cache(maxsize=len(PHOTOS))
def photo(name: str) -> Image.Image:
    """A photo of :data:`PHOTOS` as RGB.

    Raises:
        ClamrError: scikit-image is not installed or does not carry the photo.
    """
    spec = find_spec("skimage")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder, "data", PHOTOS[name])
        if path.is_file():
            with Image.open(path) as image:
                return image.convert("RGB")
    raise ClamrError(
        f"The photo {PHOTOS[name]} of scikit-image is not installed", "pip install --force-reinstall scikit-image"
    )


def camera_move(image: Image.Image, size: Size, progress: float) -> Image.Image:
    """The view of a camera that zooms in and drifts right: ``progress`` in [0, 1], ``size`` is (width, height)."""
    width, height = size
    whole = min(image.width / width, image.height / height)
    scale = whole * (1.0 - 0.15 * progress)
    view = (min(width * scale, image.width), min(height * scale, image.height))
    left = (image.width - view[0]) * (0.4 + 0.2 * progress)
    top = (image.height - view[1]) * 0.5
    return image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + view[0], top + view[1]))


def card(lines: Sequence[str], size: Size, *, background: str = "#14213d", ink: str = "#ffffff") -> Image.Image:
    """A title card: the lines centred on a plain ground, the first one larger, in Pillow's own font."""
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        font = _fitting(line, size[0] * 0.9, size[1] // (7 if number == 0 else 10))
        place = (size[0] / 2, size[1] * (number + 1) / (len(lines) + 1))
        draw.text(place, line, fill=ink, font=font, anchor="mm")
    return image


def _fitting(line: str, width: float, height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's font at ``height`` pixels, or smaller so that the line fits into ``width``."""
    font = ImageFont.load_default(size=height)
    length = font.getlength(line)
    return font if length <= width else ImageFont.load_default(size=height * width / length)
