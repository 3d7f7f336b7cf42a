"""Late-interaction scores by modality, and the losses over them (arXiv 2506.06144, section 3.3).

Pure functions of tensors. An absent token or modality scores minus infinity, never zero: a padded zero would beat every
negative similarity. Tokens of id 0 (the template's) count in token-max, and are no modality elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, NotRequired, TypedDict

import torch
from torch.nn import functional

from clamr_cli.train.run import Aggregation, LossName
from clamr_cli.types import MODALITY_IDS, NO_MODALITY

TEMPERATURE: Final = 0.02  # the paper's, fixed
MAX_SIMILARITIES: Final = 1 << 25  # similarities held at once, in numbers: 128 MB in float32


class Encoded(NamedTuple):
    """The token vectors of a batch."""

    queries: torch.Tensor  # [Q, T, 128] unit rows
    query_mask: torch.Tensor  # [Q, T] bool
    documents: torch.Tensor  # [D, S, 128] unit rows
    document_mask: torch.Tensor  # [D, S] bool
    modality_ids: torch.Tensor  # [D, S] integers


class Batch(TypedDict):
    """A batch of training examples. All tensors are int64."""

    inputs: Mapping[str, Any]  # keyword arguments of the model's forward
    targets: torch.Tensor  # [Q], positions of the positives among the documents of this batch
    query_modalities: torch.Tensor  # [Q], ids, 0 for none
    document_keys: torch.Tensor  # [D], equal for documents that answer the same queries (the moments of one video)
    answers: torch.Tensor  # [Q, A], the keys that answer each query, padded with -1
    # [D], equal only for the same document: one in the batches of several processes is a negative once.
    document_ids: NotRequired[torch.Tensor]


class Scores(NamedTuple):
    """Scores of every query against every document, float32; minus infinity where tokens are absent."""

    total: torch.Tensor  # [Q, D], the aggregate
    per_modality: torch.Tensor  # [Q, D, 5], of each modality alone: column i is the modality of id i + 1


def scores(
    queries: torch.Tensor,
    query_mask: torch.Tensor,
    documents: torch.Tensor,
    document_mask: torch.Tensor,
    modality_ids: torch.Tensor,
    *,
    aggregation: Aggregation,
    normalise: bool = True,
) -> Scores:
    """Late interaction between every query and every document.

    "token-max" sums, over query tokens, the largest similarity to any document token (LI_context in the paper);
    "modality-max" is the best modality's sum over that modality's tokens alone (LI_mw). A document that has tokens but
    none of a modality is scored by its tokens. Documents are scored in groups of bounded memory, and the backward pass
    needs only the positions of the maxima, not the similarities.

    Args:
        queries: [Q, T, 128].
        query_mask: [Q, T], true or non-zero for real tokens.
        documents: [D, S, 128].
        document_mask: [D, S], likewise.
        modality_ids: [D, S] integers, :data:`clamr_cli.types.MODALITY_IDS` or 0.
        aggregation: how modalities become one score.
        normalise: divide by the number of the query's tokens.
    """
    query_mask, document_mask = query_mask.bool(), document_mask.bool()
    group = max(1, MAX_SIMILARITIES // max(1, queries.shape[0] * queries.shape[1] * documents.shape[1]))
    sums = []
    for part in zip(*(torch.split(whole, group) for whole in (documents, document_mask, modality_ids)), strict=True):
        best = _best_similarities(queries.float(), *part)
        sums.append(best.masked_fill(~query_mask[:, None, :, None], 0.0).sum(dim=2))
    totals = torch.cat(sums, dim=1)
    if normalise:
        totals = totals / query_mask.sum(dim=1).clamp(min=1)[:, None, None]
    token_max, per_modality = totals[..., 0], totals[..., 1:]
    if aggregation == "token-max":
        return Scores(token_max, per_modality)
    return Scores(modality_max(token_max, per_modality), per_modality)


def modality_max(token_max: torch.Tensor, per_modality: torch.Tensor) -> torch.Tensor:
    """The best modality's score [Q, D]; ``token_max`` [Q, D] for documents without any of the modalities."""
    best = per_modality.max(dim=-1).values
    return torch.where(best.isfinite(), best, token_max)


def _best_similarities(
    queries: torch.Tensor, documents: torch.Tensor, document_mask: torch.Tensor, modality_ids: torch.Tensor
) -> torch.Tensor:
    """The best similarity of each query token [Q, d, T, 1 + 5]: to any token of the document, and by modality."""
    by_id = []
    for modality_id in (NO_MODALITY, *MODALITY_IDS.values()):
        # The tokens of this modality, moved to the front of their document.
        members = document_mask & (modality_ids == modality_id)
        length = int(members.sum(dim=1).max()) if len(members) else 0
        if length:
            order = members.byte().argsort(dim=1, descending=True, stable=True)[:, :length]
            vectors = documents.gather(1, order.unsqueeze(-1).expand(-1, -1, documents.shape[-1]))
            by_id.append(_Maxima.apply(queries, vectors.float(), members.gather(1, order)))
        else:
            by_id.append(queries.new_full((len(queries), len(documents), queries.shape[1]), -torch.inf))
    stacked = torch.stack(by_id, dim=-1)
    return torch.cat([stacked.max(dim=-1, keepdim=True).values, stacked[..., 1:]], dim=-1)


