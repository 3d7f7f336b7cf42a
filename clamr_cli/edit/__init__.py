"""Work with hits: stretches of videos are cut into clips, joined, and written as lists that editing programs read."""

from __future__ import annotations

from clamr_cli.edit.selections import Selection, of_hits, read_selections, snapped

__all__ = ["Selection", "of_hits", "read_selections", "snapped"]
