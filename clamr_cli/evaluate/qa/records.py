"""What is written of a question before, or without, an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clamr_cli.evaluate.qa.journal import FAILED
from clamr_cli.types import Span

if TYPE_CHECKING:
    from clamr_cli.evaluate.qa.items import Item
    from clamr_cli.evaluate.qa.journal import Record
    from clamr_cli.evaluate.qa.strategies import Strategy


def evidence(item: Item, fps: float) -> tuple[Span, ...]:
    """The stretches that answer a question; annotated frames are counted at the rate of the file."""
    if item.windows or fps <= 0:
        return item.windows
    return tuple(Span(mark / fps, mark / fps) for mark in item.marks)


def begun(item: Item, strategy: Strategy) -> Record:
    """Which question and strategy it is of, and the right answer where there are choices."""
    head = {"id": item.id, "strategy": strategy.name, "video": item.video, "group": item.group}
    return head | {"right": item.answer} if item.choices else head


def failed(item: Item, strategy: Strategy, reason: str) -> Record:
    """That there is no result, and why."""
    return begun(item, strategy) | {"outcome": FAILED, "reason": reason}
