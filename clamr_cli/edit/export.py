"""Lists of selections for editing programs, players and people.

Times are whole frames of the source from the first one on, at its nominal rate: what an editing program counts. Frames
of sources that are not evenly spaced are conformed to that rate.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal
from xml.etree import ElementTree

from clamr_cli.edit.selections import Selection
from clamr_cli.errors import MissingExtra, UsageError
from clamr_cli.extract.subtitles import as_srt, as_vtt
from clamr_cli.text import csv_text, escape_terminal, file_link, format_time, shorten
from clamr_cli.timecode import common_rate, drops, frame_at, frames_until, rate_of, start_frame, timecode
from clamr_cli.types import Segment, Span

Times = Literal["auto", "video", "joined"]
"""The time line that subtitles, chapters and markers count on: the video's own or that of all stretches joined."""

_HOUR: Final = 3600
_REEL: Final = 8
"""Characters of a reel name in CMX 3600."""
_NOT_IN_REEL: Final = re.compile(r"[^A-Z0-9]+")
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST_NOTE: Final = 200


@dataclass(frozen=True, slots=True)
class Shot:
    """A selection in whole frames.

    Attributes:
        selection: the video.
        span: seconds of it.
        rate: frames a second of the source.
        first: the first frame, counted from the source's first.
        count: of frames.
        zero: the number that the source's timecode gives to its first frame.
        total: of the source's frames.
        drop: whether that timecode leaves out frame numbers.
        begin: the first frame in the list, at its rate.
        length: of frames in the list.
        reel: the name of the source for lists that have room for eight characters.
    """

    selection: Selection
    span: Span
    rate: Fraction
    first: int
    count: int
    zero: int
    total: int
    drop: bool
    begin: int
    length: int
    reel: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return os.path.basename(self.selection.path)

    @property
    def note(self) -> str:
        """The line that answers, or the title and what is shown, in one line."""
        one = self.selection
        shown = f"{one.label}: {one.shown}" if one.shown else one.label
        return shorten(_one_line(one.text or shown), _LONGEST_NOTE)

    def label(self, frame: int) -> str:
        """The timecode of a frame of the source."""
        return timecode(self.zero + frame, self.rate, drop=self.drop)


@dataclass(frozen=True, slots=True)
class EditList:
    """Shots one after another at one frame rate."""

    title: str
    shots: tuple[Shot, ...]
    rate: Fraction
    drop: bool

    @property
    def length(self) -> int:
        """The number of its frames."""
        return sum(shot.length for shot in self.shots)

    @property
    def zero(self) -> int:
        """The number of its first frame, whose timecode is 01:00:00:00."""
        whole, dropped = round(self.rate), drops(self.rate) if self.drop else 0
        return _HOUR * whole - dropped * 54

    def label(self, frame: int) -> str:
        """The timecode of a frame of the list."""
        return timecode(self.zero + frame, self.rate, drop=self.drop)

    def is_one_video(self) -> bool:
        """Whether all shots are of one file."""
        return len({shot.selection.path for shot in self.shots}) == 1

    def placed(self, times: Times) -> Iterator[tuple[Span, Shot]]:
        """The shots with their seconds, of their one video or of all shots joined."""
        own = times == "video" or (times == "auto" and self.is_one_video())
        if own and not self.is_one_video():
            raise UsageError(
                "the stretches are of several videos, which have no common time", "leave out --times video"
            )
        for shot in sorted(self.shots, key=lambda shot: shot.span) if own else self.shots:
            joined = Span(float(shot.begin / self.rate), float((shot.begin + shot.length) / self.rate))
            yield shot.span if own else joined, shot


