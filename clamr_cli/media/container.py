"""Opening a container safely, reading its packets to an end whatever they hold, and placing them on one time line."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

import av
import av.error
from av.stream import Discard

from clamr_cli.errors import MediaError
from clamr_cli.media.sniff import may_hold_video
from clamr_cli.media.trouble import check_regular_file, media_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
_PATIENCE: Final = 60.0
"""Seconds that opening, or reading one packet, may take; only a dead disk needs longer."""

_MOST_ERRORS: Final = 100
"""Read errors without a good packet in between after which the rest of a file is given up."""

_LONGEST: Final = 400 * 3600.0
_SLOWEST_STATED: Final = 4.0
_SLOWEST: Final = 32.0
"""Bytes a second below which no recording goes, not even one of still slides; less where a header vouches for it."""

_DISK: Final = frozenset(
    (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.EMFILE)
)
_MOST_PACKETS: Final = 20_000
"""Packets in which a keyframe is looked for: minutes of video."""

_READ: Final = 2**23
_MOST_READS: Final = 512
_MOST_BOXES: Final = 100_000


@contextlib.contextmanager
def open_media(path: str) -> Iterator[InputContainer]:
    """Open a media file for reading; it is closed at the end of the ``with`` block.

    Raises:
        MediaError: gone, unreadable, empty, cut off, or no media file.
    """
    if check_regular_file(path).st_size == 0:
        raise MediaError("the file is empty", "copy or download it again")
    # With the protocol spelled out, a name such as "concat:a" or "data:b" is only a name.
    address = "file:" + os.path.abspath(path)
    try:
        container = av.open(
            address, container_options=dict(_OPTIONS), metadata_errors="replace", timeout=(_PATIENCE, _PATIENCE)
        )
    except av.error.FFmpegError as error:
        _raise_if_the_disk_fails(error, path)
        raise MediaError(*_diagnose(path)) from error
    with container:
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
    """Whether a top-level box of an ISO base media file has the wanted type (ISO 14496-12, 4.2)."""
    end = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(_MOST_BOXES):
        if position >= end:
            return False
        file.seek(position)
        header = file.read(16)
        if header[4:8] == wanted:
            return True
        size = int.from_bytes(header[:4], "big")
        size = int.from_bytes(header[8:16], "big") if size == 1 else (size or end)
        position += max(size, 8)
    return False


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
    return min(_LONGEST, 60.0 + max(0, container.size) / slowest)


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

    A packet without a time stamp follows its predecessor at the usual distance. Where the stamps that packets are
    decoded by jump back (recordings that were joined), or times forward past any sensible end, the time line goes on
    without the jump. Times themselves may go back as far as pictures are apart: packets come in the order they are
    decoded in.
    """

    _BACK: Final = 5.0
    _UNSTAMPED: Final = 32
    _FORWARD: Final = 60.0

    def __init__(self, container: InputContainer, stream: Stream, *, step: float) -> None:
        """Args: the container, one of its streams, and the usual seconds from one packet to the next."""
        self._base = float(stream.time_base or 1)
        self._shift = -origin(container)
        self._stated = stated_length(container) or 0.0
        self._end = longest_length(container)
        self._step = step
        self._last: float | None = None
        self._next = 0.0
        self._turn: float | None = None
        self._unstamped = 0

    def place(self, packet: Packet[Stream]) -> float:
        """The packet's presentation time in seconds; its ``pts`` is set so that decoded frames carry it."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = self._next if stamp is None else stamp * self._base + self._shift
        if self._starts_again(packet, time) or self._leaps(time):
            self._shift += self._next - time
            time = self._next
        if self._last is None or time > self._last:
            self._last = time
            self._next = time + min(self.length(packet, time), self._BACK)
        packet.pts = round(time / self._base)
        return time

    def length(self, packet: Packet[Stream], time: float) -> float:
        """How many seconds the packet placed at ``time`` lasts: what it says if that can be, else the usual length."""
        seconds = float(packet.duration or 0) * self._base
        return min(seconds, max(self._FORWARD, self._stated - time)) if seconds > 0 else self._step

    def seconds(self, pts: int) -> float:
        """The time on the time line of a frame that was decoded from a placed packet."""
        return pts * self._base

    def _leaps(self, time: float) -> bool:
        return time > self._end + self._FORWARD and time > self._next + self._FORWARD

    def _starts_again(self, packet: Packet[Stream], time: float) -> bool:
        """Whether another recording begins with this packet."""
        if packet.dts is not None:
            turn, before = packet.dts * self._base, self._turn
            self._turn = turn
            return before is not None and turn < before - self._BACK
        self._unstamped += 1
        # The first packets of a stream may lack what others have; where all do, their times are all there is.
        unknown = self._turn is None and self._unstamped > self._UNSTAMPED
        return unknown and self._last is not None and time < self._last - self._BACK
