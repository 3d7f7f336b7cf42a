"""The packed vectors beside an index: they follow every change, and nothing stale, foreign or damaged is ever used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from clamr_cli import kernel
from clamr_cli.errors import StoreError
from clamr_cli.store import Damaged, Store
from clamr_cli.store.records import moment_order
from clamr_cli.store.scan_cache import manifest
from tests.unit.store.samples import ENCODER, fill, moment, new, random_vectors, video

FINGERPRINT = ENCODER.fingerprint


@pytest.fixture
def store(tmp_path):
    return new(tmp_path)


def folder(store):
    return store._sidecar(FINGERPRINT)


def parts(store):
    return sorted(folder(store).glob("part-*"))


def reopened(store):
    return Store.open(store.uri)


def known(store):
    """What a snapshot has by moment, from its parts and from the table: vectors restored from codes, and modalities."""
    snapshot = reopened(store).snapshot(FINGERPRINT)
    found = {}
    for view in snapshot.parts:
        part = view.part
        part.verify(0, part.info.size)
        for number in np.flatnonzero(view.places >= 0).tolist():
            first, last = part["moments"][number : number + 2].tolist()
            borders = part["segments"][first : last + 1]
            rows = slice(int(borders[0]), int(borders[-1]))
            vectors = part["codes"][rows] * part["scales"][rows][:, None]
            assert part.moment_ids[number] not in found
            found[part.moment_ids[number]] = vectors, np.repeat(part["modalities"][first:last], np.diff(borders))
    for batch in snapshot.rest():
        for number, moment_id in enumerate(batch.moment_ids):
            rows = slice(int(batch.indptr[number]), int(batch.indptr[number + 1]))
            order = np.argsort(batch.modality_ids[rows], kind="stable")
            assert moment_id not in found
            found[moment_id] = batch.vectors[rows][order], batch.modality_ids[rows][order]
    return found


def assert_same_as_table(store):
    """A snapshot holds what the table holds, moment by moment."""
    stored = dict(reopened(store).scan_vectors(FINGERPRINT))
    found = known(store)
    assert set(found) == set(stored)
    for moment_id, item in stored.items():
        order = np.argsort(item.modality_ids, kind="stable")
        vectors, modalities = found[moment_id]
        np.testing.assert_array_equal(modalities, item.modality_ids[order])
        np.testing.assert_allclose(vectors, item.vectors[order].astype(np.float32), atol=0.004)


def uncovered(store):
    return reopened(store).snapshot(FINGERPRINT).uncovered


def put(store, video_id, seed, moments=1, count=5, encoder=ENCODER):
    with store.writer("test"):
        made = [moment(video_id, number) for number in range(moments)]
        store.put_video(video(video_id), made)
        store.put_vectors(encoder, {m.moment_id: random_vectors(seed, count) for m in made})


def test_a_packed_index_is_what_the_table_is(store):
    fill(store, [f"v{n}" for n in range(7)], moments=12, count=9)
    built = store.pack_vectors(FINGERPRINT)
    assert (built.vectors, built.written, built.parts) == (7 * 12 * 9, 7 * 12 * 9, 1)
    assert uncovered(store) == 0
    assert_same_as_table(store)
    (view,) = store.snapshot(FINGERPRINT).parts
    assert view.part.moment_ids == sorted(view.part.moment_ids, key=moment_order)


def test_scales_and_residuals_are_those_of_the_stored_vectors(store):
    put(store, "v1", 3, count=40)
    store.pack_vectors(FINGERPRINT)
    part = store.snapshot(FINGERPRINT).parts[0].part
    ((_, item),) = store.scan_vectors(FINGERPRINT)
    again = kernel.quantize(item.vectors[np.argsort(item.modality_ids, kind="stable")])
    for name in ("codes", "scales", "residuals"):
        np.testing.assert_array_equal(part[name], getattr(again, name))
    assert part.info.reach >= again.reach


def test_an_index_without_vectors_has_a_sidecar_without_parts(store):
    assert store.pack_vectors(FINGERPRINT).parts == 0
    assert known(store) == {}
    put(store, "v1", 1)
    assert_same_as_table(store)


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
    assert sum(path.stat().st_size for path in folder(store).iterdir()) <= 155 * built.vectors


def test_new_rows_become_a_new_part_and_the_rest_stays(store):
    put(store, "v1", 1, moments=20, count=50)
    store.pack_vectors(FINGERPRINT)
    (first,) = parts(store)
    put(store, "v2", 2, count=5)
    assert uncovered(store) == 1
    assert_same_as_table(store)
    built = store.pack_vectors(FINGERPRINT)
    assert (built.written, built.parts) == (5, 2)
    assert first in parts(store)
    assert uncovered(store) == 0
    assert_same_as_table(store)


def test_small_parts_are_joined_so_that_they_stay_few(store):
    for number in range(40):
        put(store, f"v{number:02}", number, count=10)
        store.pack_vectors(FINGERPRINT)
    assert len(parts(store)) <= 7
    assert_same_as_table(store)
    built = store.pack_vectors(FINGERPRINT, join=True)
    assert (built.parts, len(parts(store))) == (1, 1)
    assert_same_as_table(store)
    assert store.pack_vectors(FINGERPRINT, join=True).written == 0


def test_replaced_and_deleted_rows_are_masked_at_once(store):
    fill(store, [f"v{n}" for n in range(9)], moments=4)
    store.pack_vectors(FINGERPRINT)
    with store.writer("test"):
        store.put_vectors(ENCODER, {"v3#1": random_vectors(99, 7)})
        store.remove_videos(["v5"])
    assert_same_as_table(store)
    assert "v5#0" not in known(store)
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert_same_as_table(store)


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


def test_a_part_that_is_mostly_dead_is_written_again(store):
    fill(store, [f"v{n}" for n in range(9)], moments=4, count=50)
    before = store.pack_vectors(FINGERPRINT)
    with store.writer("test"):
        store.remove_videos([f"v{n}" for n in range(5)])
    after = store.pack_vectors(FINGERPRINT)
    assert after.vectors == before.vectors * 4 // 9
    assert after.size < before.size * 0.6
    assert_same_as_table(store)


def test_rows_of_an_older_version_that_come_back_are_not_taken_from_the_part(store):
    fill(store, ["v1", "v2", "v3"])
    data = store._tables.dataset("vectors")
    with store.writer("test"):
        store.delete_vectors("nobody")
        store._tables.delete("vectors", "moment_id", ["v2#0"])
    store.pack_vectors(FINGERPRINT)
    assert "v2#0" not in known(store)
    data.restore()
    assert "v2#0" in known(store)
    assert_same_as_table(store)


def test_an_index_made_anew_in_the_same_place_is_not_mixed_with_the_old_one(store, tmp_path):
    import shutil

    fill(store, ["v1", "v2"])
    store.pack_vectors(FINGERPRINT)
    kept = tmp_path / "kept"
    shutil.copytree(folder(store), kept)
    shutil.rmtree(tmp_path / "index")
    other = new(tmp_path)
    fill(other, ["w1", "w2"])
    shutil.copytree(kept, folder(other))
    assert_same_as_table(other)
    assert set(known(other)) == {"w1#0", "w1#1", "w2#0", "w2#1"}


def test_encoders_have_sidecars_of_their_own(store):
    other = replace(ENCODER, name="other", fingerprint="e" * 16)
    put(store, "v1", 1)
    with store.writer("test"):
        store.put_vectors(other, {"v1#0": random_vectors(2, 8)})
    assert store.pack_all() == []
    assert folder(store) != store._sidecar(other.fingerprint)
    assert [view.part.info.vectors for view in store.snapshot(other.fingerprint).parts] == [8]
    assert_same_as_table(store)
    put(store, "v2", 3, encoder=other)
    store.pack_all()
    assert store.snapshot(FINGERPRINT).uncovered == 0


def test_a_manifest_of_another_encoder_or_format_is_not_read(store):
    put(store, "v1", 1)
    store.pack_vectors(FINGERPRINT)
    made = manifest.read(folder(store), FINGERPRINT)
    assert manifest.read(folder(store), "other") is None
    manifest.write(folder(store), replace(made, format=manifest.FORMAT + 1))
    assert manifest.read(folder(store), FINGERPRINT) is None
    assert uncovered(store) == 1
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0


def damage_truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def damage_empty(path):
    path.write_bytes(b"")


def damage_longer(path):
    with path.open("ab") as out:
        out.write(b"\0")


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


DAMAGES = [damage_truncated, damage_empty, damage_longer, damage_absent, damage_zeros]
DAMAGES += [flipped(place) for place in (0.0, 0.2, 0.5, 0.9, 0.94, 0.97, 0.99, 1.0)]


def usable(store):
    """Whether anything of the sidecar may be used, all blocks checked."""
    try:
        for view in reopened(store).snapshot(FINGERPRINT).parts:
            view.part.verify(0, view.part.info.size)
            return True
    except Damaged:
        return False
    return False


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["part", "manifest"])
def test_damage_is_noticed_and_built_anew(store, damage, which):
    fill(store, ["v1", "v2"], moments=4, count=30)
    store.pack_vectors(FINGERPRINT)
    path = parts(store)[0] if which == "part" else folder(store) / manifest.NAME
    damage(path)
    assert not usable(store)
    store.pack_vectors(FINGERPRINT)
    assert usable(store)
    assert uncovered(store) == 0
    assert_same_as_table(store)


def test_a_bit_that_flips_while_the_file_is_mapped_is_noticed(store):
    fill(store, ["v1", "v2"], moments=4, count=30)
    store.pack_vectors(FINGERPRINT)
    (view,) = store.snapshot(FINGERPRINT).parts
    every = np.array([[0, view.part.info.vectors]])
    view.part.verify_vectors(every)
    with parts(store)[0].open("r+b") as out:
        out.seek(100)
        byte = out.read(1)[0]
        out.seek(100)
        out.write(bytes([byte ^ 64]))
    (view,) = store.snapshot(FINGERPRINT).parts
    with pytest.raises(Damaged):
        view.part.verify_vectors(every)


def test_only_the_blocks_that_are_used_are_read(store, monkeypatch):
    from clamr_cli.store.scan_cache import part as module

    monkeypatch.setattr(module, "BLOCK", 4096)
    put(store, "v1", 1, moments=4, count=500)
    store.pack_vectors(FINGERPRINT)
    (view,) = store.snapshot(FINGERPRINT).parts
    before = int(view.part._checked.sum())
    view.part.verify_vectors(np.array([[0, 32], [1000, 1000]]))
    # 32 vectors are one block of codes, and one each of scales and residuals.
    assert int(view.part._checked.sum()) - before <= 3
    view.part.verify_vectors(np.array([[0, 2000]]))
    assert view.part._checked.all()


KILLED = """
import os, signal, sys
from clamr_cli.store import Store
from clamr_cli.store.scan_cache import build, manifest, writer
store = Store.open(sys.argv[1])
def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "vectors":
    writer.PartWriter.vectors = die
