"""Opening a container safely, reading its packets to an end whatever they hold, and placing them on one time line."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections import deque
from itertools import islice, pairwise
from typing import TYPE_CHECKING, BinaryIO, Final

import av
import av.error
from av.stream import Discard

from clamr_cli.errors import MediaError
from clamr_cli.media.sniff import may_hold_video
from clamr_cli.media.trouble import check_regular_file, media_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

# A closed list: playlists (HLS, DASH, concat) make FFmpeg open other files and addresses, image sequences and the text
# renderer (tty) take what is no video, and raw formats take anything.
_FORMATS: Final = (
    "3gp,aac,ac3,aiff,amr,amv,ape,asf,asf_o,au,av1,avi,avs,caf,cavsvideo,dhav,dirac,dts,dv,eac3,f4v,flac,flv,gxf,h261,"
    "h263,h264,hevc,iv8,ivf,kux,live_flv,lmlm4,lxf,m4v,matroska,webm,mov,mp4,mp3,mpeg,mpegts,mpegvideo,mjpeg,mxf,nsv,"
    "nut,nuv,obu,ogg,pva,rm,roq,smk,bink,swf,tta,ty,vc1,viv,vivo,vvc,wav,w64,wtv,wv,yuv4mpegpipe,gif"
)
_OPTIONS: Final = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
MOST_PIXELS: Final = 2**26
"""Pixels of a picture at most, twice those of 8K video: a few bytes can claim any size."""

_PATIENCE: Final = 60.0
"""Seconds that opening, or reading one packet, may take; only a dead disk needs longer."""

_MOST_ERRORS: Final = 100
"""Read errors without a good packet in between after which the rest of a file is given up."""

_LONGEST: Final = 400 * 3600.0
LONGEST_HOLE: Final = 1200.0
"""Seconds that may pass between two packets while the file holds nothing else; more only where nothing else can be."""

_SLOWEST_STATED: Final = 4.0
_SLOWEST: Final = 32.0
"""Bytes a second below which no recording goes, not even one of still slides; less where a header vouches for it."""

_CLOCKED: Final = ("mpegts", "mpeg", "flv")
"""Formats whose stamps are read off a clock that runs while they are sent."""

_DISK: Final = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.EMFILE)
)
_MOST_PACKETS: Final = 20_000
"""Packets in which a keyframe is looked for: minutes of video."""

_TICK: Final = 0.001
_BLANK_END: Final = 4096
"""Bytes at the end of a file that are looked at."""

_ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_UNKNOWN_RIFF: Final = 0x7FFFFFFF - 2**16
_READ: Final = 2**23
_MOST_READS: Final = 512
_MOST_BOXES: Final = 100_000


@contextlib.contextmanager
def open_media(path: str, *, edits: bool = True) -> Iterator[InputContainer]:
    """Open a media file for reading; it is closed at the end of the ``with`` block.

    Args:
        path: the file.
        edits: whether the edit lists of MP4 and MOV files say what is shown.

    Raises:
        MediaError: gone, unreadable, empty, cut off, or no media file.
    """
    if check_regular_file(path).st_size == 0:
        raise MediaError("the file is empty", "copy or download it again")
    # With the protocol spelled out, a name such as "concat:a" or "data:b" is only a name.
    address = "file:" + os.path.abspath(path)
    options = _OPTIONS if edits else {**_OPTIONS, "ignore_editlist": "1"}
    try:
        container = av.open(
            address,
            options={"max_pixels": str(MOST_PIXELS)},
            container_options=dict(options),
            metadata_errors="replace",
            timeout=(_PATIENCE, _PATIENCE),
        )
    except av.error.FFmpegError as error:
        _raise_if_the_disk_fails(error, path)
        raise MediaError(*_diagnose(path)) from error
    with container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        yield container


def _raise_if_the_disk_fails(error: av.error.FFmpegError, path: str) -> None:
    if isinstance(error, av.error.ExitError):  # what FFmpeg says when its patience is over
        raise media_error(TimeoutError()) from error
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return
    # Damaged content, too, makes demuxers speak of read errors; only reading tells.
    failure = _reading_fails(path)
    if failure is not None:
        raise media_error(failure) from error


def _reading_fails(path: str) -> OSError | None:
    try:
        with open(path, "rb", buffering=0) as file:
            for _ in range(_MOST_READS):
                if not file.read(_READ):
                    break
    except OSError as failure:
        return failure
    return None


def _diagnose(path: str) -> tuple[str, str]:
    """Why a file could not be opened: cut off, or no media at all."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
            if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip") and not _has_box(file, b"moov"):
                return "the file is cut off: its index (moov) is missing", "copy or download it again"
    except OSError as error:
        return media_error(error).what, media_error(error).hint
    if may_hold_video(head):
        return "the file is damaged: its header cannot be read", "copy or download it again"
    return "this is not a media file", "leave it out with --exclude or in a .clamrignore"


