"""The packed vectors beside an index: they follow every change, and nothing stale, foreign or damaged is ever used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clamr_cli import kernel
from clamr_cli.errors import StoreError
from clamr_cli.files import locked
from clamr_cli.store import CorruptCache, Store, scan_cache
from clamr_cli.store.tables import moment_order
from tests.unit.store.samples import ENCODER, fill, moment, new, random_vectors, video

FINGERPRINT = ENCODER.fingerprint


@pytest.fixture
def store(tmp_path):
    return new(tmp_path)


def folder(store):
    """The scan cache of the only encoder that has one."""
    (path,) = Path(store.uri).glob("scan/*")
    return path


def files(store):
    return sorted(folder(store).glob("*.scan"))


def size(path):
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def reopened(store):
    return Store.open(store.uri)


def contents(store):
    """Content of a snapshot by moment, from its files and the table: vectors restored from codes, and modalities."""
    snapshot = reopened(store).snapshot(FINGERPRINT)
    found = {}
    for file in snapshot.files:
        file.verify(np.array([[0, len(file.codes)]]))
        assert np.array_equal(file.starts, file.segments[file.moments])
        for first, last, video_id in zip(file.videos[:-1], file.videos[1:], file.video_ids, strict=True):
            assert {name.partition("#")[0] for name in file.moment_ids[first:last]} == {video_id}
        for number in np.flatnonzero(file.places >= 0).tolist():
            first, last = file.moments[number : number + 2].tolist()
            rows = slice(*file.starts[number : number + 2].tolist())
            lengths = np.diff(file.segments[first : last + 1])
            assert file.moment_ids[number] not in found
            vectors = file.codes[rows] * file.scales[rows][:, None]
            found[file.moment_ids[number]] = vectors, np.repeat(file.modalities[first:last], lengths)
    for batch in snapshot.uncovered():
        batch = batch.in_order()
        for number, moment_id in enumerate(batch.moment_ids):
            rows = slice(int(batch.indptr[number]), int(batch.indptr[number + 1]))
            assert moment_id not in found
            found[moment_id] = batch.vectors[rows], batch.modality_ids[rows]
    return found


def assert_same_as_table(store):
    """A snapshot holds what the table holds, moment by moment."""
    stored = dict(reopened(store).scan_vectors(FINGERPRINT))
    found = contents(store)
    assert set(found) == set(stored)
    for moment_id, item in stored.items():
        order = np.argsort(item.modality_ids, kind="stable")
        vectors, modalities = found[moment_id]
        np.testing.assert_array_equal(modalities, item.modality_ids[order])
        np.testing.assert_allclose(vectors, item.vectors[order].astype(np.float32), atol=0.004)


def uncovered(store):
    return reopened(store).snapshot(FINGERPRINT).uncovered_rows


def put(store, video_id, seed, moments=1, count=5, encoder=ENCODER):
    with store.writer("test"):
        made = [moment(video_id, number) for number in range(moments)]
        store.put_video(video(video_id), made)
        store.put_vectors(encoder, {m.moment_id: random_vectors(seed, count) for m in made})


@pytest.mark.slow
def test_a_packed_index_is_what_the_table_is(store):
    fill(store, [f"v{n}" for n in range(7)], moments=12, count=9)
    built = store.pack_vectors(FINGERPRINT)
    assert (built.vectors, built.written, built.files) == (7 * 12 * 9, 7 * 12 * 9, 1)
    assert uncovered(store) == 0
    assert_same_as_table(store)
    (file,) = store.snapshot(FINGERPRINT).files
    assert file.moment_ids == sorted(file.moment_ids, key=moment_order)


def test_scales_and_residuals_are_those_of_the_stored_vectors(store):
    put(store, "v1", 3, count=40)
    store.pack_vectors(FINGERPRINT)
    (file,) = store.snapshot(FINGERPRINT).files
    ((_, item),) = store.scan_vectors(FINGERPRINT)
    again = kernel.quantize(item.vectors[np.argsort(item.modality_ids, kind="stable")])
    for name in ("codes", "scales", "residuals"):
        np.testing.assert_array_equal(getattr(file, name), getattr(again, name))
    assert file.max_norm >= again.max_norm


def test_an_index_without_vectors_has_an_empty_scan_cache(store):
    assert store.pack_vectors(FINGERPRINT).files == 0
    assert contents(store) == {}
    put(store, "v1", 1)
    assert_same_as_table(store)


@pytest.mark.slow
def test_moments_without_vectors_and_long_ones_are_packed(store):
    with store.writer("test"):
        store.put_video(video("v1"), [moment("v1", number) for number in range(3)])
        sizes = {"v1#0": 0, "v1#1": 70_000, "v1#2": 1}
        store.put_vectors(ENCODER, {name: random_vectors(n, n) for name, n in sizes.items()})
    assert store.pack_vectors(FINGERPRINT).vectors == 70_001
    assert_same_as_table(store)


def test_at_most_155_bytes_a_vector(store):
    put(store, "v1", 1, moments=4, count=500)
    built = store.pack_vectors(FINGERPRINT)
    assert size(folder(store)) == built.size <= 155 * built.vectors


def test_new_rows_become_a_new_file_and_the_rest_stays(store):
    put(store, "v1", 1, moments=20, count=50)
    store.pack_vectors(FINGERPRINT)
    (first,) = files(store)
    put(store, "v2", 2, count=5)
    assert uncovered(store) == 1
    assert_same_as_table(store)
    built = store.pack_vectors(FINGERPRINT)
    assert (built.written, built.files) == (5, 2)
    assert first in files(store)
    assert uncovered(store) == 0
    assert_same_as_table(store)


@pytest.mark.slow
def test_small_files_are_joined_so_that_they_stay_few(store):
    for number in range(40):
        put(store, f"v{number:02}", number, count=10)
        store.pack_vectors(FINGERPRINT)
    assert len(files(store)) <= 7
    assert_same_as_table(store)
    built = store.pack_vectors(FINGERPRINT, join=True)
    assert (built.files, len(files(store))) == (1, 1)
    assert_same_as_table(store)
    assert store.pack_vectors(FINGERPRINT, join=True).written == 0


@pytest.mark.slow
def test_replaced_and_deleted_rows_are_masked_at_once(store):
    fill(store, [f"v{n}" for n in range(9)], moments=4)
    store.pack_vectors(FINGERPRINT)
    with store.writer("test"):
        store.put_vectors(ENCODER, {"v3#1": random_vectors(99, 7)})
        store.remove_videos(["v5"])
    assert_same_as_table(store)
    assert "v5#0" not in contents(store)
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert_same_as_table(store)


@pytest.mark.slow
def test_joined_fragments_are_packed_again(store):
    for number in range(12):
        put(store, f"v{number}", number)
    store.pack_vectors(FINGERPRINT)
    with store.writer("test"):
        store.finish()
    assert_same_as_table(store)
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert_same_as_table(store)


@pytest.mark.slow
def test_a_file_that_is_mostly_dead_is_written_again(store):
    fill(store, [f"v{n}" for n in range(9)], moments=4, count=50)
    before = store.pack_vectors(FINGERPRINT)
    with store.writer("test"):
        store.remove_videos([f"v{n}" for n in range(5)])
    after = store.pack_vectors(FINGERPRINT)
    assert after.vectors == before.vectors * 4 // 9
    assert after.size < before.size * 0.6
    assert_same_as_table(store)


@pytest.mark.slow
def test_rows_of_an_older_version_that_come_back_are_not_taken_from_the_file(store):
    fill(store, ["v1", "v2", "v3"])
    data = store.tables.dataset("vectors")
    with store.writer("test"):
        store.delete_vectors("nobody")
        store.tables.delete("vectors", "moment_id", ["v2#0"])
    store.pack_vectors(FINGERPRINT)
    assert "v2#0" not in contents(store)
    data.restore()
    assert "v2#0" in contents(store)
    assert_same_as_table(store)


@pytest.mark.slow
def test_an_index_made_anew_in_the_same_place_is_not_mixed_with_the_old_one(store, tmp_path):
    fill(store, ["v1", "v2"])
    store.pack_vectors(FINGERPRINT)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "index" / "scan", kept)
    shutil.rmtree(tmp_path / "index")
    other = new(tmp_path)
    fill(other, ["w1", "w2"])
    shutil.copytree(kept, tmp_path / "index" / "scan")
    assert_same_as_table(other)
    assert set(contents(other)) == {"w1#0", "w1#1", "w2#0", "w2#1"}


def test_encoders_have_scan_caches_of_their_own(store):
    other = replace(ENCODER, name="other", fingerprint="e" * 16)
    put(store, "v1", 1)
    with store.writer("test"):
        store.put_vectors(other, {"v1#0": random_vectors(2, 8)})
    assert store.pack_all() == []
    assert len(list(Path(store.uri).glob("scan/*"))) == 2
    assert [len(file.codes) for file in store.snapshot(other.fingerprint).files] == [8]
    assert_same_as_table(store)
    put(store, "v2", 3, encoder=other)
    store.pack_all()
    assert store.snapshot(FINGERPRINT).uncovered_rows == 0


@pytest.mark.parametrize("older", [True, False])
def test_files_of_another_encoder_or_format_are_passed_over_and_replaced(store, monkeypatch, older):
    put(store, "v1", 1)
    if older:
        with monkeypatch.context() as patch:
            patch.setattr(scan_cache, "FORMAT", scan_cache.FORMAT - 1)
            store.pack_vectors(FINGERPRINT)
    else:
        store.pack_vectors("another")
        cache = folder(store)
        store.pack_vectors(FINGERPRINT)
        (path,) = (path for path in Path(store.uri).glob("scan/*/*.scan") if path.parent != cache)
        shutil.rmtree(path)
        shutil.move(next(cache.glob("*.scan")), path)
        shutil.rmtree(cache)
    assert uncovered(store) == 1
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert len(files(store)) == 1


def test_what_an_older_clamr_left_is_cleared_away(store):
    put(store, "v1", 1)
    store.pack_vectors(FINGERPRINT)
    for name in ("manifest.json", "part-0123.bin", ".tmp-77-part-0123.bin"):
        (folder(store) / name).write_bytes(b"{}")
    assert uncovered(store) == 0
    put(store, "v2", 2)
    store.pack_vectors(FINGERPRINT)
    assert {path.suffix for path in folder(store).iterdir() if path.name != "lock"} == {".scan"}


def damage_truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def damage_empty(path):
    path.write_bytes(b"")


def damage_absent(path):
    path.unlink()


def damage_zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def flipped(place):
    def flip(path):
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return flip


DAMAGES = [damage_truncated, damage_empty, damage_absent, damage_zeros]
DAMAGES += [flipped(place) for place in (0.0, 0.2, 0.5, 0.9, 0.94, 0.97, 0.99, 1.0)]


def usable(store):
    """Whether anything of the scan cache may be used, all blocks checked."""
    try:
        for file in reopened(store).snapshot(FINGERPRINT).files:
            file.verify(np.array([[0, len(file.codes)]]))
            return True
    except CorruptCache:
        return False
    return False


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["codes.npy", "scales.npy", "residuals.npy", "moments.npz"])
def test_damage_is_noticed_and_built_anew(store, damage, name):
    fill(store, ["v1", "v2"], moments=4, count=30)
    store.pack_vectors(FINGERPRINT)
    damage(files(store)[0] / name)
    # The archive has bytes that nobody reads.
    assert not usable(store) or name == "moments.npz"
    if usable(store):
        assert_same_as_table(store)
    store.pack_vectors(FINGERPRINT)
    assert usable(store)
    assert uncovered(store) == 0
    assert_same_as_table(store)


def test_only_the_blocks_that_are_used_are_read(store, monkeypatch):
    monkeypatch.setattr(scan_cache, "BLOCK", 32)
    put(store, "v1", 1, moments=4, count=500)
    store.pack_vectors(FINGERPRINT)
    with (files(store)[0] / "codes.npy").open("r+b") as out:
        out.seek(128 + 1000 * 128)
        out.write(b"\xff" * 128)
    (file,) = store.snapshot(FINGERPRINT).files
    file.verify(np.array([[0, 990], [1024, 2000], [1056, 1056]]))
    with pytest.raises(CorruptCache):
        file.verify(np.array([[5, 6], [1000, 1001]]))


KILLED = """
import os, pathlib, shutil, signal, sys
import numpy as np
from clamr_cli.store import Store, scan_cache
store = Store.open(sys.argv[1])
def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)
owner, name = {
    "vectors": (scan_cache, "quantize"),
    "moments": (np, "savez"),
    "sync": (os, "fsync"),
    "rename": (pathlib.Path, "rename"),
    "sweep": (shutil, "rmtree"),
}[sys.argv[2]]
setattr(owner, name, die)
store.pack_vectors(sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["vectors", "moments", "sync", "rename", "sweep"])
def test_a_killed_build_leaves_nothing_that_is_trusted(store, where):
    put(store, "v1", 1, moments=3)
    store.pack_vectors(FINGERPRINT)
    put(store, "v2", 2, moments=3)
    command = [sys.executable, "-c", KILLED, store.uri, where, FINGERPRINT]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert_same_as_table(store)
    assert uncovered(store) == (0 if where == "sweep" else 3)
    put(store, "v3", 3)
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert_same_as_table(store)
    assert set(folder(store).iterdir()) == {*files(store), folder(store) / "lock"}


