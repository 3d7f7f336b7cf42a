"""One writer at a time; a killed one leaves neither its lock nor a state that a second run cannot repair."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clamr_cli.errors import IndexLocked, StoreError
from clamr_cli.store import Store
from tests.unit.store.samples import ENCODER, file, moment, new, random_vectors, video

ROOT = Path(__file__).parents[3]
VIDEOS = 8

HOLD = """
import sys, time
from clamr_cli.store import Store
with Store.open(sys.argv[1]).writer("clamr index '[red]\\x1b[31m'"):
    print("held", flush=True)
    time.sleep(60)
"""

WRITE = """
import sys
import lancedb  # the import takes longer than the writing: done before the signal, so that kills hit the writing
from clamr_cli.store import Store
from tests.unit.store.test_lock import index_run
print("ready", flush=True)
index_run(Store.open(sys.argv[1]), int(sys.argv[2]))
"""


def start(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline()
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def index_run(store, version):
    """Write all videos in the given version, each with a file record last, as an index run does."""
    with store.writer("clamr index"):
        done = {record.video_id for record in store.files() if record.recipe == str(version)}
        for number in range(VIDEOS):
            video_id = f"v{number}"
            if video_id in done:
                continue
            parts = [moment(video_id, n, speech=f"version {version}") for n in range(2 + (version + number) % 3)]
            store.put_extraction(f"{video_id}/speech/{version}", {"version": version})
            store.put_video(video(video_id, title=f"version {version}"), parts)
            store.put_vectors(ENCODER, {p.moment_id: random_vectors(version, 3 + version % 2) for p in parts})
            store.put_files([file(f"/v/{video_id}.mp4", video_id, recipe=str(version))])
        store.finish()


def assert_nothing_half_visible(store):
    """Every visible video has all the moments of one version; every vector belongs to a moment."""
    videos, moments = store.videos(), store.moments()
    for record in videos:
        texts = [m.speech[0].text for m in moments if m.video_id == record.video_id]
        assert len(set(texts)) <= 1
        if texts:
            version = int(texts[0].split()[-1])
            assert len(texts) == 2 + (version + int(record.video_id[1:])) % 3
    names = [moment_id for moment_id, _ in store.scan_vectors(ENCODER.fingerprint)]
    assert len(names) == len(set(names))


def assert_whole(store, version):
    assert_nothing_half_visible(store)
    assert {m.video_id for m in store.moments()} == {record.video_id for record in store.videos()}
    assert {m.speech[0].text for m in store.moments()} == {f"version {version}"}
    assert {record.fields.title for record in store.videos()} == {f"version {version}"}
    assert [record.recipe for record in store.files()] == [str(version)] * VIDEOS
    assert store.encoded(ENCODER.fingerprint) == {m.moment_id for m in store.moments()}
    assert {len(item) for _, item in store.scan_vectors(ENCODER.fingerprint)} == {3 + version % 2}


@pytest.mark.slow
def test_a_second_writer_is_refused_and_told_who_holds_the_lock(tmp_path):
    store = new(tmp_path)
    holder = start(HOLD, store.uri)
    try:
        with pytest.raises(IndexLocked) as refused, store.writer("clamr rm"):
            pass
    finally:
        end(holder)
    assert f"process {holder.pid} on" in refused.value.what
    assert "clamr index" in refused.value.what
    assert "\x1b" not in str(refused.value)
    assert f"kill {holder.pid}" in refused.value.hint


@pytest.mark.slow
def test_the_lock_of_a_killed_writer_is_free_and_its_note_harms_nothing(tmp_path):
    store = new(tmp_path)
    end(start(HOLD, store.uri))
    assert (tmp_path / "index" / "writer.json").exists()
    with store.writer("test"):
        store.put_files([file()])
    assert not (tmp_path / "index" / "writer.json").exists()


@pytest.mark.slow
def test_the_note_of_a_killed_writer_goes_when_a_reader_finds_the_lock_free(tmp_path):
    store = new(tmp_path)
    note, holder = tmp_path / "index" / "writer.json", start(HOLD, store.uri)
    try:
        assert store.is_being_written()
        assert note.exists()
    finally:
        end(holder)
    assert not store.is_being_written()
    assert not note.exists()


@pytest.mark.slow
@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_damaged_note_does_not_hide_that_the_index_is_locked(tmp_path, note):
    store, other = new(tmp_path), Store.open(tmp_path / "index")
    with store.writer("test"):
        (tmp_path / "index" / "writer.json").write_bytes(note)
        with pytest.raises(IndexLocked, match="another process is writing"), other.writer("test"):
            pass


@pytest.mark.slow
def test_the_same_store_cannot_write_twice_at_once(tmp_path):
    store = new(tmp_path)
    with store.writer("outer"):
        with pytest.raises(IndexLocked, match="outer"), store.writer("inner"):
            pass
        store.put_files([file()])
    with pytest.raises(StoreError, match="writer lock"):
        store.put_files([file()])


def test_an_error_in_the_block_frees_the_lock(tmp_path):
    store = new(tmp_path)
    with pytest.raises(ZeroDivisionError), store.writer("test"):
        _ = 1 / 0
    with store.writer("test"):
        pass


@pytest.mark.slow
def test_readers_work_while_one_writes(tmp_path):
    store = new(tmp_path)
    index_run(store, 0)
    writer = start(WRITE, store.uri, 1)
    reads = 0
    while writer.poll() is None:
        assert_nothing_half_visible(Store.open(store.uri))
        reads += 1
    writer.stdout.close()
    assert writer.returncode == 0
    assert reads
    assert_whole(store, 1)


@pytest.mark.slow
def test_a_writer_killed_anywhere_leaves_what_a_second_run_completes(tmp_path):
    """Ten writers are killed at random moments, each taking up where the one before was cut off."""
    chance = random.Random(7)
    store = new(tmp_path)
    version = 0
    for _ in range(10):
        writer = start(WRITE, store.uri, version)
        time.sleep(chance.uniform(0.0, 1.5))
        done = writer.poll() is not None
        end(writer)
        assert_nothing_half_visible(store)
        if done:
            assert_whole(store, version)
            version += 1
    index_run(store, version)
    assert_whole(store, version)
    assert not list((tmp_path / "index").rglob(".tmp*"))
    moments = store.tables.count("moments")
    assert moments == len(store.moments())
    assert store.tables.count("vectors") == moments


@pytest.mark.slow
def test_a_creation_that_was_cut_off_is_done_again(tmp_path):
    store = new(tmp_path)
    os.rename(tmp_path / "index" / "meta.lance", tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no index at"):
        Store.open(store.uri)
    index_run(Store.open(store.uri, create=True), 3)
    assert_whole(Store.open(store.uri), 3)


class CutOff(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_writer_cut_off_before_any_of_its_writes_leaves_what_a_second_run_completes(tmp_path, monkeypatch):
    """Borders between two writes of a run that replaces all videos, every fifth: no two videos are cut alike."""
    store = new(tmp_path)
    index_run(store, 0)
    version, cut = 1, 0
    while True:
        writes = iter(range(10_000))

        def counted(change, writes=writes, cut=cut):
            def write(*arguments):
                if next(writes) == cut:
                    raise CutOff
                change(*arguments)

            return write

        with monkeypatch.context() as patch:
            for name in ("upsert", "delete"):
                patch.setattr(store.tables, name, counted(getattr(store.tables, name)))
            try:
                index_run(store, version)
                break
            except CutOff:
                assert_nothing_half_visible(store)
        index_run(store, version)
        assert_whole(store, version)
        version, cut = version + 1, cut + 5
    assert cut > 40