def edit_list(
    selections: Sequence[Selection],
    spans: Sequence[Span],
    title: str,
    *,
    rate: Fraction | None = None,
    drop: bool | None = None,
) -> tuple[EditList, list[str]]:
    """The shots of selections, and notes for people about what had to be conformed.

    Args:
        selections: the videos.
        spans: the stretch of each.
        title: of the list.
        rate: frames a second of the list; None for that of most of it.
        drop: whether its timecode leaves out frame numbers; None where sources of its rate have such timecodes.

    Raises:
        UsageError: the rate has no such timecodes.
    """
    seconds: defaultdict[Fraction, float] = defaultdict(float)
    for one, span in zip(selections, spans, strict=True):
        seconds[rate_of(one.media)] += span.duration
    rate = rate or common_rate(seconds)
    if drop and not drops(rate):
        raise UsageError(f"there is no drop-frame timecode at {_shown(rate)} frames a second", "leave out --drop-frame")
    bases = {one.path: one.media.time_base for one in selections if rate_of(one.media) == rate}
    dropping = [path for path, base in bases.items() if base is not None and base.drop_frame]
    is_drop = bool(dropping) if drop is None else drop
    reels, shots, begin = _reels(selections), list[Shot](), 0
    for one, span in zip(selections, spans, strict=True):
        base, own = one.media.time_base, rate_of(one.media)
        offset = base.start if base is not None else 0.0
        total = max(1, frames_until(one.media.duration - offset, own))
        first = min(max(0, frame_at(span.start - offset, own)), total - 1)
        count = max(1, min(frames_until(span.end - offset, own), total) - first)
        length = max(1, round(count / own * rate))
        zero, label_drops = start_frame(base, own), base is not None and base.drop_frame
        shots.append(Shot(one, span, own, first, count, zero, total, label_drops, begin, length, reels[one.path]))
        begin += length
    return EditList(title, tuple(shots), rate, is_drop), list(_notes(shots, rate))


def _notes(shots: Sequence[Shot], rate: Fraction) -> Iterator[str]:
    uneven = {
        shot.name: shot.rate for shot in shots if (b := shot.selection.media.time_base) is not None and b.variable
    }
    for name, own in uneven.items():
        yield f"{name} has a variable frame rate: its times are conformed to {_shown(own)} frames a second"
    if others := sorted({_shown(shot.rate) for shot in shots if shot.rate != rate}):
        yield f"the list has {_shown(rate)} frames a second; sources of {', '.join(others)} are conformed to it"


def _shown(rate: Fraction) -> str:
    return f"{float(rate):.5g}"


def _one_line(text: str) -> str:
    return " ".join(escape_terminal(" ".join(text.split())).split())


def _reels(selections: Sequence[Selection]) -> dict[str, str]:
    """A reel name of at most eight plain characters for each file; no two are the same."""
    reels: dict[str, str] = {}
    for one in selections:
        if one.path in reels:
            continue
        stem = unicodedata.normalize("NFKD", os.path.splitext(os.path.basename(one.path))[0]).upper()
        name = _NOT_IN_REEL.sub("", stem.encode("ascii", "ignore").decode())[:_REEL] or "CLIP"
        number = 1
        while name in reels.values() or name in ("BL", "AX"):
            number += 1
            name = f"{name[: _REEL - len(str(number))]}{number}"
        reels[one.path] = name
    return reels


# --- lists for editing programs ---------------------------------------------------------------------------------------


def as_edl(edits: EditList, _times: Times = "auto") -> bytes:
    """CMX 3600."""
    lines = [f"TITLE: {_ascii(edits.title)}", f"FCM: {'DROP FRAME' if edits.drop else 'NON-DROP FRAME'}", ""]
    for number, shot in enumerate(edits.shots, 1):
        channels = "AA/V" if shot.selection.media.audio else "V"
        source = shot.label(shot.first), shot.label(shot.first + shot.count)
        target = edits.label(shot.begin), edits.label(shot.begin + shot.length)
        lines.append(f"{number:03}  {shot.reel:<8} {channels:<5} C        {' '.join((*source, *target))}")
        lines.append(f"* FROM CLIP NAME: {_ascii(shot.name)}")
        lines.append(f"* COMMENT: {_ascii(shot.note)}")
    return _crlf(lines)


