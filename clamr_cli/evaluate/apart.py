"""The same encoder without contextualisation: each modality encoded as a document of its own, then put side by side.

CLaMR's ablation (arXiv 2506.06144, section 6) is of a model trained so; here the encoder is as it is, and only what
its modalities can see of each other differs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.store import PackedVectors
from clamr_cli.types import DIMENSION, NO_MODALITY, Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clamr_cli.types import Encoder, TokenVectors


def split(document: Document) -> list[Document]:
    """A document for each modality that it has."""
    bare = replace(document, frames=(), speech=(), ocr=(), metadata=(), audio=None)
    parts = (
        replace(bare, frames=document.frames),
        replace(bare, ocr=document.ocr),
        replace(bare, speech=document.speech),
        replace(bare, metadata=document.metadata),
        replace(bare, audio=document.audio),
    )
    return [part for part in parts if part != bare or part.audio is not None]


def encode(encoder: Encoder, documents: Sequence[Document]) -> PackedVectors:
    """The vectors of moments whose modalities did not see each other.

    Vectors of no modality (template tokens) are left out: each part would bring its own.
    """
    parts = [split(document) for document in documents]
    encoded = iter(encoder.encode_documents([part for pieces in parts for part in pieces]))
    found = [[_only_content(next(encoded)) for _ in pieces] for pieces in parts]
    counts = [sum(len(vectors) for vectors, _ in pieces) for pieces in found]
    every = [piece for pieces in found for piece in pieces]
    empty = np.zeros((0, DIMENSION), np.float16)
    return PackedVectors(
        [document.id for document in documents],
        np.cumsum([0, *counts]),
        np.concatenate([empty, *(vectors for vectors, _ in every)]),
        np.concatenate([np.zeros(0, np.uint8), *(ids for _, ids in every)]),
        np.zeros(len(documents), np.bool_),
    )


def _only_content(item: TokenVectors) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    keep = item.modality_ids != NO_MODALITY
    # As the index keeps them, so that both are rounded alike.
    return item.vectors[keep].astype(np.float16), item.modality_ids[keep]
