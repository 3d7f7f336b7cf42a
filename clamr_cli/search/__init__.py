"""Queries against the index: exact rankings, their evidence, and why a video ranks where it does."""

from clamr_cli.search.examples import picture_example, similar, stored_example
from clamr_cli.search.explain import explain, offline, timeline, why_nothing
from clamr_cli.search.search import last_hit, search, video_named
from clamr_cli.search.spelling import correct

__all__ = [
    "correct", "explain", "last_hit", "offline", "picture_example", "search", "similar", "stored_example", "timeline",
    "video_named", "why_nothing",
]  # fmt: skip
