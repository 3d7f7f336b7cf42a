"""The narrations that the package carries: spoken by a machine, small, and known word by word.

How they were made and under which terms they may be passed on is told in ``assets/README.md``;
``python -m tests.bench.narration`` makes them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ASSETS: Final = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Narration:
    """A spoken text: its file in the package, the flite voice that reads it, what is said, its length in seconds."""

    name: str
    voice: str
    text: str
    duration: float

    @property
    def path(self) -> Path:
        """An Ogg Opus file, mono."""
        return ASSETS / f"{self.name}.opus"


_ALL: Final = (
    Narration(
        "bread",
        "rms",
        "Fold the dough over itself four times, cover the bowl with a towel, and leave it to rise in a warm kitchen "
        "for two hours before baking the loaf.",
        10.85,
    ),
    Narration(
        "volcano",
        "slt",
        "The volcano woke up at dawn. Ash fell on the village, and by noon every family had walked down to the harbor, "
        "where fishing boats were waiting.",
        9.53,
    ),
    Narration(
        "bicycle",
        "awb",
        "To change a flat tire, turn the bicycle upside down, open the brake, and pull out the inner tube. Look for "
        "broken glass before you pump it up again.",
        10.15,
    ),
    Narration(
        "bees",
        "slt",
        "Honeybees tell each other where the flowers are by dancing. The angle of the dance shows the direction, and "
        "its length gives the distance.",
        8.24,
    ),
    Narration(
        "bridge",
        "rms",
        "Good evening. The city council voted on Tuesday to close the old bridge to cars. Pedestrians and buses may "
        "cross it from the first of March.",
        10.36,
    ),
)

NARRATIONS: Final = {narration.name: narration for narration in _ALL}
