"""What ``clamr synth`` says while it runs: queries to stdout where no file was named, all else to stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from clamr_cli.cli.output import warn, write
from clamr_cli.cli.telling import Telling
from clamr_cli.render.records import json_line
from clamr_cli.synth import GaveUp, Judged, Outcome, Passed, Remark
from clamr_cli.synth.journal import rejects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clamr_cli.synth import SynthEvent

INTERVAL: Final = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class Talk(Telling):
    """Shows a run: how far it is, and a summary.

    Args:
        videos: how many there are.
        out: where queries are written; None prints them.
        quiet: no progress and no remarks.
        clock: seconds that only grow.
    """

    def __init__(
        self, videos: int, out: Path | None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # A bar and queries on one terminal would write over each other.
        alone = out is not None or not (sys.stdout is not None and sys.stdout.isatty())
        super().__init__(videos, out, INTERVAL, quiet=quiet, clock=clock, alone=alone)
        self._outcomes: Counter[Outcome] = Counter()
        self._dropped: Counter[str] = Counter()
        self._again = 0

    @property
    def written(self) -> str:
        """``1 query`` or ``2 queries``: what was written so far."""
        count = self._outcomes[Outcome.WRITTEN]
        return "1 query" if count == 1 else f"{count} queries"

    @property
    def failed(self) -> int:
        """How many queries failed."""
        return self._outcomes[Outcome.FAILED]

    @property
    def settled(self) -> int:
        """How many queries were asked for, whatever became of them."""
        return sum(count for outcome, count in self._outcomes.items() if outcome is not Outcome.UNSEEN)

    def show(self, event: SynthEvent) -> None:
        """Count an event, and say what should be read of it."""
        match event:
            case Judged():
                self._judged(event)
            case Passed():
                self._pass(event.video, worked=event.asked)
            case Remark():
                self._remark(event.text)
            case GaveUp():
                self._gave_up(event.failures)
        self._progress()

    def _judged(self, event: Judged) -> None:
        self._outcomes[event.outcome] += 1
        self._again += event.again
        if event.outcome is Outcome.DROPPED:
            self._dropped[event.why] += 1
        elif event.outcome is Outcome.FAILED:
            self._say(f"failed {event.job.id}: {event.why}")
        elif event.outcome is Outcome.WRITTEN and self._out is None:
            write([json_line(event.record)])

    def _doing(self) -> tuple[str, ...]:
        return (self.written,)

    def summary(self) -> None:
        """The run in one line, and why queries were dropped, the commonest reason first."""
        dropped, failed = self._outcomes[Outcome.DROPPED], self.failed
        parts = [f"{self.written} written", f"{dropped} dropped", f"{failed} failed"]
        told = ", ".join(part for part in parts if not part.startswith("0 ") or part is parts[0])
        where = f"; why is in {rejects(self._out)}" if self._out and (dropped or failed) else ""
        warn(told + where)
        for why, count in self._dropped.most_common():
            warn(f"dropped {count}: {why}")
        if self._again:
            warn(f"asked twice: {self._again}")
