"""Text from files, tags and recognisers is hostile until it went through here."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Control characters (escape sequences among them), lone surrogates, and the marks that reorder or hide what a terminal
# shows; joiners stay, scripts and emoji need them.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]"
)
# Inside of words: where they may be broken, or may not.
_INVISIBLE: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
_SPACES: Final = re.compile(r"\s+")
_URL: Final = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)


def clean(text: str, limit: int = 2_000) -> str:
    """One line of at most ``limit`` characters without control characters, in normal form C, cut at a word's end."""
    # Four times the limit is ample for what spaces and marks take away, and keeps a hostile gigabyte off the regexes.
    line = _UNWANTED.sub(" ", _INVISIBLE.sub("", text[: 4 * limit]))
    line = _SPACES.sub(" ", unicodedata.normalize("NFC", line)).strip()
    if len(line) <= limit:
        return line
    cut = line[:limit]
    return cut.rsplit(" ", 1)[0] if line[limit] != " " and " " in cut else cut.rstrip()


def without_urls(text: str) -> str:
    """The text without its web addresses."""
    return _URL.sub(" ", text)


def fingerprint(text: str) -> str:
    """Letters and digits only, in one case: texts that say the same have the same one."""
    return "".join(character for character in text.casefold() if character.isalnum())


def decode(content: bytes) -> str:
    """Text of a file that does not say its encoding: by mark, UTF-8, UTF-16 by its zero bytes, else cp1252."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    head = content[:4096]
    zeros = head.count(0)
    if zeros > len(head) // 4:
        odd = head[1::2].count(0)
        return content.decode("utf-16-le" if 2 * odd >= zeros else "utf-16-be", errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
