"""Hits for people: short blocks of which the best is always on the screen, with pictures where a terminal can."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.cli.output import console, print_table, safe, warn
from clamr_cli.config import shows_pictures
from clamr_cli.records import as_span
from clamr_cli.search.lines import marks
from clamr_cli.text import content_words, format_time, plural, shorten
from clamr_cli.types import Hit, Line, Modality

if TYPE_CHECKING:
    from rich.text import Text

    from clamr_cli.store import Store, VideoFacts

SHOWN_AS: Final[Mapping[Modality, str]] = {
    Modality.VIDEO: "shown", Modality.SPEECH: "said", Modality.OCR: "on screen", Modality.METADATA: "metadata",
    Modality.AUDIO: "heard",
}  # fmt: skip
"""Names of the modalities for people."""

_LEVEL_STYLES: Final = {"strong": "bold green", "fair": "yellow", "weak": "dim"}
_MARK: Final = "bold red"
"""As ripgrep marks what matched."""

_RESERVED: Final = 3
"""Rows of a screen that the footer, a notice and the next prompt need."""

_LEAST_TITLE: Final = 16
_TITLE_SHARE: Final = 0.5
_LEAST_FOLDER: Final = 10
_LEAST_FILE: Final = 14
_LONGEST_SPEAKER: Final = 24
_GAP: Final = "  "
_PICTURE_COLUMNS: Final = 16
_PICTURE_ROWS: Final = 4
_PICTURE_PIXELS: Final = (320, 160)
"""Of a picture beside a hit. A cell of a screen is about twice as high as wide."""

_ATTRIBUTES: Final = re.compile(rb"\x1b\[\?([0-9;]*)c")
"""A terminal's answer to what it can do; 4 is sixel."""

_KITTY_ANSWER: Final = b";OK\x1b\\"

_PATIENCE: Final = 1.0
_PAUSE: Final = 0.1
"""Seconds to wait for a terminal's answer, and for more of it."""

_NEAREST: Final = 3
"""Weak hits that are shown where there are no others."""

_SLACK: Final = 0.5
"""Seconds by which a moment may miss the ends of its video and still be all of it."""


@dataclass(frozen=True)
class Block:
    """A hit and the facts of its video that its block shows.

    Attributes:
        hit: the hit.
        facts: of its video; None where the video went meanwhile.
        content: the words of the query that count.
        indent: columns before the text.
        ids: whether the id is shown.
    """

    hit: Hit
    facts: VideoFacts | None
    content: frozenset[str]
    indent: int
    ids: bool = False

    def head(self, width: int) -> Text:
        """Rank, level and title."""
        return _fit(self._start() + self._title(), width)

    def details(self, width: int) -> Text:
        """Id, file, folder, date, length and moment, dim, as far as they fit."""
        hit, facts = self.hit, self.facts
        folder, file = os.path.split(hit.path)
        home = os.path.expanduser("~")
        folder = f"~{folder[len(home) :]}" if folder == home or folder.startswith(f"{home}{os.sep}") else folder
        length = facts.duration if facts else 0.0
        times = as_span(hit.span)
        if length > 0:
            whole = hit.span.start <= _SLACK and hit.span.end >= length - _SLACK
            times = format_time(length) if whole else f"{times} of {format_time(length)}"
        date = facts.date if facts else ""
        parts = {"id": hit.video_id} if self.ids else {}
        parts |= {"file": file if hit.title else "", "folder": folder, "date": date, "times": times}
        if hit.tags:
            parts["tags"] = " ".join(f"#{tag}" for tag in hit.tags)
        if hit.offline:
            parts["offline"] = "offline"

        def size() -> int:
            return sum(safe(part).cell_len + len(_GAP) for part in parts.values() if part) - len(_GAP)

        for name, least in (("folder", _LEAST_FOLDER), ("tags", _LEAST_FOLDER), ("date", 99), ("file", _LEAST_FILE)):
            if (over := size() - width) > 0 and parts.get(name):
                left = len(parts[name]) - over
                parts[name] = shorten(parts[name], left) if left >= least else ""
        pieces = []
        for name, part in parts.items():
            if part and name == "file":
                pieces.append(_marked(part, marks(part, self.content), link=hit.path))
            elif part:
                pieces.append(safe(part, "yellow" if name == "offline" else "dim"))
        return _fit(_joined(pieces, _GAP), width)

    def squeezed(self, width: int) -> Text:
        """Head and details in one line."""
        room = width - self.indent
        title = max(_LEAST_TITLE, min(self._title().cell_len, int(room * _TITLE_SHARE)))
        details = self.details(room - title - len(_GAP))
        title = max(title, min(self._title().cell_len, room - details.cell_len - len(_GAP)))
        return _fit(self._start() + _fit(self._title(), title) + safe(_GAP) + details, width)

    def fits_squeezed(self, width: int) -> bool:
        """Whether head and details fit into one line in full."""
        whole = self.details(10_000).cell_len
        return self.indent + self._title().cell_len + len(_GAP) + whole <= width

    def lines(self, width: int, most: int) -> list[Text]:
        """The lines that answer, at least one; metadata that stands in the head already is left out."""
        hit = self.hit
        above = {hit.title, os.path.basename(hit.path)}
        lines = [line for line in hit.lines if line.modality is not Modality.METADATA or line.text not in above]
        indent = safe(" " * self.indent)
        if not lines:
            timed = Line(hit.modality or Modality.METADATA, hit.at, "")
            lines = [timed] if hit.modality not in (None, Modality.METADATA) else []
        drawn = [indent + draw_line(line, width - self.indent) for line in lines[:most]]
        if not drawn:
            drawn = [indent + safe("in the title or file name" if hit.lines else "the metadata is like it", "dim")]
        return drawn

    def _start(self) -> Text:
        level = self.hit.level.value
        rank = safe(f"{self.hit.rank:>{self.indent - 8}} ", "bold")
        return rank + safe(f"{level:<6} ", _LEVEL_STYLES[level])

    def _title(self) -> Text:
        hit = self.hit
        title = hit.title or os.path.basename(hit.path) or hit.video_id
        return _marked(title, marks(title, self.content), "bold", link=hit.path)


