"""What a file is, from its first bytes: containers that may hold a video, and names that promise one.

The signatures are those of the formats' specifications (ISO 14496-12 ``ftyp``, RFC 8794 EBML, RIFF, ISO 13818-1 sync
bytes, RFC 3533 Ogg, ASF header GUID, SMPTE 377 MXF key and so on).
"""

from __future__ import annotations

import os
from typing import Final

HEAD: Final = 4096
"""How many first bytes :func:`may_hold_video` wants to see."""

_VIDEO = (
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .hevc .h264 .h265 .ivf .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg "
    ".mpg .mxf .ogm .ogv .qt .rm .rmvb .vob .webm .wmv .wtv .y4m"
)
VIDEO_EXTENSIONS: Final = frozenset(_VIDEO.split())
"""Names that promise a video whatever the content. ``.ts`` and ``.mts`` are left out: most such files are programs."""

_AUDIO = ".aac .flac .m4a .m4b .mka .mp2 .mp3 .oga .ogg .opus .ra .wav .wma"
AUDIO_EXTENSIONS: Final = frozenset(_AUDIO.split())
"""Names of sound without picture whose content can look like a video container."""

UNFINISHED_EXTENSIONS: Final = frozenset((".crdownload", ".download", ".part", ".partial", ".tmp"))
"""Downloads that are still going on; found under their final name by a later run."""

_START: Final = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"FLV\x01",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"DKIF",  # IVF
    b"YUV4MPEG2 ",
    b".RMF",  # RealMedia
    b"nut/multimedia container\0",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\x1f\x07\x00",  # DV
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1/2 video
    b"\x00\x00\x00\x01\x67",  # H.264 sequence parameter set
    b"\x00\x00\x00\x01\x27",
    b"\x00\x00\x00\x01\x09",  # H.264 access unit delimiter
    b"\x00\x00\x00\x01\x40\x01",  # H.265 video parameter set
    b"\x12\x00\x0a",  # AV1 temporal delimiter
)
_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"pnot", b"skip", b"free")
_SOUND_BRANDS = b"M4A |M4B |M4P |F4A |F4B "
_IMAGE_BRANDS = b"heic|heix|heim|heis|hevc|mif1|msf1|avif|avis|jp2 |jpx |jpm |crx "
_NO_VIDEO_BRANDS: Final = frozenset((_SOUND_BRANDS + b"|" + _IMAGE_BRANDS).split(b"|"))
_OGG_VIDEO: Final = (b"\x80theora", b"BBCD\0", b"\x01video\0", b"fishead\0")


def extension(name: str) -> str:
    """The lower-case extension with its dot, or an empty string."""
    return os.path.splitext(name)[1].lower()


def may_hold_video(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be a container with a moving picture.

    Animated images, still images in video containers (HEIC, AVIF) and containers that say they hold sound only do not
    count.
    """
    if head.startswith(_START):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] not in _NO_VIDEO_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"AVIX")
    if head[:4] == b"OggS":
        return any(mark in head for mark in _OGG_VIDEO)
    if head[4:8] in _QUICKTIME:
        return int.from_bytes(head[:4], "big") >= 8 or head[:4] == b"\0\0\0\1"
    return _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    for first, length in ((0, 188), (4, 192), (0, 204)):
        marks = head[first::length][:8]
        if len(marks) == 8 and marks == b"G" * 8:
            return True
    return False
