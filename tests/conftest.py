"""Shared by all tests: where the development data lies, when it is there at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What a terminal or a CI service sets for its own output must not change ours.
for name in ("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)

# Processes that run tests side by side share the processors: threads beyond those wait for one another, and double the
# time of what models and decoders do.
_BESIDE = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _BESIDE)))

# Tests send signals. Who runs them may have been started to ignore some, as a shell starts what it puts in the
# background.
for number in (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

# On a busy machine any example may take long.
settings.register_profile("clamr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clamr")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the development data (a folder 'shared' beside the checkout) is not here")
    return SHARED
