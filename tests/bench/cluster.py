"""A Ray cluster of several raylets on this machine: its cost beside local processes, and what kills do to an index.

``--cost`` indexes clips with speech and text locally, on one node and on two, by turns: wall and processor seconds, of
the tasks, the workers, the command and Ray. All share the cores of this machine, so two nodes can be no faster; what is
measured is what Ray adds, and what it costs that each worker loads the models. ``--kills N`` indexes
short clips and, in each of N rounds, kills a worker, a raylet or the driver at a random moment, and lets a further run
finish; every index must be equal, row for row, to a local one. ``--shards`` searches drawn vectors in one index and in
2 and 4 that hold the same. ``--search VECTORS`` divides the scan of one index among 1, 2 and 4 workers of a core each:
processor seconds of the workers and of the driver for a query, and what follows from them for larger libraries.
``--remote DIR`` counts the bytes that are read of the videos of a folder in a bucket.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from clamr_cli.search import search
from clamr_cli.search.cascade import Candidates, Cascade, kernel_scan
from clamr_cli.search.workers import RayWorkers, _merged
from clamr_cli.store import Store, StoreUnion
from clamr_cli.types import RayOptions, SearchOptions
from tests.bench.corpus import Corpus, write
from tests.bench.process import tree
from tests.bench.search import ENCODER, RULE
from tests.clips import Clip
from tests.unit.store.samples import all_rows

MEMORY = 100_000_000
SETTLED = 10.0
"""Seconds after which a node that starts has no more to do with it."""

WARMING = 2
"""Queries before those that are measured: checksums of the scan cache are compared once in a process."""
NARRATIONS = ("bees", "bread", "volcano", "bridge", "bicycle")
COLOURS = ("navy", "darkgreen", "maroon", "olive", "teal", "purple", "gray", "sienna", "indigo", "black")


PARTS = {
    "tasks": (b"spawn_main",),
    "workers": (b"ray::ClusterWorker",),
    "command": (b"-m\0clamr_cli",),
    "Ray": (b"raylet", b"gcs_server", b"ray::", b"ray/"),  # gcs, raylets, monitors
}
"""What processes are for, by what is in their command lines."""


class Meter:
    """Processor seconds of this process's descendants, looked at while they run: many are killed at the end."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._parts: dict[int, str] = {}
        self._over = threading.Event()
        self._look()
        self._before = dict(self._seconds)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """The seconds of each part, and of all."""
        self._over.set()
        self._thread.join()
        spent = {pid: seconds - self._before.get(pid, 0.0) for pid, seconds in self._seconds.items()}
        parts = Counter[str]()
        for pid, seconds in spent.items():
            parts[self._parts.get(pid, "other")] += seconds
        return {"cpu": sum(spent.values()), **{part: parts[part] for part in sorted(parts) if parts[part]}}

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self._look()
        self._look()

    def _look(self) -> None:
        for pid in tree(os.getpid()) - {os.getpid()}:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._seconds[pid] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
            name = _name(pid)
            if part := next((part for part, signs in PARTS.items() if any(sign in name for sign in signs)), ""):
                self._parts[pid] = part