def _has_box(file: BinaryIO, wanted: bytes) -> bool:
    return any(kind == wanted for kind, _ in _boxes(file))


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The types and ends of the top-level boxes of an ISO base media file (ISO 14496-12, 4.2)."""
    end = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(_MOST_BOXES):
        if position >= end:
            return
        file.seek(position)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        size = int.from_bytes(header[8:16], "big") if size == 1 else (size or end - position)
        position += max(size, 8)
        yield header[4:8], position


def missing_bytes(path: str) -> int:
    """Bytes that are missing from the length that the container states; 0 where it states none."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            return max(0, _stated_end(file) - end)
    except OSError as error:
        raise media_error(error) from error


def ends_amiss(path: str) -> bool:
    """Whether a file's content ends with zeros, as if made at full size and not filled, or inside a tag of FLV."""
    try:
        with open(path, "rb") as file:
            end, stated = file.seek(0, os.SEEK_END), _stated_end(file)
            if stated:
                end = min(stated, end)
                file.seek(max(0, end - _BLANK_END))
                return not any(file.read(min(end, _BLANK_END)))
            file.seek(0)
            if file.read(3) != b"FLV":
                return False
            # Each tag is followed by its size (Adobe FLV 10.1, E.3), which the tag itself gives without its header.
            file.seek(max(0, end - 4))
            size = int.from_bytes(file.read(4), "big")
            file.seek(max(0, end - 4 - size))
            return size != int.from_bytes(file.read(4)[1:], "big") + 11
    except OSError as error:
        raise media_error(error) from error


def _stated_end(file: BinaryIO) -> int:
    """The stated end of the content in bytes; 0 where the container states none."""
    file.seek(0)
    head = file.read(64)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return max((place for kind, place in _boxes(file) if kind in (b"mdat", b"moof", b"moov")), default=0)
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return 8 + size if size < _UNKNOWN_RIFF else 0
    if head[:16] == _ASF_HEADER:
        head += file.read(_BLANK_END)
        # The object of file properties (ASF 1.2, 3.2): its name, its size, the file's name, the file's size.
        place = head.find(_ASF_PROPERTIES)
        return int.from_bytes(head[place + 40 : place + 48], "little") if place > 0 else 0
    return _segment_end(head) if head[:4] == b"\x1a\x45\xdf\xa3" else 0


def _segment_end(head: bytes) -> int:
    """The stated end of a Matroska segment in bytes (RFC 8794, 4); 0 where there is none."""
    length, data = _ebml_size(head, 4)
    start = data + length
    if head[start : start + 4] != b"\x18\x53\x80\x67":
        return 0
    length, data = _ebml_size(head, start + 4)
    return data + length if length else 0


def _ebml_size(head: bytes, place: int) -> tuple[int, int]:
    """The size that is written at a place, 0 where it is unknown, and the place after it."""
    first = head[place] if place < len(head) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return 0, place
    value = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), place + width


def origin(container: InputContainer) -> float:
    """The time stamp, in seconds, that players show as 0:00; all times of clamr count from it."""
    return float((container.start_time or 0) / av.time_base)


