"""A Ray cluster of several nodes on this machine; who uses it must have Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of a head without CPUs and two nodes of one each."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    memory = {"object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **memory)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
