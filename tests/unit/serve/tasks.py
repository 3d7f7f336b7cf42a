"""Tasks for worker processes that go wrong; a module of its own, which a new process imports quickly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def crash(report: Callable[..., None], *_: object) -> None:
    os.abort()


def wait_until_abandoned(report: Callable[..., None], *args: object) -> None:
    from clamr_cli.errors import MediaError
    from clamr_cli.media.streaming import abandoned

    mark = abandoned(str(args[-1]))
    while not mark.exists():
        report(0, 1)
        time.sleep(0.02)
    raise MediaError("nobody waits")
