"""An index and a collection: the rankings are those of ``clamr search``."""

from pathlib import Path

import numpy as np
import pytest

from clamr_cli import encoders
from clamr_cli.encoders.mini.encoder import SentenceModel
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.evaluate import data, systems
from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.run import Evaluation, EvaluationOptions, evaluate, evaluate_runs
from clamr_cli.queries import LabelledQuery
from clamr_cli.search import search
from clamr_cli.store import Store
from clamr_cli.types import MODALITY_IDS, Document, Encoder, Filters, Modality, SearchOptions, Segment, Span
from tests.unit.cli import small_index
from tests.unit.cli.small_index import BEES, LAGOS, SALE
from tests.weights import absent

TEXTS = ("the crowd is marching", "bees dance", "sale", "no more yellow", "toll gate speech", "green crowd")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("evaluated") / "index"
    small_index.build(folder)
    return Store.open(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return encoders.create("hashed", cache=tmp_path_factory.mktemp("cache"))


def evaluated(store: Store, encoder: Encoder, *queries: LabelledQuery, **options: object) -> Evaluation:
    asked = EvaluationOptions(**{"measures": ("nDCG@10", "R@1"), "sampling": Sampling(50), **options})  # type: ignore[arg-type]
    return evaluate(store, encoder, queries, asked)


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["token-max", "modality-max"])
def test_rankings_scores_and_winners_are_those_of_a_search(store: Store, encoder: Encoder, scoring: str) -> None:
    queries = [LabelledQuery(text, text, None, {LAGOS: 1, BEES: 1, SALE: 1}) for text in TEXTS]
    runs = {run.name: run for run in evaluated(store, encoder, *queries, scoring=scoring).runs}
    for place, text in enumerate(TEXTS):
        length = len(encoder.encode_queries([text])[0])
        hits = search(store, encoder, text, SearchOptions(scoring=scoring))  # type: ignore[arg-type]
        answer = runs["hashed joint"].rankings[place]
        assert list(answer.documents) == [hit.video_id for hit in hits]
        assert list(answer.scores) == pytest.approx([hit.score / length for hit in hits], abs=1e-5)
        assert list(answer.winners) == [MODALITY_IDS[hit.modality] if hit.modality else 0 for hit in hits]
        for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA):
            alone = search(store, encoder, text, SearchOptions(modalities=(modality,)))
            assert list(runs[f"hashed {modality}"].rankings[place].documents) == [hit.video_id for hit in alone]


def test_texts_are_searched_by_their_words(store: Store, encoder: Encoder) -> None:
    outcome = evaluated(store, encoder, LabelledQuery("a", "protest crowd", None, {LAGOS: 1}))
    bm25 = next(run for run in outcome.runs if run.name.startswith("BM25"))
    assert bm25.rankings[0].documents == (LAGOS, BEES)


def test_a_label_routes_the_oracle(store: Store, encoder: Encoder) -> None:
    query = LabelledQuery("a", "sale bees", Modality.OCR, {SALE: 1})
    runs = {run.name: run for run in evaluated(store, encoder, query).runs}
    assert runs["hashed oracle router"].rankings == runs["hashed ocr"].rankings


def test_documents_go_by_the_collections_names_and_strangers_are_told(store: Store, encoder: Encoder) -> None:
    queries = [
        LabelledQuery("a", "bees", None, {"bees.mkv": 1}),
        LabelledQuery("b", "crowd", None, {"copy of lagos.mp4": 1, "gone.mp4": 1}),
        LabelledQuery("c", "x", None, {"gone.mp4": 1}),
    ]
    outcome = evaluated(store, encoder, *queries, baselines=False)
    assert outcome.runs[0].rankings[0].documents[0] == "bees.mkv"
    assert outcome.task.qrels["b"] == {"copy of lagos.mp4": 1, "gone.mp4": 1}
    assert (outcome.unknown, outcome.lost) == (["gone.mp4"], ["c"])
    assert outcome.report.systems[0].means["R@1"] == pytest.approx((1 + 0.5 + 0) / 3)
    judged = evaluated(store, encoder, *queries, baselines=False, judged_only=True)
    assert judged.report.systems[0].means["R@1"] == 1.0
    for judged_only in (False, True):
        with pytest.raises(UsageError, match=r"none of the videos that answer \(gone\.mp4\)"):
            evaluated(store, encoder, queries[2], judged_only=judged_only)


def test_filters_choose_the_pool(store: Store, encoder: Encoder) -> None:
    query = LabelledQuery("a", "crowd", None, {LAGOS: 1})
    outcome = evaluated(store, encoder, query, filters=Filters(path="lagos.mp4"))
    assert {answer.documents for run in outcome.runs for answer in run.rankings} <= {(LAGOS,), ()}
    with pytest.raises(UsageError, match="no video"):
        evaluated(store, encoder, query, filters=Filters(path="nowhere"))


