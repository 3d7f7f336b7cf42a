"""Where work runs: spawned processes that stream back what their tasks yield, and can be cut off at any time."""

from clamr_cli.executors.local import TaskFailed, Worker, report

__all__ = ["TaskFailed", "Worker", "report"]
