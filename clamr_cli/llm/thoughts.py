"""What models think aloud before they answer, and the marks of their chats that leak into answers."""

from __future__ import annotations

import re
from typing import Final

_OPEN: Final = re.compile(r"<(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_CLOSE: Final = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)


def without_thoughts(answer: str) -> str:
    """What follows the last thought, or where nothing does, what came before the first.

    A chat template may open the thought itself, so that only its end is in the answer.
    """
    closings = list(_CLOSE.finditer(answer))
    after = answer[closings[-1].end() :] if closings else answer
    opening = _OPEN.search(after)
    if opening is not None:
        after = after[: opening.start()]
    if any(map(str.isalnum, after)) or not closings:
        return after
    first = _OPEN.search(answer)
    return without_thoughts(answer[: first.start()]) if first is not None else ""