def test_runs_of_others_go_by_any_name_of_a_video(store: Store, encoder: Encoder) -> None:
    query = LabelledQuery("a", "bees", None, {"bees.mkv": 1})
    other = {"a": [("nature/bees.mkv", 2.0), ("lagos", 1.0), ("stranger", 0.5)]}
    options = EvaluationOptions(("RR",), baselines=False)
    outcome = evaluate(store, encoder, [query], options, others={"theirs": other})
    assert outcome.runs[1].rankings[0].documents == ("bees.mkv", LAGOS)
    assert outcome.report.systems[1].means == {"RR": 1.0}
    assert "stranger" in outcome.notes[0]


def test_ids_that_were_encoded_for_a_run_are_understood(store: Store, encoder: Encoder) -> None:
    query = LabelledQuery("a", "crowd", None, {LAGOS: 1})
    other = {"a": [("copy%20of%20lagos.mp4", 2.0)]}
    options = EvaluationOptions(("RR",), baselines=False)
    outcome = evaluate(store, encoder, [query], options, others={"theirs": other})
    assert outcome.runs[1].rankings[0].documents == (LAGOS,)
    assert outcome.notes == []


def test_a_run_is_scored_without_an_index_by_the_names_it_was_written_with(tmp_path: Path) -> None:
    named = {"a b": "my trip.mp4", "c": "50% off.mp4", "d": "caf\udce9.mp4"}
    queries = [LabelledQuery(name, "x", None, {video: 1}) for name, video in named.items()]
    run = tmp_path / "ours.trec"
    run.write_text("".join(data.run_lines({name: [(video, 1.0)] for name, video in named.items()}, "ours")))
    outcome = evaluate_runs({"ours": data.read_run(run)}, queries, EvaluationOptions(("RR",)))
    assert outcome.report.systems[0].means == {"RR": 1.0}


def test_without_the_models_the_baselines_of_sentences_are_left_out_aloud(store: Store, encoder: Encoder) -> None:
    def absent_models() -> SentenceModel:
        raise ModelError("no weights here", "fetch them")

    options = EvaluationOptions(("RR",))
    query = LabelledQuery("a", "bees", None, {BEES: 1})
    outcome = evaluate(store, encoder, [query], options, sentences=absent_models)
    assert any("no weights here" in note for note in outcome.notes)
    assert any("pictures" in note for note in outcome.notes)


def test_without_context_each_modality_is_a_document() -> None:
    segment = Segment(Span(0.0, 1.0), "a line")
    whole = Document("v#0", Span(0.0, 9.0), speech=(segment,), metadata=(segment,))
    parts = systems.split(whole)
    assert [(part.speech, part.metadata) for part in parts] == [((segment,), ()), ((), (segment,))]
    assert systems.split(Document("v#0", Span(0.0, 9.0))) == []


def test_apart_and_joint_agree_for_an_encoder_that_sees_no_context(encoder: Encoder) -> None:
    line = Segment(Span(0.0, 1.0), "bees dance")
    documents = [Document("v#0", Span(0.0, 9.0), speech=(line,), metadata=(line,)), Document("w#0", Span(0.0, 9.0))]
    packed = systems.encode_separately(encoder, documents)
    joint = encoder.encode_documents(documents)
    assert packed.moment_ids == ["v#0", "w#0"]
    assert packed.indptr.tolist() == [0, len(joint[0]), len(joint[0])]
    pairs = zip(sorted(packed.vectors.tolist()), sorted(joint[0].vectors.astype(np.float16).tolist()), strict=True)
    assert all(one == other for one, other in pairs)


@pytest.mark.slow
def test_sentences_find_what_means_the_same(tmp_path: Path) -> None:
    if missing := absent():
        pytest.skip(f"the [offline] extra is not installed: {', '.join(missing)}")
    space = SentenceModel.create(cache=tmp_path, device="cpu", threads=1)
    baselines = systems.SentenceBaselines(space)
    cat = Segment(Span(0.0, 1.0), "The cat sleeps on the sofa.")
    bank = Segment(Span(0.0, 1.0), "Shares of the bank fell on Monday.")
    baselines.add([Document("a#0", Span(0.0, 1.0), speech=(cat,))])
    baselines.add([Document("b#0", Span(0.0, 1.0), speech=(bank,), metadata=(cat,))])
    query = LabelledQuery("q", "a kitten is napping", Modality.SPEECH, {"a": 1})
    runs = {run.name: run for run in baselines.runs([query], ["a", "b"])}
    names = ("speech", "metadata", "mean", "max", "RRF", "oracle router")
    assert list(runs) == [f"sentences {name}" for name in names]
    (speech,), (metadata,) = runs["sentences speech"].rankings, runs["sentences metadata"].rankings
    assert speech.documents == ("a", "b")
    assert speech.scores[0] > speech.scores[1] + 0.2
    assert metadata.documents == ("b",)
