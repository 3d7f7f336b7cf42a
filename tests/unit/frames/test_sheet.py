"""A contact sheet of few frames and of many, of every shape, with whatever question above it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from clamr_cli.errors import UsageError
from clamr_cli.frames.sheet import Tile, sheet


def hits(count: int, size: tuple[int, int] = (16, 9)) -> list[Tile]:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "JPEG")
    return [Tile(buffer.getvalue(), 2.0 * n, n + 1) for n in range(count)]


def drawn(*arguments) -> Image.Image:
    return Image.open(io.BytesIO(sheet(*arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 9), (9, 16), (1, 500), (500, 1)])
def test_every_shape_can_be_drawn(size):
    for count in (1, 2, 7, 32):
        assert max(drawn("what?", hits(count, size), ".png").size) < 8_000


@pytest.mark.slow
def test_more_frames_are_drawn_smaller_and_too_many_are_refused():
    few, more, many = (drawn("what?", hits(count), ".jpg").size for count in (300, 800, 1600))
    assert few[0] % 328 == more[0] % 248 == many[0] % 168 == 8
    assert max(*few, *more, *many) <= 8_000
    with pytest.raises(UsageError, match="a sheet of 9000 frames would be too large"):
        sheet("what?", hits(9000), ".webp")


def test_a_question_of_any_length_is_one_line():
    short = drawn("what?", hits(2), ".png")
    assert drawn("what\nis " * 100_000, hits(2), ".png").size == short.size


def test_a_page_escapes_what_videos_say_and_links_to_the_second():
    tile = Tile(b"", 4.5, 1, "said", "<script>x\x1b[2J", "/videos/a b'\".mp4", "a <b> line", [(2, 5)])
    page = sheet("<i>what?", [tile], ".html").decode()
    assert "<script" not in page
    assert "\x1b" not in page
    assert "<i>" not in page
    assert "a <mark>&lt;b&gt;</mark> line" in page
    assert 'href="file:///videos/a%20b%27%22.mp4#t=4.5"' in page