class _Maxima(torch.autograd.Function):
    """Maxima of similarities whose gradient has values only for the maxima.

    The library's own backward would fill an array as large as all similarities, nearly all of it zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 -- the library's
        queries: torch.Tensor,
        documents: torch.Tensor,
        document_mask: torch.Tensor,
    ) -> torch.Tensor:
        """[Q, T, k], [d, n, k] and [d, n] to [Q, d, T]."""
        similarities = torch.einsum("qtk,dsk->qdts", queries, documents)
        best, positions = similarities.masked_fill_(~document_mask[None, :, None, :], -torch.inf).max(dim=-1)
        ctx.save_for_backward(queries, documents, positions, best.isfinite())
        return best

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:  # noqa: ANN401
        """Gradients of queries and documents: products with a sparse matrix that has one number for each maximum."""
        queries, documents, positions, finite = ctx.saved_tensors
        (query_count, tokens, width), (count, length, _) = queries.shape, documents.shape
        rows = positions + torch.arange(count, device=positions.device)[:, None] * length
        columns = torch.arange(query_count * tokens, device=positions.device).view(query_count, 1, tokens)
        maxima = torch.sparse_coo_tensor(
            torch.stack([rows[finite], columns.expand_as(rows)[finite]]),
            gradient[finite],
            (count * length, query_count * tokens),
            check_invariants=False,
        )
        of_documents = torch.sparse.mm(maxima, queries.reshape(-1, width))
        of_queries = torch.sparse.mm(maxima.t(), documents.reshape(-1, width))
        return of_queries.view_as(queries), of_documents.view_as(documents), None


def loss(
    name: LossName,
    scores: Scores,
    targets: torch.Tensor,
    query_modalities: torch.Tensor,
    *,
    temperature: float = TEMPERATURE,
    answers: torch.Tensor | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> torch.Tensor:
    """A loss over scores.

    "contrastive" is InfoNCE over the aggregate scores; with "modality-max" the paper's own objective.

    "hard-positive" scores the positive by the modality the query aims at. Where the positive has none of it, or the
    query aims at none, its aggregate score counts; the published code gives an infinite loss there.

    "hard-negative" has every other pair of document and modality as a further negative. Among them are the positive's
    own other modalities, unless its positive score is the aggregate of all of them. The published code always uses that
    aggregate, so that a winning modality stands on both sides at once.

    "pairwise" is the softplus of the hardest negative minus the positive, both aggregate scores, without temperature.

    Args:
        name: of the loss.
        scores: of Q queries and D documents.
        targets: [Q] int64, each query's positive document. Queries may share one: it is a negative of neither.
        query_modalities: [Q] int64, the modality id a query aims at; 0 where it aims at none.
        temperature: divides the scores.
        answers: [Q, D] bool, documents that answer a query too (another copy or moment of its positive, say) and are
            therefore no negatives of it; the positives may be among them.
        reduction: "mean" gives one number, "none" the loss of each query [Q].
    """
    own = functional.one_hot(targets, scores.total.shape[1]).bool()
    total = scores.total if answers is None else scores.total.masked_fill(answers.bool() & ~own, -torch.inf)
    if name == "pairwise":
        positive = total.gather(1, targets[:, None]).squeeze(1)
        hardest = total.masked_fill(own, -torch.inf).max(dim=1).values
        each = functional.softplus(hardest - positive)
        return each.mean() if reduction == "mean" else each
    logits = total
    if name != "contrastive":
        rows = torch.arange(len(targets), device=targets.device)
        of_modality = scores.per_modality[rows, targets, (query_modalities - 1).clamp(min=0)]
        restricted = (query_modalities > NO_MODALITY) & of_modality.isfinite()
        positive = torch.where(restricted, of_modality, scores.total[rows, targets])
        logits = torch.where(own, positive[:, None], total)
    if name == "hard-negative":
        other = scores.per_modality.masked_fill(~total.isfinite().unsqueeze(-1), -torch.inf)
        ids = torch.arange(1, other.shape[-1] + 1, device=other.device)
        not_negative = ~restricted[:, None] | (ids == query_modalities[:, None])
        other = other.masked_fill(own.unsqueeze(-1) & not_negative[:, None, :], -torch.inf)
        logits = torch.cat([logits, other.flatten(1)], dim=1)
    return functional.cross_entropy(logits / temperature, targets, reduction=reduction)