def as_resolve_markers(edits: EditList, times: Times = "auto") -> bytes:
    """Markers of DaVinci Resolve, as its own lists of them: events of one frame with a colour and a name."""
    rate = edits.shots[0].rate if edits.is_one_video() and times != "joined" else edits.rate
    drop = edits.drop and rate == edits.rate
    zero = EditList("", (), rate, drop).zero
    lines = [f"TITLE: {_ascii(edits.title)}", f"FCM: {'DROP FRAME' if drop else 'NON-DROP FRAME'}", ""]
    for number, (span, shot) in enumerate(edits.placed(times), 1):
        frame, count = zero + frame_at(span.start, rate), max(1, frames_until(span.duration, rate))
        stamps = [timecode(one, rate, drop=drop) for one in (frame, frame + 1)]
        lines.append(f"{number:03}  001      V     C        {' '.join((*stamps, *stamps))}")
        note = _ascii(shot.note).replace("|", "/")
        lines += [f" |C:ResolveColorBlue |M:{note} |D:{count}", ""]
    return _crlf(lines)


def as_fcpxml(edits: EditList, _times: Times = "auto") -> bytes:
    """FCPXML 1.10, which Final Cut Pro, DaVinci Resolve and others read."""
    root = ElementTree.Element("fcpxml", version="1.10")
    resources = ElementTree.SubElement(root, "resources")
    first = max(edits.shots, key=lambda shot: (shot.rate == edits.rate, shot.count)).selection.media
    formats: dict[tuple[Fraction, int, int], str] = {}

    def seconds(frames: int, rate: Fraction) -> str:
        value = frames / rate
        return f"{value.numerator}s" if value.denominator == 1 else f"{frames * rate.denominator}/{rate.numerator}s"

    def format_of(rate: Fraction, width: int, height: int) -> str:
        key = (rate, width, height)
        if key not in formats:
            formats[key] = f"f{len(formats) + 1}"
            size = {"width": str(width), "height": str(height)} if width and height else {}
            duration = f"{rate.denominator}/{rate.numerator}s"
            ElementTree.SubElement(resources, "format", {"id": formats[key], "frameDuration": duration, **size})
        return formats[key]

    own_format = format_of(edits.rate, first.width, first.height)
    assets: dict[str, str] = {}
    for shot in edits.shots:
        media, path = shot.selection.media, shot.selection.path
        if path in assets:
            continue
        assets[path] = f"a{len(assets) + 1}"
        sound = (
            {"hasAudio": "1", "audioSources": "1", "audioChannels": "2", "audioRate": "48000"} if media.audio else {}
        )
        form = {"hasVideo": "1", "format": format_of(shot.rate, media.width, media.height)} if media.video_codec else {}
        asset = ElementTree.SubElement(
            resources,
            "asset",
            {
                "id": assets[path],
                "name": _xml(shot.selection.label),
                "start": seconds(shot.zero, shot.rate),
                "duration": seconds(shot.total, shot.rate),
                **form,
                **sound,
            },
        )
        ElementTree.SubElement(asset, "media-rep", kind="original-media", src=file_link(path))
    library = ElementTree.SubElement(root, "library")
    event = ElementTree.SubElement(library, "event", name=_xml(edits.title))
    project = ElementTree.SubElement(event, "project", name=_xml(edits.title))
    sequence = ElementTree.SubElement(
        project, "sequence", format=own_format, duration=seconds(edits.length, edits.rate),
        tcStart=seconds(edits.zero, edits.rate), tcFormat="DF" if edits.drop else "NDF",
    )  # fmt: skip
    spine = ElementTree.SubElement(sequence, "spine")
    for shot in edits.shots:
        start = seconds(shot.zero + shot.first, shot.rate)
        clip = ElementTree.SubElement(
            spine, "asset-clip", ref=assets[shot.selection.path], name=_xml(shot.selection.label),
            offset=seconds(edits.zero + shot.begin, edits.rate), start=start,
            duration=seconds(shot.length, edits.rate), tcFormat="DF" if shot.drop else "NDF",
        )  # fmt: skip
        if shot.selection.text:
            frame = f"{shot.rate.denominator}/{shot.rate.numerator}s"
            ElementTree.SubElement(clip, "marker", start=start, duration=frame, value=_xml(shot.note))
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
    return (head + ElementTree.tostring(root, "unicode") + "\n").encode()


