"""Text: how texts are compared, text tracks, hostile text made harmless for terminals, times and sizes for people.

A text track is the segments of one modality joined into one string that still knows where every character came from.

A file name may hold a line break, an escape sequence that rewrites the screen, or a bidirectional override that shows
``exe.mp4`` as ``4pm.exe``; recognised text and container tags are no better. What is escaped here stays readable and
says exactly what was there.
"""

from __future__ import annotations

import bisect
import io
import math
import os
import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from clamr_cli import locations
from clamr_cli.errors import UsageError
from clamr_cli.types import MediaInfo, Segment, Span

_ALIKE: Final = str.maketrans(
    {
        **dict.fromkeys(
            "`\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u2018\u2019\u201a\u201b\u2032\u2039\u203a\ua78c\uff07", "'"
        ),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u301d\u301e\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u0153\u0152", "oe"),
        **dict.fromkeys("\u00e6\u00c6", "ae"),
    }
)
_ZEROS: Final = (0x660, 0x6F0, 0x966, 0x9E6, 0xE50)
"""Arabic, Persian, Devanagari, Bengali, Thai."""

_CASED_ALIKE: Final = str.maketrans({"\u0131": "i"})
"""A capital I is the capital of the dotless i of Turkish too."""

_SAME_LETTERS: Final = str.maketrans(
    {
        "\u0451": "\u0435",  # Russian yo, mostly written as ye
        **dict.fromkeys("\u0622\u0623\u0625\u0671", "\u0627"),  # Arabic alef with its marks
        "\u0649": "\u064a",  # final ya without dots
        "\u06cc": "\u064a",  # the same letters of Persian and Arabic keyboards
        "\u06a9": "\u0643",
        "\u0629": "\u0647",  # ta marbuta
        **{chr(zero + digit): str(digit) for zero in _ZEROS for digit in range(10)},
    }
)
"""Letters that people write for one another, in lower case."""

