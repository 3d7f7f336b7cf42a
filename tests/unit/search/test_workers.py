"""A scan that is divided among workers ranks as one scan does, whatever the parts are."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clamr_cli.errors import MissingExtra, StoreError
from clamr_cli.search import cascade as maxsim
from clamr_cli.search import search, similar
from clamr_cli.search.cascade import Candidates, kernel_scan, video_of
from clamr_cli.search.workers import RayWorkers, ScanWorker, Workers, stretches
from clamr_cli.store import Store, StoreUnion
from clamr_cli.types import Modality, RayOptions, SearchOptions
from tests.bench.process import tree
from tests.cluster import two_nodes
from tests.unit.search.test_cascade import FINGERPRINT, all_videos, assert_same, brute_top, fill, random_query, rules
from tests.unit.store import test_union as union
from tests.unit.store.samples import new


class Here(Workers):
    """Workers of this process; questions and answers are pickled, as they are on their way to other machines."""

    def __init__(self, store: Store, count: int, *, forgetful: bool = False) -> None:
        self.count = self.threads = count
        uris = [part.uri for part in store.parts]
        self.workers = [ScanWorker(uris, threads=1) for _ in range(count)]
        self.asked: list[tuple[str, int]] = []
        self._forgetful, self._uris = forgetful, uris

    def ask(self, method, question, parts, *args):
        self.asked.append((method, len(parts)))
        if self._forgetful:  # each is lost, and started again, before each of its answers
            self.workers = [ScanWorker(self._uris, threads=1) for _ in self.workers]
        answers = [
            getattr(worker, method)(pickle.loads(pickle.dumps(question)), part, *args)
            for worker, part in zip(self.workers, parts, strict=False)
        ]
        return pickle.loads(pickle.dumps(answers))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([0, 1, 2, 5, 17, 64]), min_size=1, max_size=40),
    count=st.integers(1, 5),
    shift=st.sampled_from([0.0, 3.0]),
    pack=st.booleans(),
    later=st.integers(0, 2),
)
def test_a_divided_scan_ranks_as_brute_force_does(seed, sizes, count, shift, pack, later):
    """With files of the scan cache or without, and with videos that none stands for."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = new(Path(folder) / "index")
        fill(store, rng, list(sizes), shift=shift)
        if pack:
            store.pack_vectors(FINGERPRINT)
        fill(store, rng, [3] * later, shift=shift, first=500)
        query = random_query(rng, 7, shift)
        workers = Here(store, count, forgetful=bool(rng.integers(2)))
        videos = all_videos(store)
        some = {video_id for video_id in videos if rng.random() < 0.7}
        names = [name for name, _ in brute_top(store, query, rules(rng)[0], 1000)]
        first = frozenset(name for name in names if rng.random() < 0.1)
        for rule in rules(rng)[:5]:
            for among in (None, some):
                limit, of_each_video = int(rng.integers(1, 8)), bool(rng.integers(2))
                wanted = brute_top(store, query, rule, limit, among, of_each_video=of_each_video, first=first)
                candidates = Candidates(store.snapshot(FINGERPRINT), among)
                found = workers.top(candidates, FINGERPRINT, query, rule, first, limit, of_each_video=of_each_video)
                assert_same(found, wanted)
            if wanted:
                candidates = Candidates(store.snapshot(FINGERPRINT), some)
                level = wanted[-1][1] + 1e-3
                one = maxsim.Cascade(candidates, query, [rule], kernel_scan(query)).reaching(level)
                assert workers.reaching(candidates, FINGERPRINT, query, rule, level) == one


def test_parts_hold_all_videos_and_about_as_many_vectors(tmp_path):
    store = new(tmp_path / "index")
    rng = np.random.default_rng(1)
    fill(store, rng, [int(size) for size in rng.integers(1, 30, 60)])
    store.pack_vectors(FINGERPRINT)
    snapshot = store.snapshot(FINGERPRINT)
    total = Candidates(snapshot).vectors
    for count in (1, 2, 3, 8):
        parts = stretches(snapshot.files, count)
        candidates = [Candidates(snapshot, within=part) for part in parts]
        sizes = [one.vectors for one in candidates]
        assert len(parts) == count
        assert sum(sizes) == total
        assert max(sizes) - total / count < 90  # a video has three moments at most
        places = np.concatenate([one.in_files[0] for one in candidates])
        assert places.tolist() == list(range(60))
    assert stretches(snapshot.files, 500)[-1][1] == ""
    assert stretches((), 4) == [("", "")]


