"""What ``clamr eval qa`` says while it runs, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from clamr_cli.cli.telling import Telling
from clamr_cli.evaluate.qa.run import FAILED, GaveUp, Passed, Remark, Settled
from clamr_cli.events import Notice
from clamr_cli.events import Progress as Step
from clamr_cli.render.preparing import told
from clamr_cli.render.progress import line
from clamr_cli.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clamr_cli.evaluate.qa.run import QaEvent
    from clamr_cli.events import Event

INTERVAL: Final = 10.0
"""Seconds between two lines of progress where there is no terminal."""


class Talk(Telling):
    """Shows a run: how far it is; failures at once, each reason of a video once.

    Args:
        videos: how many there are.
        out: where results are kept; None for nowhere.
        quiet: no progress and no remarks.
        clock: seconds that only grow.
    """

    def __init__(
        self, videos: int, out: Path | None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(videos, out, INTERVAL, quiet=quiet, clock=clock)
        self.settled = 0
        self.failed = 0
        self._now = ""
        self._told: set[tuple[str, str]] = set()

    def prepares(self, event: Event) -> None:
        """Take in how far the preparation of the next video is."""
        if isinstance(event, Notice):
            self._say(line(event) or "")
        if isinstance(event, Step):
            self._now = told(event)
        self._progress()

    def show(self, event: QaEvent) -> None:
        """Count an event, and say what should be read of it."""
        self._now = ""
        match event:
            case Settled():
                self._settle(event)
            case Passed():
                self._pass(event.video, worked=event.worked)
            case Remark():
                self._remark(event.text)
            case GaveUp():
                self._gave_up(event.failures)
        self._progress()

    def _settle(self, event: Settled) -> None:
        record = event.record
        self.settled += 1
        if record["outcome"] != FAILED:
            return
        self.failed += 1
        # A video that cannot be read fails for every question and strategy: its reason is read once.
        key = (str(record["video"]), str(record["reason"]))
        if key not in self._told:
            self._told.add(key)
            self._say(f"failed {record['video']}, question {record['id']}: {record['reason']}")

    def _doing(self) -> tuple[str, ...]:
        return plural(self.settled, "result"), self._now