elif sys.argv[2] == "finish":
    writer.PartWriter.finish = die
elif sys.argv[2] == "rename":
    os.replace = die
elif sys.argv[2] == "manifest":
    manifest.write = die
else:
    build._sweep = die
store.pack_vectors(sys.argv[3])
"""


@pytest.mark.parametrize("where", ["vectors", "finish", "rename", "manifest", "sweep"])
def test_a_killed_build_leaves_nothing_that_is_trusted(store, where):
    put(store, "v1", 1, moments=3)
    store.pack_vectors(FINGERPRINT)
    put(store, "v2", 2, moments=3)
    command = [sys.executable, "-c", KILLED, store.uri, where, FINGERPRINT]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert_same_as_table(store)
    assert uncovered(store) == (0 if where == "sweep" else 3)
    store.pack_vectors(FINGERPRINT)
    assert uncovered(store) == 0
    assert_same_as_table(store)
    names = {info.name for info in manifest.read(folder(store), FINGERPRINT).parts}
    assert {path.name for path in folder(store).iterdir()} == names | {manifest.NAME, "lock"}


def test_a_snapshot_stays_good_when_its_files_are_replaced(store):
    put(store, "v1", 1, moments=6)
    store.pack_vectors(FINGERPRINT)
    snapshot = store.snapshot(FINGERPRINT)
    before = snapshot.parts[0].part["codes"].copy()
    put(store, "v2", 2, moments=6)
    reopened(store).pack_vectors(FINGERPRINT, join=True)
    with store.writer("test"):
        store.finish()
    np.testing.assert_array_equal(snapshot.parts[0].part["codes"], before)
    assert not snapshot.current()
    assert_same_as_table(store)


def test_who_builds_already_is_left_alone(store):
    from filelock import FileLock

    put(store, "v1", 1)
    folder(store).mkdir(parents=True)
    with FileLock(folder(store) / "lock"):
        assert store.pack_vectors(FINGERPRINT).parts == 0
    assert store.pack_vectors(FINGERPRINT).parts == 1


def test_who_builds_already_is_waited_for_where_parts_are_to_be_joined(store):
    from filelock import FileLock

    put(store, "v1", 1)
    folder(store).mkdir(parents=True)
    with ThreadPoolExecutor(1) as threads:
        with FileLock(folder(store) / "lock"):
            waiting = threads.submit(store.pack_vectors, FINGERPRINT, join=True)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result().parts == 1


def test_a_folder_that_takes_nothing_is_an_error_and_searches_go_on(store):
    put(store, "v1", 1)
    folder(store).parent.write_text("no folder")
    with pytest.raises(StoreError, match="cannot write the packed vectors"):
        store.pack_vectors(FINGERPRINT)
    assert store.pack_all() != []
    store.refresh(FINGERPRINT)
    assert_same_as_table(store)


def test_refreshing_waits_until_it_is_worth_it_and_leaves_writers_alone(store, monkeypatch):
    from clamr_cli.store import embeddings as module

    monkeypatch.setattr(module, "_WORTH_PACKING", 4)
    put(store, "v1", 1, moments=3)
    store.refresh(FINGERPRINT)
    assert uncovered(store) == 3
    put(store, "v2", 1, moments=3)
    with reopened(store).writer("another"):
        store.refresh(FINGERPRINT)
    assert uncovered(store) == 6
    store.refresh(FINGERPRINT)
    assert uncovered(store) == 0


def test_fetched_rows_are_those_asked_for_in_that_order(store):
    fill(store, [f"v{n}" for n in range(6)], moments=3)
    with store.writer("test"):
        store.remove_videos(["v2"])
    store.pack_vectors(FINGERPRINT)
    snapshot = store.snapshot(FINGERPRINT)
    (view,) = snapshot.parts
    stored = dict(store.scan_vectors(FINGERPRINT))
    wanted = [7, 2, 11]
    packed = snapshot.fetch(view.places[wanted].tolist())
    assert packed.moment_ids == [view.part.moment_ids[number] for number in wanted]
    for number, moment_id in enumerate(packed.moment_ids):
        rows = slice(int(packed.indptr[number]), int(packed.indptr[number + 1]))
        np.testing.assert_array_equal(packed.vectors[rows], stored[moment_id].vectors)
    bare = snapshot.fetch(view.places[wanted].tolist(), ids=False)
    np.testing.assert_array_equal(bare.vectors, packed.vectors)
    assert bare.moment_ids == [""] * 3


def test_a_remote_index_without_a_folder_for_it_is_scanned(tmp_path):
    from clamr_cli.store.place import Place

    assert Place.of("memory://x", None).side_file("scan") is None
    assert Place.of("memory://x", tmp_path).side_file("scan").parent == tmp_path
