"""Searching a stored index: ranking, filters, grouping, times, evidence, explanations, and the errors of misuse."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.search import explain, search, timeline, why_nothing
from clamr_cli.search.search import file_named, files_matching
from clamr_cli.store import Store
from clamr_cli.types import (
    SHOWN_MODALITIES,
    FileRecord,
    FileState,
    Filters,
    Modality,
    SearchOptions,
    Segment,
    Span,
    TimelineEntry,
)  # fmt: skip
from tests.unit.store.samples import HOSTILE, file, video
from tests.unit.words import WordEncoder, moment

ANY = SearchOptions()


@pytest.fixture
def encoder():
    return WordEncoder(similar={"hound": {"dog": 0.8}})


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "index", create=True)


def put(store, encoder, video_id, *moments, frames=(), path=None, duration=120.0, **fields):
    """Store a video; ``frames`` are the words its first moment's frames show."""
    with store.writer("test"):
        store.put_video(video(video_id, duration=duration, **fields), moments)
        store.put_files([file(path or f"/videos/{video_id}.mp4", video_id)])
        store.put_vectors(
            encoder.info, {m.moment_id: encoder.encode(m, frames if m is moments[0] else ()) for m in moments}
        )


@pytest.fixture
def pets(store, encoder):
    """Three videos: a dog said, a dog shown in the second moment, a cat written and noted."""
    put(
        store, encoder, "said", moment("said", speech=["good morning", "a dog barks"]), date="2023-05-01", language="en"
    )
    shown = (moment("shown", 0, frames=1), moment("shown", 1, start=60.0, speech=["dog dog barks loud"]))
    put(store, encoder, "shown", *shown, frames=["tree"], date="2024-02-29", language="de", duration=30.0)
    put(store, encoder, "written", moment("written", ocr=["the cat", "lost"], metadata=["A cat"]), uploader="Ann")
    return store


def ids(hits):
    return [hit.video_id for hit in hits]


def test_videos_are_ranked_by_their_best_moment(pets, encoder):
    hits = search(pets, encoder, "dog barks loud", ANY)
    assert ids(hits) == ["shown", "said", "written"]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == pytest.approx([3.0, 2.0, 0.0])
    first = hits[0]
    assert (first.moment_id, first.span, first.modality) == ("shown#1", Span(60.0, 120.0), Modality.SPEECH)
    assert (first.path, first.title) == ("/videos/shown.mp4", "A title")


def test_a_hit_says_when_which_modality_and_which_words(pets, encoder):
    hit = search(pets, encoder, "dog barks", ANY)[0]
    assert hit.video_id == "said"
    assert hit.at == 10.0
    assert hit.modalities == {
        Modality.VIDEO: None, Modality.SPEECH: pytest.approx(2.0), Modality.OCR: None, Modality.METADATA: None,
    }  # fmt: skip
    assert tuple(hit.modalities) == SHOWN_MODALITIES
    assert [(e.query_token, e.text, e.context, e.span) for e in hit.evidence] == [
        ("dog", "dog", "a dog barks", Span(10.0, 20.0)), ("barks", "barks", "a dog barks", Span(10.0, 20.0)),
    ]  # fmt: skip


def test_a_hit_below_the_floor_is_weak(pets, encoder):
    (best, *_) = search(pets, encoder, "dog", SearchOptions())
    (rows,) = encoder.encode_queries(["dog"])
    level = best.score / len(rows)
    weak = [search(pets, encoder, "dog", SearchOptions(floor=at))[0].weak for at in (level - 0.01, level + 0.01)]
    assert weak == [False, True]


def test_moments_are_listed_one_by_one_when_asked(pets, encoder):
    hits = search(pets, encoder, "dog", SearchOptions(moments=True))
    assert [hit.moment_id for hit in hits] == ["said#0", "shown#1", "shown#0", "written#0"]
    assert [hit.moment_id for hit in search(pets, encoder, "dog", SearchOptions(moments=True, limit=2))] == [
        "said#0", "shown#1",
    ]  # fmt: skip


def test_results_can_be_passed_over(pets, encoder):
    hits = search(pets, encoder, "dog", SearchOptions(moments=True, offset=1, limit=2))
    assert [(hit.rank, hit.moment_id) for hit in hits] == [(2, "shown#1"), (3, "shown#0")]
    assert search(pets, encoder, "dog", SearchOptions(offset=3)) == []
    assert why_nothing(pets, encoder, "dog", SearchOptions(offset=3)).startswith("there are not more than 3 results")


