"""Hostile text made harmless: file names, tags, speech and recognised text before they reach a terminal or a table.

A file name may hold a line break, an escape sequence that rewrites the screen, or a bidirectional override that shows
``exe.mp4`` as ``4pm.exe``; recognised text and container tags are no better. What is escaped here stays readable and
says exactly what was there.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import quote

_CONTROL: Final = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: line breaks, tabs, ESC, CSI
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks, embeddings, overrides and isolates of direction
    "\u180e\u200b\u2060-\u2065\ufeff"  # invisible: two names that look alike must not be taken for one
    "\u2028\u2029\ufff9-\ufffb\ufffe\uffff"  # line and paragraph separators, annotations, non-characters
    "\U000e0000-\U000e007f"  # tag characters, invisible
)
_HARMFUL: Final = re.compile(f"[{_CONTROL}\ud800-\udfff]")
_FIELD: Final = re.compile(f"[\\\\{_CONTROL}\ud800-\udfff]")
_NOT_IN_JSON: Final = re.compile(f"[{_CONTROL}]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_terminal(text: str) -> str:
    r"""One line that no terminal obeys: control characters, direction overrides and broken bytes as escapes.

    Letters of every script, emoji and the joiners they need stay as they are.

    >>> print(escape_terminal("a\x1b[31mb\n\u202egnp.mp4"))
    a\x1b[31mb\n\u202egnp.mp4
    """
    return _HARMFUL.sub(_escape, text)


def escape_field(text: str) -> str:
    """A field of tab-separated output: as :func:`escape_terminal`, and the backslash doubled, so it can be undone."""
    return _FIELD.sub(_escape, text)


def escape_json(text: str) -> bytes:
    r"""UTF-8 of a JSON text whose strings hold nothing a terminal obeys; parsing it gives the same values as before.

    Bytes of file names that are no UTF-8 come as the lone surrogates ``\udc80`` to ``\udcff``, as Python reads them.
    """
    # Backslash-u is JSON's own escape, and these characters can occur inside JSON's strings only.
    return _NOT_IN_JSON.sub(_json_escape, text).encode("utf-8", "backslashreplace")


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x0A:
        return "\n"
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters; what is left out of the middle is an ellipsis."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def file_link(path: str) -> str:
    """A ``file://`` address of a path, every byte that is not plain ASCII percent-encoded."""
    return "file://" + quote(os.fsencode(os.path.abspath(path)))


def size(count: int) -> str:
    """A number of bytes as people write it.

    >>> size(1_520_000)
    '1.5 MB'
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def plural(count: int, noun: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