def blocks_of(query: str, hits: Sequence[Hit], catalog: Sequence[VideoFacts], *, ids: bool = False) -> list[Block]:
    """The blocks of hits, all with the same indentation."""
    facts, content = {one.video_id: one for one in catalog}, frozenset(content_words(query))
    indent = max((len(str(hit.rank)) for hit in hits), default=1) + 8
    return [Block(hit, facts.get(hit.video_id), content, indent, ids) for hit in hits]


def layout(
    blocks: Sequence[Block], width: int, rows: int | None, *, least: int = 0, everything: bool = False
) -> list[list[Text]]:
    """The lines of each block that is shown: in full where all fit the rows, else shorter, else fewer blocks.

    ``rows`` is None where nothing limits them; ``least`` are the rows of a block beside a picture. With ``everything``
    no block is left out.
    """
    in_one_line = all(block.fits_squeezed(width) for block in blocks)
    shown: list[list[Text]] = []
    # With two lines that answer and a gap, with one, and with the head in one line too.
    for squeezed, most, gap in ((in_one_line, 2, 1), (in_one_line, 1, 0), (not least or in_one_line, 1, 0)):
        shown = [_draw(block, width, most, squeezed=squeezed) for block in blocks]
        for number, lines in enumerate(shown):
            lines += [safe("")] * max(least - len(lines), gap if number < len(shown) - 1 else 0)
        if rows is None or sum(map(len, shown)) <= rows:
            return shown
    if everything:
        return shown
    # The first block is shown however low the screen is.
    fitting, used = shown[:1], len(shown[0])
    for lines in shown[1:]:
        used += len(lines)
        if rows is not None and used > rows:
            break
        fitting.append(lines)
    return fitting


def _draw(block: Block, width: int, most: int, *, squeezed: bool) -> list[Text]:
    if squeezed:
        return [block.squeezed(width), *block.lines(width, most)]
    details = safe(" " * block.indent) + block.details(width - block.indent)
    return [block.head(width), details, *block.lines(width, most)]