def test_a_snapshot_stays_good_when_its_files_are_replaced(store):
    put(store, "v1", 1, moments=6)
    store.pack_vectors(FINGERPRINT)
    snapshot = store.snapshot(FINGERPRINT)
    before = snapshot.files[0].codes.copy()
    put(store, "v2", 2, moments=6)
    reopened(store).pack_vectors(FINGERPRINT, join=True)
    with store.writer("test"):
        store.finish()
    np.testing.assert_array_equal(snapshot.files[0].codes, before)
    assert not snapshot.current()
    assert_same_as_table(store)


def test_a_build_that_is_under_way_is_left_alone(store):
    put(store, "v1", 1)
    store.pack_vectors(FINGERPRINT)
    put(store, "v2", 1)
    with locked(folder(store) / "lock"):
        assert store.pack_vectors(FINGERPRINT) is None
    assert store.pack_vectors(FINGERPRINT).files == 1


@pytest.mark.slow
def test_a_build_that_is_under_way_is_waited_for_where_files_are_to_be_joined(store):
    put(store, "v1", 1)
    store.pack_vectors(FINGERPRINT)
    put(store, "v2", 1)
    with ThreadPoolExecutor(1) as threads:
        with locked(folder(store) / "lock"):
            waiting = threads.submit(store.pack_vectors, FINGERPRINT, join=True)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result().files == 1


