"""Queries against the index: exact rankings, their evidence, and why a video ranks where it does."""

from clamr_cli.search.explain import explain, offline, timeline, why_nothing
from clamr_cli.search.search import search

__all__ = ["explain", "offline", "search", "timeline", "why_nothing"]
