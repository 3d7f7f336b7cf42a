"""The small copies that cameras make of their videos, told by their names."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from clamr_cli.media.sniff import VIDEO_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_COPY_EXTENSIONS: Final = frozenset((".lrv", ".lrf", ".glv", ".thm"))
_MASTER_EXTENSIONS: Final = frozenset((*VIDEO_EXTENSIONS - _COPY_EXTENSIONS, ".360", ".mts"))

# Stem of a small copy -> stems that its video may have.
_STEMS: Final = tuple(
    (re.compile(pattern), masters)
    for pattern, masters in (
        (r"gl(\d{6})", (r"gx\1", r"gh\1", r"gs\1")),  # GoPro
        (r"(pro_)?lrv_(\d{8}_\d{6})_\d\d_(\d{3})", (r"\1vid_\2_00_\3", r"\1vid_\2_10_\3")),  # Insta360
        (r"([a-z]\d{3}c\d{3}(?:_\w+)?)_p", (r"\1",)),  # Canon
        (r"(\d{6}_\d{6}_\d{3}_[fr])l", (r"\1h",)),  # Nextbase
        (r"(\d{14}_\d{4}(?:_[a-z]+)?)_s", (r"\1",)),  # DDPai
        (r"(ydxj\d+)_sec", (r"\1",)),  # Yi
        (r"(.+)[_-](?:proxy|thm)", (r"\1",)),
    )
)
_SONY_COPY: Final = re.compile(r"(.+)s\d\d")

# Folder of small copies -> where their videos lie, beside it or above.
_FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "proxy": ("", "video"),
    "proxies": ("",),
    "lrv": ("",),
    "lrf": ("",),
    "proxy media": ("../original media",),
    "sub": ("clip",),
}


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
    is_copy = ending in _COPY_EXTENSIONS
    stems = [match.expand(one) for pattern, ones in _STEMS if (match := pattern.fullmatch(stem)) for one in ones]
    if (stems or is_copy) and (master := _master(folder, siblings, [stem, *stems] if is_copy else stems)):
        return master
    inside = os.path.basename(folder).lower()
    above = os.path.dirname(folder)
    if inside == "sub":
        stems = [match[1]] if (match := _SONY_COPY.fullmatch(stem)) else []
    else:
        stems.append(stem)
    for place in _FOLDERS.get(inside, ()):
        if (other := _below(above, place)) and (master := _master(other, _names(other), stems)):
            return master
    return ""


def _below(folder: str, place: str) -> str:
    """A folder by its name in any case; empty where there is none."""
    for part in place.split("/") if place else ():
        if part == "..":
            folder = os.path.dirname(folder)
        else:
            name = next((one for one in _names(folder) if one.lower() == part), "")
            if not name:
                return ""
            folder = os.path.join(folder, name)
    return folder


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
