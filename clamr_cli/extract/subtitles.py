"""Subtitle files into segments, whatever their format, encoding, markup and habits."""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from clamr_cli import locations
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.extract.clean import clean, encoding_of, refuse_entities
from clamr_cli.extract.sidecars import is_log, marks_of
from clamr_cli.types import Segment, Span

Cue = tuple[float, float, str]
"""Start and end in seconds, and raw text."""

# Errors of the parsers below on content that is not as it should be.
_DAMAGED: Final = (
    ElementTree.ParseError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError
)  # fmt: skip

_LARGEST: Final = 64 << 20
_LONGEST_LINE: Final = 10_000
_LONGEST_CUE: Final = 20_000
_STAY: Final = 10.0  # seconds that a line stays where nothing says when it goes
_TOUCHING: Final = 0.15  # seconds between two cues that still count as one scrolling caption
_MOST_REPEATED: Final = 50  # lines that a scrolling caption repeats at most
_MICRODVD_RATE: Final = 24_000 / 1_001
_TAG: Final = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|\{\\[^{}]{0,200}\}|<(?:\d{1,4}:)?\d{2}:\d{2}\.\d{1,3}>")
_DRAWING: Final = re.compile(
    r"\{[^{}]{0,200}\\p[1-9][^{}]{0,200}\}.*?(?:\{[^{}]{0,200}\\p0[^{}]{0,200}\}|$)", re.DOTALL
)
_ASS_FIELDS: Final = "Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
_TIME: Final = r"(-)?(?:(\d{1,4}) ?: ?)?(\d{1,3}) ?: ?(\d{1,2})(?: ?[.,:] ?(\d{1,9}))?"
_ARROW: Final = re.compile(
    rf"\s*{_TIME} ?(?:[-\u2010-\u2015]{{1,2}} ?>|[\u2192\u21d2]) ?{_TIME}(?![\d:])".replace(" ?", r"[ \t]{0,9}")
)
_COMMA: Final = re.compile(rf"\s*{_TIME},{_TIME}\s*")
_STAMP: Final = re.compile(r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
_FRAMES: Final = re.compile(r"\{(\d{1,9})\}\{(\d{0,9})\}(.*)")
_TENTHS: Final = re.compile(r"\[(\d{1,9})\]\[(\d{0,9})\](.*)")
_VOICE: Final = re.compile(r"<v(?:\.[\w.-]{1,50})?[ \t]+([^<>\n]{1,100})>")
_SPEAKER: Final = re.compile("\2([^\2\3\n]{1,100})\3")
_LONGEST_NAME: Final = 60
_PREFIX: Final = re.compile(
    r"(?:[-‐-―>]{1,2}\s?)?([^\W\d_][\w.'’\-]{0,30}(?: [\w.'’\-]{1,30}){0,3})(?:\s?\([^()]{1,30}\))?(?::\s|：)\s?(?=\S)"
)
_ANONYMOUS: Final = re.compile(r"(?:unknown[ _-]?)?(?:speaker|spk|voice|person|guest)?[ _-]*[\dA-Z]?\d*", re.IGNORECASE)
_NO_NAMES: Final = (  # noqa: SIM905
    "note warning question answer example tip step chapter part scene translation subtitles subtitle captions source "
    "music time date title url http https ps update"
).split()
_PARTICLES: Final = "of the and de da di del la le van von der den el al bin y i".split()  # noqa: SIM905
_OFFSET: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
_SYNC: Final = re.compile(r"<sync\b[^<>]{0,50}?start\s{0,9}=\s{0,9}[\"']?(\d{1,9})[^<>]{0,99}>", re.IGNORECASE)
_CLASS: Final = re.compile(r"<p\b[^<>]{0,50}?class\s{0,9}=\s{0,9}[\"']?(\w{1,50})", re.IGNORECASE)


def read_subtitle_file(
    path: Path, language: str = "", notices: list[str] | None = None, *, hint: str = "", fps: float = 0.0
) -> list[Segment]:
    """The lines of a subtitle file in time order, markup and repetition of scrolling captions removed.

    Args:
        path: the file.
        language: short code; empty takes it from a name such as ``NAME.en.srt``.
        notices: takes a line where the encoding of the file is not sure.
        hint: short code of the language that it is probably in, where its name says none.
        fps: frames per second of the video, for formats that count frames; 0 where unknown.

    Raises:
        MediaError: the file cannot be read, is no subtitle file, or is an empty one.
    """
    try:
        if locations.stat(path).st_size > _LARGEST:
            raise MediaError(f"{path.name} is too large for subtitles", "remove it, or rename it")
        content = locations.read_bytes(path)
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read ({error.strerror})", "check its permissions") from error
    if content.startswith(b"\0\0\1\xba"):
        raise MediaError(f"{path.name} holds pictures of text (VobSub)", "convert it to .srt")
    language = language or marks_of(path.name.partition(".")[2].rpartition(".")[0])[1]
    encoding, sure = encoding_of(content, language or hint)
    text = content.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if notices is not None and (not sure or "\ufffd" in text):
        doubt = "has damaged characters" if sure else f"does not say its encoding; read as {encoding}"
        notices.append(f"{path.name} {doubt}")
    try:
        cues = list(_cues(text.lstrip("\ufeff"), language, fps))
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise MediaError(f"{path.name} is damaged ({reason})", "remove it, or convert it to .srt") from error
    segments = from_events(cues, language)
    if not segments:
        raise MediaError(f"{path.name} holds no subtitles", "remove it, or replace it")
    return segments


def from_events(cues: Iterable[Cue], language: str = "", source: str = "subtitle") -> list[Segment]:
    """Segments of cues, whose text may carry markup and several lines.

    A cue in which several speak gives a segment of each, as long as their texts are.
    """
    ordered = sorted((cue for cue in cues if all(map(math.isfinite, cue[:2]))), key=lambda cue: cue[:2])
    lines_of = [list(_lines(raw)) for _, _, raw in ordered]
    names = _names_before(line for lines in lines_of for speaker, line in lines if not speaker)
    segments: list[Segment] = []
    shown: list[tuple[str, str]] = []
    shown_until = float("-inf")
    for (start, end, _), plain_lines in zip(ordered, lines_of, strict=True):
        lines = list(_with_names(plain_lines, names)) if names else plain_lines
        repeated = 0
        if start - shown_until <= _TOUCHING:
            # Captions that scroll show each line again: the first lines may be the last ones shown.
            most = min(len(shown), len(lines), _MOST_REPEATED)
            repeated = next((count for count in range(most, 0, -1) if shown[-count:] == lines[:count]), 0)
        if fresh := lines[repeated:]:
            begin = max(0.0, start)
            parts = [
                (speaker, clean(" ".join(line for _, line in group)))
                for speaker, group in itertools.groupby(fresh, lambda line: line[0])
            ]
            pace = (max(begin, end) - begin) / sum(len(text) for _, text in parts)
            for speaker, text in parts:
                until = begin + pace * len(text) if len(parts) > 1 else max(begin, end)
                segments.append(Segment(Span(begin, until), text, source, language, speaker=speaker))
                begin = until
        elif segments and lines:
            last = segments[-1]
            segments[-1] = replace(last, span=Span(last.span.start, max(last.span.end, end)))
        if lines:
            shown, shown_until = lines, max(start, end)
    return segments


def _lines(raw: str) -> Iterator[tuple[str, str]]:
    """The lines of a cue without markup, each with its speaker, empty where the markup names none."""
    text = _DRAWING.sub("", raw[:_LONGEST_CUE]).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    speaker = ""
    for line in _TAG.sub("", text).split("\n"):
        if mark := _SPEAKER.match(line):
            speaker, line = _speaker(html.unescape(mark[1])), line[mark.end() :]
        if line := clean(html.unescape(line)):
            yield speaker, line


def _speaker(name: str) -> str:
    """The name of a speaker; empty for one that only numbers those of a file."""
    name = clean(name, _LONGEST_NAME)
    return "" if _ANONYMOUS.fullmatch(name) else name


def _marked(name: str, text: str) -> str:
    """A text that is spoken by somebody, as :func:`_lines` understands it."""
    return f"\n\2{name}\3".replace("\\", " ") + text


def with_speakers(segments: Sequence[Segment]) -> list[Segment]:
    """Lines of a subtitle track whose texts begin with who speaks ("ANN: Hello"), with that as their speaker."""
    names = _names_before(line.text for line in segments)
    parts = ((line, next(_with_names([("", line.text)], names))) for line in segments)
    return [replace(line, text=text, speaker=speaker) if speaker else line for line, (speaker, text) in parts]


def _names_before(lines: Iterable[str]) -> frozenset[str]:
    """The names that stand before lines, with a colon: those of several lines, or all where most lines have one."""
    texts = list(lines)
    found = Counter(name for text in texts if (name := _name_before(text)[0]))
    if not found or is_log(texts):
        return frozenset()
    most = 2 * found.total() >= len(texts)
    return frozenset(name for name, count in found.items() if count > 1 or most)


def _name_before(line: str) -> tuple[str, str]:
    """The name before a line and the rest of it; without one, no name and the line."""
    match = _PREFIX.match(line)
    if match is None or match[1].casefold() in _NO_NAMES:
        return "", line
    words = match[1].split()
    if len(words) > 4 or not all(word[0].upper() == word[0] or word.casefold() in _PARTICLES for word in words):
        return "", line
    return match[1].strip(), line[match.end() :]


def _with_names(lines: Iterable[tuple[str, str]], names: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The lines of a cue with who speaks taken from before them; it holds for the lines below, too."""
    current = ""
    for speaker, line in lines:
        name, rest = ("", line) if speaker else _name_before(line)
        if name in names:
            current, line = _speaker(name), rest
        yield speaker or current, line


def _cues(text: str, language: str, fps: float) -> Iterator[Cue]:
    """Start, end and raw text of all cues, in the format that the content shows."""
    head = text[:4096].lstrip()
    lines = [line[:_LONGEST_LINE] for line in text.split("\n")]
    if head.startswith("WEBVTT"):
        return _webvtt("\n".join(lines))
    if re.search(r"^(?:\[Script Info\]|\[V4\+? Styles\]|Dialogue:)", head, re.MULTILINE | re.IGNORECASE):
        return _substation("\n".join(lines))
    if head.startswith(('{"', "{\n", "{ ", "[{", "[\n")):
        return _json(text)
    if re.search(r"<sami\b|<sync\b", head, re.IGNORECASE):
        return _sami(text, language)
    if re.match(r"(?:<!doctype )?<?html\b", head, re.IGNORECASE):
        raise ValueError("it is a web page")
    if head.startswith("<"):
        return _xml(text)
    if head.startswith("start\tend\ttext"):
        return _tsv(lines)
    if _FRAMES.match(head) or _TENTHS.match(head):
        return _numbered(lines, fps)
    if re.search(rf"^{_STAMP.pattern}", head, re.MULTILINE):
        return _lyrics(lines)
    # SubViewer breaks lines by [br].
    return _timed(
        lines, lambda line: _ARROW.match(line) or _COMMA.fullmatch(line), lambda line: line.replace("[br]", "\n")
    )


def _timed(
    lines: Iterable[str], stamp: Callable[[str], re.Match[str] | None], words: Callable[[str], str]
) -> Iterator[Cue]:
    """Lines of times, each followed by text; the number before a line of times is none of the text.

    SubRip writes ``0:00:01,000 --> 0:00:02,000``, SubViewer and .sbv ``0:00:01.000,0:00:02.000``.
    """
    times: tuple[float, ...] | None = None
    shown: list[str] = []
    for line in lines:
        match = stamp(line)
        if match is None:
            shown.append(words(line))
            continue
        if times is not None:
            count = len(shown)
            while count and not shown[count - 1].strip():
                count -= 1
            is_alone = count in (1, len(shown)) or (count > 1 and not shown[count - 2].strip())
            if count and shown[count - 1].strip().isdigit() and is_alone:
                count -= 1
            yield times[0], times[1], "\n".join(shown[:count])
        shown = []
        times = tuple(
            (3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + _fraction(fraction)) * (-1 if sign else 1)
            for sign, hours, minutes, seconds, fraction in (match.groups()[:5], match.groups()[5:])
        )
    if times is not None:
        yield times[0], times[1], "\n".join(shown)


def _fraction(digits: str | None) -> float:
    return int(digits) / 10 ** len(digits) if digits else 0.0


def _webvtt(text: str) -> Iterator[Cue]:
    """WebVTT: blocks between blank lines; without a blank line between them, one block has several cues.

    A cue has its times in the first or the second line; other blocks are notes, styles and regions.
    """

    def spoken(line: str) -> str:
        return _VOICE.sub(lambda voice: _marked(voice[1], ""), line)

    # A line of spaces is text: YouTube begins scrolling captions with one.
    for block in re.split(r"\n{2,}", text):
        lines = block.strip("\n").split("\n")
        place = next((number for number, line in enumerate(lines[:2]) if _ARROW.match(line)), None)
        if place is not None:
            yield from _timed(lines[place:], _ARROW.match, spoken)


def _substation(text: str) -> Iterator[Cue]:
    """ASS and SSA, by pysubs2."""
    # Only here: most videos have no such file, and need not wait for the import.
    import pysubs2

    if "[events]" not in text.lower():
        text = f"[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: {_ASS_FIELDS}\n{text}"
    try:
        events = pysubs2.SSAFile.from_string(text, format_="ass")
    except pysubs2.exceptions.Pysubs2Error as error:
        raise ValueError(str(error)) from error
    for event in events:
        if not event.is_comment:
            yield event.start / 1000, event.end / 1000, event.text


def _json(text: str) -> Iterator[Cue]:
    """YouTube's json3, and what Whisper, WhisperX, Transformers and whisper.cpp write."""
    content = json.loads(text)
    if isinstance(content, list):
        content = {"segments": content}
    for event in content.get("events") or ():
        words = "".join(str(part.get("utf8", "")) for part in event.get("segs") or ())
        start = float(event.get("tStartMs", 0)) / 1000
        yield start, start + float(event.get("dDurationMs", 0)) / 1000, words
    for segment in content.get("segments") or ():
        text = str(segment["text"])
        text = _marked(str(segment["speaker"]), text) if segment.get("speaker") else text
        yield _number(segment["start"]), _number(segment["end"]), text
    for segment in content.get("chunks") or ():
        start, end = segment["timestamp"]
        yield _number(start), _number(start) + _STAY if end is None else _number(end), str(segment["text"])
    for segment in content.get("transcription") or ():
        yield segment["offsets"]["from"] / 1000, segment["offsets"]["to"] / 1000, str(segment["text"])


def _number(value: Any) -> float:  # noqa: ANN401  (from JSON)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a time is not a number")
    return float(value)


def _xml(text: str) -> Iterator[Cue]:
    """TTML and YouTube's srv1, srv2 and srv3: elements with a start and an end or a duration."""
    refuse_entities(text)
    root = ElementTree.fromstring(text)  # noqa: S314  (entities are refused)
    if _local(root) not in ("tt", "transcript", "timedtext"):
        raise ValueError("it has no subtitles")
    rates = {name.rpartition("}")[2]: value for name, value in root.attrib.items()}
    frames, ticks = float(rates.get("frameRate", 30)), float(rates.get("tickRate", 0) or 1)
    for element in root.iter():
        start = element.get("begin") or element.get("start") or element.get("t")
        if _local(element) not in ("p", "text") or start is None:
            continue
        scale = 0.001 if element.get("t") is not None else 1.0
        begin = _clock(start, frames, ticks) * scale
        end, length = element.get("end"), element.get("dur") or element.get("d")
        if end:
            until = _clock(end, frames, ticks)
        else:
            until = begin + (_clock(length, frames, ticks) * scale if length else _STAY)
        parts = [element.text or ""]
        for child in element.iter():
            if child is not element:
                parts += ["\n" if _local(child) == "br" else "", child.text or "", child.tail or ""]
        yield begin, until, "".join(parts)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _clock(value: str, frames: float, ticks: float) -> float:
    """Seconds of a time such as ``00:00:01.500``, ``00:00:01:12`` (frames), ``1.5s``, ``1500ms`` or ``90000t``."""
    value = value.strip()
    if match := _OFFSET.fullmatch(value):
        units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "f": 1 / (frames or 30), "t": 1 / (ticks or 1)}
        return float(match[1]) * units[match[2]]
    parts = [float(part) for part in value.replace(",", ".").split(":")]
    rest = parts.pop() / (frames or 30) if len(parts) == 4 else 0.0
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds + rest


def _sami(text: str, language: str) -> Iterator[Cue]:
    """SAMI: each SYNC shows until the next. Of several languages the wanted one is taken, else the first."""
    marks = list(_SYNC.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    cues = []
    for mark, end in zip(marks, ends, strict=True):
        body = text[mark.end() : end][:_LONGEST_CUE]
        name = _CLASS.search(body)
        cues.append((int(mark[1]) / 1000, body, name[1].lower() if name else ""))
    classes = [name for _, _, name in cues if name]
    wanted = next((name for name in classes if language and name.startswith(language)), classes[0] if classes else "")
    shown = [
        (start, re.sub(r"<br\b[^<>]{0,20}>", "\n", body.replace("\n", " "), flags=re.IGNORECASE))
        for start, body, name in cues
        if name in ("", wanted)
    ]
    return _until_next(shown)


def _lyrics(lines: Iterable[str]) -> Iterator[Cue]:
    """LRC: ``[mm:ss.xx]`` before each line, several where it is sung several times."""
    shown: list[tuple[float, str]] = []
    for line in lines:
        stamps = list(_STAMP.finditer(line))
        for stamp in stamps:
            words = re.sub(r"<\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?>", "", line[stamps[-1].end() :])
            shown.append((60 * int(stamp[1]) + int(stamp[2]) + _fraction(stamp[3]), words))
    return _until_next(sorted(shown))


def _until_next(lines: list[tuple[float, str]]) -> Iterator[Cue]:
    """Cues of lines that stay until the next one comes, though not for ever."""
    for (start, words), after in zip(lines, [*(start for start, _ in lines[1:]), float("inf")], strict=True):
        yield start, min(max(start, after), start + _STAY), words


def _numbered(lines: Iterable[str], fps: float) -> Iterator[Cue]:
    """MicroDVD (``{frame}{frame}``; the first line may give the rate) and MPL2 (``[tenth][tenth]``)."""
    rate = fps or _MICRODVD_RATE
    for number, line in enumerate(lines):
        frames, tenths = _FRAMES.match(line), _TENTHS.match(line)
        match = frames or tenths
        if match is None:
            continue
        words = match[3].strip()
        if frames and number == 0 and re.fullmatch(r"\d{1,3}(?:[.,]\d{1,6})?", words):
            rate = float(words.replace(",", ".")) or rate
            continue
        scale = rate if frames else 10.0
        start = int(match[1]) / scale
        parts = (re.sub(r"^/|\{[A-Za-z]:[^{}]{0,99}\}", "", part) for part in words.split("|"))
        yield start, int(match[2]) / scale if match[2] else start + _STAY, "\n".join(parts)


def _tsv(lines: Sequence[str]) -> Iterator[Cue]:
    """Whisper's table: milliseconds, milliseconds, text."""
    for line in lines[1:]:
        start, _, rest = line.partition("\t")
        end, _, words = rest.partition("\t")
        if start.strip().isdigit() and end.strip().isdigit():
            yield int(start) / 1000, int(end) / 1000, words


# --- transcripts ------------------------------------------------------------------------------------------------------

_STRICT_TIME: Final = r"(\d{1,4}):([0-5]\d):([0-5]\d)[,.](\d{1,3})"
_STRICT_ARROW: Final = re.compile(rf"\s*{_STRICT_TIME}\s*-->\s*{_STRICT_TIME}\s*", re.ASCII)
EDITED: Final = "edited"
"""The source of segments whose text or times a person changed."""


def as_srt(segments: Sequence[Segment]) -> str:
    """Segments as SubRip text."""
    cues = (f"{number}\n{_arrow(one.span, ',')}\n{_cue_text(one)}\n\n" for number, one in enumerate(segments, 1))
    return "".join(cues)


def as_vtt(segments: Sequence[Segment]) -> str:
    """Segments as WebVTT."""

    def voice(one: Segment) -> str:
        return f"<v {html.escape(clean(one.speaker), quote=False)}>" if one.speaker else ""

    cues = (f"{_arrow(one.span, '.')}\n{voice(one)}{html.escape(_cue_text(one), quote=False)}\n\n" for one in segments)
    return "".join(("WEBVTT\n\n", *cues))


def as_text(segments: Sequence[Segment]) -> str:
    """The texts of segments, a line each, after who says it."""
    return "".join(
        f"{clean(one.speaker)}: {_cue_text(one)}\n" if one.speaker else f"{_cue_text(one)}\n" for one in segments
    )


def _arrow(span: Span, mark: str) -> str:
    def stamp(seconds: float) -> str:
        whole = round(seconds * 1000)
        return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{mark}{whole % 1000:03}"

    return f"{stamp(span.start)} --> {stamp(span.end)}"


def _cue_text(segment: Segment) -> str:
    """A text in one line without control characters, and without what ends a cue."""
    return clean(segment.text, _LONGEST_CUE).replace("-->", "->")


def edited_transcript(text: str, before: Sequence[Segment], duration: float) -> list[Segment]:
    """The segments of a transcript that :func:`as_srt` wrote and a person changed.

    What is as it was keeps its source and the times of its words. A cue without text is left out.

    Args:
        text: SubRip; the numbers of the cues do not matter.
        before: the segments that were written.
        duration: of the video, in seconds.

    Raises:
        UsageError: it is damaged; the message names the line.
    """
    known = {(_arrow(one.span, ","), _cue_text(one)): one for one in before}
    speakers = {_arrow(one.span, ","): one.speaker for one in before}
    language = next((one.language for one in before if one.language), "")
    segments: list[Segment] = []
    cue: list[str] | None = None
    span, lines = Span(0.0, 0.0), [line.strip() for line in text.lstrip("\ufeff").splitlines()]

    def close() -> None:
        if cue is not None and (said := clean(" ".join(cue), _LONGEST_CUE)):
            changed = Segment(span, said, EDITED, language, speaker=speakers.get(_arrow(span, ","), ""))
            segments.append(known.get((_arrow(span, ","), said), changed))

    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if "-->" in line:
            match = _STRICT_ARROW.fullmatch(line)
            if match is None:
                raise UsageError(f"line {number + 1} is no time: {line[:60]!r}", "write 00:01:02,500 --> 00:01:05,000")
            close()
            parts = [int(part) for part in match.groups()]
            milliseconds = [int(match[place].ljust(3, "0")) for place in (4, 8)]
            start, end = (
                3600 * parts[first] + 60 * parts[first + 1] + parts[first + 2] + milliseconds[first // 4] / 1000
                for first in (0, 4)
            )
            if end < start:
                raise UsageError(f"line {number + 1} ends before it starts: {line[:60]!r}", "correct its times")
            if duration and start > duration + 1:
                raise UsageError(f"line {number + 1} starts after the end of the video", "correct its times")
            span, cue = Span(start, end), []
        elif line.isdecimal() and "-->" in following and (number == 0 or not lines[number - 1]):
            continue
        elif line and cue is None:
            raise UsageError(f"line {number + 1} stands before the first time: {line[:60]!r}", "put it below a time")
        elif line and cue is not None:
            cue.append(line)
    close()
    if not segments:
        raise UsageError("the transcript is empty", "keep at least one line")
    return sorted(segments, key=lambda one: one.span)