def as_fcp7(edits: EditList, _times: Times = "auto") -> bytes:
    """Final Cut Pro 7 XML (xmeml 4), which Premiere and DaVinci Resolve read."""
    root = ElementTree.Element("xmeml", version="4")
    sequence = ElementTree.SubElement(root, "sequence", id="sequence-1")
    first = max(edits.shots, key=lambda shot: (shot.rate == edits.rate, shot.count)).selection.media

    def add(parent: ElementTree.Element, **texts: object) -> None:
        for name, text in texts.items():
            ElementTree.SubElement(parent, name).text = _xml(str(text))

    def add_rate(parent: ElementTree.Element, rate: Fraction) -> None:
        add(
            ElementTree.SubElement(parent, "rate"),
            timebase=round(rate),
            ntsc="TRUE" if rate.denominator == 1001 else "FALSE",
        )

    def add_timecode(parent: ElementTree.Element, frame: int, rate: Fraction, *, drop: bool) -> None:
        element = ElementTree.SubElement(parent, "timecode")
        add_rate(element, rate)
        label = timecode(frame, rate, drop=drop)
        add(element, string=label, frame=frame, displayformat="DF" if drop else "NDF")

    def add_format(parent: ElementTree.Element, rate: Fraction, width: int, height: int) -> None:
        element = ElementTree.SubElement(parent, "samplecharacteristics")
        add_rate(element, rate)
        add(element, width=width, height=height)

    add(sequence, name=edits.title, duration=edits.length)
    add_rate(sequence, edits.rate)
    add_timecode(sequence, edits.zero, edits.rate, drop=edits.drop)
    media = ElementTree.SubElement(sequence, "media")
    tracks = {kind: ElementTree.SubElement(media, kind) for kind in ("video", "audio")}
    add_format(ElementTree.SubElement(tracks["video"], "format"), edits.rate, first.width, first.height)
    lanes = {kind: ElementTree.SubElement(track, "track") for kind, track in tracks.items()}
    files: dict[str, str] = {}
    counts = dict.fromkeys(lanes, 0)
    for number, shot in enumerate(edits.shots, 1):
        one, facts = shot.selection, shot.selection.media
        kinds = [kind for kind, on in (("video", facts.video_codec), ("audio", facts.audio)) if on]
        for kind in kinds:
            counts[kind] += 1
        for kind in kinds:
            item = ElementTree.SubElement(lanes[kind], "clipitem", id=f"{kind}-{number}")
            add(item, name=one.label, enabled="TRUE", duration=shot.total)
            add_rate(item, shot.rate)
            end = {"start": shot.begin, "end": shot.begin + shot.length}
            add(item, **end, **{"in": shot.first, "out": shot.first + shot.count})
            if one.path in files:
                ElementTree.SubElement(item, "file", id=files[one.path])
            else:
                files[one.path] = f"file-{len(files) + 1}"
                file = ElementTree.SubElement(item, "file", id=files[one.path])
                url = file_link(one.path).replace("file:///", "file://localhost/", 1)
                add(file, name=shot.name, pathurl=url, duration=shot.total)
                add_rate(file, shot.rate)
                add_timecode(file, shot.zero, shot.rate, drop=shot.drop)
                own = ElementTree.SubElement(file, "media")
                if facts.video_codec:
                    add_format(ElementTree.SubElement(own, "video"), shot.rate, facts.width, facts.height)
                if facts.audio:
                    add(ElementTree.SubElement(own, "audio"), channelcount=2)
            if kind == "audio":
                add(ElementTree.SubElement(item, "sourcetrack"), mediatype="audio", trackindex=1)
            for other in kinds if len(kinds) > 1 else ():
                link = ElementTree.SubElement(item, "link")
                add(link, linkclipref=f"{other}-{number}", mediatype=other, trackindex=1, clipindex=counts[other])
            if one.text and kind == kinds[0]:
                marker = ElementTree.SubElement(item, "marker")
                add(marker, name=shot.note, comment="", **{"in": shot.first, "out": -1})
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n'
    return (head + ElementTree.tostring(root, "unicode") + "\n").encode()


def _otio() -> Any:  # noqa: ANN401
    try:
        import opentimelineio
    except ImportError as error:
        raise MissingExtra("this format", "export") from error
    return opentimelineio