def test_a_folder_that_takes_nothing_is_an_error_and_searches_go_on(store):
    put(store, "v1", 1)
    Path(store.uri, "scan").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write the packed vectors"):
        store.pack_vectors(FINGERPRINT)
    assert store.pack_all() != []
    store.refresh(FINGERPRINT)
    assert_same_as_table(store)


@pytest.mark.slow
def test_refreshing_waits_until_it_is_worth_it_and_leaves_writers_alone(store):
    put(store, "v1", 1, moments=200, count=1)
    store.refresh(FINGERPRINT)
    assert uncovered(store) == 200
    put(store, "v2", 1, moments=100, count=1)
    with reopened(store).writer("another"):
        store.refresh(FINGERPRINT)
    assert uncovered(store) == 300
    store.refresh(FINGERPRINT)
    assert uncovered(store) == 0


@pytest.mark.slow
def test_fetched_rows_are_those_asked_for_in_that_order(store):
    fill(store, [f"v{n}" for n in range(6)], moments=3)
    with store.writer("test"):
        store.remove_videos(["v2"])
    store.pack_vectors(FINGERPRINT)
    snapshot = store.snapshot(FINGERPRINT)
    (file,) = snapshot.files
    stored = dict(store.scan_vectors(FINGERPRINT))
    wanted = [7, 2, 11]
    packed = snapshot.fetch(file.places[wanted].tolist())
    assert packed.moment_ids == [file.moment_ids[number] for number in wanted]
    for number, moment_id in enumerate(packed.moment_ids):
        rows = slice(int(packed.indptr[number]), int(packed.indptr[number + 1]))
        np.testing.assert_array_equal(packed.vectors[rows], stored[moment_id].vectors)
    bare = snapshot.fetch(file.places[wanted].tolist(), ids=False)
    np.testing.assert_array_equal(bare.vectors, packed.vectors)
    assert bare.moment_ids == [""] * 3