def test_a_combined_query_must_be_answered_by_one_moment(pets, encoder):
    hits = search(pets, encoder, "dog", SearchOptions(also=("barks loud",), moments=True))
    assert [(hit.moment_id, round(hit.score, 4)) for hit in hits[:2]] == [("shown#1", 3.0), ("said#0", 1.5)]
    assert [part.query_token for part in hits[0].evidence] == ["dog", "barks", "loud"]
    assert explain(pets, encoder, "said", "dog", SearchOptions(also=("barks loud",))).hit.rank == 2


def test_a_negation_leaves_out_moments_in_which_its_words_stand(pets, encoder):
    hits = search(pets, encoder, "dog", SearchOptions(without=("loud",), moments=True))
    assert [hit.moment_id for hit in hits] == ["said#0", "shown#0", "written#0"]
    # Whole words, in one modality and one after another.
    for text in ("lou", '"barks dog"', '"dog loud"'):
        assert len(search(pets, encoder, "dog", SearchOptions(without=(text,), moments=True))) == 4
    assert search(pets, encoder, "dog", SearchOptions(without=("dog", "cat", '"lost"', "tree"), moments=True)) == []


def test_a_negation_leaves_out_moments_that_show_it(store, encoder):
    for number in range(12):
        shown = "snow" if number == 3 else f"tree{number}"
        put(store, encoder, f"v{number:02}", moment(f"v{number:02}", frames=1, speech=["hill"]), frames=[shown])
    assert "v03" in ids(search(store, encoder, "hill", SearchOptions(limit=20)))
    left = ids(search(store, encoder, "hill", SearchOptions(limit=20, without=("snow",))))
    assert left == [f"v{number:02}" for number in range(12) if number != 3]
    # In quotation marks it goes by the words, and they stand nowhere.
    assert len(search(store, encoder, "hill", SearchOptions(limit=20, without=('"snow"',)))) == 12
    with pytest.raises(UsageError, match="the negation"):
        explain(store, encoder, "v03", "hill", SearchOptions(without=("snow",)))


def test_ties_are_in_the_order_of_ids_and_moments(store, encoder):
    for video_id in ("b", "c", "a"):
        parts = [moment(video_id, n, speech=["dog"], start=60.0 * n) for n in (10, 2, 0)]
        put(store, encoder, video_id, *parts)
    assert ids(search(store, encoder, "dog", ANY)) == ["a", "b", "c"]
    hits = search(store, encoder, "dog", SearchOptions(moments=True))
    assert [hit.moment_id for hit in hits] == [f"{v}#{n}" for v in "abc" for n in (0, 2, 10)]


@pytest.mark.slow
def test_scores_equal_a_plain_loop_over_what_is_stored(store):
    rng = np.random.default_rng(3)
    encoder = WordEncoder()
    words = [f"w{n}" for n in range(40)]
    for number in range(30):
        speech = [" ".join(rng.choice(words, 5)) for _ in range(int(rng.integers(0, 4)))]
        put(store, encoder, f"v{number:02}", moment(f"v{number:02}", speech=speech, ocr=[str(rng.choice(words))]))
    query = encoder.encode_queries(["w1 w2 w3 w4 w5 w6"])[0].vectors.astype(np.float64)
    expected = {
        moment_id: (query @ item.vectors.astype(np.float64).T).max(axis=1).sum()
        for moment_id, item in store.scan_vectors(encoder.info.fingerprint)
    }
    hits = search(store, encoder, "w1 w2 w3 w4 w5 w6", SearchOptions(limit=100))
    assert {hit.moment_id: hit.score for hit in hits} == pytest.approx(expected)
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)


@pytest.mark.slow
def test_modalities_and_weights_change_who_wins(store, encoder):
    put(store, encoder, "spoken", moment("spoken", speech=["dog"], ocr=["x"]))
    put(store, encoder, "printed", moment("printed", ocr=["dog"], speech=["x"]))
    assert ids(search(store, encoder, "dog", SearchOptions(weights={Modality.SPEECH: 2.0}))) == ["spoken", "printed"]
    weighted = search(store, encoder, "dog", SearchOptions(weights={Modality.OCR: 3.0}))
    assert ids(weighted) == ["printed", "spoken"]
    assert weighted[0].score == weighted[0].modalities[Modality.OCR] == pytest.approx(3.0)
    assert weighted[0].evidence[0].similarity == pytest.approx(1.0)
    for options in (
        SearchOptions(modalities=(Modality.SPEECH,)), SearchOptions(weights={Modality.OCR: 0.0})
    ):  # fmt: skip
        hits = search(store, encoder, "dog", options)
        assert ids(hits) == ["spoken", "printed"]
        assert [hit.score for hit in hits] == pytest.approx([1.0, 0.0])
        assert {hit.modality for hit in hits} == {Modality.SPEECH}
        assert {hit.modalities[Modality.OCR] for hit in hits} == {None}


