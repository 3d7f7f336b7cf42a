"""The embedded encoder; see MODEL_CARD.md beside this file."""

from clamr_cli.encoders.mini.encoder import MiniEncoder

__all__ = ["MiniEncoder"]
