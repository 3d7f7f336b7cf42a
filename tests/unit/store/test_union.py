"""Several indexes read as one, and put together in one: both answer as one index of all videos."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace

import numpy as np
import pytest

from clamr_cli.errors import EncoderMismatch, IndexLocked, StoreError, UsageError
from clamr_cli.index.documents import speaker_names
from clamr_cli.search import correct, explain, search
from clamr_cli.search.search import speaking
from clamr_cli.store import LastHit, Store, StoreUnion
from clamr_cli.store.merge import merge
from clamr_cli.types import Filters, Labels, SearchOptions, Speaker, Voices
from tests.unit.store.samples import all_rows, file, video
from tests.unit.words import WordEncoder, moment

WORDS = ["dog", "cat", "tree", "river", "bridge", "night", "rain", "train", "glacier", "umbrella"]
ENCODER = WordEncoder(similar={"hound": {"dog": 0.8}})


def put(store, video_id):
    """Store a video of two moments whose words are drawn by its id."""
    draw = random.Random(video_id)
    moments = [
        moment(video_id, number, start=60.0 * number, speech=[" ".join(draw.choices(WORDS, k=3)) for _ in range(2)])
        for number in range(2)
    ]
    store.put_video(video(video_id, title=f"About {draw.choice(WORDS)}"), moments)
    store.put_files([file(f"/videos/{video_id}.mp4", video_id)])
    store.put_extraction(f"{video_id}-content/media/x", {"frames": 1}, [b"jpeg"])
    if video_id == "v03":
        store.put_labels(f"{video_id}-content", Labels(("holiday",)))
    store.put_vectors(ENCODER.info, {one.moment_id: ENCODER.encode(one) for one in moments})


def fill(folder, *ids):
    store = Store.open(folder, create=True)
    with store.writer("test"):
        for video_id in ids:
            put(store, video_id)
    return store


IDS = [f"v{number:02}" for number in range(9)]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One index of all videos, and three that hold them together; two videos are in two of these."""
    folder = tmp_path_factory.mktemp("shards")
    whole = fill(folder / "whole", *IDS)
    parts = [fill(folder / f"{n}", *IDS[n::3], *IDS[n : 2 * n : 3]) for n in range(3)]
    parts[1].pack_all()
    return whole, parts


def test_every_method_that_reads_asks_all_indexes():
    on_others = {  # they call what is overridden
        "open", "parts", "video", "labels_of", "voices_of", "extraction", "matching_text", "sample",
        "is_in_place", "watch_lock",  # commands that a server answers, and watches, keep one index open
        # what needs the writer lock, which a union refuses
        "note_run", "sync", "sweep", "finish", "pack_vectors", "pack_all", "scan_packed", "forget_encoder",
        "index_vectors",
    }  # fmt: skip
    changing = {name for name in vars(Store) if name.startswith(("put_", "delete_", "drop_", "remove_"))}
    public = {name for name, value in vars(Store).items() if not name.startswith("_") and inspect.isfunction(value)}
    assert public - on_others - changing - set(vars(StoreUnion)) == set()


QUERIES = [
    ("dog", SearchOptions()),
    ("hound rain", SearchOptions(moments=True, limit=20)),
    ("night train glacier", SearchOptions(limit=3, offset=2)),
    ("river cat", SearchOptions(also=("tree",), without=("bridge",), moments=True)),
    ('"rain"', SearchOptions(filters=Filters(path="v0*"))),
    ("umbrella", SearchOptions(filters=Filters(tags=("holiday",)))),
]


@pytest.mark.parametrize(("query", "options"), QUERIES)
def test_the_ranking_and_all_about_it_is_that_of_one_index(stores, query, options):
    whole, parts = stores
    union = StoreUnion(parts)
    hits = search(whole, ENCODER, query, options)
    assert search(union, ENCODER, query, options) == hits
    if hits and options == SearchOptions():
        assert explain(union, ENCODER, hits[-1].video_id, query, options) == explain(
            whole, ENCODER, hits[-1].video_id, query, options
        )


def test_words_of_any_index_are_known(stores):
    whole, parts = stores
    assert correct(StoreUnion(parts), "umbrela gracier") == correct(whole, "umbrela gracier")
    assert correct(StoreUnion(parts), "umbrela gracier")[1]


def test_the_rank_of_a_hit_is_a_name_in_its_index(stores):
    _, parts = stores
    union = StoreUnion(parts)
    hits = search(union, ENCODER, "dog", SearchOptions())
    union.remember_search("dog", SearchOptions(), hits=[LastHit.of(hit) for hit in hits])
    assert [hit.rank for hit in union.last_search().hits] == [hit.rank for hit in hits]
    own = parts[2].last_search().hits
    assert {hit.video_id for hit in own} == {hit.video_id for hit in hits} & parts[2].video_ids()