def test_moments_without_the_modality_asked_for_do_not_answer(pets, encoder):
    assert ids(search(pets, encoder, "dog", SearchOptions(modalities=(Modality.OCR,)))) == ["written"]
    assert search(pets, encoder, "dog", SearchOptions(modalities=(Modality.AUDIO,))) == []


def test_modality_max_wants_all_words_in_one_modality(store, encoder):
    put(store, encoder, "together", moment("together", speech=["dog barks"]))
    put(store, encoder, "apart", moment("apart", speech=["dog"], ocr=["barks loud"]))
    hits = search(store, encoder, "dog barks loud", SearchOptions(scoring="modality-max"))
    assert [hit.score for hit in hits] == pytest.approx([2.0, 2.0])
    assert ids(search(store, encoder, "dog barks loud", ANY)) == ["apart", "together"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(since="2024-01-01"), {"shown"}),
        (Filters(since="2023-05-01", until="2023-05-01"), {"said"}),
        (Filters(until="2024"), {"said", "shown"}),
        (Filters(since="2024-02", until="2024-02"), {"shown"}),
        (Filters(longer=60), {"said", "written"}),
        (Filters(shorter=30), {"shown"}),
        (Filters(language="EN"), {"said"}),
        (Filters(language="de-AT"), {"shown"}),
        (Filters(path="*/said.*"), {"said"}),
        (Filters(path="/videos"), {"said", "shown", "written"}),
        (Filters(path="s*.mp4"), {"said", "shown"}),
        (Filters(videos=("sa", "written")), {"said", "written"}),
        (Filters(videos=("said",), language="de"), set()),
    ],
)
def test_filters_decide_who_may_answer(pets, encoder, filters, found):
    assert set(ids(search(pets, encoder, "dog", SearchOptions(filters=filters)))) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(since="2019-06"), {"year", "day"}),
        (Filters(until="2019-06"), {"year", "month"}),
        (Filters(since="2019-05-31", until="2019-05-31"), {"year", "month"}),
        (Filters(since="2020"), set()),
        (Filters(until="2018-12-31"), set()),
    ],
)
def test_a_date_of_which_less_is_known_passes_where_one_of_its_days_does(store, encoder, filters, found):
    for name, date in (("year", "2019"), ("month", "2019-05"), ("day", "2019-07-04"), ("none", "")):
        put(store, encoder, name, moment(name, speech=["dog"]), date=date)
    assert set(ids(search(store, encoder, "dog", SearchOptions(filters=filters)))) == found


@pytest.mark.parametrize(
    "filters", [{"since": "2024", "until": "2023-12"}, {"since": "2024-05-02", "until": "2024-05-01"},
                {"longer": 60.0, "shorter": 30.0}]
)  # fmt: skip
def test_filters_that_no_video_can_pass_are_refused(filters):
    with pytest.raises(UsageError, match=r"later than|more than"):
        Filters(**filters)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "options", "reason"),
    [
        ("dog", {"filters": Filters(since="2025")}, "--since 2025 leaves 0 (1 without a date) of 3 videos"),
        ("dog", {"filters": Filters(language="fr")},
         "--language fr leaves 0 (there are en: 1, de: 1, unknown: 1) of 3 videos"),
        ("dog", {"filters": Filters(language="de", longer=60.0)},
         "--longer 1:00 leaves 2, --language de leaves 1 of 3 videos, together 0"),
        ('"a bird"', {}, '"a bird" stands in no moment of the 3 videos'),
        ('"dog" "cat"', {}, '"dog" and "cat" stand in no moment of the 3 videos together'),
        ('"cat"', {"filters": Filters(language="en")},
         '"cat" stands in no moment of the 1 of 3 videos that the filters leave'),
        ("dog", {"modalities": (Modality.AUDIO,)}, "none of the 3 videos has audio"),
    ],
)  # fmt: skip
def test_an_empty_answer_has_a_reason(pets, encoder, query, options, reason):
    assert search(pets, encoder, query, SearchOptions(**options)) == []
    assert why_nothing(pets, encoder, query, SearchOptions(**options)) == reason