def stated_length(container: InputContainer) -> float | None:
    """The seconds that the header states; None where it states nothing, or more than the file's size can hold."""
    seconds = float((container.duration or 0) / av.time_base)
    return seconds if 0 < seconds <= _possible(container, _SLOWEST_STATED) else None


def longest_length(container: InputContainer) -> float:
    """The stated length, else the seconds that a file of this size can hold at most; stamps far beyond are damage."""
    return stated_length(container) or _possible(container, _SLOWEST)


def _possible(container: InputContainer, slowest: float) -> float:
    return min(_LONGEST, LONGEST_HOLE + max(0, container.size) / slowest)


def read_packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """The packets of some streams in file order, stepping over what is damaged.

    A file that grows while it is read is read up to the size it had at first.

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
        place = max(seconds - back, -1.0)
        container.seek(round(place / base), stream=stream, backward=True)
        packets = islice(container.demux(stream), _MOST_PACKETS)
        found = next((one.pts for one in packets if one.is_keyframe and one.pts is not None), None)
        if place < 0 or (found is not None and found * base <= seconds + 0.001):
            break
    container.seek(round(place / base), stream=stream, backward=True)


class Clock:
    """Places the packets of a stream on the video's time line.

    A packet without a time stamp follows its predecessor at the usual distance, and so does one whose stamp is far from
    those of the packets around it: it is damaged, and they are not. Where all that follows is stamped earlier
    (recordings that were joined, a clock that was set back), or later than any sensible end, the time line goes on
    without the jump. Times themselves may go back as far as pictures are apart: packets come in the order they are
    decoded in.
    """

    _NEAR: Final = 5.0
    """Seconds between packets up to which nothing is doubted."""

    _FORWARD: Final = 60.0
    _AHEAD: Final = 64
    """Packets that are looked at ahead of one in doubt; a longer run of such is no damage to a few."""

    _MOST_AHEAD: Final = 64 * 2**20
    """Bytes of packets held while looking ahead."""

    _REORDERED: Final = 16
    """Packets that any codec may decode before one that is shown before them."""

    _APART: Final = 2700.0
    _RATIO: Final = 100
    """Seconds from all other pictures, also in lengths of theirs, from which up to ``_FEW`` at an end are misplaced."""

    _FEW: Final = 3

    def __init__(self, container: InputContainer, stream: Stream, *, step: float, whole: bool = True) -> None:
        """Begin a time line.

        Args:
            container: the container.
            stream: one of its streams.
            step: the usual seconds from one packet to the next.
            whole: whether the packets begin with the stream's first; the first one that is placed is then doubted too.
        """
        self._base = float(stream.time_base or 1)
        self._shift = -origin(container)
        self._stated = stated_length(container) or 0.0
        self._end = longest_length(container)
        self._step = min(step, 1.0)
        self._whole = whole
        streams = sum(one.type in ("video", "audio") for one in container.streams)
        self._may_pause = streams == 1 and container.format.name not in _CLOCKED
        delay = int(getattr(stream.codec_context, "has_b_frames", 0) or 0)
        late = min(self._REORDERED, 2 + 2 * delay) if stream.type == "video" else 0
        self._recent: deque[float] = deque(maxlen=late + 1)
        self._next = self._last = 0.0
        self._count = self._read_to = 0
        self._ahead: deque[Packet[Stream]] = deque()
        self._bytes = 0

    def placed(self, packets: Iterable[Packet[Stream]]) -> Iterator[tuple[float, Packet[Stream]]]:
        """The packets in their order with their presentation times in seconds.

        Each ``pts`` is set to that time, so that decoded frames carry it.
        """
        for packet in packets:
            yield from self.push(packet)
        yield from self.rest()

    def push(self, packet: Packet[Stream]) -> Iterator[tuple[float, Packet[Stream]]]:
        """Take one more packet, and give those that can be placed now."""
        self._ahead.append(packet)
        self._bytes += packet.size
        while len(self._ahead) > self._AHEAD or (self._bytes > self._MOST_AHEAD and len(self._ahead) > 1):
            yield self._place()

    def rest(self) -> Iterator[tuple[float, Packet[Stream]]]:
        """The packets that are left when there are no more."""
        while self._ahead:
            yield self._place()

    def length(self, packet: Packet[Stream], time: float) -> float:
        """How many seconds the packet placed at ``time`` lasts: what it says if that can be, else the usual length."""
        seconds = float(packet.duration or 0) * self._base
        return min(seconds, max(self._FORWARD, self._stated - time)) if seconds > 0 else self._step

    def seconds(self, pts: int) -> float:
        """The time on the time line of a frame that was decoded from a placed packet."""
        return pts * self._base

    def _place(self) -> tuple[float, Packet[Stream]]:
        packet = self._ahead.popleft()
        self._bytes -= packet.size
        time = self._stamp(packet)
        if time is not None and self._is_damaged(time):
            time = None
        if time is None:
            # Beside the one before; the line itself stays where it is.
            step = self._usual_distance()
            time = min(self._next, self._last + step) if self._recent else self._next
            self._next = max(self._next, time + step)
        else:
            if self._starts_again(time) or self._leaps(time, packet):
                self._shift += self._next - time
                self._recent.clear()
                time = self._next
            if not self._recent or time > max(self._recent):
                length = float(packet.duration or 0) * self._base
                plausible = 0 < length < LONGEST_HOLE
                self._next = time + (min(length, self._NEAR) if plausible else self._usual_distance())
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
        return min(*gaps, self._NEAR) if gaps else self._step

    def _is_damaged(self, time: float) -> bool:
        """Whether only this packet, and not those that follow, is so far from those before."""
        last = max(self._recent, default=-math.inf)
        if abs(time - last) <= self._NEAR:
            return False
        following = [stamp for stamp in map(self._stamp, self._ahead) if stamp is not None]
        if time > last:
            floor = last - self._NEAR if self._recent else -math.inf
            return sum(floor <= stamp < time - self._NEAR for stamp in following) >= (self._recent.maxlen or 1)
        if not self._goes_back(time):
            return False
        # A recording that starts again goes up to where the one before ended in steps, not in one.
        step = max(self._NEAR, (last - time) / 2)
        return any(after - before > step for before, after in pairwise((time, *following)))

    def _goes_back(self, time: float) -> bool:
        """Whether a time is so early that no codec decodes its packet that late."""
        full = len(self._recent) == self._recent.maxlen
        return full and time < min(self._recent) and time < max(self._recent) - self._NEAR

    def _starts_again(self, time: float) -> bool:
        """Whether another recording begins here, or the origin was taken from a packet that is damaged."""
        return self._goes_back(time) or (self._whole and not self._recent and time < -self._NEAR)

    def _leaps(self, time: float, packet: Packet[Stream]) -> bool:
        """Whether a time is beyond any sensible end, or hours pass in which the file holds nothing."""
        if not (self._whole or self._recent):
            return False
        gap = time - self._next
        if gap > self._FORWARD and time > self._end + self._FORWARD and not self._is_slow(gap):
            return True
        if gap <= LONGEST_HOLE:
            return False
        if self._may_pause:
            return self._stands_apart(time, gap)
        position = next((one.pos for one in (packet, *self._ahead) if one.pos), 0)
        return bool(position) and position - self._read_to < gap * _SLOWEST

    def _is_slow(self, gap: float) -> bool:
        """Whether the packets before were about as far apart, as in a time lapse."""
        return gap < 4 * max((after - before for before, after in pairwise(sorted(self._recent))), default=0.0)

    def _stands_apart(self, time: float, gap: float) -> bool:
        """Whether a few pictures at one end are an hour away from all others, which pass in seconds."""
        if self._count <= self._FEW <= len(self._ahead):
            others = self._stated - time
        elif len(self._ahead) < self._FEW < self._count:
            others = self._next
        else:
            return False
        return gap > self._APART and 0 <= others < gap / self._RATIO
