"""Commands as a person can paste them into a shell, with names that no terminal obeys."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from clamr_cli.render.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence


def command_line(words: Sequence[str]) -> str:
    r"""The words of a command, quoted for a shell where that is needed.

    A word with control characters, direction overrides or bytes that are no text is written in the ``$'...'`` form
    that bash, zsh and ksh read, all of its bytes but plain ASCII as escapes.

    >>> print(command_line(["mpv", "--", "it's"]))
    mpv -- 'it'"'"'s'
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if escape_terminal(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, os.fsencode(word))) + "'"


def _escaped(byte: int) -> str:
    char = chr(byte)
    if char in "\\'":
        return f"\\{char}"
    # Three octal digits end by themselves, whatever follows them.
    return char if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
