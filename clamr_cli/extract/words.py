"""Words out of file names."""

from __future__ import annotations

import re
from typing import Final

_SEPARATORS: Final = re.compile(r"[\s_\-.+~()\[\]{},;]+")
# holidayVideo -> holiday Video; IMG1234 -> IMG 1234, while v27, mp4 and S01E02 stay what people call them.
_CAMEL: Final = re.compile(r"(?<=[^\W\d_]{2})(?=\d{2})|(?<=\d{2})(?=[^\W\d_]{3})|(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")


def split_words(name: str) -> str:
    """The words of a file or folder name, split at separators, capitals and digits: ``my_holidayVideo-2019``."""
    parts = (_CAMEL.sub(" ", part) for part in _SEPARATORS.split(name))
    return " ".join(part for part in parts if part)
