"""What a file is, from its first bytes: containers that may hold a video, and names that promise one.

The signatures are those of the formats' specifications (ISO 14496-12 ``ftyp``, RFC 8794 EBML, RIFF, ISO 13818-1 sync
bytes, RFC 3533 Ogg, ASF header GUID, SMPTE 377 MXF key and so on).
"""

from __future__ import annotations

import os
import re
from typing import Final

HEAD: Final = 4096
"""How many first bytes :func:`may_hold_video` wants to see."""

_VIDEO = (
    ".264 .265 .3g2 .3gp .amv .asf .avi .dav .divx .dv .dvr-ms .evo .f4v .flv .gxf .h261 .h263 .h264 .h265 .hevc .insv "
    ".ivf .lrf .lrv .m1v .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mk3d .mkv .mov .mp4 .mpe .mpeg .mpg .mxf .nsv .nuv "
    ".obu .ogm .ogv .qt .rm .rmvb .vob .vro .vvc .webm .wmv .wtv .y4m"
)
VIDEO_EXTENSIONS: Final = frozenset(_VIDEO.split())
"""Names that promise a video whatever the content. ``.ts`` and ``.mts`` are left out: most such files are programs."""

_AUDIO = ".aac .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .ra .wav .wma"
AUDIO_EXTENSIONS: Final = frozenset(_AUDIO.split())
"""Names of sound without picture whose content can look like a video container."""

UNFINISHED_EXTENSIONS: Final = frozenset((
    ".!qb", ".!ut", ".bc!", ".crdownload", ".download", ".filepart", ".opdownload", ".part", ".partial", ".tmp",
))  # fmt: skip
"""Downloads that are still going on; found under their final name by a later run."""

_START: Final = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV, DVR-MS
    b"FLV\x01",
    b"KDK\x00\x00",  # KUX, an FLV
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"\x00\x00\x00\x00\x01\xbc",  # GXF
    b"DKIF",  # IVF
    b"YUV4MPEG2 ",
    b".RMF",  # RealMedia
    b"nut/multimedia container\0",
    b"NuppelVideo\0",
    b"MythTVVideo\0",
    b"NSVf",
    b"NSVs",
    b"DHAV",  # recorders of surveillance cameras
    b"DAHUA",
    b"LEITCH\0\0",  # LXF
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\xf5\x46\x7a\xbd\x00\x00\x00\x02",  # TiVo
    b"\x84\x10\xff\xff\xff\xff",  # RoQ
    b"SMK2",
    b"SMK4",
    b"BIKb",
    b"BIKf",
    b"BIKg",
    b"BIKh",
    b"BIKi",
    b"BIKk",
    b"KB2",
    b"BBCD\0",  # Dirac
    b"ON2 ",
    b"Version:Vivo/",
    b"\x1f\x07\x00",  # DV
    b"\x12\x00\x0a",  # AV1 temporal delimiter
)
_RIFF: Final = (b"AVI ", b"AVIX", b"AVI\x19", b"AMV ", b"CDXA")
"""The last is a file of a Video CD: an MPEG program stream in sectors."""

_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free", b"junk", b"udta", b"uuid")
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
_JUNK: Final = 2048
"""Bytes before the first whole packet of a transport stream, at most."""

# Packets of 188 bytes, 192 with a time stamp, 204 with error correction. Few marks in a row may be chance.
_TRANSPORT: Final = tuple(
    re.compile(rb"G(?:.{%d}G){8,}+.{0,%d}\Z" % (length - 1, length - 1), re.DOTALL) for length in (188, 192, 204)
)
_SOUND_BRANDS = b"M4A |M4B |M4P |F4A |F4B "
_IMAGE_BRANDS = b"heic|heix|heim|heis|hevc|mif1|msf1|avif|avis|jp2 |jpx |jpm |crx "
_NO_VIDEO_BRANDS: Final = frozenset((_SOUND_BRANDS + b"|" + _IMAGE_BRANDS).split(b"|"))
_OGG_VIDEO: Final = (b"\x80theora", b"BBCD\0", b"\x01video\0", b"fishead\0", b"OVP80\1")


def extension(name: str) -> str:
    """The lower-case extension with its dot, or an empty string."""
    return os.path.splitext(name)[1].lower()


def may_hold_video(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be a container with a moving picture.

    Animated images, still images in video containers (HEIC, AVIF) and containers that say they hold sound only do not
    count.
    """
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
    body = head[max(0, zeros - 3) :]
    return _is_program_stream(body) or _is_transport_stream(head) or _is_transport_stream(body[3:])


def _is_program_stream(head: bytes) -> bool:
    """Whether there is a pack, or a packet that ends where the next one begins: recordings may begin anywhere."""
    if _PACK.search(head):
        return True
    ends = (match.end() + int.from_bytes(match[1], "big") for match in _PACKET.finditer(head))
    return any(_NEXT_PACKET.match(head, end) for end in ends)


def _is_transport_stream(head: bytes) -> bool:
    """Whether there are packets from the beginning, or, of a recording that begins within one, soon after."""
    if not _CONTROLS.search(head):
        return False  # a text
    for first, length in ((0, 188), (4, 192), (0, 204)):
        marks = head[first::length][:8]
        if len(marks) == 8 and marks == b"G" * 8:
            return True
    matches = (pattern.search(head) for pattern in _TRANSPORT)
    return any(match is not None and match.start() < _JUNK for match in matches)