def test_the_score_to_reach_spares_the_parts_that_cannot(tmp_path):
    """The best moments are all in one part; the others score no more than what they began with."""
    store, rng = new(tmp_path / "index"), np.random.default_rng(5)
    fill(store, rng, [40] * 40)
    fill(store, rng, [40] * 40, shift=3.0, first=800)
    store.pack_vectors(FINGERPRINT)
    query, rule = random_query(rng, 5, 3.0), rules(rng)[0]
    workers = Here(store, 2)
    candidates = Candidates(store.snapshot(FINGERPRINT))
    found = workers.top(candidates, FINGERPRINT, query, rule, (), 10, of_each_video=False)
    assert workers.asked == [("begin", 2), ("finish", 2)]
    assert {name > "v08" for name, _ in found} == {True}
    scored = []
    for worker, part in zip(workers.workers, stretches(candidates.snapshot.files, 2), strict=True):
        # A worker keeps its bounds between the two answers only.
        assert not worker._cascades
        one = maxsim.Cascade(Candidates(candidates.snapshot, within=part), query, [rule], kernel_scan(query))
        one.begin(10, 5, of_each_video=False)
        begun = int(one.exact.sum())
        assert begun == 5
        one.top(10, of_each_video=False, least=(False, found[-1][1]))
        scored.append(int(one.exact.sum()) - begun)
    assert scored[0] == 0


def test_a_writer_in_between_changes_nothing(tmp_path):
    store, rng = new(tmp_path / "index"), np.random.default_rng(2)
    fill(store, rng, [20] * 30)
    store.pack_vectors(FINGERPRINT)
    query, rule = random_query(rng, 5), rules(rng)[0]
    candidates = Candidates(store.snapshot(FINGERPRINT))
    wanted = brute_top(store, query, rule, 5)
    other = Store.open(store.uri)
    fill(other, rng, [20] * 30, first=100)
    with other.writer("test"):
        other.remove_videos([video_of(wanted[0][0])])
    other.pack_vectors(FINGERPRINT)
    workers = Here(store, 3)
    assert_same(workers.top(candidates, FINGERPRINT, query, rule, (), 5, of_each_video=False), wanted)
    now = Candidates(store.snapshot(FINGERPRINT))
    found = workers.top(now, FINGERPRINT, query, rule, (), 5, of_each_video=False)
    assert_same(found, brute_top(store, query, rule, 5))
    assert wanted[0] not in found


def test_a_damaged_scan_cache_costs_a_worker_time_only(tmp_path):
    store, rng = new(tmp_path / "index"), np.random.default_rng(3)
    fill(store, rng, [20] * 30)
    store.pack_vectors(FINGERPRINT)
    query, rule = random_query(rng, 5), rules(rng)[0]
    wanted = brute_top(store, query, rule, 5)
    candidates = Candidates(store.snapshot(FINGERPRINT))
    (codes,) = Path(store.uri).glob("**/codes.npy")
    content = bytearray(codes.read_bytes())
    content[-1000:] = bytes(1000)
    codes.write_bytes(content)
    workers = Here(store, 2)
    assert_same(workers.top(candidates, FINGERPRINT, query, rule, (), 5, of_each_video=False), wanted)


def test_a_worker_packs_what_its_machine_has_not_packed(tmp_path, monkeypatch):
    """As on a machine that has no scan cache yet of an index on object storage."""
    store, rng = new(tmp_path / "index"), np.random.default_rng(4)
    fill(store, rng, [20] * 10)
    query, rule = random_query(rng, 5), rules(rng)[0]
    monkeypatch.setattr("clamr_cli.store.store._WORTH_PACKING", 5)
    candidates = Candidates(store.snapshot(FINGERPRINT))
    assert not candidates.snapshot.files
    found = Here(store, 2).top(candidates, FINGERPRINT, query, rule, (), 3, of_each_video=False)
    assert_same(found, brute_top(store, query, rule, 3))
    assert Store.open(store.uri).snapshot(FINGERPRINT).files


