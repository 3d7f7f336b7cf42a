"""A place for clips that several tests read, made once."""

from __future__ import annotations

import pytest

from tests.unit.media.clips import Clip


@pytest.fixture(scope="session")
def plain_clip(tmp_path_factory) -> str:
    """Two seconds of a moving ball, 320 x 180, H.264."""
    return Clip().write(tmp_path_factory.mktemp("clips") / "plain.mp4")
