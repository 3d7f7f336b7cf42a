"""The recipe of the embedded encoder."""

from clamr_cli.train.mini.recipe import run

__all__ = ["run"]
