"""What goes into a model that is trained by late interaction, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

if TYPE_CHECKING:
    import torch


class Encoded(NamedTuple):
    """What a model makes of a batch.

    Attributes:
        queries: [Q, T, 128] unit rows.
        query_mask: [Q, T] bool.
        documents: [D, S, 128] unit rows.
        document_mask: [D, S] bool.
        modality_ids: [D, S] integers.
    """

    queries: torch.Tensor
    query_mask: torch.Tensor
    documents: torch.Tensor
    document_mask: torch.Tensor
    modality_ids: torch.Tensor


class Batch(TypedDict):
    """What the collator makes.

    ``inputs`` are keyword arguments of the model's forward. ``targets`` [Q] are places of the positives among the
    documents of this batch; ``query_modalities`` [Q] ids, 0 for none. ``document_keys`` [D] are numbers, the same for
    documents that answer the same queries (the moments of one video); ``answers`` [Q, A] are the keys that answer each
    query, -1 where there are fewer. ``document_ids`` [D] are numbers too, the same only for the same document: one that
    stands in the batches of several processes is a negative once. All int64.
    """

    inputs: Mapping[str, Any]
    targets: torch.Tensor
    query_modalities: torch.Tensor
    document_keys: torch.Tensor
    answers: torch.Tensor
    document_ids: NotRequired[torch.Tensor]
