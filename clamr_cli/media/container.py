"""Opens media files safely, reads their packets whatever they hold, places them on one time line; subtitle tracks."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Final

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from clamr_cli import locations
from clamr_cli.errors import MediaError
from clamr_cli.media.files import check_regular_file, lacks_index, may_hold_video, media_error
from clamr_cli.types import MediaInfo, Segment, Span

# A closed list: playlists (HLS, DASH, concat) make FFmpeg open other files and addresses, image sequences and the text
# renderer (tty) take what is no video, and raw formats take anything.
_FORMATS: Final = (
    "3gp,aac,ac3,aiff,amr,amv,ape,asf,asf_o,au,av1,avi,avs,caf,cavsvideo,dhav,dirac,dts,dv,eac3,f4v,flac,flv,gxf,h261,"
    "h263,h264,hevc,iv8,ivf,kux,live_flv,lmlm4,lxf,m4v,matroska,webm,mov,mp4,mp3,mpeg,mpegts,mpegvideo,mjpeg,mxf,nsv,"
    "nut,nuv,obu,ogg,pva,rm,roq,smk,bink,swf,tta,ty,vc1,viv,vivo,vvc,wav,w64,wtv,wv,yuv4mpegpipe,gif"
)
MOST_PIXELS: Final = 2**26  # of a picture, twice those of 8K video: a few bytes can claim any size
_PATIENCE: Final = 60.0  # seconds that opening, or reading one packet, may take; only a dead disk needs longer
_MOST_ERRORS: Final = 100  # read errors without a good packet in between after which the rest is given up
_MOST_PACKETS: Final = 20_000  # in which a keyframe is looked for: minutes of video
_DISK: Final = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.EMFILE)
)
_READ: Final = 2**23
_BUFFER: Final = 2**16  # bytes that FFmpeg asks for at a time of what is read by ranges
_MOST_READS: Final = 512

_LONGEST: Final = 400 * 3600.0
# Seconds that may pass between two packets while the file holds nothing else; more only where nothing else can be.
LONGEST_HOLE: Final = 1200.0
# Bytes a second below which no recording goes, not even one of still slides; less where a header vouches for it.
_SLOWEST: Final = 32.0
_SLOWEST_STATED: Final = 4.0

_CLOCKED: Final = ("mpegts", "mpeg", "flv")  # formats whose stamps are read off a clock that runs while they are sent
_NEAR: Final = 5.0  # seconds between packets up to which nothing is doubted
_FORWARD: Final = 60.0
_TICK: Final = 0.001
_AHEAD: Final = 64  # packets that are looked at ahead of one in doubt; a longer run of such is no damage to a few
_MOST_AHEAD: Final = 64 * 2**20  # bytes of packets held while looking ahead
_REORDERED: Final = 16  # packets that any codec may decode before one that is shown before them
# Seconds from all other pictures, also in lengths of theirs, from which up to _FEW at an end are misplaced.
_APART: Final = 2700.0
_RATIO: Final = 100
_FEW: Final = 3


_LONGEST_TAG: Final = 5_000
_UNWANTED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))

_LONGEST_LINE: Final = 10.0  # seconds that a line stays that does not say when it goes
_NEXT: Final = 0.05
# Commas before the text in FFmpeg's form of an event: ReadOrder, Layer, Style, Name, three margins, Effect.
_ASS_FIELDS: Final = 8
# SubRip and WebVTT tags that were carried over as text into formats that know none.
_MARKUP: Final = re.compile(r"</?(?:[ibus]|font|c|v|lang|ruby|rt)(?:[ .][^<>]*)?>", re.IGNORECASE)


@contextlib.contextmanager
def open_media(path: str, *, edits: bool = True) -> Iterator[InputContainer]:
    """Open a media file for reading; ``edits`` says whether the edit lists of MP4 and MOV files say what is shown.

    Raises:
        MediaError: gone, unreadable, empty, cut off, or no media file.
    """
    if check_regular_file(path).st_size == 0:
        raise MediaError("the file is empty", "copy or download it again")
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    if not edits:
        options["ignore_editlist"] = "1"
    try:
        container = av.open(
            # With the protocol spelled out, a name such as "concat:a" or "data:b" is only a name.
            locations.RemoteFile(path) if locations.is_remote(path) else "file:" + os.path.abspath(path),
            options={"max_pixels": str(MOST_PIXELS)},
            container_options=options,
            metadata_errors="replace",
            timeout=(_PATIENCE, _PATIENCE),
            buffer_size=_BUFFER,
        )
    except locations.RemoteError as error:
        raise media_error(error) from error
    except av.error.FFmpegError as error:
        _raise_if_the_disk_fails(error, path)
        advice = "copy or download it again"
        try:
            with locations.open_binary(path) as file:
                head = file.read(4096)
                if lacks_index(file, head):
                    raise MediaError("the file is cut off: its index (moov) is missing", advice) from error
        except OSError as failure:
            raise media_error(failure) from error
        if may_hold_video(head):
            raise MediaError("the file is damaged: its header cannot be read", advice) from error
        raise MediaError("this is not a media file", "leave it out with --exclude or in a .clamrignore") from error
    with container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        try:
            yield container
        except locations.RemoteError as error:  # of a file that is read by ranges
            raise media_error(error) from error


def _raise_if_the_disk_fails(error: av.error.FFmpegError, path: str) -> None:
    if isinstance(error, av.error.ExitError):  # FFmpeg's timeout
        raise media_error(TimeoutError()) from error
    if not isinstance(error, OSError) or error.errno not in _DISK or locations.is_remote(path):
        return
    # Damaged content, too, makes demuxers report read errors; only reading tells.
    try:
        with open(path, "rb", buffering=0) as file:
            for _ in range(_MOST_READS):
                if not file.read(_READ):
                    break
    except OSError as failure:
        raise media_error(failure) from error


def origin(container: InputContainer) -> float:
    """The time stamp, in seconds, that players show as 0:00; all times of clamr count from it."""
    return float((container.start_time or 0) / av.time_base)


def stated_length(container: InputContainer) -> float | None:
    """The seconds that the header states; None where it states nothing, or more than the file's size can hold."""
    seconds = float((container.duration or 0) / av.time_base)
    return seconds if 0 < seconds <= _longest(container, _SLOWEST_STATED) else None


