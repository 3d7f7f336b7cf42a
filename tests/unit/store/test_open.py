"""Opening: absent, foreign, newer, older, remote and unreachable indexes, and disks that refuse."""

from __future__ import annotations

import subprocess
import sys

import lancedb
import pyarrow as pa
import pytest

from clamr_cli.errors import IndexLocked, StoreError
from clamr_cli.store import Store
from clamr_cli.store.tables import SCHEMAS, Location, Tables
from clamr_cli.types import SearchOptions
from tests.unit.store.samples import ENCODER, file, fill, new, video


def test_no_index_is_said_with_what_to_do(tmp_path):
    for place in (tmp_path / "nothing", tmp_path):
        with pytest.raises(StoreError) as raised:
            Store.open(place)
        assert raised.value.what == f"no index at {place}"
        assert raised.value.hint == "make one with: clamr index DIR"
    assert list(tmp_path.iterdir()) == []


def test_opening_does_not_change_what_is_there(tmp_path):
    fill(new(tmp_path))
    before = sorted(p.name for p in (tmp_path / "index").rglob("*"))
    Store.open(tmp_path / "index", create=True).stats()
    assert sorted(p.name for p in (tmp_path / "index").rglob("*")) == before


@pytest.mark.parametrize("name", ["a b#c?d%20é", "[red]", "it's", "日本語", "\u202ertl", "~"])
def test_an_index_lives_in_a_folder_of_any_name(tmp_path, name):
    store = Store.open(tmp_path / name / "x", create=True)
    fill(store)
    assert (tmp_path / name / "x" / "videos.lance").is_dir()
    assert len(Store.open(str(tmp_path / name / "x")).videos()) == 2


@pytest.mark.parametrize("name", ["new\nline", "escape\x1b[31m", "bytes \udcff"])
def test_a_folder_whose_name_lancedb_cannot_take_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(StoreError, match="an index cannot lie in") as raised:
        Store.open(tmp_path / name, create=True)
    assert str(raised.value).isprintable()


def test_a_name_that_the_system_refuses_is_an_error_of_the_index(tmp_path):
    with pytest.raises(StoreError, match="cannot read the index"):
        Store.open(tmp_path / ("x" * 300))


def test_tables_of_another_program_are_told_as_such(tmp_path):
    lancedb.connect(tmp_path).create_table("meta", pa.table({"key": ["x"]}))
    for create in (True, False):
        with pytest.raises(StoreError, match="are not an index of clamr"):
            Store.open(tmp_path, create=create)


def test_a_relative_place_survives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store.open("index", create=True)
    fill(store)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(store.videos()) == 2
    assert len(Store.open(f"file://{tmp_path}/index").videos()) == 2


def test_a_file_in_the_way_is_said_so(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot lock the index") as raised:
            Store.open(place, create=True)
        assert "an index is a folder" in raised.value.hint
        with pytest.raises(StoreError, match="no index at"):
            Store.open(place)


def test_a_damaged_index_is_an_error_not_a_traceback(tmp_path):
    fill(new(tmp_path))
    for manifest in (tmp_path / "index" / "videos.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"garbage" * 10)
    with pytest.raises(StoreError, match=r"cannot read the index at .*index \(") as raised:
        Store.open(tmp_path / "index").videos()
    assert ".rs:" not in str(raised.value)


def set_version(store, value):
    with store.writer("test"):
        store.tables.upsert("meta", pa.table({"name": ["schema_version"], "value": [value]}, schema=SCHEMAS["meta"]))


def test_an_index_of_a_newer_version_is_refused(tmp_path):
    store = new(tmp_path)
    set_version(store, "99")
    for create in (False, True):
        with pytest.raises(StoreError, match=r"newer clamr \(version 99") as raised:
            Store.open(store.uri, create=create)
        assert "update clamr" in raised.value.hint
    set_version(store, "?")
    with pytest.raises(StoreError, match="no readable version"):
        Store.open(store.uri)


@pytest.mark.slow
def test_addresses_pass_through_and_lock_in_a_folder_of_ours(tmp_path):
    """An object store's address, here one whose objects are files, so that no network is needed."""
    uri = f"file-object-store://{tmp_path}/bucket/index"
    locks = tmp_path / "locks"
    with pytest.raises(StoreError, match="no index at file-object-store://"):
        Store.open(uri, lock_dir=locks)
    store = Store.open(uri, create=True, lock_dir=locks)
    fill(store)
    store.remember_search("query", SearchOptions())
    with store.writer("first"):
        with pytest.raises(IndexLocked, match="first"), Store.open(uri + "/", lock_dir=locks).writer("second"):
            pass
        store.finish()
    again = Store.open(uri, lock_dir=locks)
    assert len(again.videos()) == 2
    assert len(list(again.scan_vectors(ENCODER.fingerprint))) == 4
    assert again.last_search().query == "query"
    assert again.stats().size is None
    assert not list((tmp_path / "bucket").rglob("*.lock"))
    with pytest.raises(StoreError, match="no folder was given for its lock"), Store.open(uri).writer("third"):
        pass


def test_addresses_of_object_stores_are_not_taken_for_folders(tmp_path):
    place = Location.of("s3://bucket/some/index/", tmp_path)
    assert (place.uri, place.folder, place.beside) == ("s3://bucket/some/index", None, tmp_path)
    assert place.file("writer.lock") != Location.of("s3://bucket/other", tmp_path).file("writer.lock")


@pytest.mark.slow
def test_an_unreachable_address_is_one_line_with_a_hint(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="cannot read the index at s3://bucket/index") as raised:
        Store.open("s3://bucket/index")
    assert "\n" not in str(raised.value)
    assert "credentials and the network" in raised.value.hint


FULL = """
import resource, signal, sys
from clamr_cli.errors import StoreError
from clamr_cli.store import Store
store = Store.open(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with store.writer("test"):
    store.put_extraction("small", {}, [])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        store.put_extraction("large", {}, [bytes(range(256)) * 20000])
    except StoreError as error:
        print(error.what, "|", error.hint)
    store.put_extraction("another", {}, [])
"""


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_an_error_and_spoils_nothing(tmp_path):
    uri = new(tmp_path).uri
    done = subprocess.run([sys.executable, "-c", FULL, uri], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write the index at {uri} (")
    assert "put the index elsewhere" in done.stdout
    store = Store.open(uri)
    assert [store.has_extraction(key) for key in ("small", "large", "another")] == [True, False, True]


def test_what_is_written_is_a_lancedb_database(tmp_path):
    store = new(tmp_path)
    fill(store)
    database = lancedb.connect(store.uri)
    assert database.open_table("videos").count_rows() == 2
    assert database.open_table("vectors").schema.field("moment_id").metadata
    assert Tables(Location.of(store.uri)).exists("files")
    assert store.videos()[0] == video("v1", title="Title of v1")
    assert file("/videos/v1.mp4", "v1") in store.files()