def footer(hits: Sequence[Hit], shown: Sequence[Hit], width: int) -> Text | None:
    """A line on the hits that are not shown: weak ones by title, and those that the screen has no room for."""
    ranks = {hit.rank for hit in shown}
    weak = [hit for hit in hits if hit.weak and hit.rank not in ranks]
    hidden = len(hits) - len(weak) - len(shown)
    parts = [f"{hidden} more"] if hidden else []
    if weak:
        parts.append(plural(len(weak), "weak hit"))
    if not parts:
        return None
    text = safe(f"{' and '.join(parts)}: -n {len(hits)} shows {'it' if hidden + len(weak) == 1 else 'them'}", "dim")
    if weak:
        names = [f"{hit.rank} {shorten(hit.title or os.path.basename(hit.path), 30)}" for hit in weak]
        text += safe(f" ({', '.join(names)})", "dim")
    return _fit(text, width)


def print_hits(
    store: Store,
    query: str,
    hits: Sequence[Hit],
    *,
    ids: bool = False,
    pictures: bool | None = None,
    everything: bool = False,
) -> None:
    """Print hits as blocks, as many as the screen has rows for; weak ones are a line unless all are weak.

    Args:
        store: the index, for facts and pictures of the videos.
        query: what was looked for.
        hits: best first.
        ids: show the ids of the videos.
        pictures: draw pictures beside the blocks; None where the terminal is known to draw them.
        everything: show all of them, weak ones too, however many rows that takes.
    """  # fmt: skip
    target, on_terminal = console(sys.stdout), sys.stdout.isatty()
    rows = max(1, target.height - _RESERVED) if on_terminal else None
    good = [hit for hit in hits if everything or not hit.weak] or list(hits[:_NEAREST])
    image = picture_kind() if on_terminal and (shows_pictures() if pictures is None else pictures) else None
    if pictures and on_terminal and image is None:
        warn("this terminal draws no pictures; --sheet FILE.html writes them to a page")
    width = target.width - (_PICTURE_COLUMNS + len(_GAP) if image else 0)
    blocks = blocks_of(query, good, store.catalog(), ids=ids)
    least = _PICTURE_ROWS if image else 0
    shown = layout(blocks, width, rows, least=least, everything=everything)
    if image:
        _print_with_pictures(image, shown, pictures_of(store, good[: len(shown)]))
    else:
        print_table(*(line for lines in shown for line in lines))
    if not everything and (below := footer(hits, good[: len(shown)], target.width)) is not None:
        print_table(below)


