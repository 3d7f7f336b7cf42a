"""Files before any decoder opens them: errors in words, stamps, content hashes, and what their bytes tell.

The signatures are those of the formats' specifications (ISO 14496-12 ``ftyp``, RFC 8794 EBML, RIFF, ISO 13818-1 sync
bytes, RFC 3533 Ogg, ASF header GUID, SMPTE 377 MXF key and so on).
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from clamr_cli import locations
from clamr_cli.errors import MediaError, Unreachable

_REASONS: Final = {
    errno.ENOENT: ("the file is gone", "it was moved or deleted; index again"),
    errno.ENOTDIR: ("the file is gone", "it was moved or deleted; index again"),
    errno.EACCES: ("no permission to read the file", "give yourself read permission on it and its folders"),
    errno.EPERM: ("no permission to read the file", "give yourself read permission on it and its folders"),
    errno.EIO: ("the disk reported a read error", "check the disk or the connection to it, then index again"),
    errno.ESTALE: ("the file is no longer reachable", "check the connection to its network share, then index again"),
    errno.ETIMEDOUT: ("reading the file took too long", "check the connection to its disk, then index again"),
    errno.EISDIR: ("this is a folder, not a file", ""),
    errno.ELOOP: ("the link leads in a circle", "remove or repair the link"),
    errno.ENAMETOOLONG: ("the path is too long", "shorten the names of its folders"),
    errno.EMFILE: ("too many files are open", "raise the limit of open files (ulimit -n)"),
}
NO_FILE: Final = ("this is a pipe or a device, not a file", "save the recording to a file first")

WHOLE_UP_TO: Final = 64 * 2**20  # bytes up to which every byte counts for the identity
BLOCK: Final = 2**20
_BLOCKS: Final = 64
HEAD: Final = 4096  # first bytes that may_hold_video wants to see

# Names that promise a video whatever the content. ``.ts`` and ``.mts`` are left out: most such files are programs.
_VIDEO = (
    ".264 .265 .3g2 .3gp .amv .asf .avi .dav .divx .dv .dvr-ms .evo .f4v .flv .gxf .h261 .h263 .h264 .h265 .hevc .insv "
    ".ivf .lrf .lrv .m1v .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mk3d .mkv .mov .mp4 .mpe .mpeg .mpg .mxf .nsv .nuv "
    ".obu .ogm .ogv .qt .rm .rmvb .vob .vro .vvc .webm .wmv .wtv .y4m"
)
# Sound without picture whose content can look like a video container, and downloads that are still going on; a later
# run meets them under their final names.
_AUDIO = ".aac .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .ra .wav .wma"
_UNFINISHED = ".!qb .!ut .bc! .crdownload .download .filepart .opdownload .part .partial .tmp"
VIDEO_EXTENSIONS: Final = frozenset(_VIDEO.split())
NO_VIDEO_EXTENSIONS: Final = frozenset((*_AUDIO.split(), *_UNFINISHED.split()))

_START: Final = (
    # RealMedia, Smacker, Bink, NSV, IVF, and recorders of surveillance cameras
    *b".RMF SMK2 SMK4 BIKb BIKf BIKg BIKh BIKi BIKk KB2 NSVf NSVs DKIF DHAV DAHUA Version:Vivo/".split(),
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV, DVR-MS
    b"FLV\x01",
    b"KDK\x00\x00",  # KUX, an FLV
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"\x00\x00\x00\x00\x01\xbc",  # GXF
    b"YUV4MPEG2 ",
    b"nut/multimedia container\0",
    b"NuppelVideo\0",
    b"MythTVVideo\0",
    b"LEITCH\0\0",  # LXF
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\xf5\x46\x7a\xbd\x00\x00\x00\x02",  # TiVo
    b"\x84\x10\xff\xff\xff\xff",  # RoQ
    b"BBCD\0",  # Dirac
    b"ON2 ",
    b"\x1f\x07\x00",  # DV
    b"\x12\x00\x0a",  # AV1 temporal delimiter
)
_RIFF: Final = (b"AVI ", b"AVIX", b"AVI\x19", b"AMV ", b"CDXA")  # the last: an MPEG program stream of a Video CD
_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free", b"junk", b"udta", b"uuid")
_OGG_VIDEO: Final = (b"\x80theora", b"BBCD\0", b"\x01video\0", b"fishead\0", b"OVP80\1")
# Brands of sound and of still images.
_NO_VIDEO_BRANDS: Final = frozenset(
    b"M4A |M4B |M4P |F4A |F4B |heic|heix|heim|heis|hevc|mif1|msf1|avif|avis|jp2 |jpx |jpm |crx ".split(b"|")
)
_PVA: Final = re.compile(rb"AV[\x01\x02].\x55[\x00-\x1f]", re.DOTALL)
# A start code of a raw stream: H.264 parameters and delimiters, H.265 likewise, MPEG-4, MPEG-1/2, VC-1; or a packet.
_RAW: Final = re.compile(
    rb"\x01(?:[\x07\x27\x47\x67][\x2c\x42\x4d\x53\x56\x58\x64\x6e\x76\x7a\x80\xf4]|[\x09\x29\x49\x69][\x10\x30\x50\x70\x90\xb0\xd0\xf0]\0\0"
    rb"|[\x40\x42\x46]\x01|\xb0[\x01-\xff]|\xb3|\x0f|[\xe0-\xef])"
)
# A pack of an MPEG program stream, MPEG-2 (with its stuffing) or MPEG-1, and the start code that follows.
_PACK: Final = re.compile(
    rb"\0\0\x01\xba(?:[\x44-\x7f].{8}(?:[\xf8]|[\xf9].|[\xfa].{2}|[\xfb].{3}|[\xfc].{4}|[\xfd].{5}|[\xfe].{6}|[\xff].{7})|[\x21-\x2f].{7})\0\0\x01",
    re.DOTALL,
)
_PACKET: Final = re.compile(rb"\0\0\x01[\xbd-\xef](..)", re.DOTALL)
_NEXT_PACKET: Final = re.compile(rb"\0\0\x01[\xba-\xef]")
_CONTROLS: Final = re.compile(rb"[\0-\x08]")
# Packets of 188 bytes, 192 with a time stamp, 204 with error correction. Few marks in a row may be chance.
_TRANSPORT: Final = tuple(
    re.compile(rb"G(?:.{%d}G){8,}+.{0,%d}\Z" % (length - 1, length - 1), re.DOTALL) for length in (188, 192, 204)
)
_JUNK: Final = 2048  # bytes before the first whole packet of a transport stream, at most

_ISO_MEDIA: Final = (b"ftyp", b"mdat", b"wide", b"free", b"skip")
_MOST_BOXES: Final = 100_000
_TAIL: Final = 4096  # bytes at the end of a file that are looked at
_ASF_HEADER: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_UNKNOWN_RIFF: Final = 0x7FFFFFFF - 2**16


def explain(error: OSError) -> tuple[str, str]:
    """The meaning of a system error for the file it met, and what to do about it; names no path."""
    if isinstance(error, locations.RemoteError):
        return error.strerror or "", error.hint
    if isinstance(error, TimeoutError):
        return _REASONS[errno.ETIMEDOUT]
    unknown = (f"the file cannot be read ({error.strerror or type(error).__name__})", "")
    return _REASONS.get(error.errno or 0, unknown)


def media_error(error: OSError) -> MediaError:
    """The :class:`MediaError` to raise from a system error."""
    kind = MediaError if isinstance(error, IsADirectoryError) else Unreachable
    return kind(*explain(error))


def check_regular_file(path: str) -> os.stat_result:
    """The status of a file that can be read to an end.

    Raises:
        MediaError: it is gone, a folder, a pipe or a device.
    """
    try:
        status = locations.stat(path)
    except OSError as error:
        raise media_error(error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(*_REASONS[errno.EISDIR])
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(*NO_FILE)
    return status


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a file in the file system: where its content lies, its size in bytes and its last change."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def stamp(path: str) -> Stamp:
    """The file's stamp now.

    Raises:
        MediaError: it is gone, a folder, a pipe or a device.
    """
    status = check_regular_file(path)
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def replaced(path: str, before: Stamp) -> bool:
    """Whether a path holds something else than when it had that stamp; a recording that has grown is still the same.

    Raises:
        MediaError: see :func:`stamp`.
    """
    now = stamp(path)
    if (now.device, now.inode) != (before.device, before.inode) or now.size < before.size:
        return True
    return now.size == before.size and now.mtime_ns != before.mtime_ns


def content_hash(path: str) -> str:
    """BLAKE2b-256 over a file's size and content, as 64 hexadecimal characters.

    Up to 64 MiB the whole content counts. Of a larger file 64 blocks of 1 MiB count, evenly spread with the first and
    the last among them: enough to tell recordings apart at the cost of 64 MiB of reading, but a change of a few bytes
    between two blocks (that keeps the size) goes unseen.

    Raises:
        MediaError: the file is gone, unreadable, a pipe, or shrinks while it is read.
    """
    check_regular_file(path)
    try:
        with locations.open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=32)
            for start, length in blocks(size):
                file.seek(start)
                while length > 0:
                    piece = file.read(min(length, BLOCK))
                    if not piece:
                        raise MediaError("the file became shorter while it was read", "index again when it is complete")
                    digest.update(piece)
                    length -= len(piece)
    except OSError as error:
        raise media_error(error) from error
    return digest.hexdigest()


def blocks(size: int) -> list[tuple[int, int]]:
    """The starts and lengths of the blocks of a file of some size that count for its identity."""
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    last = size - BLOCK
    return [(last * number // (_BLOCKS - 1), BLOCK) for number in range(_BLOCKS)]


def video_id(content_hash: str) -> str:
    """The short name of a video: the first 12 hexadecimal characters of its content hash."""
    return content_hash[:12]


def extension(name: str) -> str:
    """The lower-case extension with its dot, or an empty string."""
    return os.path.splitext(name)[1].lower()


def may_hold_video(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be a container with a moving picture; animated images are not."""
    if head.startswith(_START) or _PVA.match(head):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] not in _NO_VIDEO_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] in _RIFF
    if head[:4] == b"OggS":
        return any(mark in head for mark in _OGG_VIDEO)
    if head[4:8] in _QUICKTIME:
        return int.from_bytes(head[:4], "big") >= 8 or head[:4] == b"\0\0\0\1"
    zeros = len(head) - len(head.lstrip(b"\0"))
    if zeros >= 2 and _RAW.match(head, zeros):
        return True
    # A program stream has a pack, or a packet that ends where the next one begins: recordings may begin anywhere.
    body = head[max(0, zeros - 3) :]
    ends = (match.end() + int.from_bytes(match[1], "big") for match in _PACKET.finditer(body))
    if _PACK.search(body) or any(_NEXT_PACKET.match(body, end) for end in ends):
        return True
    return _is_transport_stream(head) or _is_transport_stream(body[3:])


