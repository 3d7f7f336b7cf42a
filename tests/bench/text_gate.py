"""Measures the weights of ``clamr_cli/media/text_gate.npz`` (where a picture may hold text), and makes new ones.

    python -m tests.bench.text_gate train PHOTOS FONTS --steps 4000 --out text_gate.npz
    python -m tests.bench.text_gate measure PHOTOS FONTS

The weights in the package come from an earlier form of ``train`` that drew words of English captions where this one
draws strings of letters; the pictures, the network and the loss are the same, so new weights are alike but not equal.

PHOTOS is any folder of photographs (every tenth is kept from training and used to measure), FONTS any folder of
TrueType fonts. Lines of text are drawn over photographs and over drawn shapes, with panels, outlines, transparency,
blur, grain and JPEG; a cell of 8 x 8 pixels is to tell whether a line of text covers it. Some photographs hold text of
their own that nobody marked, so the false alarms that are measured are an upper bound.
"""

from __future__ import annotations

import argparse
import random
import string
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional

from clamr_cli.media import text_change

SIDE = 256
BATCH = 16
SCRIPTS = ((0x61, 0x7A), (0x410, 0x44F), (0x3B1, 0x3C9), (0x531, 0x556), (0x10D0, 0x10F0))
RNG = random.Random


def words(rng: RNG, count: int) -> str:
    """Strings as long as words, in one of several scripts, or a clock or a number."""
    chance = rng.random()
    if chance < 0.12:
        return ":".join(f"{rng.randrange(60):02}" for _ in range(rng.randrange(2, 5)))
    if chance < 0.2:
        return str(rng.randrange(100_000))
    first, last = SCRIPTS[0] if chance < 0.85 else rng.choice(SCRIPTS[1:])
    common = "etaoinshrdlu" if first == SCRIPTS[0][0] else ""
    letters = common * 2 + (string.ascii_lowercase if common else "".join(map(chr, range(first, last + 1))))
    text = " ".join("".join(rng.choice(letters) for _ in range(rng.randrange(2, 10))) for _ in range(count))
    return rng.choice((text, text, text.upper(), text.title()))


