"""An index on object storage: one writer at a time on all machines, by a lease that is taken, renewed and lost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from clamr_cli.errors import IndexLocked, MissingExtra, StoreError
from clamr_cli.store import Store
from clamr_cli.store.lease import SKEW, holder, lease
from tests.s3 import BUCKET, s3_server, use_profile
from tests.unit.store.samples import ENCODER, fill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


def test_of_many_writers_one_gets_the_lease_and_the_others_are_told_whose_it_is():
    uri = f"s3://{BUCKET}/many"
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:

        def take(number: int) -> str:
            try:
                stack.enter_context(lease(uri, f"clamr index '[red]\x1b[31m{number}'"))
            except IndexLocked as refused:
                return str(refused)
            return ""

        answers = list(pool.map(take, range(8)))
        assert sorted(map(bool, answers)) == [False] + [True] * 7
        refusal = max(answers)
        assert "is writing to the index at s3://videos/many (process" in refusal or "another process" in refusal
        assert "\x1b" not in refusal
        assert holder(uri).number == 1
    assert holder(uri) is None
    with lease(uri, "clamr rm") as held:
        assert held.record.number == 2


def test_a_lease_that_ran_out_is_taken_over_and_its_first_holder_writes_nothing_more(monkeypatch):
    uri = f"s3://{BUCKET}/over"
    with lease(uri, "clamr index", duration=3600.0) as first:
        first.check()
        with pytest.raises(IndexLocked, match="the index is free at"), lease(uri, "clamr rm"):
            pass
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 3600.0 + SKEW + 1.0)
        with lease(uri, "clamr rm") as second:
            assert second.record.number == 2
            second.check()
            with pytest.raises(StoreError, match=r"ran out and is now held by 'clamr rm' \(process"):
                first.check()
        monkeypatch.undo()
        with pytest.raises(StoreError, match="ran out"):
            first.check()
    # What the first one leaves behind is not taken for its own.
    assert holder(uri) is None


def test_a_lease_that_ran_out_while_nobody_took_it_is_renewed(monkeypatch):
    uri = f"s3://{BUCKET}/renewed"
    with lease(uri, "clamr index", duration=3600.0) as held:
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 4000.0)
        held.check()
        assert held.record.expires == now + 7600.0
        assert holder(uri).holder == held.record.holder


def test_an_index_on_object_storage_has_one_writer_and_readers_beside_it(tmp_path: Path):
    uri = f"s3://{BUCKET}/index"
    store = Store.open(uri, create=True, lock_dir=tmp_path / "here")
    fill(store)
    there = Store.open(uri, lock_dir=tmp_path / "on another machine")
    with store.writer("clamr index"):
        assert there.is_being_written()
        with pytest.raises(IndexLocked, match="'clamr index' is writing to the index at s3://videos/index"):
            fill(there)
        assert [video.video_id for video in there.videos()] == ["v1", "v2"]
    assert not there.is_being_written()
    # Vectors are packed on the disk of each machine that searches.
    assert there.pack_vectors(ENCODER.fingerprint).vectors == 20
    assert list((tmp_path / "on another machine").glob("index-*-scan/*/*"))
    fill(there, ("v3",))
    assert len(store.videos()) == 3


def test_a_writer_that_lost_its_lease_commits_nothing(tmp_path: Path, monkeypatch):
    uri = f"s3://{BUCKET}/lost"
    store = Store.open(uri, create=True, lock_dir=tmp_path / "here")
    with store.writer("clamr index"):
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 3600.0)
        with Store.open(uri, lock_dir=tmp_path / "there").writer("clamr rm"):
            with pytest.raises(StoreError, match="ran out"):
                store.put_encoder_settings("sample", {"pool": 2})
            with pytest.raises(StoreError, match="ran out"):
                store.put_extraction("key", {})
    assert (store.encoder_settings("sample"), store.extraction("key")) == ({}, None)


def test_an_index_is_written_and_read_with_the_keys_of_a_profile_while_they_are_renewed(tmp_path: Path, monkeypatch):
    uri, program = f"s3://{BUCKET}/profile", tmp_path / "keys.py"
    # Each call gives other keys, that have run out soon.
    program.write_text(
        "import datetime, json, time\n"
        "end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': str(time.time_ns()), 'SecretAccessKey': 'not-to-be-printed',"
        " 'SessionToken': 'x', 'Expiration': end.isoformat()}))\n"
    )
    (tmp_path / "config").write_text(
        f"[profile archive]\nregion = eu-central-1\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
        f"credential_process = {sys.executable} {program}\n"
    )
    use_profile(monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    store = Store.open(uri, create=True, lock_dir=tmp_path)
    before = store.tables.connect()
    fill(store)
    assert store.tables.connect() is not before
    assert [video.video_id for video in Store.open(uri, lock_dir=tmp_path / "there").videos()] == ["v1", "v2"]
    assert not store.is_being_written()


def test_a_server_without_tls_is_reached_by_either_name_of_its_address(tmp_path: Path, monkeypatch):
    uri = f"s3://{BUCKET}/plain"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    fill(Store.open(uri, create=True, lock_dir=tmp_path))
    assert len(Store.open(uri, lock_dir=tmp_path).videos()) == 2


def test_a_bucket_that_is_not_there_is_told_in_a_line(tmp_path: Path):
    uri = "s3://no-such-bucket/index"
    for create in (False, True):
        with pytest.raises(StoreError) as refused:
            Store.open(uri, create=create, lock_dir=tmp_path)
        assert refused.value.what == f"cannot read the index at {uri} (there is no bucket s3://no-such-bucket)"
        assert refused.value.hint == "check its name, and AWS_ENDPOINT_URL if it is set"


def test_a_profile_without_keys_is_told_in_a_line(tmp_path: Path, monkeypatch):
    use_profile(monkeypatch, tmp_path)
    with pytest.raises(StoreError, match=r"the AWS configuration has no profile 'archive'\): check AWS_PROFILE"):
        Store.open(f"s3://{BUCKET}/none", lock_dir=tmp_path)


def test_an_index_that_may_not_be_read_is_not_said_to_be_damaged(tmp_path: Path, monkeypatch):
    uri = f"s3://{BUCKET}/private"
    fill(Store.open(uri, create=True, lock_dir=tmp_path))
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(StoreError, match="privileges") as refused:
        Store.open(uri, lock_dir=tmp_path)
    assert refused.value.hint == "check the address, the credentials and the network"


def test_without_the_library_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match="writing to an index on object storage"), lease("s3://videos/x", "clamr"):
        pass
