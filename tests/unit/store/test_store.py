"""Written values come back as they were, and a replaced or removed video leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from clamr_cli.errors import StoreError, UsageError
from clamr_cli.store import LastSearch, Store
from clamr_cli.store.tables import may_hold
from clamr_cli.text import without_accents, words_of
from clamr_cli.types import EncoderInfo, FileState, Filters, Modality, SearchOptions, TimeBase, VideoFields
from tests.unit.store.samples import ENCODER, HOSTILE, file, fill, moment, new, random_vectors, token_vectors, video


@pytest.fixture
def store(tmp_path):
    return new(tmp_path)


def test_everything_comes_back_as_it_was(store):
    with store.writer("test"):
        store.put_video(video(), [moment(number=1), moment(number=0)])
        store.put_files([file(recipe="r", sidecars="s"), file("/videos/b.mp4", "", FileState.FAILED, error="bad")])
    again = Store.open(store.uri)
    assert again.videos() == [video()]
    assert again.video("v1") == video()
    assert again.moments() == [moment(number=0), moment(number=1)]
    assert again.files() == [
        file(recipe="r", sidecars="s"), file("/videos/b.mp4", "", FileState.FAILED, error="bad"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_as_it_was_from_every_field(store, text):
    path = f"/videos/{text}.mp4"
    hostile = replace(video(title=text), fields=VideoFields(text, text, text, text))
    with store.writer(text):
        store.put_video(hostile, [moment(speech=text)])
        store.put_video(video("other"), [moment("other")])
        store.put_files([file(path, error=text, hint=text), file("/videos/other.mp4", "other")])
        store.put_extraction(text, {text: text}, [text.encode("utf-8", "surrogateescape")])
        store.finish()
    assert store.video("v1") == hostile
    assert store.moments(["v1"]) == [moment(speech=text)]
    assert file(path, error=text, hint=text) in store.files()
    assert store.extraction(text).payload == {text: text}
    store.matching_text(text)
    with store.writer(text):
        store.delete_files([path])
        assert store.drop_extractions(text) == 1
    assert [f.path for f in store.files()] == ["/videos/other.mp4"]
    assert {v.video_id for v in store.videos()} == {"v1", "other"}


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\0" not in text and "\udc80" not in text])
def test_hostile_ids_find_nothing_and_change_nothing(store, text):
    fill(store)
    with pytest.raises(UsageError, match="no video"):
        store.resolve(text)
    with pytest.raises(UsageError, match="no video"):
        store.video(text)
    assert store.moments([text]) == []
    assert store.encoded(text) == set()
    assert list(store.scan_vectors(text)) == []
    assert list(store.scan_vectors(ENCODER.fingerprint, [text])) == []
    with store.writer("test"):
        store.delete_vectors(text)
        store.remove_videos([text])
    assert len(store.videos()) == 2
    assert len(store.encoded(ENCODER.fingerprint)) == 4


def test_keys_that_no_table_can_hold_are_refused(store):
    with pytest.raises(StoreError, match="cannot be a key"):
        store.moments(["null \x00 byte"])
    with pytest.raises(StoreError, match="cannot be a key"):
        store.encoded("\udc80")
    with store.writer("test"), pytest.raises(StoreError, match="cannot be a path"):
        store.put_files([file("\ud800")])


def test_paths_that_are_no_utf8_are_told_apart(store):
    paths = [os.fsdecode(b"/v/\xff.mp4"), os.fsdecode(b"/v/\xfe.mp4"), "/v/\N{REPLACEMENT CHARACTER}.mp4"]
    with store.writer("test"):
        store.put_files([file(path) for path in paths])
        store.delete_files(paths[:1])
    assert {f.path for f in store.files()} == set(paths[1:])


@pytest.mark.slow
def test_ids_are_found_by_unambiguous_prefix(store):
    fill(store, ("abc1", "abd2", "abc"))
    assert store.resolve("abd") == "abd2"
    assert store.resolve("abc") == "abc"
    with pytest.raises(UsageError, match=r"3 videos: abc, abc1, abd2"):
        store.resolve("ab")
    with pytest.raises(UsageError, match="no video"):
        store.resolve("")


def test_rows_of_one_key_in_one_batch_are_not_doubled(store):
    with store.writer("test"):
        store.put_files([file(error="first"), file(error="second")])
        store.put_files([file(error="third")])
    assert [f.error for f in store.files()] == ["third"]


def test_replacing_a_video_replaces_its_moments_and_their_vectors(store):
    fill(store, moments=3)
    with store.writer("test"):
        store.put_video(video("v1", title="New"), [moment("v1", 0, speech="something else")])
    assert [m.moment_id for m in store.moments(["v1"])] == ["v1#0"]
    assert store.encoded(ENCODER.fingerprint) == {"v2#0", "v2#1", "v2#2"}
    assert store.video("v1").fields.title == "New"


def test_vectors_stay_where_the_moments_stay_as_they_were(store):
    fill(store)
    with store.writer("test"):
        store.put_video(video("v1", title="New"), [moment("v1", 0), moment("v1", 1)])
    assert len(store.encoded(ENCODER.fingerprint)) == 4
    assert store.video("v1").fields.title == "New"


def test_moments_of_another_video_are_refused(store):
    with store.writer("test"):
        with pytest.raises(StoreError, match="unfit ids"):
            store.put_video(video("v1"), [moment("v2")])
        with pytest.raises(StoreError, match="unfit ids"):
            store.put_video(video("v1"), [moment("v1"), moment("v1")])


def test_removed_videos_leave_nothing_but_files_and_what_was_extracted(store):
    fill(store)
    with store.writer("test"):
        store.remove_videos(["v1", "unknown"])
    assert [v.video_id for v in store.videos()] == ["v2"]
    assert {m.video_id for m in store.moments()} == {"v2"}
    assert store.encoded(ENCODER.fingerprint) == {"v2#0", "v2#1"}
    assert store.has_extraction("v1-content/media/x")
    with store.writer("test"):
        store.remove_videos(["v2"], keep_extractions=False)
    assert not store.has_extraction("v2-content/media/x")
    assert store.has_extraction("v1-content/media/x")


def test_vectors_come_back_as_half_floats_with_all_that_belongs_to_them(store):
    fill(store)
    given = token_vectors(
        [[1, 2], [3, -4], [0, 1]], [Modality.VIDEO, Modality.SPEECH, None], spans=[[0, 1], [2, 3.5], [0, 60]],
        segments=[0, 7, -1], offsets=[[0, 0], [3, 9], [0, 0]],
    )  # fmt: skip
    other = EncoderInfo("other", "0" * 16)
    with store.writer("test"):
        store.put_vectors(other, {"v1#0": given, "v1#1": token_vectors([], [])})
    found = dict(store.scan_vectors(other.fingerprint))
    assert set(found) == {"v1#0", "v1#1"}
    assert len(found["v1#1"]) == 0
    for name in ("modality_ids", "spans", "segments", "offsets", "input_ids"):
        np.testing.assert_array_equal(getattr(found["v1#0"], name), getattr(given, name))
        assert getattr(found["v1#0"], name).dtype == getattr(given, name).dtype
    np.testing.assert_array_equal(found["v1#0"].vectors, given.vectors.astype(np.float16))
    assert [(use.info, use.moments, use.vectors) for use in store.encoders()] == [(other, 2, 3), (ENCODER, 4, 20)]


def test_scans_heed_encoder_and_moments_across_batches(store):
    with store.writer("test"):
        store.put_video(video("v1"), [moment("v1", n) for n in range(150)])
        store.put_vectors(ENCODER, {f"v1#{n}": random_vectors(n, n % 4) for n in range(150)})
    found = dict(store.scan_vectors(ENCODER.fingerprint))
    assert len(found) == 150
    for n in (0, 63, 64, 149):
        np.testing.assert_array_equal(found[f"v1#{n}"].vectors, random_vectors(n, n % 4).vectors.astype(np.float16))
    assert set(dict(store.scan_vectors(ENCODER.fingerprint, ["v1#3", "v1#99", "nothing"]))) == {"v1#3", "v1#99"}
    assert list(store.scan_vectors(ENCODER.fingerprint, [])) == []
    packed = list(store.scan_packed(ENCODER.fingerprint))
    assert len(packed) > 1
    for batch in packed:
        for moment_id, start, stop in zip(batch.moment_ids, batch.indptr[:-1], batch.indptr[1:], strict=True):
            np.testing.assert_array_equal(batch.vectors[start:stop], found[moment_id].vectors)
            np.testing.assert_array_equal(batch.modality_ids[start:stop], found[moment_id].modality_ids)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v.vectors.__setitem__((1, 5), np.nan), r"v1#0.*row 1 has length nan"),
        (lambda v: v.vectors.__setitem__((2, 5), np.inf), "row 2 has length inf"),
        (lambda v: v.vectors.__setitem__(0, 0), "row 0 has length 0, not 1"),
        (lambda v: v.vectors.__imul__(1.1), r"row 0 has length 1\.1, not 1"),
        (lambda v: v.modality_ids.__setitem__(2, 9), "row 2 is of modality 9"),
        (lambda v: v.spans.__setitem__((1, 0), np.nan), "row 1 has no finite span"),
    ],
)
def test_unfit_vectors_are_refused_by_name_and_nothing_is_stored(store, spoil, words):
    vectors = random_vectors(0, 3)
    spoil(vectors)
    with store.writer("test"), pytest.raises(StoreError, match=words):
        store.put_vectors(ENCODER, {"v1#1": random_vectors(1, 2), "v1#0": vectors})
    assert store.encoders() == []


def test_vectors_of_the_wrong_shape_are_refused(store):
    good = random_vectors(0, 3)
    with store.writer("test"):
        with pytest.raises(StoreError, match=r"shape is \(3, 64\)"):
            store.put_vectors(ENCODER, {"v1#0": replace(good, vectors=good.vectors[:, :64])})
        with pytest.raises(StoreError, match="spans has shape"):
            store.put_vectors(ENCODER, {"v1#0": replace(good, spans=good.spans[:2])})
        with pytest.raises(StoreError, match="cannot be stored"):
            store.put_vectors(EncoderInfo("wide", "f", 256), {"v1#0": good})


def test_extractions_are_kept_replaced_and_pruned(store):
    with store.writer("test"):
        store.put_extraction("c1/speech/a", {"segments": [1, 2.5, None, "x"]}, [b"", b"\x00\xff" * 1000])
        store.put_extraction("c1/speech/a", {"segments": []}, [b"", b"\x00\xff"])
        store.put_extraction("c2/speech/a", {})
        store.put_extraction("c3/speech/a", {})
    assert store.extraction("c1/speech/a").payload == {"segments": []}
    assert store.extraction("c1/speech/a").blobs == [b"", b"\x00\xff"]
    assert store.extraction("c1/speech/b") is None
    assert not store.has_extraction("c1")
    with store.writer("test"):
        assert store.drop_extractions("c2") == 1
        store.delete_extractions(["c3/speech/a", "unknown"])
    assert store.has_extraction("c1/speech/a")
    assert store.stats().extractions == 1


def test_texts_are_found_by_word_in_any_script(store):
    with store.writer("test"):
        for number, text in enumerate(["A protest in Lagos", "東京タワーの夜景", "protest protest"]):
            store.put_video(video(f"v{number}"), [moment(f"v{number}", speech=text)])
        store.finish()
        store.put_video(video("late"), [moment("late", speech="été in Lagos")])
    assert store.matching_text("PROTEST") == ["v2#0", "v0#0"]
    assert store.matching_text("東京") == ["v1#0"]
    assert set(store.matching_text("lagos")) == {"v0#0", "late#0"}
    assert store.matching_text("nothing") == store.matching_text(" ") == []


@pytest.mark.slow
def test_an_index_in_order_holds_no_fragments_leftovers_or_old_versions(store, tmp_path):
    fill(store, [f"v{n}" for n in range(12)])
    before = dict(store.scan_vectors(ENCODER.fingerprint))
    table = tmp_path / "index" / "vectors.lance"
    (table / "_versions" / ".tmp_123.manifest").write_bytes(b"cut off")
    (table / "data" / "cut-off.lance").write_bytes(b"unreferenced")
    (tmp_path / "index" / ".tmp-1-writer.json").write_bytes(b"{")
    with store.writer("test"):
        store.finish(grace=timedelta(0))
    assert not list((tmp_path / "index").rglob(".tmp*"))
    assert len(list((table / "data").iterdir())) == 1
    assert len(list((table / "_versions").glob("*.manifest"))) == 1
    after = dict(store.scan_vectors(ENCODER.fingerprint))
    assert set(after) == set(before)
    for moment_id, item in after.items():
        np.testing.assert_array_equal(item.vectors, before[moment_id].vectors)
    assert len(store.moments()) == 24


@pytest.mark.slow
def test_many_commits_do_not_pile_up_within_a_run(store, tmp_path):
    with store.writer("test"):
        for number in range(130):
            store.put_extraction(f"key {number}", {"number": number})
    assert store.extraction("key 77").payload == {"number": 77}
    assert store.stats().extractions == 130
    # One file of data for every commit since fragments were last joined, and what readers may still be at.
    newest = lance.dataset(tmp_path / "index" / "extractions.lance")
    assert len(newest.get_fragments()) < 10


def test_stats_count_what_is_there(store):
    fill(store)
    with store.writer("test"):
        store.put_files([file("/videos/x.mp4", "", FileState.FAILED), file("/videos/y.mp4", "v1", FileState.MISSING)])
    stats = store.stats()
    assert (stats.files, stats.failed, stats.missing) == (4, 1, 1)
    assert (stats.videos, stats.moments, stats.extractions, stats.seconds) == (2, 4, 2, 240.0)
    assert stats.size == sum(p.stat().st_size for p in Path(store.uri).rglob("*") if p.is_file())


def test_the_last_search_is_remembered(store, tmp_path):
    assert store.last_search() is None
    options = SearchOptions(
        (Modality.OCR,), {Modality.SPEECH: 2.0}, "modality-max", 3, True, Filters(since="2024-01-01", videos=("v1",))
    )
    for query in HOSTILE:
        store.remember_search(query, options, "mini")
        assert Store.open(store.uri).last_search() == LastSearch(query, options, "mini")
    for damaged in (b"", b"{", b"[]", b'{"query": 3}', b"\xff"):
        (tmp_path / "index" / "last-search.json").write_bytes(damaged)
        assert store.last_search() is None


def test_writing_without_the_lock_is_refused(store):
    for write in (
        lambda: store.put_files([file()]), lambda: store.delete_files(["x"]), lambda: store.put_video(video(), []),
        lambda: store.remove_videos(["v1"]), lambda: store.put_vectors(ENCODER, {}), lambda: store.finish(),
        lambda: store.delete_vectors("f"), lambda: store.put_extraction("k", {}),
        lambda: store.delete_extractions(["k"]),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="without its writer lock"):
            write()


@pytest.mark.slow
def test_reading_imports_no_lancedb(store):
    fill(store)
    code = (
        "import sys; from clamr_cli.store import Store; s = Store.open(sys.argv[1]); s.moments(); s.files();"
        f"list(s.scan_vectors('{ENCODER.fingerprint}')); s.stats(); assert 'lancedb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, store.uri], check=True)


def test_time_bases_that_earlier_versions_did_not_read_are_added(store):
    base = TimeBase("30000/1001", "30000/1001", False, "01:00:00;00", "tmcd")
    with store.writer("test"):
        for name in ("v1", "v2"):
            store.put_video(video(name), [moment(name)])
        before = store.videos()
        assert store.without_time_base() == ["v1", "v2"]
        store.put_time_bases({"v2": base, "gone": base})
    assert store.without_time_base() == ["v1"]
    assert [one.media.time_base for one in store.videos()] == [None, base]
    assert [replace(one, media=replace(one.media, time_base=None)) for one in store.videos()] == before
    assert len(store.moments(["v2"])) == 1


def test_texts_that_hold_a_word_in_any_form_are_read_and_most_others_are_not() -> None:
    texts = (
        "Die STRAẞE öffnet",
        "Mädchen",
        "Ma\u0308dchen",
        "\ufb01lm noël",
        "\uff26\uff35\uff2c\uff2c",
        "İstanbul",
        "œuvre",
        "Ёлка",
        "Σίσυφος",
        "\uff76\uff9e\uff97\uff7d",
        "서울에서",
        "\u0e17\u0e33\u0e07\u0e32\u0e19",
        "\u0634\u064e\u0645\u0633",
        "\u0662\u0660\u0661\u0669",
        "co\u00adoperate",
        "\u338f",
    )
    column = pa.array(texts)
    for text in texts:
        for word in words_of(text):
            assert may_hold(column, without_accents(word))[texts.index(text)].as_py(), word
    assert sum(may_hold(column, "hund").to_pylist()) < len(texts) / 2
    long = "strasse" * 1000
    assert may_hold(pa.array([long.replace("ss", "\u00df"), "a street"]), long).to_pylist() == [True, False]
    assert not any(may_hold(column, "\u0441\u043e\u0431\u0430\u043a\u0430").to_pylist())
