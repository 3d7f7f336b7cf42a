"""The command line: one file per command, and the few files that all commands share."""

from clamr_cli.cli.app import build, main

__all__ = ["build", "main"]
