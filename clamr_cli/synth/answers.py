"""From what a model says to the query in it: models quote, label, number and think aloud though told not to."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from clamr_cli.llm import without_reasoning

LONGEST_RAW: Final = 20_000
"""Characters of an answer that are looked at; a query is short, and what follows so much is no query."""

_SPECIAL: Final = re.compile(
    r"<\|[^<>|]{0,40}\|>|</?s>|<(?:end|start)_of_turn>|</?(?:query|answer|material)>", re.IGNORECASE
)
_FENCE: Final = re.compile(r"^\s*(?:```|~~~)\s*\w*\s*$", re.MULTILINE)
_LABEL: Final = re.compile(
    r"^(?:(?:(?:here(?:'s| is)|this is|sure[,!.]?|okay[,!.]?|certainly[,!.]?)[^:：\n]{0,60}[:：]"
    r"|(?:(?:the|my|one|a|final|best|base|video|search|user|speech|ocr|metadata|synthetic|suggested|possible) )*"
    r"(?:query|queries|question|answer|output|response|result|search)(?: \d{1,2})?\s*[:：])\s*)+",
    re.IGNORECASE,
)
_BULLET: Final = re.compile(r"^(?:(?:[-*+•–—>#]+|\(?\d{1,2}[.)](?!\d))\s+)+")
_PAIRS: Final = (
    ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("‘", "’"),
    ("‚", "‘"), ("「", "」"), ("『", "』"), ("*", "*"), ("_", "_"), ("(", ")"), ("[", "]"), ("{", "}"),
)  # fmt: skip
_UNWANTED: Final = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
_JOINERS: Final = "\u200c\u200d"
"""Invisible, but scripts and emoji need them."""

_SPACES: Final = re.compile(r"\s+")


def clean(answer: str) -> str:
    """The query in an answer: its first line that says something, without thoughts, labels, bullets and quotes.

    Returns one line in Unicode's normal form C without control characters; empty where nothing is left. Cleaning a
    query again changes nothing.
    """
    text = answer
    # What was hidden inside a layer may be a layer itself.
    while (bare := _once(text)) != text:
        text = bare
    return text


def _once(answer: str) -> str:
    text = without_reasoning(answer)[:LONGEST_RAW]
    text = _FENCE.sub("", _SPECIAL.sub("\n", text))
    lines = [line for line in text.splitlines() if _plain(line)]
    # A line that ends in a colon announces the query.
    while len(lines) > 1 and lines[0].rstrip().endswith((":", "：")):
        del lines[0]
    return next((query for line in lines if (query := _unwrapped(line))), "")


def _plain(line: str) -> str:
    """A line in one form, printable, with single spaces."""
    kept = "".join(" " if unicodedata.category(one) in _UNWANTED and one not in _JOINERS else one for one in line)
    return _SPACES.sub(" ", unicodedata.normalize("NFC", kept)).strip()


def _unwrapped(line: str) -> str:
    """A line without what is put around queries, layer after layer."""
    text = _plain(_SPECIAL.sub(" ", line))
    while True:
        before = text
        text = _BULLET.sub("", text)
        text = _LABEL.sub("", text)
        text = text.replace("**", "").strip()
        for start, end in _PAIRS:
            if len(text) >= 2 and text.startswith(start) and text.endswith(end) and _is_pair(text, start, end):
                text = text[1:-1]
        text = _plain(text)
        if text == before:
            return text if any(character.isalnum() for character in text) else ""


def _is_pair(text: str, start: str, end: str) -> bool:
    """Whether the first and the last character belong together: in ``"a" and "b"`` they do not."""
    inside = text[1:-1]
    return start not in inside and end not in inside
