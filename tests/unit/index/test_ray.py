"""Workers of a real Ray cluster of two nodes: the index is that of this machine's own processes, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clamr_cli.errors import ClamrError, Unreachable, UsageError
from clamr_cli.events import Event, Indexed, Notice, Skipped
from clamr_cli.index.executors import Reporter, TaskFailed, WorkerLost
from clamr_cli.index.executors import ray as ray_executor
from clamr_cli.index.executors.ray import RayExecutor
from clamr_cli.index.pipeline import IndexOptions
from clamr_cli.index.run import index
from clamr_cli.store import Store
from clamr_cli.types import RayOptions
from tests.bench.process import tree
from tests.clips import Clip
from tests.cluster import two_nodes
from tests.unit.store.samples import all_rows

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose nodes may be killed, and are started again."""
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, colour in enumerate(("navy", "darkgreen", "maroon"), 2):
        Clip().colour(colour, number).text((colour, "card"), 2).write(folder / f"{colour}.mp4")
    (folder / "navy.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nThe sea is calm.\n")
    (folder / "torn.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    return folder


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> IndexOptions:
    cache = tmp_path_factory.mktemp("cache")
    return IndexOptions(cache, encoder="hashed", speech=False, text=False, threads=1, jobs=2)


@pytest.fixture(scope="module")
def local(videos: Path, options: IndexOptions, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The index that this machine's own processes make."""
    store = Store.open(tmp_path_factory.mktemp("local") / "index", create=True)
    for _ in index(store, [str(videos)], options):
        pass
    return all_rows(store)


def run(store: Store, videos: Path, options: IndexOptions, cluster: Any, **more: Any) -> Iterator[Event]:
    executor = RayExecutor(RayOptions(cluster.address, 2, cpus_per_worker=1), options.cache, 1, **more)
    return index(store, [str(videos)], options, executor)


@pytest.mark.parametrize("shared", [None, False])
def test_the_index_is_that_of_this_machine(cluster, videos, options, local, tmp_path, shared):
    """With and without folders that all nodes see."""
    store = Store.open(tmp_path / "index", create=True)
    events = list(run(store, videos, options, cluster, shared=shared))
    assert [type(event) for event in events if isinstance(event, Indexed | Skipped)].count(Indexed) == 3
    assert Notice("", "2 of 2 workers on 2 nodes") in events
    assert all_rows(store) == local
    assert not workers()


def workers() -> list[int]:
    """The processes of workers, without zombies."""

    def is_worker(pid: int) -> bool:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return line.startswith(b"ray::ClusterWorker")

    for _ in range(300):  # one that is killed ends soon
        if not (found := [pid for pid in tree(os.getpid()) if is_worker(pid)]):
            break
        time.sleep(0.05)
    return found


def test_a_killed_worker_and_a_lost_node_cost_nothing(cluster, videos, options, local, tmp_path, capfd):
    store = Store.open(tmp_path / "index", create=True)
    killed, lost = False, False
    lines = []
    for event in run(store, videos, replace(options, jobs=1), cluster, shared=False):
        if isinstance(event, Notice) and event.text.startswith("2 of 2") and not killed:
            os.kill(workers()[0], signal.SIGKILL)
            killed = True
        elif isinstance(event, Indexed) and not lost:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            lost = True
        lines += [event.text] if isinstance(event, Notice) else []
    assert killed
    assert lost
    assert "marked dead" not in capfd.readouterr().out  # Ray's own lines would stand among those of --json
    assert all_rows(store) == local
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


def kill_worker(report: Reporter) -> None:
    """End the worker whose process this one is of."""
    report(0, 1)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(500)


def hang(report: Reporter) -> None:
    report(0, 1)
    time.sleep(500)


def complain(report: Reporter, path: str) -> None:
    raise Unreachable("the file is gone")


def test_what_goes_wrong_on_a_worker_is_told_apart(cluster, options, tmp_path):
    executor = RayExecutor(RayOptions(cluster.address, 1, cpus_per_worker=1), options.cache, 1)
    notices: list[Event] = []

    async def work() -> None:
        executor.start(notices.append)
        with pytest.raises(TaskFailed, match="said nothing for 1 s"):
            await executor.run("decode", hang, stall_timeout=1.0)
        with pytest.raises(Unreachable, match="the file is gone on node"):
            await executor.run("decode", complain, str(tmp_path), stall_timeout=300.0)
        for _ in range(2):  # Ray starts it again
            with pytest.raises(WorkerLost, match="worker 1 on node"):
                await executor.run("decode", kill_worker, stall_timeout=300.0)
        running = asyncio.create_task(executor.run("decode", hang, stall_timeout=300.0))
        while len(notices) < 6:
            await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await executor.run("decode", measure, stall_timeout=300.0) == 1

    try:
        asyncio.run(work())
    finally:
        executor.stop()
    assert [str(notice.text).split(" on ")[0] for notice in notices] == [
        "waiting for 1 worker of the cluster", "1 of 1 worker", *("worker 1", "1 of 1 worker") * 2,
    ]  # fmt: skip


def test_a_node_that_is_to_be_taken_away_gets_no_further_tasks_and_its_loss_does_not_count(cluster, options):
    import ray
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    executor = RayExecutor(RayOptions(cluster.address, 2, cpus_per_worker=1), options.cache, 1)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")

    async def work() -> None:
        executor.start(lambda _: None)
        running = asyncio.create_task(executor.run("decode", hang, stall_timeout=300.0))
        while not (busy := [worker for worker in executor._workers if worker.running["decode"]]):
            await asyncio.sleep(0.05)
        while not all(worker.up for worker in executor._workers):
            await asyncio.sleep(0.05)
        gcs = ray._raylet.GcsClient(address=cluster.address)
        assert gcs.drain_node(busy[0].place, reason, "preempted", int(time.time() * 1000) + 60_000)[0]
        for _ in range(3):
            assert await executor.run("decode", measure, stall_timeout=300.0) == 1
            assert (await executor._choose("encode", None)).place != busy[0].place
        (node,) = (one for one in cluster.list_all_nodes() if one.node_id == busy[0].place)
        cluster.remove_node(node, allow_graceful=False)
        with pytest.raises(WorkerLost) as lost:
            await running
        assert lost.value.announced

    try:
        asyncio.run(work())
    finally:
        executor.stop()
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


def measure(_report: Reporter) -> int:
    return 1


def gpu(_report: Reporter) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_workers_share_the_gpus_of_a_node_and_where_none_is_free_one_line_says_so(cluster, options, monkeypatch):
    node = cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=80_000_000)
    monkeypatch.setattr(ray_executor, "STARTED_WITHIN", 2.0)
    executor = RayExecutor(RayOptions(cluster.address, gpus_per_worker=1.0), options.cache, 1)
    halves = RayExecutor(RayOptions(cluster.address, gpus_per_worker=0.5), options.cache, 1)

    async def work() -> None:
        executor.start(lambda _: None)
        while not all(worker.up for worker in executor._workers):
            await asyncio.sleep(0.05)
        assert len({worker.place for worker in executor._workers}) == 1
        tasks = [worker.actor.run.options(num_returns="streaming") for worker in executor._workers]
        seen = [[await item async for item in task.remote("decode", gpu, (), 300.0, True)] for task in tasks]
        assert sorted(items[-1] for items in seen) == [("answer", "0"), ("answer", "1")]
        halves.start(lambda _: None)
        with pytest.raises(ClamrError, match=r"no node has as much free as one needs \(CPU 1, GPU 0\.5\)"):
            await halves.run("decode", measure, stall_timeout=300.0)

    try:
        assert (executor.count, halves.count) == (2, 4)
        asyncio.run(work())
    finally:
        halves.stop()
        executor.stop()
        cluster.remove_node(node)


def test_without_a_cluster_one_line_says_what_to_do(options):
    with pytest.raises(UsageError, match=r"there is no Ray cluster at '127\.0\.0\.1:1'"):
        RayExecutor(RayOptions("127.0.0.1:1"), options.cache, 1)