def _longest(container: InputContainer, slowest: float) -> float:
    return min(_LONGEST, LONGEST_HOLE + max(0, container.size) / slowest)


def read_packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """The packets of some streams in file order, stepping over damage; a growing file up to the size it had at first.

    Raises:
        MediaError: the disk fails.
    """
    for stream in container.streams:
        # Spares the demuxer from reading what nobody wants.
        stream.discard = Discard.default if stream in streams else Discard.all
    size = container.size
    errors = 0
    while errors < _MOST_ERRORS:
        try:
            for packet in container.demux(list(streams)):
                if packet.size:
                    if size > 0 and (packet.pos or 0) > size:
                        return
                    errors = 0
                    yield packet
        except av.error.FFmpegError as error:
            _raise_if_the_disk_fails(error, os.fsdecode(container.name).removeprefix("file:"))
            errors += 1
        except IndexError:
            return  # PyAV, at the end of a damaged file in which streams turned up that its header does not name
        else:
            return


def seek_key(container: InputContainer, stream: Stream, seconds: float) -> None:
    """Go to the keyframe that a time stamp (in seconds, not from 0:00) is decoded from: the last one not after it.

    Containers without an index go to some packet near it, from which nothing can be decoded until the next keyframe;
    then the way back grows until a keyframe is found before the stamp, or the beginning is reached.

    Raises:
        FFmpegError: the file cannot be sought in.
    """
    base = stream.time_base or 1
    for back in (0.0, 5.0, 30.0, 300.0, math.inf):
        start = max(seconds - back, -1.0)
        container.seek(round(start / base), stream=stream, backward=True)
        packets = islice(container.demux(stream), _MOST_PACKETS)
        key = next((packet.pts for packet in packets if packet.is_keyframe and packet.pts is not None), None)
        if start < 0 or (key is not None and key * base <= seconds + 0.001):
            break
    container.seek(round(start / base), stream=stream, backward=True)