_VOWEL_MARKS: Final = re.compile("[\u0640\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
"""Marks of Arabic and Hebrew that most texts leave out, and the Arabic stroke that stretches words."""

_INVISIBLE: Final = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_GUILLEMETS: Final = re.compile("(?<=\u00ab) | (?=\u00bb)")
_DASHES: Final = re.compile(r"(?: ?-)+ ?")
_DOTS: Final = re.compile(r"\.(?: ?\.)+")
_BEFORE_MARKS: Final = re.compile(r" (?=[.,;:!?])")


def plain(text: str, *, case: bool = False) -> str:
    """Text as it is compared: what people read as the same is the same.

    Normal forms, compatibility forms (ligatures, full width), the shapes of apostrophes, quotation marks, dashes and
    dots, the kind and number of spaces and what is invisible make no difference. Nor does case, unless ``case``, nor
    vowel marks of Arabic and Hebrew, and letters and digits that people write for one another, such as ё and е.
    """
    if text.isascii() and text.isalnum():
        return text if case else text.lower()
    if not text.isascii():
        text = _GUILLEMETS.sub("", " ".join(_INVISIBLE.sub("", text).split())).translate(_ALIKE)
        text = unicodedata.normalize("NFKC", text)
    if not case:
        text = text.casefold()
        if not text.isascii():
            # Case folding takes apart what is then to be put together again: the dotted capital I becomes i and a dot.
            text = unicodedata.normalize("NFKC", text.replace("i\u0307", "i").translate(_CASED_ALIKE))
            text = _VOWEL_MARKS.sub("", text).translate(_SAME_LETTERS)
    text = " ".join(text.translate(_ALIKE).split())
    return _BEFORE_MARKS.sub("", _DOTS.sub("...", _DASHES.sub("-", text)))


WORD: Final = re.compile(r"[^\W_]+")
"""A word as words are compared; what stands on both sides of an apostrophe are two."""

WRITTEN_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""A word as it is written, with the apostrophes inside of it."""

STOP_WORDS: Final = frozenset(
    """
    a about above after again against all also am an and any are around as at be because been before being below
    between both but by can could did do does doing done down during each either else ever every few for from further
    get gets getting goes going got had has have having he her here hers herself him himself his how i if in into is
    it its itself just like made make makes many me more most much my myself near no nor not now of off on once one
    only onto or other our ours out over own per s same seen she should shown shows so some someone something such t
    than that the their theirs them themselves then there these they thing things this those through to too toward
    towards under until up upon us used uses using very was way we were what when where which while who whom whose why
    will with within without would you your yours yourself
    clip clips footage video videos
    au aux avec ce ces cette dans de des du elle en est et il ils la le les leur mais ne nous ou par pas pour qui que
    sa ses sont sur un une vous
    al como con del el ella es esta este las lo los para pero por se su sus una y
    dem den der ein eine einem einen einer er ich ist nicht sich sie und von wir zu zum zur
    che di gli il non per una é è
    da do dos em na nas no nos o os um uma
    """.split()  # noqa: SIM905 -- a block of words is easier to read
)
"""Words of English, French, Spanish, German, Italian and Portuguese that say little, and those for a video itself."""


def words_of(text: str) -> list[str]:
    """The words of a text, in order, as they are compared (see :func:`plain`)."""
    return WORD.findall(plain(text))


# Between a letter and a digit, and before a capital that begins a word.
_BETWEEN: Final = re.compile(
    r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])"
)
_SHORTEST_PART: Final = 3
"""Letters of a word that stands in another one at least."""


UNSPACED_LETTERS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Ranges of letters of Chinese, Japanese, Thai, Lao, Khmer and Burmese, which put no spaces between words."""

UNSPACED: Final = re.compile(f"[{UNSPACED_LETTERS}]")

_SUFFIXED: Final = re.compile("[\uac00-\ud7a3]")
"""Letters of Korean, whose particles are written behind the word."""


def stands_among(word: str, words: Collection[str]) -> bool:
    """Whether a word stands among those of a text (:func:`standing_words`), or in one where spaces part no words."""
    word = without_accents(word)
    if word in words:
        return True
    return bool(UNSPACED.search(word) or _SUFFIXED.search(word)) and any(word in other for other in words)


def standing_words(text: str) -> set[str]:
    """The words that stand in a text, as they are compared: without accents, and those within others too.

    Capitals, and digits beside letters, part them: ``dancing`` stands in ``dancing1``, ``queen`` in ``DancingQueen``.

    >>> sorted(standing_words("DancingQueen2"))
    ['dancing', 'dancingqueen2', 'queen']
    """
    words = set(words_of(text))
    if (apart := _BETWEEN.sub(" ", text)) != text:
        words |= {word for word in words_of(apart) if len(word) >= _SHORTEST_PART and word.isalpha()}
    return set(map(without_accents, words))


def content_words(query: str) -> tuple[str, ...]:
    """The different words of a query without stop words; all of them where there are only stop words."""
    words = dict.fromkeys(words_of(query))
    return tuple(word for word in words if word not in STOP_WORDS) or tuple(words)


def without_accents(word: str) -> str:
    """A word of :func:`words_of` without accents, as many people write it.

    >>> without_accents("capitán")
    'capitan'
    """
    if word.isascii():
        return word
    letters = (letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", "".join(letters))


_ENDINGS: Final = (
    ("ies", "y"),
    ("ied", "y"),
    ("es", ""),
    ("s", ""),
    ("ed", ""),
    ("ed", "e"),
    ("ing", ""),
    ("ing", "e"),
)
_SHORTEST_STEM: Final = 3


def inflections(word: str) -> frozenset[str]:
    """The forms of an English noun or verb by its spelling, the word itself among them; some of them are no words.

    >>> sorted(inflections("dancing") & {"dance", "dances", "danced", "dancing"})
    ['dance', 'danced', 'dances', 'dancing']
    """
    if not (word.isascii() and word.isalpha()):
        return frozenset((word,))
    stems = {word} | {word.removesuffix(end) + more for end, more in _ENDINGS if word.endswith(end)}
    stems |= {stem[:-1] for stem in stems if stem != word and stem[-1:] == stem[-2:-1]}
    forms = {word}
    for stem in stems:
        if len(stem) < _SHORTEST_STEM:
            continue
        last, short = stem[-1], stem.removesuffix("e")
        forms |= {stem, f"{stem}s", f"{stem}es", f"{short}ed", f"{short}ing", f"{stem}{last}ed", f"{stem}{last}ing"}
        if last == "y":
            forms |= {f"{stem[:-1]}ies", f"{stem[:-1]}ied"}
    return frozenset(forms)


@dataclass(frozen=True, slots=True)
class Place:
    """The origin of a stretch of a track's text.

    ``segment`` indexes the segments the track was joined from; ``start``/``end`` are character offsets into that
    segment's text; ``span`` is its time in seconds: of the words it touches where word times are known, else of the
    whole segment.
    """

    segment: int
    start: int
    end: int
    span: Span


@dataclass(frozen=True, slots=True)
class TextTrack:
    """Segments joined by a separator. Make one with :meth:`join`.

    Attributes:
        text: the joined text.
        segments: what was joined.
        starts: character offset in ``text`` of each segment's first character.
    """

    text: str
    segments: tuple[Segment, ...]
    starts: tuple[int, ...]

    @classmethod
    def join(cls, segments: Sequence[Segment], separator: str = "\n") -> TextTrack:
        """Join the texts of the segments in order."""
        starts: list[int] = []
        position = 0
        for segment in segments:
            starts.append(position)
            position += len(segment.text) + len(separator)
        return cls(separator.join(segment.text for segment in segments), tuple(segments), tuple(starts))

    def locate(self, start: int, end: int) -> Place | None:
        """The place of ``text[start:end]``: the segment that holds its first character, cut at that segment's end.

        Returns None for an empty stretch, one outside the text, or one that lies wholly in a separator.
        """
        if start >= end or not self.segments:
            return None
        number = bisect.bisect_right(self.starts, start) - 1
        if number < 0:
            return None
        begin, segment = self.starts[number], self.segments[number]
        first, last = start - begin, end - begin
        if first >= len(segment.text):
            # A stretch that starts in the separator belongs to the next segment it reaches.
            if number + 1 < len(self.segments) and end > self.starts[number + 1]:
                return self.locate(self.starts[number + 1], end)
            return None
        last = min(last, len(segment.text))
        words = [word for word in segment.words if word.start < last and first < word.end]
        span = Span(words[0].span.start, words[-1].span.end) if words else segment.span
        return Place(number, first, last, span)


_CONTROL: Final = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: line breaks, tabs, ESC, CSI
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks, embeddings, overrides and isolates of direction
    "\u180e\u200b\u2060-\u2065\ufeff"  # invisible: two names that look alike must not be taken for one
    "\u2028\u2029\ufff9-\ufffb\ufffe\uffff"  # line and paragraph separators, annotations, non-characters
    "\U000e0000-\U000e007f"  # tag characters, invisible
)
_HARMFUL: Final = re.compile(f"[{_CONTROL}\ud800-\udfff]")
_FIELD: Final = re.compile(f"[\\\\{_CONTROL}\ud800-\udfff]")
_NOT_IN_JSON: Final = re.compile(f"[{_CONTROL}]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_terminal(text: str) -> str:
    r"""One line that no terminal obeys: control characters, direction overrides and broken bytes as escapes.

    Letters of every script, emoji and the joiners they need stay as they are.

    >>> print(escape_terminal("a\x1b[31mb\n\u202egnp.mp4"))
    a\x1b[31mb\n\u202egnp.mp4
    """
    return _HARMFUL.sub(_escape, text)


def escape_field(text: str) -> str:
    """A field of tab-separated output: as :func:`escape_terminal`, and the backslash doubled, so it can be undone."""
    return _FIELD.sub(_escape, text)


def escape_json(text: str) -> bytes:
    r"""UTF-8 of a JSON text whose strings hold nothing a terminal obeys; parsing it gives the same values as before.

    Bytes of file names that are no UTF-8 come as the lone surrogates ``\udc80`` to ``\udcff``, as Python reads them.
    """
    # Backslash-u is JSON's own escape, and these characters can occur inside JSON's strings only.
    return _NOT_IN_JSON.sub(_json_escape, text).encode("utf-8", "backslashreplace")


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x0A:
        return "\n"
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters; what is left out of the middle is an ellipsis."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def file_link(path: str) -> str:
    """The address of a file, every byte that is not plain ASCII percent-encoded: ``file://`` of a path."""
    # Slow to import, and needed on terminals alone.
    from urllib.parse import quote

    if locations.is_remote(path):
        return quote(path, safe=":/%" if path.startswith("http") else ":/")
    return "file://" + quote(os.fsencode(os.path.abspath(path)))


_CLOCK: Final = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")
_UNITS: Final = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def format_time(seconds: float) -> str:
    """A time as people write it, ``m:ss`` or ``h:mm:ss``; fractions are cut off, as players do.

    >>> format_time(3725.9)
    '1:02:05'
    """
    whole = int(seconds) if math.isfinite(seconds) and seconds > 0 else 0
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def readable_part(media: MediaInfo) -> str:
    """A sentence on how much of an incomplete file can be read; empty where nothing is missing."""
    if not media.incomplete:
        return ""
    content, header = media.duration_from_content or 0.0, media.duration_from_header or 0.0
    part = f"only {format_time(content)}.{int(content * 10) % 10}"
    whole = f" of {format_time(header + 0.5)}" if header > content else ""
    return f"{part}{whole} can be read: the file may be incomplete"


def file_time(seconds: float) -> str:
    """A time as part of a file name, to the millisecond; names sort as times do.

    >>> file_time(723.5)
    '00-12-03.500'
    """
    whole, thousandths = divmod(round(max(0.0, seconds) * 1000), 1000)
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}-{minutes:02}-{left:02}.{thousandths:03}"


def parse_time(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``1:30``, ``1:02:03``, ``2m`` or ``1h30m``.

    Raises:
        UsageError: when the text is none of these, or minutes or seconds of a clock time exceed 59.
    """
    cleaned = text.strip().lower()
    clock = _CLOCK.fullmatch(cleaned)
    if clock and cleaned.isascii():
        hours, minutes, seconds = int(clock[1] or 0), int(clock[2]), float(clock[3])
        if seconds < 60 and (minutes < 60 or clock[1] is None):
            return hours * 3600 + minutes * 60 + seconds
    units = _UNITS.fullmatch(cleaned)
    if cleaned and units and cleaned.isascii():
        return sum(float(part or 0) * factor for part, factor in zip(units.groups(), (3600, 60, 1), strict=True))
    raise UsageError(f"invalid time: {text!r}", "write it like 90, 90s, 1:30, 1:02:03, 2m or 1h30m")


def size(count: int) -> str:
    """A number of bytes as people write it.

    >>> size(1_520_000)
    '1.5 MB'
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def plural(count: int, noun: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def command_line(words: Sequence[str]) -> str:
    r"""The words of a command, quoted for a shell where that is needed.

    A word with control characters, direction overrides or bytes that are no text is written in the ``$'...'`` form
    that bash, zsh and ksh read, all of its bytes but plain ASCII as escapes.

    >>> print(command_line(["mpv", "--", "it's"]))
    mpv -- 'it'"'"'s'
    """
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    if escape_terminal(word) == word:
        return shlex.quote(word)
    # Three octal digits end by themselves, whatever follows them.
    escaped = (
        f"\\{chr(b)}" if b in b"\\'" else chr(b) if 0x20 <= b < 0x7F else f"\\{b:03o}" for b in os.fsencode(word)
    )
    return f"$'{''.join(escaped)}'"


_FORMULA: Final = tuple("=+-@\t\r＝＋－＠")
"""First characters of a cell that spreadsheets compute instead of showing it."""


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[object]]) -> bytes:
    """CSV with a header, UTF-8; control characters in fields are escaped, so that every record is one line."""
    # Most commands write none.
    import csv

    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        if text.startswith(_FORMULA):
            try:
                float(text)
            except ValueError:
                # A spreadsheet would take it for a formula; the ' says there that it is a text.
                text = f"'{text}"
        return escape_terminal(text)

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode()
