"""The small copies that cameras make of their videos, told by their names."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from clamr_cli.media.sniff import VIDEO_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Collection

_COPY_EXTENSIONS: Final = frozenset((".lrv", ".lrf", ".glv", ".thm"))
_MASTER_EXTENSIONS: Final = frozenset((*VIDEO_EXTENSIONS - _COPY_EXTENSIONS, ".360", ".mts"))
_PROXY_FOLDERS: Final = frozenset(("proxy", "proxies"))
_PROXY: Final = re.compile(r"(.+)[_-](?:proxy|thm)")
_SONY_COPY: Final = re.compile(r"(.+)s\d\d")
_INSTA360_COPY: Final = re.compile(r"lrv_(\d{8}_\d{6})_\d\d_(\d{3})")


def copied_from(path: str, siblings: Collection[str]) -> str:
    """The video that a file is a camera's small copy of, as far as names tell; empty for a video of its own.

    Of ``GX010777.MP4`` and ``GL010777.LRV`` the second is the copy, and so are ``DJI_0007.LRF``,
    ``LRV_20231225_183000_01_001.insv``, ``SUB/C0001S03.MP4`` beside ``CLIP``, and what lies in a folder ``Proxy`` of
    the video's.

    Args:
        path: of the file.
        siblings: the names in its folder.
    """
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name.lower())
    inside = os.path.basename(folder).lower()
    if match := _INSTA360_COPY.fullmatch(stem):
        return _master(folder, siblings, [f"vid_{match[1]}_{lens}_{match[2]}" for lens in ("00", "10")])
    if ending in _COPY_EXTENSIONS:
        stems = [stem, *(first + stem[2:] for first in ("gx", "gh", "gs") if stem.startswith("gl"))]
        return _master(folder, siblings, stems)
    if ending not in _MASTER_EXTENSIONS:
        return ""
    match = _PROXY.fullmatch(stem)
    if match and (master := _master(folder, siblings, [match[1]])):
        return master
    if inside in _PROXY_FOLDERS:
        above = os.path.dirname(folder)
        return _master(above, _names(above), [stem, match[1] if match else stem])
    if inside == "sub" and (match := _SONY_COPY.fullmatch(stem)):
        above = os.path.dirname(folder)
        clips = next((os.path.join(above, one) for one in _names(above) if one.lower() == "clip"), "")
        return _master(clips, _names(clips), [match[1]]) if clips else ""
    return ""


def _master(folder: str, names: Collection[str], stems: Collection[str]) -> str:
    for name in names:
        stem, ending = os.path.splitext(name.lower())
        if stem in stems and ending in _MASTER_EXTENSIONS:
            return os.path.join(folder, name)
    return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