def timeline(edits: EditList) -> Any:  # noqa: ANN401
    """The list as a timeline of OpenTimelineIO, a picture track and a sound track.

    Raises:
        MissingExtra: OpenTimelineIO is not installed.
    """
    otio = _otio()

    def time(frames: int, rate: Fraction) -> Any:  # noqa: ANN401
        return otio.opentime.RationalTime(frames, float(rate))

    def clip(shot: Shot) -> Any:  # noqa: ANN401
        one = shot.selection
        available = otio.opentime.TimeRange(time(shot.zero, shot.rate), time(shot.total, shot.rate))
        own = otio.opentime.TimeRange(time(shot.zero + shot.first, shot.rate), time(shot.count, shot.rate))
        about = {"video_id": one.video_id, "rank": one.rank, "text": _xml(one.text)}
        result = otio.schema.Clip(
            name=_xml(one.label),
            media_reference=otio.schema.ExternalReference(file_link(one.path), available),
            source_range=own,
            metadata={"clamr": about, "cmx_3600": {"reel": shot.reel}},
        )
        result.media_reference.name = _xml(shot.name)
        if one.text:
            where = otio.opentime.TimeRange(own.start_time, time(1, shot.rate))
            result.markers.append(otio.schema.Marker(_xml(shot.note), where, "BLUE"))
        return result

    result = otio.schema.Timeline(name=_xml(edits.title), global_start_time=time(edits.zero, edits.rate))
    kinds = [otio.schema.TrackKind.Video] * any(shot.selection.media.video_codec for shot in edits.shots)
    kinds += [otio.schema.TrackKind.Audio] * any(shot.selection.media.audio for shot in edits.shots)
    for kind in kinds:
        track = otio.schema.Track(name=f"{kind[0]}1", kind=kind)
        for shot in edits.shots:
            media = shot.selection.media
            if media.video_codec if kind == otio.schema.TrackKind.Video else media.audio:
                track.append(clip(shot))
            else:
                length = otio.opentime.TimeRange(time(0, shot.rate), time(shot.count, shot.rate))
                track.append(otio.schema.Gap(source_range=length))
        result.tracks.append(track)
    return result


def as_otio(edits: EditList, _times: Times = "auto") -> bytes:
    """OpenTimelineIO, which DaVinci Resolve, Kdenlive, Premiere and others read."""
    text: str = _otio().adapters.write_to_string(timeline(edits), "otio_json")
    return text.encode() + b"\n"


# --- lists for players and people -------------------------------------------------------------------------------------


def as_losslesscut(edits: EditList, _times: Times = "auto") -> bytes:
    """The CSV that LosslessCut reads: start, end and name of each stretch of one video."""
    if not edits.is_one_video():
        raise UsageError("a list of LosslessCut is of one video, and these are several", "name the stretches of one")
    return csv_text(None, ((f"{s.span.start:.6f}", f"{s.span.end:.6f}", s.note) for s in edits.shots))


def as_m3u8(edits: EditList, _times: Times = "auto") -> bytes:
    """A playlist of VLC, which starts and stops at the stretches."""
    lines = ["#EXTM3U"]
    for shot in edits.shots:
        lines.append(f"#EXTINF:{round(shot.span.duration)},{_one_line(shot.selection.label)}: {shot.note}")
        lines.append(f"#EXTVLCOPT:start-time={shot.span.start:.3f}")
        lines.append(f"#EXTVLCOPT:stop-time={shot.span.end:.3f}")
        lines.append(file_link(shot.selection.path))
    return ("\n".join(lines) + "\n").encode()


