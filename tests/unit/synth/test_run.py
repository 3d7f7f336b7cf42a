"""A run over an index: what is written, in which order, what a second run does, and what is told of trouble."""

import json
from pathlib import Path

import pytest

from clamr_cli.errors import ModelError, UsageError
from clamr_cli.events import GaveUp, Notice, VideoDone
from clamr_cli.index.documents import indexed_videos
from clamr_cli.llm.client import EndpointModel
from clamr_cli.queries import read_lines
from clamr_cli.synth import Outcome, QuerySettled, SynthRun, query_journals
from clamr_cli.synth.prompts import SynthOptions, shipped_examples
from clamr_cli.types import Modality
from tests.unit.llm.endpoint import Asked, Sent, answer, endpoint, error, inventive
from tests.unit.synth import shelf


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return shelf.build(tmp_path_factory.mktemp("shelf") / "index")


def run(store, there, out: Path | None = None, *, workers=3, retries=0, **options):
    """Events of a whole run."""
    model = EndpointModel(there.url, "m", retries=retries, workers=workers, backoff=0.01, timeout=5.0)
    written, rejected = journals = query_journals(out)
    with written, rejected:
        videos, examples = indexed_videos(store), shipped_examples()
        return list(SynthRun(store, model, examples, SynthOptions(**options), journals).events(videos))


def judged(events, outcome=Outcome.WRITTEN):
    return [event for event in events if isinstance(event, QuerySettled) and event.outcome is outcome]


@pytest.mark.slow
def test_every_present_modality_gets_its_query_in_order(store, tmp_path):
    with endpoint() as there:
        events = run(store, there, tmp_path / "q.jsonl")
    queries = read_lines(tmp_path / "q.jsonl")
    assert [query.id for query in queries] == shelf.ALL_IDS
    assert [event.query.id for event in judged(events)] == shelf.ALL_IDS
    assert queries[0].modality is None
    assert queries[1].modality is Modality.VIDEO
    assert queries[0].relevant == {shelf.FERRY: 1}
    assert [event.number for event in events if isinstance(event, VideoDone)] == [1, 2, 3]
    first = json.loads((tmp_path / "q.jsonl").read_text().splitlines()[2])
    assert {name: first[name] for name in ("model", "seed", "prompt")} == {"model": "m", "seed": 0, "prompt": "1"}
    assert first["moment"] in ([0.0, 60.0], [60.0, 120.0])


@pytest.mark.slow
def test_prompts_show_the_modality_and_nothing_else(store):
    with endpoint() as there:
        run(store, there, workers=1)
        base, video, speech, ocr, *_ = there.asked
    assert "Night ferry to Bornholm" in base.user
    assert len(video.images) == 2
    assert ("captain" in speech.user) != ("plates" in speech.user)
    assert "Deck 7 restaurant open" in ocr.user
    assert all("Bornholm" not in asked.user for asked in (video, speech, ocr))
    assert all(asked.user.count("\n- ") == 10 for asked in (base, video, speech, ocr))