QUERIES = [
    *union.QUERIES,
    ("glacier", SearchOptions(moments=True, limit=4)),  # one word: moments that have it come first
    ("dog cat", SearchOptions(limit=1, offset=3)),
    ("rain", SearchOptions(modalities=(Modality.SPEECH,), without=("dog",))),
    ("bridge train", SearchOptions(moments=True, limit=1000)),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """An index, and two that hold the same together."""
    folder = tmp_path_factory.mktemp("divided")
    whole = union.fill(folder / "whole", *union.IDS)
    whole.pack_all()
    parts = [union.fill(folder / f"{n}", *union.IDS[n::2], *union.IDS[:2]) for n in range(2)]
    parts[1].pack_all()
    return whole, StoreUnion(parts)


@pytest.mark.parametrize(("text", "options"), QUERIES)
def test_hits_are_those_of_one_machine(stores, text, options):
    """With their confidence and evidence, in one index and in several that are read as one."""
    for store in stores:
        workers = Here(store, 3)
        found = search(store, union.ENCODER, text, options, workers=workers)
        assert found == search(store, union.ENCODER, text, options)
        assert found
        assert workers.asked[-1][0] == "finish"


def test_similar_moments_are_those_of_one_machine(stores):
    for store in stores:
        wanted = similar(store, union.ENCODER, "v03", None, SearchOptions(moments=True))
        assert similar(store, union.ENCODER, "v03", None, SearchOptions(moments=True), workers=Here(store, 4)) == wanted


# --- workers of a real cluster ----------------------------------------------------------------------------------------


def test_without_ray_a_line_names_the_extra(stores, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="--executor ray needs an optional package") as raised:
        RayWorkers(RayOptions(), stores[0], None)
    assert "cluster" in raised.value.hint


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with two_nodes() as cluster:
        yield cluster


def processes() -> list[int]:
    """The processes of workers."""

    def is_worker(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ScanWorker")
        except OSError:
            return False

    return [pid for pid in tree(os.getpid()) if is_worker(pid)]


@pytest.mark.slow
def test_workers_of_a_cluster_give_the_hits_of_one_machine_whoever_is_killed(cluster, stores):
    whole, parts = stores
    for store in (whole, parts):
        workers = RayWorkers(RayOptions(cluster.address), store, None)
        try:
            assert workers.count == 2
            for text, options in QUERIES[:5]:
                assert search(store, union.ENCODER, text, options, workers=workers) == search(
                    store, union.ENCODER, text, options
                )
            os.kill(processes()[0], signal.SIGKILL)
            text, options = QUERIES[1]
            assert search(store, union.ENCODER, text, options, workers=workers) == search(
                store, union.ENCODER, text, options
            )
        finally:
            workers.close()


@pytest.mark.slow
def test_the_part_of_a_node_that_is_lost_is_done_by_another(cluster, stores):
    store, (text, options) = stores[0], QUERIES[1]
    workers = RayWorkers(RayOptions(cluster.address, 2, cpus_per_worker=1), store, None)
    try:
        wanted = search(store, union.ENCODER, text, options)
        assert search(store, union.ENCODER, text, options, workers=workers) == wanted
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        for _ in range(2):
            assert search(store, union.ENCODER, text, options, workers=workers) == wanted
    finally:
        workers.close()


@pytest.mark.slow
def test_what_is_wrong_on_a_node_is_one_line(cluster, tmp_path):
    store = union.fill(tmp_path / "gone", "v01")
    workers = RayWorkers(RayOptions(cluster.address, 1), store, None)
    shutil.rmtree(tmp_path / "gone")
    try:
        with pytest.raises(StoreError, match=r"no index at .* on node") as raised:
            workers.wait()
        assert raised.value.hint == "give all nodes the same path to it"
    finally:
        workers.close()