def _is_transport_stream(head: bytes) -> bool:
    """Whether there are packets from the beginning, or, of a recording that begins within one, soon after."""
    if not _CONTROLS.search(head):
        return False  # a text
    if any(head[first::length][:8] == b"G" * 8 for first, length in ((0, 188), (4, 192), (0, 204))):
        return True
    matches = (pattern.search(head) for pattern in _TRANSPORT)
    return any(match is not None and match.start() < _JUNK for match in matches)


def lacks_index(file: BinaryIO, head: bytes) -> bool:
    """Whether a file that begins like an MP4 or MOV has no index (moov)."""
    return head[4:8] in _ISO_MEDIA and all(kind != b"moov" for kind, _ in _boxes(file))


def truncation(path: str) -> tuple[int, bool]:
    """Bytes that are missing from the length that the container states, 0 where it states none; and an unfilled end.

    The end is unfilled if the content ends with zeros, as if made at full size and not filled, or inside a tag of FLV.

    Raises:
        MediaError: the file is gone or unreadable.
    """
    try:
        with locations.open_binary(path) as file:
            end, stated = file.seek(0, os.SEEK_END), _stated_end(file)
            missing = max(0, stated - end)
            if stated:
                end = min(stated, end)
                file.seek(max(0, end - _TAIL))
                return missing, not any(file.read(min(end, _TAIL)))
            file.seek(0)
            if file.read(3) != b"FLV":
                return missing, False
            # Each tag is followed by its size (Adobe FLV 10.1, E.3), which the tag itself gives without its header.
            file.seek(max(0, end - 4))
            size = int.from_bytes(file.read(4), "big")
            file.seek(max(0, end - 4 - size))
            return missing, size != int.from_bytes(file.read(4)[1:], "big") + 11
    except OSError as error:
        raise media_error(error) from error


def _stated_end(file: BinaryIO) -> int:
    """The stated end of the content in bytes; 0 where the container states none."""
    file.seek(0)
    head = file.read(64)
    if head[4:8] in (*_ISO_MEDIA, b"moov"):
        return max((end for kind, end in _boxes(file) if kind in (b"mdat", b"moof", b"moov")), default=0)
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return 8 + size if size < _UNKNOWN_RIFF else 0
    if head[:16] == _ASF_HEADER:
        head += file.read(_TAIL)
        # The object of file properties (ASF 1.2, 3.2): its name, its size, the file's name, the file's size.
        place = head.find(_ASF_PROPERTIES)
        return int.from_bytes(head[place + 40 : place + 48], "little") if place > 0 else 0
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return 0
    # A Matroska segment (RFC 8794, 4) follows the header.
    length, data = _ebml_size(head, 4)
    if head[data + length : data + length + 4] != b"\x18\x53\x80\x67":
        return 0
    length, data = _ebml_size(head, data + length + 4)
    return data + length if length else 0


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


def _ebml_size(head: bytes, place: int) -> tuple[int, int]:
    """The size that is written at a place, 0 where it is unknown, and the place after it."""
    first = head[place] if place < len(head) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return 0, place
    value = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), place + width
