"""Subtitle files: .srt, .vtt, .ass and .ssa into segments, whatever their encoding, markup and habits."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import MediaError
from clamr_cli.extract.clean import clean, decode
from clamr_cli.extract.languages import two_letters
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES: Final = (".srt", ".vtt", ".ass", ".ssa")
"""What can be read, in order of preference when a video has several."""

_LARGEST: Final = 64 << 20
_FORMATS: Final = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
_TAG: Final = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|\{\\[^{}]{0,200}\}")
# Word times inside a cue; pysubs2 takes a line that holds two of them for the head of the next cue.
_WORD_TIME: Final = re.compile(r"<(?:\d{1,4}:)?\d{2}:\d{2}\.\d{1,3}>")
_DRAWING: Final = re.compile(
    r"\{[^{}]{0,200}\\p[1-9][^{}]{0,200}\}.*?(?:\{[^{}]{0,200}\\p0[^{}]{0,200}\}|$)", re.DOTALL
)
_TOUCHING: Final = 0.15
"""Seconds between two cues that still count as one scrolling caption."""


def read_subtitle_file(path: Path, language: str = "") -> list[Segment]:
    """The lines of a subtitle file in time order, markup and repetition of scrolling captions removed.

    Args:
        path: the file.
        language: two-letter code; empty takes it from a name such as ``NAME.en.srt``.

    Raises:
        MediaError: the file cannot be read, is no subtitle file, or is an empty one.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise MediaError(f"{path.name} is too large for subtitles", "remove it, or rename it")
        text = decode(path.read_bytes())
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read ({error.strerror})", "check its permissions") from error
    segments = from_events(_parse(text, path), language or _language_of(path))
    if not segments:
        raise MediaError(f"{path.name} holds no subtitles", "remove it, or replace it")
    return segments


def from_events(
    events: Iterable[tuple[float, float, str]], language: str = "", source: str = "subtitle"
) -> list[Segment]:
    """Segments of (start, end, text) cues in seconds; the text may carry markup and several lines."""
    ordered = sorted(events, key=lambda event: event[:2])
    segments: list[Segment] = []
    shown: list[str] = []
    shown_until = float("-inf")
    for start, end, raw in ordered:
        lines = _lines(raw)
        fresh = lines[_repeated(shown, lines) :] if start - shown_until <= _TOUCHING else lines
        if fresh:
            begin = max(0.0, start)
            segments.append(Segment(Span(begin, max(begin, end)), clean(" ".join(fresh)), source, language))
        elif segments and lines:
            last = segments[-1]
            segments[-1] = replace(last, span=Span(last.span.start, max(last.span.end, end)))
        if lines:
            shown, shown_until = lines, max(start, end)
    return segments


def _language_of(path: Path) -> str:
    codes = (two_letters(part) for part in path.name.split(".")[1:-1])
    return next((code for code in codes if code), "")


def _parse(text: str, path: Path) -> list[tuple[float, float, str]]:
    # Only here: whoever looks for sidecars finds none most of the time, and need not wait for the import.
    import pysubs2

    text = _WORD_TIME.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    declared = _FORMATS.get(path.suffix.lower())
    try:
        found = pysubs2.formats.autodetect_format(text)
    except pysubs2.exceptions.FormatAutodetectionError:
        found = declared
    if found not in _FORMATS.values():
        raise MediaError(f"{path.name} is no subtitle file that can be read", "remove it, or convert it to .srt")
    try:
        subtitles = pysubs2.SSAFile.from_string(text, format_=found)
    except (pysubs2.exceptions.Pysubs2Error, ValueError, IndexError, KeyError) as error:
        raise MediaError(f"{path.name} is damaged ({error})", "remove it, or convert it to .srt") from error
    return [(event.start / 1000, event.end / 1000, event.text) for event in subtitles if not event.is_comment]


def _lines(raw: str) -> list[str]:
    """The visible lines of a cue."""
    text = _TAG.sub("", _DRAWING.sub("", raw).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " "))
    lines = (clean(html.unescape(line)) for line in text.split("\n"))
    return [line for line in lines if line]


def _repeated(shown: list[str], lines: list[str]) -> int:
    """How many of the first lines were the last ones shown: captions that scroll show each line again."""
    for count in range(min(len(shown), len(lines)), 0, -1):
        if shown[-count:] == lines[:count]:
            return count
    return 0