@pytest.mark.slow
def test_queries_do_not_depend_on_concurrency_or_on_where_a_run_was_cut(store, tmp_path):
    with endpoint() as there:
        run(store, there, tmp_path / "one.jsonl", workers=1, each=2)
        run(store, there, tmp_path / "many.jsonl", workers=8, each=2)
        whole = (tmp_path / "one.jsonl").read_bytes()
        assert (tmp_path / "many.jsonl").read_bytes() == whole
        lines = whole.splitlines(keepends=True)
        (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:30])
        before = len(there.asked)
        run(store, there, tmp_path / "cut.jsonl", each=2)
        assert len(there.asked) - before == len(lines) - 5
    assert (tmp_path / "cut.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_another_seed_asks_otherwise(store):
    with endpoint() as there:
        run(store, there, workers=1)
        run(store, there, workers=1, seed=1)
        first, second = there.asked[:8], there.asked[8:]
    assert all(one.body["seed"] != other.body["seed"] for one, other in zip(first, second, strict=True))
    assert any(one.user != other.user for one, other in zip(first, second, strict=True))


def test_several_queries_of_a_modality_come_from_different_moments(store):
    with endpoint() as there:
        events = run(store, there, each=2, targets=(Modality.SPEECH,))
    assert sorted(event.record["moment"][0] for event in judged(events)) == [0.0, 60.0]


@pytest.mark.slow
def test_a_failure_is_told_and_only_it_is_asked_again(store, tmp_path):
    def reply(asked: Asked) -> Sent:
        return error(500, "boom") if "Deck 7" in asked.user else inventive(asked)

    out = tmp_path / "q.jsonl"
    with endpoint(reply) as there:
        (failed,) = judged(run(store, there, out), Outcome.FAILED)
        assert failed.query.id == f"{shelf.FERRY}_ocr_1"
        assert failed.reason == "the endpoint answers 500: boom (after one try)"
        there.reply, there.asked[:] = inventive, []
        assert [event.query.id for event in judged(run(store, there, out))] == [failed.query.id]
        assert len(there.asked) == 1
    assert {query.id for query in read_lines(out)} == set(shelf.ALL_IDS)


@pytest.mark.slow
def test_a_bad_answer_is_asked_for_once_more_and_then_dropped_for_good(store, tmp_path):
    out = tmp_path / "q.jsonl"
    with endpoint(lambda _: answer("it is all in the video transcript")) as there:
        events = run(store, there, out, targets=(None,))
        assert [event.reason for event in judged(events, Outcome.DROPPED)] == ["talks about its source"] * 2
        assert len(there.asked) == 4
        assert there.asked[0].body["seed"] != there.asked[1].body["seed"] or there.asked[0].user != there.asked[1].user
        assert run(store, there, out, targets=(None,)) == [VideoDone(n, worked=False) for n in (1, 2, 3)]
        assert len(there.asked) == 4
        assert judged(run(store, there, out, targets=(None,), seed=5), Outcome.DROPPED)
    told = [json.loads(line) for line in (tmp_path / "q.jsonl.rejected").read_text().splitlines()]
    assert told[0]["reason"] == "talks about its source"
    assert told[0]["answer"] == "it is all in the video transcript"


def test_a_second_answer_can_save_a_query(store):
    def reply(asked: Asked) -> Sent:
        return inventive(asked) if asked.body["temperature"] > 0 else answer("see https://example.org")

    with endpoint(reply) as there:
        events = run(store, there, targets=(None,))
    assert [event.attempts for event in judged(events)] == [2, 2]


def test_the_same_query_for_two_videos_is_dropped(store):
    with endpoint(lambda _: answer("something rather general")) as there:
        events = run(store, there, targets=(None,))
    assert [event.outcome for event in events if isinstance(event, QuerySettled)] == [Outcome.WRITTEN, Outcome.DROPPED]


@pytest.mark.slow
def test_a_model_that_takes_no_pictures_skips_video_queries_and_says_so_once(store):
    def reply(asked: Asked) -> Sent:
        return error(400, "image input is not supported") if asked.images else inventive(asked)

    with endpoint(reply) as there:
        events = run(store, there)
        assert len([event for event in events if isinstance(event, Notice)]) == 1
        assert not judged(events, Outcome.FAILED)
        assert [event.query.target for event in judged(events)].count(Modality.VIDEO) == 0
        refused = judged(run(store, there, vision="yes"), Outcome.FAILED)
        assert [event.query.target for event in refused] == [Modality.VIDEO] * 3
        there.asked.clear()
        run(store, there, vision="no")
        assert not any(asked.images for asked in there.asked)


def test_what_failed_is_asked_again_and_what_was_dropped_under_these_settings_is_not(store, tmp_path):
    out = tmp_path / "q.jsonl"
    setup = {"model": "m", "seed": 0, "prompt": "1", "temperature": 0.0}
    lines = [
        {"id": f"{shelf.FERRY}_base_1", "outcome": "dropped", **setup},
        {"id": f"{shelf.BEES}_base_1", "outcome": "failed", **setup},
    ]
    (tmp_path / "q.jsonl.rejected").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"id": "c", "ou')
    with endpoint() as there:
        events = run(store, there, out, targets=(None,))
    assert [event.query.id for event in judged(events)] == [f"{shelf.BEES}_base_1"]


@pytest.mark.slow
def test_an_endpoint_that_always_fails_ends_the_run(store):
    with endpoint(lambda _: error(500, "boom")) as there:
        events = run(store, there, each=9)
    assert isinstance(events[-1], GaveUp)
    assert len(judged(events, Outcome.FAILED)) == 20


def test_nobody_at_the_address_ends_the_run_at_once(store):
    with endpoint() as there:
        pass
    with pytest.raises(ModelError, match="nothing answers"):
        run(store, there)


def test_two_runs_do_not_write_to_one_file(store, tmp_path):
    out = tmp_path / "q.jsonl"
    with query_journals(out)[0], endpoint() as there, pytest.raises(UsageError, match="another run writes"):
        run(store, there, out)
    assert not out.exists()


@pytest.mark.slow
def test_queries_of_another_model_stay_and_are_told_of(store, tmp_path):
    out = tmp_path / "q.jsonl"
    with endpoint() as there:
        run(store, there, out, targets=(None,))
        events = run(store, there, out, seed=9)
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "2 queries of the file were written by another model or with other settings and will stay"
    ]
    assert len(judged(events)) == len(shelf.ALL_IDS) - 2