class Maker:
    """Draws training pictures: [SIDE, SIDE] uint8 gray, and how much of each cell a line of text covers."""

    def __init__(self, photos: list[Path], fonts: list[Path], seed: int) -> None:
        self.rng = RNG(seed)
        self.photos = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in photos]
        self.fonts = fonts

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        rng = self.rng
        picture = self._photo() if rng.random() < 0.75 else self._shapes()
        label = np.zeros((SIDE, SIDE), np.float32)
        if rng.random() < 0.6:
            for _ in range(rng.choice((1, 1, 2, 3))):
                picture = self._draw(picture, label)
        if rng.random() < 0.3:
            turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(-6, 6), 1)
            picture = cv2.warpAffine(picture, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
            label = cv2.warpAffine(label, turn, (SIDE, SIDE))
        cells = SIDE // text_change.CELL
        return self._degrade(picture), cv2.resize(label, (cells, cells), interpolation=cv2.INTER_AREA)

    def _photo(self) -> np.ndarray:
        photo = self.rng.choice(self.photos)
        scale = max(self.rng.uniform(0.45, 1.3), (SIDE + 1) / min(photo.shape))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=way)
        top, left = (self.rng.randrange(size - SIDE + 1) for size in photo.shape)
        return photo[top : top + SIDE, left : left + SIDE].copy()

    def _shapes(self) -> np.ndarray:
        rng = self.rng
        picture = np.full((SIDE, SIDE), rng.randrange(256), np.uint8)
        for _ in range(rng.randrange(14)):
            shade, (x, y), (u, v) = rng.randrange(256), self._point(), self._point()
            kind, step = rng.randrange(5), rng.randrange(4, 24)
            if kind == 0:
                cv2.rectangle(picture, (x, y), (u, v), shade, rng.choice((-1, 1, 2, 4)))
            elif kind == 1:
                cv2.line(picture, (x, y), (u, v), shade, rng.choice((1, 2, 3, 6)))
            elif kind == 2:
                cv2.circle(picture, (x, y), rng.randrange(3, 60), shade, rng.choice((-1, 1, 3)))
            else:  # bars and grids look most like text
                for number in range(rng.randrange(2, 16)):
                    along = (x + number * step, y) if kind == 3 else (x, y + number * step)
                    end = (along[0], along[1] + u // 2) if kind == 3 else (along[0] + v, along[1])
                    cv2.line(picture, along, end, shade, rng.choice((1, 2)))
        return picture

    def _point(self) -> tuple[int, int]:
        return self.rng.randrange(-20, SIDE + 20), self.rng.randrange(-20, SIDE + 20)

    def _draw(self, picture: np.ndarray, label: np.ndarray) -> np.ndarray:
        rng = self.rng
        size = int(2 ** rng.uniform(2.85, 6.1))
        font = ImageFont.truetype(str(rng.choice(self.fonts)), size)
        place = (rng.randrange(-20, SIDE - 20), rng.randrange(-4, SIDE - 6))
        layer = Image.fromarray(picture)
        pen = ImageDraw.Draw(layer)
        left, top, right, bottom = map(int, pen.textbbox(place, text := words(rng, rng.randrange(1, 6)), font=font))
        under = picture[max(0, top) : max(1, bottom), max(0, left) : max(1, right)]
        if not under.size:
            return picture
        base = float(np.median(under))
        shade = int(np.clip(base + (1 if base < 128 else -1) * 2 ** rng.uniform(5, 8), 0, 255))
        if abs(shade - base) < 28:
            return picture
        busy = under.std() > 0.35 * abs(shade - base)
        panel = rng.random() < 0.33 or (busy and size < 11)
        lines = rng.choice((1, 1, 1, 2, 3))
        if panel:
            pad, far = rng.randrange(2, 12), 0 if shade > 127 else 255
            fill = far if abs(base - shade) < 40 or rng.random() < 0.5 else int(base)
            pen.rectangle((left - pad, top - pad, right + pad, bottom + int((lines - 1) * 1.3 * size) + pad), fill=fill)
        outline = {"stroke_width": max(1, size // 14), "stroke_fill": 0 if shade > 127 else 255}
        style = outline if not panel and (busy or rng.random() < 0.25) else {}
        for number in range(lines):
            spot = (place[0], place[1] + int(number * size * 1.25))
            box = [int(np.clip(edge, 0, SIDE)) for edge in pen.textbbox(spot, text, font=font)]
            pen.text(spot, text, font=font, fill=shade, **style)
            label[box[1] : box[3], box[0] : box[2]] = 1
        alpha = rng.choice((1.0, 1.0, 1.0, 0.75, 0.6)) if abs(shade - base) > 50 else 1.0
        return np.asarray(Image.blend(Image.fromarray(picture), layer, alpha))

    def _degrade(self, picture: np.ndarray) -> np.ndarray:
        rng = self.rng
        if rng.random() < 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.0))
        if rng.random() < 0.3:
            grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 7), picture.shape)
            picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
        return compressed(picture, rng.randrange(35, 95)) if rng.random() < 0.7 else picture


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """A picture after JPEG compression."""
    data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def network() -> nn.Sequential:
    """The layers that ``clamr_cli.media.text_change`` runs in numpy."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 1, 2, dilation=2), nn.ReLU(), nn.Conv2d(32, 1, 1)),
    )


def batches(maker: Maker) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures [BATCH, 1, SIDE, SIDE] in [-0.5, 0.5] and covers [BATCH, 1, SIDE / 8, SIDE / 8] in [0, 1]."""
    while True:
        pictures, covers = zip(*(maker.sample() for _ in range(BATCH)), strict=True)
        stacked = np.stack(pictures).astype(np.float32) / 255 - 0.5
        yield torch.from_numpy(stacked)[:, None], torch.from_numpy(np.stack(covers))[:, None]


