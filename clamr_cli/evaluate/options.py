"""What an evaluation is to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clamr_cli.evaluate.doubt import Sampling
from clamr_cli.types import Filters

if TYPE_CHECKING:
    from clamr_cli.types import Scoring


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How queries are scored and what is compared.

    Attributes:
        measures: as ``measures.parse`` gives them; the first is the main one.
        scoring: of the joint run.
        published: the published evaluation's pool, see ``collection.published``.
        judged_only: leave out answers that the index does not hold.
        baselines: compare with the systems that are built from the same extraction.
        sampling: of intervals and tests.
        filters: which videos are in the pool.
    """

    measures: tuple[str, ...]
    scoring: Scoring = "token-max"
    published: bool = False
    judged_only: bool = False
    baselines: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    filters: Filters = field(default_factory=Filters)