def matching(pattern, *paths):
    files = [FileRecord(path, "/", "v", 1, 1, FileState.INDEXED) for path in paths]
    return [file.path for file in files_matching(files, pattern)]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("/home/me/trips", True), ("/home/me/trips/", True), ("trips", True), ("trips/*.mp4", True), ("*.mp4", True),
        ("/home/*/a.mp4", True), ("me/*/a.*", True), ("/home/me", True), ("rips", False), ("/trips", False),
        ("*.mkv", False), ("A.mp4", False), ("[ab].mp4", True), ("/home/me/tri", False),
    ],
)  # fmt: skip
def test_path_globs(pattern, matches):
    assert bool(matching(pattern, "/home/me/trips/a.mp4")) is matches


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/v/[2019] Trip/a.mp4", "[2019] Trip"), ("/v/[2019] Trip/a.mp4", "/v/[2019] Trip"),
        ("/v/[2019] Trip/a.mp4", "[2019]*/*.mp4"), ("/v/9 Trip/a.mp4", "[2019] Trip"), ("/v/x [id].mp4", "* [id].mp4"),
        ("/v/cafe\u0301/a.mp4", "café"), ("/v/café/a.mp4", "cafe\u0301/*"), ("/v/Anna\u2019s/a.mp4", "Anna's"),
        ("/v/2019 \u2013 Rome/a.mp4", "2019 - Rome"), ("/v/a\u00a0b.mp4", "a b.*"),
    ],
)  # fmt: skip
def test_path_globs_match_names_as_people_read_them(path, pattern):
    assert matching(pattern, path, "/v/other2019.mp4") == [path]


def test_brackets_of_names_go_before_sets_of_characters():
    paths = ["/v1/[2019] Trip/a.mp4", "/v1/1990.mp4"]
    assert matching("*[2019]*", *paths) == paths[:1]
    assert matching("*[0-9].mp4", *paths) == paths[1:]


def test_a_file_is_found_by_a_name_that_reads_the_same():
    files = [file(path, "v") for path in ("/v/cafe\u0301.mp4", "/v/It\u2019s.mp4", "/v/It's.mp4")]
    assert file_named(files, "/v/café.mp4") == files[0]
    assert file_named(files, "/v/It's.mp4") == files[2]
    assert file_named(files, "/v/It\u02bcs.mp4") is None
    assert file_named(files, "/v/Café.mp4") is None


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"weights": {Modality.OCR: -1.0}},
        {"weights": {Modality.OCR: np.nan}},
        {"weights": dict.fromkeys(Modality, 0.0)},
        {"weights": {one: 0.0 for one in Modality if one is not Modality.AUDIO}},
        {"modalities": (Modality.OCR,), "weights": {Modality.OCR: 0.0}},
    ],
)
def test_options_that_would_find_nothing_are_refused(options):
    with pytest.raises(UsageError):
        SearchOptions(**options)


@pytest.mark.parametrize("filters", [{"since": "yesterday"}, {"until": "2024-13"}, {"longer": np.nan}])
def test_filters_that_cannot_be_understood_are_refused(filters):
    with pytest.raises(UsageError, match="invalid --"):
        Filters(**filters)


def test_a_filter_that_names_an_unknown_video_is_refused(pets, encoder):
    with pytest.raises(UsageError):
        search(pets, encoder, "dog", SearchOptions(filters=Filters(videos=("unknown",))))


def test_an_empty_query_is_refused_before_anything_is_encoded(pets, encoder):
    with pytest.raises(UsageError, match="empty"):
        search(pets, encoder, " \n", ANY)
    assert encoder.asked == []


def test_an_empty_index_answers_nothing(store, encoder):
    assert search(store, encoder, "dog", ANY) == []


def test_another_encoder_is_refused_with_what_the_index_has(pets, encoder):
    stranger = WordEncoder("stranger")
    with pytest.raises(EncoderMismatch, match=r"no vectors of encoder stranger; .* words \(words-fi, 4 moments\)") as e:
        search(pets, stranger, "dog", ANY)
    assert e.value.hint == "clamr index --encoder stranger"
    assert stranger.asked == []
    newer = WordEncoder()
    newer.info = replace(newer.info, fingerprint="newer")
    with pytest.raises(EncoderMismatch, match="no vectors of this version of encoder words"):
        search(pets, newer, "dog", ANY)


