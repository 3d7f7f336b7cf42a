"""After a power cut, and after bits flipped on the disk: what is left is used, what is lost is said and made anew."""

from __future__ import annotations

import os
import random
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from clamr_cli.errors import StoreError
from clamr_cli.store import Store
from clamr_cli.store.maintenance import SET_ASIDE
from clamr_cli.store.tables import SCHEMAS, versions_of
from clamr_cli.types import SearchOptions
from tests.unit.store.samples import ENCODER, file, fill, moment, new, random_vectors, video

TABLES = tuple(SCHEMAS)


def newest(store: Store, table: str) -> Path:
    return versions_of(Path(store.uri) / f"{table}.lance")[0][1]


def spoil(manifest: Path, how: str) -> None:
    """Leave of a manifest what power cuts leave."""
    content = manifest.read_bytes()
    left = {
        "empty": b"",
        "cut off": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "zeros behind": content[:8] + bytes(len(content) - 8),
        "noise": random.Random(1).randbytes(len(content)),
        "noise before the end": random.Random(2).randbytes(len(content) - 16) + content[-16:],
        "one byte": b"\0",
    }
    manifest.write_bytes(left[how])


def write(store: Store, video_id: str) -> None:
    with store.writer("test"):
        store.put_video(video(video_id), [moment(video_id)])
        store.put_vectors(ENCODER, {f"{video_id}#0": random_vectors(3, 4)})
        store.put_extraction(f"{video_id}/media", {}, [b"jpeg"])
        store.put_files([file(f"/videos/{video_id}.mp4", video_id)])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An index whose last version of each table is a commit of its own."""
    store = new(tmp_path_factory.mktemp("written"))
    fill(store)
    write(store, "late")
    return Path(store.uri)


def copy_of(index: Path, folder: Path) -> Store:
    shutil.copytree(index, folder / "index")
    return Store.open(folder / "index")


@pytest.mark.parametrize(
    "how", ["empty", "cut off", "zeros", "zeros behind", "noise", "noise before the end", "one byte"]
)
def test_readers_see_the_version_before_a_manifest_that_cannot_be_read(written, tmp_path, how):
    store = copy_of(written, tmp_path)
    spoil(newest(store, "videos"), how)
    again = Store.open(store.uri)
    assert [one.video_id for one in again.videos()] == ["v1", "v2"]
    assert again.tables_behind() == ["videos"]
    assert "videos" in again.problems()[0]


@pytest.mark.parametrize("table", TABLES)
def test_a_writer_sets_a_manifest_aside_that_cannot_be_read_and_says_so(written, tmp_path, table):
    store = copy_of(written, tmp_path)
    spoil(newest(store, table), "zeros")
    again = Store.open(store.uri)
    with again.writer("test"):
        assert [table in line for line in again.repairs] == [True]
    assert len(list((Path(store.uri) / SET_ASIDE).iterdir())) == 1
    write(again, "late")
    assert [one.video_id for one in Store.open(store.uri).videos()] == ["late", "v1", "v2"]
    assert again.tables_behind() == []
    with again.writer("test"):
        assert again.repairs == []


def test_several_tables_may_lose_several_versions(written, tmp_path):
    store = copy_of(written, tmp_path)
    for table in ("videos", "files"):
        for _, manifest in versions_of(Path(store.uri) / f"{table}.lance")[:2]:
            manifest.write_bytes(b"")
    again = Store.open(store.uri)
    assert len(again.videos()) == len(again.files()) == 1
    with again.writer("test"):
        assert len(again.repairs) == 2


def test_the_only_manifest_is_put_back_from_its_copy(written, tmp_path):
    store = copy_of(written, tmp_path)
    with store.writer("test"):
        store.finish()
    manifests = versions_of(Path(store.uri) / "vectors.lance")
    before = store.encoders()
    for _, manifest in manifests[1:]:
        manifest.unlink()
    manifests[0][1].write_bytes(b"")
    with pytest.raises(StoreError, match="no manifest of the table vectors is whole"):
        Store.open(store.uri).encoders()
    again = Store.open(store.uri)
    with again.writer("test"):
        assert "its copy was put back" in again.repairs[0]
    assert Store.open(store.uri).encoders() == before


def test_a_table_without_any_good_manifest_is_left_as_it_is(written, tmp_path):
    store = copy_of(written, tmp_path)
    for _, manifest in versions_of(Path(store.uri) / "extractions.lance"):
        manifest.write_bytes(b"")
    names = sorted(path.name for path in Path(store.uri, "extractions.lance", "data").iterdir())
    again = Store.open(store.uri)
    with again.writer("test"), pytest.raises(StoreError, match="cannot read the index"):
        again.extraction("late/media")
    assert sorted(path.name for path in Path(store.uri, "extractions.lance", "data").iterdir()) == names


@pytest.mark.parametrize("left", [None, b"", b"\0" * 400])
def test_a_version_whose_data_did_not_reach_the_disk_is_set_aside_too(written, tmp_path, left):
    store = copy_of(written, tmp_path)
    table = Path(store.uri) / "moments.lance"
    files = {one.path for part in lance.dataset(str(table)).get_fragments() for one in part.metadata.files}
    number = lance.dataset(str(table)).version
    earlier = lance.dataset(str(table), version=number - 1)
    (fresh,) = files - {one.path for part in earlier.get_fragments() for one in part.metadata.files}
    (table / "data" / fresh).unlink() if left is None else (table / "data" / fresh).write_bytes(left)
    again = Store.open(store.uri)
    with again.writer("test"):
        assert "moments" in again.repairs[0]
    assert {one.video_id for one in again.moments()} == {"v1", "v2"}
    assert any("late" in line for line in again.problems())


def test_what_was_made_since_a_lost_version_is_not_taken_for_whole(written, tmp_path):
    """Moments that are older than their video do not stand for it, nor vectors that are older than their moments."""
    store = copy_of(written, tmp_path)
    with store.writer("test"):
        changed = replace(video("late"), indexed_at="2999-01-01T00:00:00+00:00")
        store.put_video(changed, [moment("late", speech="other words")])
        store.put_vectors(ENCODER, {"late#0": random_vectors(4, 4)})
    spoil(newest(store, "moments"), "empty")
    again = Store.open(store.uri)
    with again.writer("test"):
        assert [one.video_id for one in again.videos()] == ["v1", "v2"]


def test_commits_are_on_the_disk_before_the_record_of_the_file(tmp_path, monkeypatch):
    store = new(tmp_path)
    synced: list[str] = []
    real = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with store.writer("test"):
        store.put_video(video(), [moment()])
        store.put_vectors(ENCODER, {"v1#0": random_vectors(3, 4)})
        store.sync()
        for table in ("videos", "moments", "vectors"):
            folder = Path(store.uri) / f"{table}.lance"
            (fragment,) = store.tables.dataset(table).get_fragments()
            wanted = [folder / "data" / one.path for one in fragment.metadata.files]
            wanted += [newest(store, table), folder / "data", folder / "_versions"]
            assert set(map(str, wanted)) <= set(synced)
        synced.clear()
        store.sync()
        assert synced == []
        store.put_files([file()])
    assert str(newest(store, "files")) in synced


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << (place % 8)
    path.write_bytes(content)


def read_all(store: Store) -> object:
    """Vectors as searches read them, by the packed copy and by the table."""
    snapshot = store.snapshot(ENCODER.fingerprint)
    packed = [list(zip(one.moment_ids, one.vectors.tobytes(), strict=False)) for one in snapshot.uncovered()]
    fetched = [
        snapshot.fetch(file.places.tolist(), ids=ids).vectors.tobytes()
        for file in snapshot.files
        for ids in (True, False)
    ]
    stored = sorted(
        (name, *(array.tobytes() for array in _arrays(item))) for name, item in store.scan_vectors(ENCODER.fingerprint)
    )
    return packed, fetched, stored, store.coverage(ENCODER.fingerprint)


def _arrays(item):
    return item.vectors, item.modality_ids, item.spans, item.segments, item.offsets, item.input_ids


@pytest.mark.slow
def test_no_flipped_bit_of_the_vectors_goes_unnoticed(tmp_path):
    store = new(tmp_path)
    fill(store, ids=("v1", "v2", "v3"))
    store.pack_vectors(ENCODER.fingerprint)
    want = read_all(store)
    draw = random.Random(7)
    refused: list[StoreError] = []
    for _ in range(40):
        path = draw.choice(sorted(Path(store.uri, "vectors.lance", "data").glob("*.lance")))
        place = draw.randrange(path.stat().st_size * 8)
        flip(path, place)
        try:
            # Either all is as it was, or it is known that fewer videos answer.
            found = read_all(Store.open(store.uri))
            assert found == want or found[-1] != want[-1]
        except StoreError as error:
            refused.append(error)
        flip(path, place)
    assert len(refused) > 10
    assert not [error for error in refused if "\n" in str(error) or "clamr index --encoder" not in error.hint]


@pytest.mark.parametrize("share", [0.2, 0.97])
def test_damaged_vectors_are_dropped_so_that_they_are_made_anew(tmp_path, share):
    """In the middle of the numbers a row is named; in what describes the file all of its rows go."""
    store = new(tmp_path)
    fill(store, ids=("v1", "v2"), moments=1, count=50)
    path = sorted(Path(store.uri, "vectors.lance", "data").glob("*.lance"))[0]
    flip(path, int(path.stat().st_size * 8 * share))
    again = Store.open(store.uri)
    with pytest.raises(StoreError) as raised:
        list(again.scan_vectors(ENCODER.fingerprint))
    assert raised.value.what.startswith("the stored vectors of video v") == (share < 0.5)
    with again.writer("test"):
        assert len(again.drop_damaged()) == 1
        assert again.drop_damaged() == []
    assert len(list(again.scan_vectors(ENCODER.fingerprint))) == 1
    assert again.coverage(ENCODER.fingerprint) == (1, 2)


def test_rows_without_checksums_are_read_and_new_ones_get_them(tmp_path):
    """An index of an older clamr has no such column."""
    store = new(tmp_path)
    fill(store, ids=("v1",))
    store.tables.dataset("vectors").drop_columns(["sums"])
    older = Store.open(store.uri)
    assert len(list(older.scan_vectors(ENCODER.fingerprint))) == 2
    older.pack_vectors(ENCODER.fingerprint)
    write(older, "late")
    sums = older.tables.read("vectors", ["sums"]).column("sums").to_pylist()
    assert sum(one is None for one in sums) == 2
    assert len(list(Store.open(store.uri).scan_vectors(ENCODER.fingerprint))) == 3
    with older.writer("test"):
        assert older.drop_damaged() == []


@pytest.mark.slow
def test_damaged_records_are_dropped_one_by_one(tmp_path):
    store = new(tmp_path)
    fill(store)
    with store.writer("test"):
        tables = store.tables
        for table, column, key in (("files", "display", "/videos/v1.mp4"), ("videos", "video_id", "v2")):
            rows = tables.read(table, SCHEMAS[table].names, f"{column} = '{key}'").to_pylist()
            for row in rows:
                row["record"] = row["record"].replace("/v1", "/w1").replace('"fields"', '"fie1ds"')
            tables.upsert(table, pa.Table.from_pylist(rows, schema=SCHEMAS[table]))
    for read in (store.files, store.videos):
        with pytest.raises(StoreError, match="damaged"):
            read()
    with store.writer("test"):
        assert store.drop_damaged_records() == 2
    assert [one.path for one in store.files()] == ["/videos/v2.mp4"]
    assert [one.video_id for one in store.videos()] == ["v1"]


@pytest.mark.parametrize("table", ["files", "videos", "moments"])
def test_records_that_cannot_be_read_at_all_are_removed_by_the_writer(table, tmp_path):
    store = new(tmp_path)
    fill(store)
    data = min((Path(store.uri) / f"{table}.lance" / "data").iterdir())
    content = data.read_bytes()
    data.write_bytes(b"\xff" * (len(content) - 8) + content[-8:])
    again = Store.open(store.uri)
    read = {"files": again.files, "videos": again.videos, "moments": lambda: again.moments(["v1", "v2"])}[table]
    with pytest.raises(StoreError) as refused:
        read()
    assert "clamr index DIR makes what is damaged anew" in str(refused.value.hint)
    with again.writer("test"):
        assert again.drop_unreadable_records() == 1
        assert again.drop_unreadable_records() == 0
    read()


@pytest.mark.slow
def test_an_index_is_its_owners_only_where_clamr_makes_its_folder(tmp_path):
    store = new(tmp_path / "made" / "here")
    fill(store)
    with store.writer("test"):
        store.finish()
        store.pack_all()
    store.remember_search("secret", SearchOptions())
    index = Path(store.uri)
    for path in (tmp_path / "made", tmp_path / "made" / "here", index, *index.rglob("*")):
        if path.name != "writer.lock":
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_folder_that_somebody_made_keeps_its_mode_and_stays_shared(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        fill(new(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "videos.lance").stat().st_mode) == 0o755