def picture_kind() -> Any:  # noqa: ANN401 -- the library's classes have no common type
    """The class of pictures that the terminal draws, after asking it; None where it draws none, or nobody answers."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    from textual_image import renderable

    # The library asks when it is imported, and waits for a tenth of a second.
    if renderable.Image in (renderable.SixelImage, renderable.TGPImage):
        return renderable.Image
    answer = ask_terminal(sys.stdin.fileno(), sys.stdout.fileno())
    if _KITTY_ANSWER in answer:
        return renderable.TGPImage
    return renderable.SixelImage if (found := _ATTRIBUTES.search(answer)) and b"4" in found[1].split(b";") else None


def ask_terminal(source: int, target: int) -> bytes:
    """The answer of a terminal that is asked for its attributes, with late answers to earlier questions before it.

    Every terminal answers, over a slow line late. What is read here is not left for the next prompt.
    """
    import select
    import termios
    import time
    import tty

    before, answer = termios.tcgetattr(source), b""
    try:
        tty.setcbreak(source, termios.TCSANOW)
        os.write(target, b"\x1b[c")
        end = time.monotonic() + _PATIENCE
        while not _ATTRIBUTES.search(answer) and (left := end - time.monotonic()) > 0:
            if select.select([source], [], [], left)[0]:
                answer += os.read(source, 1024)
        # The answer to the library's question may have come first, and that to this one is on its way.
        while select.select([source], [], [], _PAUSE)[0] and (more := os.read(source, 1024)):
            answer += more
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)
    return answer


def _print_with_pictures(image: Any, shown: Sequence[Sequence[Text]], jpegs: Sequence[bytes]) -> None:  # noqa: ANN401
    """Print each picture, go up again and print the block to its right."""
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError
    from rich.control import Control

    target = console(sys.stdout)
    for lines, jpeg in zip(shown, jpegs, strict=True):
        try:
            picture = ImageOps.pad(Image.open(io.BytesIO(jpeg)).convert("RGB"), _PICTURE_PIXELS)
        except (UnidentifiedImageError, OSError):
            picture = Image.new("RGB", _PICTURE_PIXELS)
        target.print(image(picture, width=_PICTURE_COLUMNS, height=_PICTURE_ROWS))
        target.control(Control.move(0, -_PICTURE_ROWS))
        for line in lines:
            target.control(Control.move_to_column(_PICTURE_COLUMNS + len(_GAP)))
            target.print(line)


def write_sheet(path: Path, store: Store, query: str, hits: Sequence[Hit]) -> None:
    """Write the contact sheet of hits: of each the frame that answers, or the one at the second that is opened."""
    from clamr_cli.frames.sheet import Tile
    from clamr_cli.frames.sheet import write_sheet as write

    tiles = []
    for hit, jpeg in zip(hits, pictures_of(store, hits), strict=True):
        line = next((line for line in hit.lines if line.timed), None)
        text = "" if line is None else line.text or ", ".join(line.words)
        stretches = line.marks if line is not None and line.text else ()
        name = SHOWN_AS[line.modality] if line else SHOWN_AS[hit.modality] if hit.modality else ""
        title = hit.title or os.path.basename(hit.path) or hit.video_id
        tiles.append(Tile(jpeg, hit.opened_at, hit.rank, name, title, hit.path, text, stretches))
    write(path, query, tiles)


def pictures_of(store: Store, hits: Sequence[Hit]) -> list[bytes]:
    """The stored frame of each hit at the second that is opened; empty where there is none."""
    from clamr_cli.index.documents import frames_at

    return frames_at(store, [(hit.video_id, hit.opened_at) for hit in hits])


def draw_line(line: Line, width: int) -> Text:
    """A line that answers: its time, and its text around what matched; of a frame the query words that it shows."""
    name = SHOWN_AS[line.modality]
    if not line.text:
        text = safe(f"{name} at {format_time(line.start)}", "cyan")
        return _fit(text + safe(f"{_GAP}{', '.join(line.words)}") if line.words else text, width)
    time = f"{format_time(line.start)} " if line.timed else ""
    head = safe(time, "cyan") + safe(f"{name}{_GAP}", "dim")
    if line.speaker:
        head += safe(f"{shorten(line.speaker, _LONGEST_SPEAKER)}: ", "bold")
    part, stretches = excerpt(line.text, line.marks, width - head.cell_len)
    return _fit(head + _marked(part, stretches), width)


def excerpt(text: str, stretches: Sequence[tuple[int, int]], width: int) -> tuple[str, list[tuple[int, int]]]:
    """The part of a text, of about so many columns, that holds most of the marked stretches; it is cut at words."""
    wide = safe(text).cell_len
    if wide <= width or width < 8:
        return text, list(stretches)
    count = max(4, (width - 4) * len(text) // wide)
    starts = [max(0, min(start - count // 4, len(text) - count)) for start, _ in stretches] or [0]

    def covered(start: int) -> int:
        return sum(start <= a and b <= start + count for a, b in stretches)

    start = max(starts, key=lambda start: (covered(start), -start))
    end = min(len(text), start + count)
    if start and (space := text.find(" ", start, start + count // 4)) >= 0 and not _inside(space, start, stretches):
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", end - count // 4, end)) > start:
        end = space
    before, after = "… " if start else "", " …" if end < len(text) else ""
    shift = len(before) - start
    inside = [(a + shift, b + shift) for a, b in stretches if start <= a and b <= end]
    return before + text[start:end] + after, inside


def _inside(space: int, start: int, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether a cut at a space would lose a stretch."""
    return any(start <= a < space for a, _ in stretches)


def _marked(text: str, stretches: Sequence[tuple[int, int]], style: str = "", *, link: str = "") -> Text:
    """Hostile text with stretches of it marked."""
    borders = [0, *(place for stretch in stretches for place in stretch), len(text)]
    result = safe("")
    for number, (start, end) in enumerate(pairwise(borders)):
        if start < end:
            result += safe(text[start:end], _MARK if number % 2 else style, link=link)
    return result


def _joined(parts: Sequence[Text], gap: str) -> Text:
    result = safe("")
    for number, part in enumerate(parts):
        result += part if not number else safe(gap) + part
    return result


def _fit(text: Text, width: int) -> Text:
    """Text cut to one line of so many columns."""
    text.truncate(max(1, width), overflow="ellipsis")
    text.no_wrap = True
    return text