def test_the_path_shown_is_one_that_exists(store, encoder, tmp_path):
    real = tmp_path / "z.mp4"
    real.write_bytes(b"x")
    put(store, encoder, "v1", moment("v1", speech=["dog"]), path="/gone/a.mp4")
    assert search(store, encoder, "dog", ANY)[0].path == "/gone/a.mp4"
    with store.writer("test"):
        store.put_files([file(os.fspath(real), "v1"), file("/gone/0.mp4", "v1", FileState.MISSING)])
    assert search(store, encoder, "dog", ANY)[0].path == os.fspath(real)
    real.unlink()
    assert search(store, encoder, "dog", ANY)[0].path == "/gone/a.mp4"
    with store.writer("test"):
        store.delete_files(["/gone/a.mp4", "/gone/0.mp4", os.fspath(real)])
    assert search(store, encoder, "dog", ANY)[0].path == ""


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_found_and_shown_as_they_are(store, encoder, text):
    line = f"dog {text}"
    put(store, encoder, "v1", moment("v1", speech=[line]), title=text, path=f"/videos/{text}.mp4")
    hit = search(store, encoder, f"dog {text}", SearchOptions(filters=Filters(path="/videos/*")))[0]
    assert (hit.title, hit.path) == (text, f"/videos/{text}.mp4")
    assert hit.evidence[0].text == "dog"
    assert explain(store, encoder, "v1", f"dog {text}", ANY).hit == hit


@pytest.mark.slow
def test_explain_agrees_with_search_and_says_what_each_modality_is_worth(store, encoder):
    put(store, encoder, "both", moment("both", speech=["dog"], ocr=["barks"]))
    put(store, encoder, "heard", moment("heard", speech=["dog"]))
    put(store, encoder, "near", moment("near", speech=["hound"], ocr=["tree"]))
    told = explain(store, encoder, "both", "dog barks", SearchOptions(limit=1, moments=True))
    assert told.hit == search(store, encoder, "dog barks", ANY)[0]
    assert (told.hit.rank, told.total) == (1, 3)
    assert told.shares == pytest.approx({Modality.OCR: 0.5, Modality.SPEECH: 0.5})
    assert [word.query_token for word in told.words] == ["dog", "barks"]
    assert told.words[0].best.modality is Modality.SPEECH
    assert told.words[0].by_modality[Modality.OCR].similarity == pytest.approx(0.0)
    what_if = {w.modality: (w.score, w.rank) for w in told.what_if}
    assert set(what_if) == set(SHOWN_MODALITIES)
    assert what_if[Modality.OCR] == (pytest.approx(1.0), 1)
    assert what_if[Modality.SPEECH] == (pytest.approx(1.0), 1)
    assert what_if[Modality.VIDEO] == (pytest.approx(2.0), 1)
    third = explain(store, encoder, "near", "dog barks", ANY)
    assert third.hit.rank == 3
    assert {w.modality: w.rank for w in third.what_if}[Modality.SPEECH] == 2
    alone = explain(store, encoder, "heard", "dog barks", ANY)
    assert {w.modality: (w.score, w.rank) for w in alone.what_if}[Modality.SPEECH] == (None, None)


def test_explain_keeps_to_the_options_of_the_search(store, encoder):
    put(store, encoder, "v1", moment("v1", speech=["dog"], ocr=["dog barks"]), language="en")
    told = explain(store, encoder, "v1", "dog barks", SearchOptions(modalities=(Modality.SPEECH,)))
    assert told.hit.score == pytest.approx(1.0)
    assert [w.modality for w in told.what_if] == [Modality.SPEECH]
    with pytest.raises(UsageError, match="filters of the search leave out video v1"):
        explain(store, encoder, "v1", "dog", SearchOptions(filters=Filters(language="de")))
    with pytest.raises(UsageError, match="nothing of video v1 can answer"):
        explain(store, encoder, "v1", "dog", SearchOptions(modalities=(Modality.METADATA,)))
    with pytest.raises(UsageError, match="no video"):
        explain(store, encoder, "unknown", "dog", ANY)


def test_the_timeline_names_everything_once_in_order(store, encoder):
    title = Segment(Span(0.0, 120.0), "A day out", "title")
    parts = [
        replace(moment("v1", n, frames=1, speech=[f"line {n}"], start=60.0 * n), metadata=(title,)) for n in (0, 1)
    ]
    put(store, encoder, "v1", *parts, frames=["tree"])
    told = timeline(store, "v1")
    assert told.video.video_id == "v1"
    assert [f.path for f in told.files] == ["/videos/v1.mp4"]
    assert told.moments == (Span(0.0, 60.0), Span(60.0, 120.0))
    assert told.entries == (
        TimelineEntry(Modality.VIDEO, Span(0.0, 10.0), ""),
        TimelineEntry(Modality.SPEECH, Span(0.0, 10.0), "line 0", "test"),
        TimelineEntry(Modality.METADATA, Span(0.0, 120.0), "A day out", "title"),
        TimelineEntry(Modality.VIDEO, Span(60.0, 70.0), ""),
        TimelineEntry(Modality.SPEECH, Span(60.0, 70.0), "line 1", "test"),
    )
    with pytest.raises(UsageError, match="no video"):
        timeline(store, "v2")