class Clock:
    """Places the packets of a stream on the video's time line.

    A packet without a time stamp follows its predecessor at the usual distance, and so does one whose stamp is far from
    those of the packets around it: it is damaged, and they are not. Where all that follows is stamped earlier
    (recordings that were joined, a clock that was set back), or later than any sensible end, the time line goes on
    without the jump. Times themselves may go back as far as pictures are apart: packets come in the order they are
    decoded in.

    ``step`` is the usual number of seconds from one packet to the next. ``whole`` says whether the packets begin with
    the stream's first; the first one that is placed is then doubted too.
    """

    def __init__(self, container: InputContainer, stream: Stream, *, step: float, whole: bool = True) -> None:
        self._base = float(stream.time_base or 1)
        self._shift = -origin(container)
        stated = stated_length(container)
        self._stated = stated or 0.0
        self._end = stated or _longest(container, _SLOWEST)  # stamps far beyond are damage
        self._step = min(step, 1.0)
        self._whole = whole
        streams = sum(other.type in ("video", "audio") for other in container.streams)
        self._may_pause = streams == 1 and container.format.name not in _CLOCKED
        delay = int(getattr(stream.codec_context, "has_b_frames", 0) or 0)
        late = min(_REORDERED, 2 + 2 * delay) if stream.type == "video" else 0
        self._recent: deque[float] = deque(maxlen=late + 1)
        self._next = self._last = 0.0
        self._count = self._read_to = 0
        self._ahead: deque[Packet[Stream]] = deque()
        self._bytes = 0

    def push(self, packet: Packet[Stream]) -> Iterator[tuple[float, Packet[Stream]]]:
        """Take one more packet, and give those that can be placed now."""
        self._ahead.append(packet)
        self._bytes += packet.size
        while len(self._ahead) > _AHEAD or (self._bytes > _MOST_AHEAD and len(self._ahead) > 1):
            yield self._place()

    def rest(self) -> Iterator[tuple[float, Packet[Stream]]]:
        """The packets that are left when there are no more."""
        while self._ahead:
            yield self._place()

    def length(self, packet: Packet[Stream], time: float) -> float:
        """The seconds that the packet placed at ``time`` lasts: as it says if that can be, else the usual length."""
        seconds = float(packet.duration or 0) * self._base
        return min(seconds, max(_FORWARD, self._stated - time)) if seconds > 0 else self._step

    def seconds(self, pts: int) -> float:
        """The time on the time line of a frame that was decoded from a placed packet."""
        return pts * self._base

    def _place(self) -> tuple[float, Packet[Stream]]:
        packet = self._ahead.popleft()
        self._bytes -= packet.size
        time = self._stamp(packet)
        if time is None or self._is_damaged(time):
            # Beside the one before; the line itself stays where it is.
            step = self._usual_distance()
            time = min(self._next, self._last + step) if self._recent else self._next
            self._next = max(self._next, time + step)
        else:
            # Another recording begins here, or the origin was taken from a packet that is damaged.
            again = self._goes_back(time) or (self._whole and not self._recent and time < -_NEAR)
            if again or self._leaps(time, packet):
                self._shift += self._next - time
                self._recent.clear()
                time = self._next
            if not self._recent or time > max(self._recent):
                length = float(packet.duration or 0) * self._base
                plausible = 0 < length < LONGEST_HOLE
                self._next = time + (min(length, _NEAR) if plausible else self._usual_distance())
            self._recent.append(time)
        self._last = time
        self._count += 1
        self._read_to = max(self._read_to, (packet.pos or 0) + packet.size)
        packet.pts = round(time / self._base)
        return time, packet

    def _stamp(self, packet: Packet[Stream]) -> float | None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return None if stamp is None else stamp * self._base + self._shift

    def _usual_distance(self) -> float:
        """From one packet to the next, as those around have it: a header's average is wild where one stamp is."""
        around = self._recent if len(self._recent) > 1 else [stamp for stamp in map(self._stamp, self._ahead) if stamp]
        gaps = [after - before for before, after in pairwise(sorted(around)) if after - before > _TICK]
        return min(*gaps, _NEAR) if gaps else self._step

    def _is_damaged(self, time: float) -> bool:
        """Whether only this packet, and not those that follow, is so far from those before."""
        last = max(self._recent, default=-math.inf)
        if abs(time - last) <= _NEAR:
            return False
        following = [stamp for stamp in map(self._stamp, self._ahead) if stamp is not None]
        if time > last:
            floor = last - _NEAR if self._recent else -math.inf
            return sum(floor <= stamp < time - _NEAR for stamp in following) >= (self._recent.maxlen or 1)
        if not self._goes_back(time):
            return False
        # A recording that starts again goes up to where the one before ended in steps, not in one.
        step = max(_NEAR, (last - time) / 2)
        return any(after - before > step for before, after in pairwise((time, *following)))

    def _goes_back(self, time: float) -> bool:
        """Whether a time is so early that no codec decodes its packet that late."""
        full = len(self._recent) == self._recent.maxlen
        return full and time < min(self._recent) and time < max(self._recent) - _NEAR

    def _leaps(self, time: float, packet: Packet[Stream]) -> bool:
        """Whether a time is beyond any sensible end, or hours pass in which the file holds nothing."""
        gap = time - self._next
        if gap <= _FORWARD or not (self._whole or self._recent):
            return False
        # Unless the packets before were about as far apart, as in a time lapse.
        usual = max((after - before for before, after in pairwise(sorted(self._recent))), default=0.0)
        if time > self._end + _FORWARD and gap >= 4 * usual:
            return True
        if gap <= LONGEST_HOLE:
            return False
        if not self._may_pause:
            position = next((other.pos for other in (packet, *self._ahead) if other.pos), 0)
            return bool(position) and position - self._read_to < gap * _SLOWEST
        # A few pictures at one end are an hour away from all others, which pass in seconds.
        if self._count <= _FEW <= len(self._ahead):
            others = self._stated - time
        elif len(self._ahead) < _FEW < self._count:
            others = self._next
        else:
            return False
        return gap > _APART and 0 <= others < gap / _RATIO


