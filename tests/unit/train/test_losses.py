"""Scores and losses: against values of the published code where it is right, and where we differ, why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from clamr_cli.train import losses
from clamr_cli.train.losses import Scores, scores

PUBLISHED = {
    "contrastive": "contrastive",
    "hard-positive": "contrastive_hard_positive",
    "hard-negative": "contrastive_hard_negative",
    "pairwise": "pairwise",
}
AGGREGATIONS = {"token-max": "token_max", "modality-max": "modality_max"}
DIAGONAL = torch.arange(4)
SAME = [
    *((name, loss) for name in ("full", "missing", "missing_positive") for loss in ("contrastive", "pairwise")),
    # The published value of "missing_positive" is infinite; see the test of the missing modality.
    *((name, "hard-positive") for name in ("full", "missing")),
]


class Batch:
    """One set of the reference values: four queries, document ``i`` answers query ``i``."""

    def __init__(self, oracle: np.lib.npyio.NpzFile, name: str) -> None:
        self.oracle, self.name = oracle, name
        self.queries = torch.tensor(oracle[f"{name}_query"], requires_grad=True)
        self.documents = torch.tensor(oracle[f"{name}_doc"], requires_grad=True)
        self.query_mask = torch.tensor(oracle[f"{name}_query_mask"]).bool()
        # The published code has no mask for documents: what it pads with are zero rows.
        self.document_mask = torch.tensor(oracle[f"{name}_doc"]).norm(dim=-1) > 0
        self.modality_ids = torch.tensor(oracle[f"{name}_modality_ids"])
        self.query_modalities = torch.tensor(oracle[f"{name}_query_types"])

    def scores(self, aggregation: str) -> Scores:
        return scores(
            self.queries,
            self.query_mask,
            self.documents,
            self.document_mask,
            self.modality_ids,
            aggregation=aggregation,
        )

    def expected(self, loss: str, aggregation: str, what: str) -> torch.Tensor:
        return torch.tensor(self.oracle[f"{self.name}_{PUBLISHED[loss]}_{AGGREGATIONS[aggregation]}_{what}"])

    def agrees(self, found: torch.Tensor, loss: str, aggregation: str) -> None:
        torch.testing.assert_close(found.detach(), self.expected(loss, aggregation, "loss"), rtol=1e-5, atol=0)
        found.backward()
        pairs = (
            (self.queries.grad[self.query_mask], self.expected(loss, aggregation, "grad_query")[self.query_mask]),
            (self.documents.grad[self.document_mask], self.expected(loss, aggregation, "grad_doc")[self.document_mask]),
        )
        for got, wanted in pairs:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def oracle(shared: Path) -> np.lib.npyio.NpzFile:
    return np.load(shared / "oracle" / "losses.npz")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(("name", "loss"), SAME)
def test_losses_and_gradients_are_the_published_ones(oracle, name, loss, aggregation):
    batch = Batch(oracle, name)
    found = losses.loss(loss, batch.scores(aggregation), DIAGONAL, batch.query_modalities)
    batch.agrees(found, loss, aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", ["full", "missing"])
def test_hard_negative_differs_from_the_published_one_by_its_positive_alone(oracle, name, aggregation):
    # "hard_negative_uses_uncorrected_positive": with the corrected positive taken out again, it is the published loss.
    batch = Batch(oracle, name)
    found = batch.scores(aggregation)
    own = found.per_modality[DIAGONAL, DIAGONAL]
    labelled = batch.query_modalities - 1
    others = found.per_modality.clone()
    others[DIAGONAL, DIAGONAL, labelled] = -torch.inf
    published = functional.cross_entropy(torch.cat([found.total, others.flatten(1)], 1) / losses.TEMPERATURE, DIAGONAL)
    corrected = losses.loss("hard-negative", found, DIAGONAL, batch.query_modalities)
    positive = own[DIAGONAL, labelled]
    logits = torch.cat([torch.where(torch.eye(4).bool(), positive[:, None], found.total), others.flatten(1)], 1)
    torch.testing.assert_close(corrected, functional.cross_entropy(logits / losses.TEMPERATURE, DIAGONAL))
    assert corrected > published + 0.1
    batch.agrees(published, "hard-negative", aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("loss", ["hard-positive", "hard-negative"])
def test_missing_modality_falls_back_to_the_aggregate(oracle, loss, aggregation):
    # "missing_modality_is_minus_inf": query 0 aims at a modality that its document has not.
    batch = Batch(oracle, "missing_positive")
    found = batch.scores(aggregation)
    each = losses.loss(loss, found, DIAGONAL, batch.query_modalities, reduction="none")
    unlabelled = batch.query_modalities.clone()
    unlabelled[0] = 0
    torch.testing.assert_close(each, losses.loss(loss, found, DIAGONAL, unlabelled, reduction="none"))
    each.mean().backward()
    assert each.isfinite().all()
    assert batch.queries.grad.isfinite().all()
    assert batch.documents.grad.isfinite().all()
    assert batch.queries.grad[0].abs().sum() > 0


def test_scores_are_the_published_ones_where_no_zero_row_wins(shared):
    oracle = np.load(shared / "oracle" / "scores.npz")
    arrays = {name: torch.tensor(oracle[f"syn_{name}"]) for name in ("query", "query_mask", "doc", "modality_ids")}
    real = arrays["doc"].norm(dim=-1) > 0
    inputs = (arrays["query"], arrays["query_mask"], arrays["doc"], real, arrays["modality_ids"])
    for ours, theirs in AGGREGATIONS.items():
        found = scores(*inputs, aggregation=ours)
        torch.testing.assert_close(found.total, torch.tensor(oracle[f"syn_{theirs}_normalized"]), rtol=0, atol=1e-5)


def test_id_zero_and_padding_win_nothing(shared):
    # "id0_counts_as_modality", "token_max_clamped_by_padding": all real similarities are negative here.
    oracle = np.load(shared / "oracle" / "scores.npz")
    names = ("query", "query_mask", "doc", "modality_ids")
    query, query_mask, document, modality_ids = (torch.tensor(oracle[f"neg_{name}"]) for name in names)
    inputs = (query, torch.ones_like(query_mask), document, document.norm(dim=-1) > 0, modality_ids)
    best = scores(*inputs, aggregation="modality-max", normalise=False)
    wanted = torch.tensor(oracle["neg_modality_max_sum_without_id0"])
    torch.testing.assert_close(best.total, wanted, rtol=0, atol=1e-4)
    assert (scores(*inputs, aggregation="token-max").total < 0).all()
    assert not oracle["neg_modality_max_sum"].any()


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, 128, generator=generator), dim=-1)


def random_batch(seed: int = 0) -> tuple[torch.Tensor, ...]:
    queries, documents = vectors(3, 6, seed=seed), vectors(5, 20, seed=seed + 1)
    ids = torch.randint(0, 6, (5, 20), generator=torch.Generator().manual_seed(seed))
    query_mask, document_mask = torch.ones(3, 6, dtype=torch.bool), torch.ones(5, 20, dtype=torch.bool)
    query_mask[1, :3] = False
    document_mask[2, 9:] = False
    return queries, query_mask, documents, document_mask, ids


def one_by_one(queries, query_mask, documents, document_mask, ids, aggregation):
    """The definition, written as the sentence that it is."""
    total = torch.empty(len(queries), len(documents))
    for row, query in enumerate(queries):
        for column, document in enumerate(documents):
            similarities = query[query_mask[row]] @ document.T
            kept = [document_mask[column]] if aggregation == "token-max" else []
            kept += [] if kept else [document_mask[column] & (ids[column] == number) for number in range(1, 6)]
            total[row, column] = max(similarities[:, some].max(1).values.mean() for some in kept if some.any())
    return total


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("budget", [1, 500, 1 << 25])
def test_scores_do_not_depend_on_how_documents_are_grouped(monkeypatch, aggregation, budget):
    monkeypatch.setattr(losses, "MAX_SIMILARITIES", budget)
    batch = random_batch()
    torch.testing.assert_close(scores(*batch, aggregation=aggregation).total, one_by_one(*batch, aggregation))


def test_absent_modalities_score_minus_infinity_and_give_no_gradient_that_is_none():
    queries, query_mask, documents, document_mask, ids = random_batch()
    documents.requires_grad_()
    ids[0] = 0
    found = scores(queries, query_mask, documents, document_mask, ids, aggregation="modality-max")
    assert found.per_modality[:, 0].isneginf().all()
    # A document with nothing but template tokens is scored by those.
    assert found.total.isfinite().all()
    found.total.sum().backward()
    assert documents.grad.isfinite().all()


@pytest.mark.parametrize("loss", PUBLISHED)
def test_queries_of_one_document_are_no_negatives_of_each_other(loss):
    generator = torch.Generator().manual_seed(1)
    total, per_modality = torch.rand(3, 2, generator=generator), torch.rand(3, 2, 5, generator=generator)
    labels = torch.tensor([1, 2, 0])
    both = losses.loss(loss, Scores(total, per_modality), torch.tensor([0, 0, 1]), labels, reduction="none")
    alone = losses.loss(loss, Scores(total[:1], per_modality[:1]), torch.tensor([0]), labels[:1], reduction="none")
    torch.testing.assert_close(both[:1], alone)


@pytest.mark.parametrize("loss", PUBLISHED)
def test_other_answers_are_no_negatives(loss):
    generator = torch.Generator().manual_seed(2)
    total, per_modality = torch.rand(2, 3, generator=generator), torch.rand(2, 3, 5, generator=generator)
    labels, answers = torch.tensor([3, 4]), torch.tensor([[True, False, True], [False, True, True]])
    found = losses.loss(loss, Scores(total, per_modality), torch.tensor([0, 1]), labels, answers=answers)
    without = losses.loss(loss, Scores(total[:, :2], per_modality[:, :2]), torch.tensor([0, 1]), labels)
    torch.testing.assert_close(found, without)


@pytest.mark.parametrize("loss", PUBLISHED)
def test_the_mean_is_the_mean_of_the_queries(loss):
    batch = random_batch(3)
    found = scores(*batch, aggregation="modality-max")
    arguments = (found, torch.tensor([4, 0, 0]), torch.tensor([1, 2, 0]))
    torch.testing.assert_close(losses.loss(loss, *arguments), losses.loss(loss, *arguments, reduction="none").mean())


def test_a_better_labelled_modality_lowers_the_modality_losses():
    total, per_modality = torch.zeros(1, 2), torch.full((1, 2, 5), -0.1)
    for loss in ("hard-positive", "hard-negative"):
        before = losses.loss(loss, Scores(total, per_modality), torch.tensor([0]), torch.tensor([2]))
        better = per_modality.clone()
        better[0, 0, 1] = 0.1
        assert losses.loss(loss, Scores(total, better), torch.tensor([0]), torch.tensor([2])) < before
