"""Material of our own making: pictures of one colour and a few lines."""

import io

from PIL import Image

from clamr_cli.ask import Line, Material
from clamr_cli.types import Frame, Span


def jpeg(colour: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def said(start: float, end: float, text: str) -> Line:
    return Line(Span(start, end), text, "said")


def written(start: float, end: float, text: str) -> Line:
    return Line(Span(start, end), text, "written")


def material(count: int = 3, size: tuple[int, int] = (64, 48)) -> Material:
    """Frames at 10.5, 20.5, 30.5 s and so on, the last the best; a line said from 12 to 15 s, one written at 21 s."""
    times = [10.5 + 10 * place for place in reversed(range(count))]
    frames = tuple(Frame(time, Span(time, time), jpeg(size=size)) for time in times)
    return Material(frames, (said(12.0, 15.2, "the ferry leaves at noon"), written(21.0, 21.0, "EXIT")))
