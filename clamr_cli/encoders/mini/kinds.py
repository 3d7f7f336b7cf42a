"""The kinds of rows that the joint transformer reads, and which head turns each into a vector."""

from __future__ import annotations

from typing import Final

from clamr_cli.types import Modality

QUERY_WORD: Final = 0
QUERY_SENTENCE: Final = 1
PICTURE: Final = 2
PICTURE_CLASSES: Final = 3
PICTURE_REGION: Final = 4
WORD: Final = {Modality.SPEECH: 5, Modality.OCR: 6, Modality.METADATA: 7}
PASSAGE: Final = {Modality.SPEECH: 8, Modality.OCR: 9, Modality.METADATA: 10}

FIRST_TEXT: Final = 5
"""Kinds from here on are text of a document: the rows that the joint transformer changes."""

HEADS: Final = (
    ("query.word", 0),
    ("query.sentence", 0),
    ("picture", 0),
    ("picture", 1),
    ("picture", 2),
    ("word", 0),
    ("word", 1),
    ("word", 2),
    ("passage", 0),
    ("passage", 1),
    ("passage", 2),
)
"""Of each kind: its head, and its row among that head's gates."""

KINDS: Final = len(HEADS)
