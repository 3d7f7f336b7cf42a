"""A Ray cluster: the connection to it, and how its processors are divided among workers."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import secrets
import signal
import socket
from typing import Any, Final

from clamr_cli.errors import MissingExtra, UsageError, first_line
from clamr_cli.types import RayOptions

STARTED_WITHIN: Final = 120.0
BACK_WITHIN: Final = 300.0
"""Seconds until the first worker must be there, and until one must be back where all were lost."""

SAME_PATHS: Final = "give all nodes the same path to it"

_ANSWERED_WITHIN: Final = 5.0
_LOCAL: Final = "local"


class Cluster:
    """The connection to a cluster, with what its workers may have.

    Attributes:
        ray: the module.
        count: of workers.
        cpus: of each of them.
        gpus: of each of them.
    """

    def __init__(self, options: RayOptions) -> None:
        """Connect, unless this process is connected already.

        Raises:
            MissingExtra: Ray is not installed.
            UsageError: there is no cluster.
        """
        # Before the import, which reads them.
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("--executor ray", "cluster") from error
        self.ray: Any = ray
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(ray, options.address)
        # The head of a cluster often has no processors for others.
        self.gpus = options.gpus_per_worker
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and _has_room(node["Resources"], self.gpus)]
        count = sum(int(node["GPU"] / self.gpus) for node in nodes) if self.gpus else len(nodes)
        self.count = options.workers or max(1, count)
        self.cpus = options.cpus_per_worker or _share(nodes, self.count)

    def draining(self) -> frozenset[str]:
        """The ids of the nodes that will be taken away soon; none where this version of Ray does not say it."""
        with contextlib.suppress(Exception):
            return frozenset(self.ray._private.state.state.get_draining_nodes())
        return frozenset()

    def no_room(self) -> str:
        """Message where a worker finds no node."""
        wanted = f"CPU {self.cpus:g}" + (f", GPU {self.gpus:g}" if self.gpus else "")
        return f"no node has as much free as one needs ({wanted})"

    def close(self) -> None:
        """End the connection where this made it."""
        if self._connected:
            self._connected = False
            self.ray.shutdown()


def _connect(ray: Any, address: str) -> None:  # noqa: ANN401 -- the module
    """Connect to a cluster, or start one on this machine for as long as this process lives.

    Raises:
        UsageError: there is none.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
    try:
        # What it prints on the way is for those who look after clusters.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            if address == _LOCAL:
                # Else Ray makes a file in the home folder, for which later clusters want a token of all who connect.
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
                # Without an address Ray connects to a cluster that it finds.
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                host, _, port = address.removeprefix("ray://").rpartition(":")
                if port.isdecimal():
                    # Ray itself tries for minutes.
                    socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERED_WITHIN).close()
                ray.init(address=address, **quiet)
    except (ValueError, RuntimeError, OSError) as error:
        where = "on this machine" if address == "auto" else f"at {address!r}"
        raise UsageError(
            f"there is no Ray cluster {where} ({first_line(error)})",
            "start one (ray start --head --include-dashboard=false), name one with --address, or give --address local; "
            "set RAY_AUTH_MODE=token where it wants a token",
        ) from error
    finally:
        # Ray prints what happens to nodes, to stdout too, and has no setting against it. Notices say what matters.
        importlib.import_module("ray._private.worker").__dict__["print_to_stdstream"] = lambda *_, **__: None
        # Ray takes SIGTERM for itself.
        with contextlib.suppress(ValueError, TypeError):
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _has_room(node: dict[str, float], gpus: float) -> bool:
    """Whether a node has room for a worker."""
    return node.get("CPU", 0.0) >= 1.0 and node.get("GPU", 0.0) >= gpus


def _share(nodes: list[dict[str, float]], workers: int) -> float:
    """The CPUs of a worker, so that as many as are wanted have room: all of a node where there is one on each."""
    cpus = sorted((node["CPU"] for node in nodes), reverse=True)
    share = float(max(1, int(max(cpus, default=1.0))))
    while share > 1 and sum(int(count // share) for count in cpus) < workers:
        share -= 1
    return share