def as_xspf(edits: EditList, _times: Times = "auto") -> bytes:
    """An XSPF playlist with the start and stop times of VLC."""
    vlc = "http://www.videolan.org/vlc/playlist/0"
    root = ElementTree.Element("playlist", {"version": "1", "xmlns": "http://xspf.org/ns/0/", "xmlns:vlc": vlc})
    ElementTree.SubElement(root, "title").text = _xml(edits.title)
    tracks = ElementTree.SubElement(root, "trackList")
    for shot in edits.shots:
        track = ElementTree.SubElement(tracks, "track")
        for name, text in (
            ("location", file_link(shot.selection.path)),
            ("title", _xml(shot.selection.label)),
            ("annotation", _xml(shot.note)),
            ("duration", str(round(shot.span.duration * 1000))),
        ):
            ElementTree.SubElement(track, name).text = text
        extension = ElementTree.SubElement(track, "extension", application=vlc)
        for option in (f"start-time={shot.span.start:.3f}", f"stop-time={shot.span.end:.3f}"):
            ElementTree.SubElement(extension, "vlc:option").text = option
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode").encode() + b"\n"


def _cues(edits: EditList, times: Times) -> list[Segment]:
    return [Segment(span, shot.note) for span, shot in edits.placed(times)]


def as_subrip(edits: EditList, times: Times = "auto") -> bytes:
    """SubRip subtitles: the line of each hit."""
    return as_srt(_cues(edits, times)).encode()


def as_webvtt(edits: EditList, times: Times = "auto") -> bytes:
    """WebVTT subtitles: the line of each hit."""
    return as_vtt(_cues(edits, times)).encode()


def as_chapters(edits: EditList, times: Times = "auto") -> bytes:
    """Chapters of YouTube, for the description of a video; the first one begins at 0:00."""
    marks = [(int(span.start), shot.note) for span, shot in edits.placed(times)]
    if marks[0][0] > 0:
        marks.insert(0, (0, "Start"))
    return "".join(f"{format_time(start)} {note}\n" for start, note in marks).encode()


def as_shots(edits: EditList, _times: Times = "auto") -> bytes:
    """A shot list as CSV, with timecodes."""
    names = (
        "shot", "title", "file", "reel", "source in", "source out", "record in", "record out", "frames", "rate",
        "start", "end", "rank", "text", "path",
    )  # fmt: skip
    rows = (
        (
            number, shot.selection.title, shot.name, shot.reel, shot.label(shot.first),
            shot.label(shot.first + shot.count), edits.label(shot.begin), edits.label(shot.begin + shot.length),
            shot.count, _shown(shot.rate), f"{shot.span.start:.3f}", f"{shot.span.end:.3f}", shot.selection.rank or "",
            shot.selection.text, shot.selection.path,
        )
        for number, shot in enumerate(edits.shots, 1)
    )  # fmt: skip
    return csv_text(names, rows)


def _xml(text: str) -> str:
    """Text without the characters that XML and JSON in UTF-8 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _ascii(text: str) -> str:
    """Text in one line of plain characters: editing programs read such lists in whatever character set they like."""
    plain = unicodedata.normalize("NFKD", _one_line(text))
    return "".join(char for char in plain if not unicodedata.combining(char)).encode("ascii", "replace").decode()


def _crlf(lines: Sequence[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n").encode()


Writer = Callable[[EditList, Times], bytes]

FORMATS: Final[Mapping[str, tuple[str, Writer]]] = {
    "otio": (".otio", as_otio),
    "edl": (".edl", as_edl),
    "fcp7": (".xml", as_fcp7),
    "fcpxml": (".fcpxml", as_fcpxml),
    "resolve": ("", as_resolve_markers),
    "csv": (".csv", as_shots),
    "losslesscut": ("", as_losslesscut),
    "m3u8": (".m3u8", as_m3u8),
    "xspf": (".xspf", as_xspf),
    "srt": (".srt", as_subrip),
    "vtt": (".vtt", as_webvtt),
    "youtube": (".txt", as_chapters),
}
"""Formats: the file ending that stands for each, and its writer."""


def format_named(name: str) -> str:
    """The format of a name, or of a file by its ending.

    Raises:
        UsageError: there is none.
    """
    if name in FORMATS:
        return name
    ending = os.path.splitext(name)[1].lower()
    found = next((form for form, (suffix, _) in FORMATS.items() if suffix and suffix == ending), "")
    if ending == ".m3u":
        found = "m3u8"
    if not found:
        raise UsageError(f"{name} names no format", f"give one of {', '.join(FORMATS)}, or a file that ends in one")
    return found