def placed_packets(container: InputContainer, clocks: Mapping[int, Clock]) -> Iterator[tuple[float, Packet[Stream]]]:
    """The packets of the streams of these numbers, with their presentation times in seconds by the streams' clocks.

    Each ``pts`` is set to that time, so that decoded frames carry it.
    """
    for packet in read_packets(container, [container.streams[number] for number in clocks]):
        yield from clocks[packet.stream_index].push(packet)
    for clock in clocks.values():
        yield from clock.rest()


def clean_text(text: str) -> str:
    """One line of at most 5,000 characters, without control characters or marks that turn direction."""
    # Joiners are part of words in many scripts and of emoji.
    characters = (
        c if c in "\u200c\u200d" or unicodedata.category(c) not in _UNWANTED else " " for c in text[: 2 * _LONGEST_TAG]
    )
    return " ".join("".join(characters).split())[:_LONGEST_TAG]


def subtitle_text(packet: Packet[Any]) -> str:
    """The text of a packet of subtitles without styling; empty where it is none, or damaged."""
    # Imported here: most videos have no such track, and need not wait for the import.
    import pysubs2

    texts = []
    with contextlib.suppress(av.error.FFmpegError):  # a damaged line is no reason to lose the others
        for rectangle in packet.stream.codec_context.decode2(packet) or ():
            if hasattr(rectangle, "ass"):
                words = rectangle.ass.decode("utf-8", "replace").split(",", _ASS_FIELDS)[-1]
                event = pysubs2.SSAEvent(text=words)
                texts.append("" if event.is_drawing else _MARKUP.sub("", event.plaintext))
    return clean_text(" ".join(texts))


def read_subtitle_tracks(path: str, info: MediaInfo) -> dict[int, list[Segment]]:
    """The lines of the text subtitle tracks by the tracks' index, in time order, without styling.

    Tracks without a line are left out. Pictures of text (DVD, Blu-ray, DVB) are not read. Lines that repeat the one
    before while it is on screen become one (karaoke effects, layered outlines).

    Raises:
        MediaError: the file is gone or the disk fails.
    """
    tracks = {track.index: track for track in info.subtitles if track.text}
    if not tracks:
        return {}
    lines: dict[int, list[tuple[Span, str]]] = {index: [] for index in tracks}
    with open_media(path) as container:
        streams: list[Any] = [stream for stream in container.streams.subtitles if stream.index in tracks]
        zero = origin(container)
        for packet in read_packets(container, streams):
            text = subtitle_text(packet)
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or not text:
                continue
            base = float(packet.time_base)
            start = stamp * base - zero
            end = start + ((packet.duration or 0) * base or _LONGEST_LINE)
            if info.duration:
                end = min(end, info.duration)
            if end > max(0.0, start):
                lines[packet.stream_index].append((Span(max(0.0, start), end), text))
    segments: dict[int, list[Segment]] = {}
    for index, track_lines in lines.items():
        joined: list[tuple[Span, str]] = []
        for span, text in sorted(track_lines, key=lambda line: line[0]):
            if joined and joined[-1][1] == text and span.start <= joined[-1][0].end + _NEXT:
                joined[-1] = (Span(joined[-1][0].start, max(joined[-1][0].end, span.end)), text)
            else:
                joined.append((span, text))
        if joined:
            segments[index] = [
                Segment(span, text, "embedded-subtitle", tracks[index].language) for span, text in joined
            ]
    return segments