class Bench:
    def __init__(self, scratch: Path) -> None:
        from ray.cluster_utils import Cluster

        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
        self.scratch = scratch
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []

    def add(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY))

    def start(self, videos: Path, db: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "clamr_cli", "--db", str(db), "index", str(videos), "--json", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ray(self, workers: int) -> list[str]:
        return ["--executor", "ray", "--address", self.cluster.address, "--workers", str(workers)]

    def measure(self, videos: Path, name: str, *options: str) -> dict[str, float]:
        db = self.scratch / f"index-{name}"
        shutil.rmtree(db, ignore_errors=True)
        meter, started = Meter(), time.perf_counter()
        process = self.start(videos, db, *options)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return {"wall": time.perf_counter() - started, **meter.stop()}


def cost(bench: Bench, count: int, seconds: int, turns: int) -> dict[str, Any]:
    videos = bench.scratch / "spoken"
    videos.mkdir()
    for number in range(count):
        clip = Clip().text((f"Part {number}", "of many"), 2).photo("brick", seconds - 2 + number % 3)
        for place, at in enumerate(range(1, seconds, 10)):
            clip.narration(NARRATIONS[(number + place) % len(NARRATIONS)], at=at)
        clip.write(videos / f"{number}.mp4")
    bench.add()
    # What is done once on a machine is no cost of a run: files of the cache folder, bytecode.
    first = bench.scratch / "first"
    first.mkdir()
    shutil.copy(videos / "0.mp4", first)
    bench.measure(first, "first", *bench.ray(1))
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(turns):
        runs.setdefault("local", []).append(bench.measure(videos, "local"))
        runs.setdefault("ray, 1 worker on 1 node", []).append(bench.measure(videos, "one", *bench.ray(1)))
        bench.add()
        time.sleep(SETTLED)
        runs.setdefault("ray, 2 workers on 2 nodes", []).append(bench.measure(videos, "two", *bench.ray(2)))
        bench.cluster.remove_node(bench.nodes.pop())
        print(json.dumps(runs), file=sys.stderr, flush=True)
    local, *others = (all_rows(Store.open(bench.scratch / f"index-{name}")) for name in ("local", "one", "two"))
    unlike = sorted({table for rows in others for table in rows if rows[table] != local[table]})

    # Ray's own processes are there all the time, whether a run uses them or not.
    def mean(kind: str) -> float:
        return statistics.mean(run["cpu"] - run.get("Ray", 0.0) for run in runs[kind])

    more = {kind: round(mean(kind) / mean("local") - 1, 4) for kind in runs if kind != "local"}
    return {
        "clips": count,
        "seconds of a clip": seconds,
        "turns": turns,
        "runs": runs,
        "processor time beyond that of local, mean, without that of Ray's own processes": more,
        "tables that are unlike": unlike,
    }


def kills(bench: Bench, count: int, rounds: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    videos = bench.scratch / "short"
    videos.mkdir()
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        Clip().colour(colour, 1 + number / 10).text((colour, str(number)), 1).write(videos / f"{number:02}.mp4")
    plain = ["--encoder", "hashed", "--no-speech", "--no-ocr"]
    local = bench.measure(videos, "plain", *plain)
    whole = all_rows(Store.open(bench.scratch / "index-plain"))
    while len(bench.nodes) < 2:
        bench.add()
    done: list[dict[str, Any]] = []
    for number in range(rounds):
        db = bench.scratch / "index-killed"
        shutil.rmtree(db, ignore_errors=True)
        process = bench.start(videos, db, *bench.ray(2), *plain)
        assert process.stdout is not None
        at, what = draw.randrange(count), ("worker", "raylet", "driver")[number % 3]
        seen = 0
        for line in process.stdout:
            seen += '"event": "indexed"' in line
            if seen > at or '"event": "finished"' in line:
                break
        if what == "driver":
            process.send_signal(signal.SIGKILL)
        elif what == "raylet":
            bench.cluster.remove_node(bench.nodes.pop(draw.randrange(2)), allow_graceful=False)
        else:
            workers = [pid for pid in tree(os.getpid()) if _name(pid).startswith(b"ray::ClusterWorker")]
            if workers:
                os.kill(draw.choice(workers), signal.SIGKILL)
        process.stdout.read()
        process.wait()
        code = process.returncode
        if what == "raylet":
            bench.add()
        again = bench.start(videos, db, *bench.ray(2), *plain)
        again.communicate()
        equal = all_rows(Store.open(db)) == whole
        done.append({"killed": what, "after": seen, "code": code, "again": again.returncode, "equal": equal})
        print(json.dumps(done[-1]), file=sys.stderr)
    return {"clips": count, "local": local, "rounds": done, "equal": sum(one["equal"] for one in done)}


def _name(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def shards(scratch: Path, moments: int, vectors: int, queries: int) -> dict[str, Any]:
    """Times of a search of drawn vectors in one index, and in several that hold the same."""
    from tests.unit.store.samples import ENCODER, file, moment, video
    from tests.unit.words import arrays

    rng = np.random.default_rng(7)

    class Drawn:
        info = ENCODER

        def encode_queries(self, texts: list[str]) -> list[Any]:
            drawn = np.random.default_rng(len(texts[0])).standard_normal((16, 128)).astype(np.float32)
            return [arrays(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), [0] * 16) for _ in texts]

        def encode_documents(self, documents: Any) -> Any:
            raise AssertionError("nothing is encoded here")

    indexes: dict[int, list[Store]] = {}
    for parts in (1, 2, 4):
        indexes[parts] = [Store.open(scratch / f"shards-{parts}-{n}", create=True) for n in range(parts)]
    for start in range(0, moments, 100):
        values = rng.standard_normal((100, vectors, 128)).astype(np.float32)
        values /= np.linalg.norm(values, axis=2, keepdims=True)
        for parts, stores in indexes.items():
            store = stores[start // 100 % parts]
            with store.writer("bench"):
                video_id = f"v{start:07}"
                ones = [moment(video_id, n) for n in range(100)]
                store.put_video(video(video_id), ones)
                store.put_files([file(f"/v/{video_id}.mp4", video_id)])
                rows = {
                    m.moment_id: arrays(value, [1 + n % 4 for n in range(vectors)])
                    for m, value in zip(ones, values, strict=True)
                }
                store.put_vectors(ENCODER, rows)
    result: dict[str, Any] = {"moments": moments, "vectors": moments * vectors, "queries": queries}
    answers = []
    for parts, stores in indexes.items():
        for store in stores:
            store.pack_all()
        store = stores[0] if parts == 1 else StoreUnion(stores)
        times, hits = [], []
        for number in range(queries + 1):
            began = time.perf_counter()
            hits.append(search(store, Drawn(), "x" * (number + 1), SearchOptions(moments=True)))  # type: ignore[arg-type]
            times.append(time.perf_counter() - began)
        answers.append([[(hit.moment_id, hit.score) for hit in one] for one in hits])
        result[f"{parts} indexes, median seconds"] = round(statistics.median(times[1:]), 4)
    result["equal"] = all(answer == answers[0] for answer in answers)
    return result


def divided(scratch: Path, vectors: int, queries: int) -> dict[str, Any]:
    """Costs of queries whose scan is divided among workers of one core each, and of a scan by one thread beside them.

    A tenth of the vectors is measured too: the difference is what vectors cost, the rest is what a query costs.
    """
    bench = Bench(scratch)
    bench.nodes.append(bench.cluster.add_node(num_cpus=4, object_store_memory=MEMORY))
    try:
        sizes = {size: costs_of(bench, scratch, size, queries) for size in (vectors // 10, vectors)}
        more = 2 * cost_of_call(bench, scratch / Corpus(vectors // 10_000, 1000).name)
    finally:
        bench.cluster.shutdown()
    few, many = sizes.values()
    scan = (many["1 workers"]["workers"] - few["1 workers"]["workers"]) / (0.9e-6 * vectors)
    query = max(0.0, many["1 workers"]["workers"] - scan * 1e-6 * vectors)
    # With one worker there is no first round.
    two = statistics.mean(size["2 workers"]["driver"] for size in sizes.values())
    merging = {}
    for count in (16, 256):
        lists = [[(f"{part:05}{number:07}#1", float(number)) for number in range(10)] for part in range(count)]
        started = time.process_time()
        for _ in range(100):
            _merged(lists, frozenset(), 10, True)
        merging[count] = (time.process_time() - started) / 100
    return {
        "queries": queries,
        "vectors": sizes,
        "core seconds per million vectors": scan,
        "core seconds of a query besides, in each worker": query,
        "driver seconds with 2 workers": two,
        "driver seconds for each worker more, two calls": more,
        "driver seconds to merge so many lists": merging,
        "seconds of a query of a billion vectors, nodes of 16 cores": {
            nodes: 1000 * scan / (nodes * 16) + query + two + (nodes - 2) * more for nodes in (4, 8, 16, 32, 64)
        },
    }


def costs_of(bench: Bench, scratch: Path, vectors: int, queries: int) -> dict[str, Any]:
    """Seconds of a query by the clock, and of the processor: of the driver, and of its workers together."""
    corpus = Corpus(vectors // 1000, 1000)
    db = scratch / corpus.name
    store = Store.open(db) if db.exists() else write(corpus, db, ENCODER)
    store.pack_vectors(ENCODER.fingerprint)
    drawn = corpus.queries(WARMING + queries, 32)
    videos = frozenset(facts.video_id for facts in store.catalog())

    def measured(top: Any, pids: Sequence[int] = ()) -> tuple[dict[str, Any], list[Any]]:
        walls, answers, began = [], [], (0.0, 0.0)
        for number, query in enumerate(drawn):
            if number == WARMING:
                began = time.process_time(), processor_seconds(pids)
            started = time.perf_counter()
            answers.append(top(Candidates(store.snapshot(ENCODER.fingerprint), videos), query))
            walls.append(time.perf_counter() - started)
        own, theirs = time.process_time() - began[0], processor_seconds(pids) - began[1]
        return {
            "wall": statistics.median(walls[WARMING:]),
            "driver": own / queries,
            "workers": theirs / queries,
        }, answers

    def alone(candidates: Candidates, query: Any) -> Any:
        return Cascade(candidates, query, [RULE], kernel_scan(query, threads=1)).top(10, of_each_video=True)

    costs, wanted = measured(alone)
    result: dict[str, Any] = {"no workers, one thread": {"wall": costs["wall"], "processor": costs["driver"]}}
    for count in (1, 2, 4):
        started = time.perf_counter()
        workers = RayWorkers(RayOptions(bench.cluster.address, count, cpus_per_worker=1), store, None)
        workers.wait()
        start = time.perf_counter() - started

        def top(candidates: Candidates, query: Any, workers: Any = workers) -> Any:
            return workers.top(candidates, ENCODER.fingerprint, query, RULE, (), 10, of_each_video=True)

        pids = [pid for pid in tree(os.getpid()) if _name(pid).startswith(b"ray::ScanWorker")]
        costs, answers = measured(top, pids)
        workers.close()
        result[f"{count} workers"] = {**costs, "start": start, "equal": answers == wanted}
        print(f"{vectors} vectors, {count} workers: {result[f'{count} workers']}", file=sys.stderr, flush=True)
    return result


def cost_of_call(bench: Bench, db: Path, calls: int = 2000) -> float:
    """Processor seconds of the driver for a call of a worker that does next to nothing."""
    workers = RayWorkers(RayOptions(bench.cluster.address, 1, cpus_per_worker=1), Store.open(db), None)
    workers.wait()
    (worker,) = workers._actors
    started = time.process_time()
    for _ in range(calls // 100):
        workers._cluster.ray.get([worker.node.remote() for _ in range(100)])
    seconds = (time.process_time() - started) / calls
    workers.close()
    return seconds


def processor_seconds(pids: Sequence[int]) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
    return sum(int(ticks) for pair in fields for ticks in pair) / os.sysconf("SC_CLK_TCK")


def remote(videos: Path, scratch: Path) -> dict[str, Any]:
    """Bytes that are read of videos in a bucket: to index each, and to go to 30 keyframes of each and of a long one."""
    import av
    import boto3

    from clamr_cli import locations
    from clamr_cli.index.run import IndexOptions, index
    from clamr_cli.media.container import open_media, origin
    from clamr_cli.media.probe import probe
    from tests.s3 import BUCKET, forget_servers, s3_server
    from tests.unit.index.test_run import Inline

    read, requests = locations.read_range, Counter[str]()
    received = Counter[str]()

    def counted(entry: locations.RemoteEntry, start: int, end: int) -> bytes:
        received[entry.path] += end - start
        requests[entry.path] += 1
        return read(entry, start, end)

    def seeks(path: str) -> dict[str, Any]:
        info = probe(path)
        forget_servers()
        received.clear()
        requests.clear()
        with open_media(path) as container:
            stream = container.streams[info.video_stream or 0]
            for number in range(30):
                time_stamp = origin(container) + info.duration * number / 30
                container.seek(round(time_stamp / stream.time_base), stream=stream)
                for packet in container.demux(stream):
                    with suppress(av.error.InvalidDataError):  # of packets before the keyframe
                        if packet.decode():
                            break
        return {"bytes": received[path], "requests": requests[path]}

    locations.read_range = counted
    rows: list[dict[str, Any]] = []
    files = [path for path in sorted(videos.iterdir()) if path.suffix in (".mp4", ".webm", ".mkv", ".mov")]
    source = max((path for path in files if path.suffix == ".mp4"), key=lambda path: path.stat().st_size)
    long = _repeated(source, scratch / "long.mp4", 75_000_000)
    try:
        with s3_server() as address:
            client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")
            for path in [*files, long]:
                client.upload_file(str(path), BUCKET, f"archive/{path.name}")
            store = Store.open(scratch / "remote", create=True)
            options = IndexOptions(scratch / "cache", encoder="hashed", speech=False, text=False)
            *_, finished = index(store, [f"s3://{BUCKET}/archive"], options, Inline())
            assert finished.indexed == len(files) + 1
            indexing = dict(received)
            received.clear()
            forget_servers()
            *_, finished = index(store, [f"s3://{BUCKET}/archive"], options, Inline())
            again = sum(received.values())
            for path in [*files, long]:
                key = f"s3://{BUCKET}/archive/{path.name}"
                row = {"video": path.name, "size": path.stat().st_size, "index": indexing[key], "seeks": seeks(key)}
                rows.append(row)
    finally:
        locations.read_range = read
    total = {name: sum(row[name] for row in rows[:-1]) for name in ("size", "index")}
    total["seeks"] = sum(row["seeks"]["bytes"] for row in rows[:-1])
    return {
        "all but the long one": total,
        "a second run": again,
        "videos": rows,
        "long one": f"{source.name}, repeated",
    }


def _repeated(source: Path, target: Path, size: int) -> Path:
    """The packets of a clip again and again, until the file is as large."""
    import av

    with av.open(str(target), "w") as out:
        streams: dict[int, Any] = {}
        begin = 0.0
        written = 0
        while written < size:
            with av.open(str(source)) as container:
                for stream in (*container.streams.video[:1], *container.streams.audio[:1]):
                    if stream.index not in streams:
                        streams[stream.index] = out.add_stream_from_template(stream)
                chosen = [container.streams[number] for number in streams]
                for packet in container.demux(chosen):
                    if packet.dts is None:
                        continue
                    shift = round(begin / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    written += packet.size
                    out.mux(packet)
                begin += float(container.duration or 0) / av.time_base + 0.1
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", type=int, metavar="CLIPS", default=0)
    parser.add_argument("--seconds", type=int, default=10, help="of each clip of --cost, a multiple of 10")
    parser.add_argument("--turns", type=int, default=2, help="runs of each kind")
    parser.add_argument("--kills", type=int, metavar="ROUNDS", default=0)
    parser.add_argument("--clips", type=int, default=40, help="clips of the kills")
    parser.add_argument("--shards", type=int, metavar="MOMENTS", default=0)
    parser.add_argument("--search", type=int, metavar="VECTORS", default=0)
    parser.add_argument("--queries", type=int, default=20, help="of --search")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the index of --search there, or use one")
    parser.add_argument("--remote", type=Path, metavar="DIR", help="a folder of videos, for a bucket")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load at start": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments.remote:
            result["remote"] = remote(arguments.remote, folder)
        if arguments.shards:
            result["shards"] = shards(folder, arguments.shards, 100, 20)
        if arguments.search:
            result["search"] = divided(arguments.keep or folder, arguments.search, arguments.queries)
        if arguments.cost or arguments.kills:
            bench = Bench(folder)
            try:
                if arguments.kills:
                    result["kills"] = kills(bench, arguments.clips, arguments.kills, arguments.seed)
                    while bench.nodes:
                        bench.cluster.remove_node(bench.nodes.pop())
                if arguments.cost:
                    result["cost"] = cost(bench, arguments.cost, arguments.seconds, arguments.turns)
            finally:
                bench.cluster.shutdown()
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