def train(maker: Maker, steps: int, out: Path) -> None:
    """Fit by binary cross-entropy; cells that text covers a little neither count as text nor as none."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    began, average = time.monotonic(), 0.0
    for step, (pictures, covers) in zip(range(steps), batches(maker), strict=False):
        target = (covers > 0.3).float()
        weight = (1 - ((covers > 0.05) & (covers < 0.4)).float()) * (1 + 2 * target)
        loss = functional.binary_cross_entropy_with_logits(net(pictures), target, weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average = 0.98 * average + 0.02 * loss.item()
        if step % 200 == 0 or step == steps - 1:
            print(
                f"step {step} loss {average / (1 - 0.98 ** (step + 1)):.4f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
    layers = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    stored = {}
    for number, layer in enumerate(layers):
        stored[f"weight{number}"] = layer.weight.detach().flatten(1).numpy().astype(np.float16)
        stored[f"bias{number}"] = layer.bias.detach().numpy().astype(np.float16)
    np.savez_compressed(out, **stored)


def measure(photos: list[Path], fonts: list[Path], count: int) -> None:
    """Print how many drawn words are seen, by size and contrast, and how many photographs are taken for text."""
    rng = RNG(5)
    alarms = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in photos]
    maps = [text_change.text_map(alarm) for alarm in alarms]
    for limit in (text_change.LIKELY, text_change.CERTAIN):
        print(f"photographs alarming at {limit}: {np.mean([text_change.paired(m, limit).any() for m in maps]):.3f}")
    seen: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for _ in range(count):
        size, contrast = rng.choice((14, 16, 20, 28, 40, 60, 90, 140)), rng.choice((45, 70, 120, 200))
        plain = np.full((720, 1280), rng.randrange(256), np.uint8)
        under = cv2.resize(rng.choice(alarms), (1280, 720)) if rng.random() < 0.6 else plain
        picture, (left, top, right, bottom) = _written(rng, under, fonts, size, contrast)
        found = text_change.text_map(cv2.resize(compressed(picture, rng.choice((50, 70, 90))), (960, 536)))
        scale = 960 / 1280 / text_change.CELL
        rows = slice(int(top * scale), int(bottom * scale) + 1)
        here = found[rows, int(left * scale) : int(right * scale) + 1]
        hit = bool(text_change.paired(here, text_change.LIKELY).any())
        for key in (("size", size), ("contrast", contrast), ("all", count)):
            seen[key].append(hit)
    for (name, value), hits in sorted(seen.items()):
        print(f"words seen, {name} {value}: {np.mean(hits):.3f} of {len(hits)}")


def _written(
    rng: RNG, under: np.ndarray, fonts: list[Path], size: int, contrast: int
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    font, text = ImageFont.truetype(str(rng.choice(fonts)), size), words(rng, rng.randrange(1, 4))
    layer = Image.fromarray(under)
    pen = ImageDraw.Draw(layer)
    _, _, width, height = map(int, pen.textbbox((0, 0), text, font=font))
    left, top = rng.randrange(max(1, 1270 - width)), rng.randrange(max(1, 710 - height))
    beneath = under[top : top + height, left : left + width]
    base = int(np.median(beneath))
    shade = int(np.clip(base + contrast if base < 128 else base - contrast, 0, 255))
    busy = beneath.std() > 0.35 * contrast
    outline = {"stroke_width": max(1, size // 14), "stroke_fill": 0 if shade > 127 else 255}
    if busy and size < 16:
        pen.rectangle((left - 4, top - 2, left + width + 4, top + height + 4), fill=base)
    pen.text((left, top), text, font=font, fill=shade, **(outline if busy and size >= 16 else {}))
    return np.asarray(layer), (left, top, min(1280, left + width), top + height)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("train", "measure"))
    parser.add_argument("photos", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("text_gate.npz"))
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    fonts = sorted(path for path in given.fonts.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
    if given.job == "train":
        kept = [path for number, path in enumerate(photos) if number % 10]
        train(Maker(kept, fonts, seed=7), given.steps, given.out)
    else:
        measure(photos[::10], fonts, given.count)


if __name__ == "__main__":
    main()