def test_indexes_that_cannot_be_compared_are_named(stores, tmp_path):
    _, parts = stores
    empty = Store.open(tmp_path / "empty", create=True)
    assert search(StoreUnion([*parts, empty]), ENCODER, "dog", SearchOptions())
    other = fill(tmp_path / "other", "v99")
    with other.writer("test"):
        other.delete_vectors(ENCODER.info.fingerprint)
    with pytest.raises(EncoderMismatch, match=r"index at .*other has no vectors"):
        search(StoreUnion([*parts, other]), ENCODER, "dog", SearchOptions())
    with other.writer("test"):
        other.put_encoder_settings("words", {"pool": 2})
    with pytest.raises(StoreError, match=r"other settings in the index at .*other"):
        StoreUnion([parts[0], other]).encoder_settings("words")
    with pytest.raises(UsageError, match="one index"):
        StoreUnion(parts).writer("clamr rm")


def test_merged_indexes_are_one_index(stores, tmp_path):
    whole, parts = stores
    target = Store.open(tmp_path / "target", create=True)
    merged = merge(target, parts)
    assert (merged.videos, merged.files, merged.moments, merged.conflicts) == (9, 9, 18, [])
    assert all_rows(target) == all_rows(whole)
    assert merge(target, parts).videos == 0
    assert all_rows(target) == all_rows(whole)
    assert search(target, ENCODER, "dog rain", SearchOptions()) == search(whole, ENCODER, "dog rain", SearchOptions())


def test_speakers_that_come_get_numbers_of_their_own(tmp_path):
    target, other = fill(tmp_path / "target", "v00"), fill(tmp_path / "other", "v01")
    vector = np.ones(192, np.float16).tobytes()
    for store, video_id, name in ((target, "v00", "Ann"), (other, "v01", "Bo")):
        with store.writer("test"):
            one = moment(video_id, 0, speech=["hello", "voice 1"])
            speech = tuple(replace(line, speaker=who) for line, who in zip(one.speech, (name, "voice 2"), strict=True))
            store.put_video(video(video_id), [replace(one, speech=speech, metadata=speaker_names(speech))])
            store.put_voices(f"{video_id}-content", Voices(((0.0, 9.0, 0), (9.0, 20.0, 1)), (vector, vector), (1, 2)))
            store.put_speakers([Speaker(1, name, vector)])
            store.put_last_speaker(2)
    for _ in range(2):
        merge(target, [other])
        assert {number: one.name for number, one in target.speakers().items()} == {1: "Ann", 3: "Bo"}
        assert target.voices()["v01"].numbers == (3, 4)
        (said,) = target.moments(["v01"])
        assert [(line.speaker, line.text) for line in said.speech] == [("Bo", "hello"), ("voice 4", "voice 1")]
        assert speaking(target, ["4"]) == speaking(target, ["bo"]) == {"v01#0"}
        assert speaking(target, ["2"]) == speaking(target, ["Ann", "2"]) == {"v00#0"}
    union = StoreUnion([Store.open(tmp_path / "target"), other])
    assert (union.speakers()[1].name, sorted(union.voices())) == ("Ann", ["v00", "v01"])
    assert (target.last_speaker(), union.last_speaker()) == (4, 4)


def test_what_indexes_say_differently_is_named_and_the_first_stays(stores, tmp_path):
    _, parts = stores
    other = fill(tmp_path / "other", "v00")
    with other.writer("test"):
        other.put_video(video("v00"), [moment("v00", 0, speech=["another cut"])])
        other.put_labels("v03-content", Labels(("beach",)))
        other.put_files([file("/videos/v01.mp4", "v99")])
        other.put_folders({"/videos": {"language": "fr"}})
        put(other, "v03")
        other.put_labels("v03-content", Labels(("beach",)))
    target = Store.open(tmp_path / "target", create=True)
    before = merge(target, parts)
    with target.writer("test"):
        target.put_folders({"/videos": {}})
    lines = merge(target, [other]).conflicts
    assert before.conflicts == []
    assert [line.split(" in ")[0] for line in lines] == [
        "video v00 has other moments", "video v03 has other tags or notes", "'/videos/v01.mp4' is video v99",
        "'/videos' has other settings",
    ]  # fmt: skip
    assert target.labels(["v03"])["v03"].tags == ("holiday", "beach")
    assert target.moments(["v00"]) == parts[0].moments(["v00"])
    with pytest.raises(UsageError, match="into itself"):
        merge(target, [target])
    with other.writer("test"), pytest.raises(IndexLocked, match="other"):
        merge(target, [other])
