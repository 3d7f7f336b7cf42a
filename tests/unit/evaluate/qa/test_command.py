"""``clamr eval qa`` as people call it: collections of our own making, an endpoint that knows what it is shown."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from clamr_cli.evaluate.qa import MOST_FAILURES
from tests.clips import Clip
from tests.unit.ask import footage
from tests.unit.ask.test_command import only_sound
from tests.unit.cli.conftest import Clamr, Ended, clamr, home  # noqa: F401 -- fixtures
from tests.unit.cli.test_golden import compare
from tests.unit.llm.endpoint import Asked, Sent, answer, endpoint, error

MARKET = ((2.0, 5.0, "apples cost three crowns"), (15.0, 18.0, "the stall closes at five"))
QUESTIONS = (
    ("harbour", "q1", "when does the ferry leave?", ("at noon", "at five", "never"), "A"),
    ("harbour", "q2", "what is the cat called?", ("Anna", "Minka", "Otto"), "B"),
    ("market", "q3", "when does the stall close?", ("at noon", "at five", "never"), "B"),
)


def knowing(asked: Asked) -> Sent:
    """Answers what it can read off the lines it is shown, and else with a letter that is no choice."""
    for clue, letter in (("leaves at noon", "A"), ("called Minka", "B"), ("closes at five", "B")):
        if clue in asked.user and any(word in asked.user.rsplit("Question:", 1)[1] for word in clue.split()[-1:]):
            return answer(letter)
    return answer("I do not know")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Video-MME's layout: questions as JSON, videos and subtitles in folders of their own; an index beside."""
    place = tmp_path_factory.mktemp("collection")
    (place / "data").mkdir()
    (place / "subtitle").mkdir()
    footage.film(place / "data" / "harbour.mp4")
    footage.subtitles(place / "subtitle" / "harbour.srt")
    footage.film(place / "data" / "market.mp4", ("clock", "coffee", "rocket", "cat"))
    footage.subtitles(place / "subtitle" / "market.srt", MARKET)
    records = [
        {
            "videoID": video, "duration": "short" if video == "market" else "long", "question_id": name,
            "question": text, "options": [f"{'ABC'[n]}. {one}" for n, one in enumerate(choices)], "answer": letter,
        }
        for video, name, text, choices, letter in QUESTIONS
    ]  # fmt: skip
    (place / "mme.json").write_text(json.dumps(records))
    return place


@pytest.fixture
def qa(clamr: Clamr, collection):  # noqa: F811
    def call(*arguments: str, there=None, data: str = "mme.json") -> Ended:
        where = ["--base-url", there.url, "--model", "m", "--retries", "0"] if there else []
        options = (*footage.CHEAP, "-q", "--bootstrap", "200", *where)
        return clamr("--db", str(collection / "index"), "eval", "qa", str(collection / data), *arguments, *options)

    return call


def rows(ended: Ended) -> dict[str, dict]:
    return {row["strategy"]: row for row in map(json.loads, ended.out.splitlines())}


@pytest.mark.slow
def test_strategies_side_by_side(qa):
    with endpoint(knowing) as there:
        ended = qa("-k", "3", "--dense-frames", "5", "--json", there=there)
        shown = [len(asked.images) for asked in there.asked]
    assert ended.code == 0
    found = rows(ended)
    assert list(found) == [
        "uniform", "dense", "clamr", "clamr+speech",
        "uniform+subs", "dense+subs", "clamr+subs", "clamr+speech+subs",
    ]  # fmt: skip
    # Who is told nothing of what is said cannot know it; frames ranked by speech come with the lines that answer.
    assert [found[name]["accuracy"]["all"]["mean"] for name in ("uniform", "dense", "clamr", "clamr+speech")] == [
        0.0
    ] * 4
    assert [found[name]["unclear"] for name in ("uniform", "dense", "clamr", "clamr+speech")] == [3] * 4
    assert found["clamr+speech+subs"]["accuracy"]["all"]["mean"] == 1.0
    assert {group: share["questions"] for group, share in found["dense"]["accuracy"].items()} == {
        "all": 3, "long": 2, "short": 1,
    }  # fmt: skip
    assert sorted(set(shown)) == [3, 5]
    assert len(shown) == 3 * 8


@pytest.mark.slow
def test_the_table(qa):
    with endpoint(knowing) as there:
        ended = qa("-k", "3", "--strategy", "uniform,clamr+speech+subs", "--table", there=there)
    compare("eval.qa.table", re.sub(rb"(?m) +$", b"", ended.out))
    with endpoint(knowing) as there:
        ended = qa("-k", "3", "--strategy", "uniform,clamr+speech+subs", there=there)
    compare("eval.qa.tsv", ended.out)


@pytest.mark.slow
def test_a_second_run_has_nothing_left_to_ask_and_says_the_same(qa, tmp_path):
    arguments = ("-k", "3", "--strategy", "clamr,uniform+subs", "--json", "--out", str(tmp_path / "r.jsonl"))
    with endpoint(knowing) as there:
        first = qa(*arguments, there=there)
        written = (tmp_path / "r.jsonl").read_bytes()
        again = qa(*arguments, there=there)
        assert len(there.asked) == 6
    assert (again.out, again.code) == (first.out, 0)
    assert (tmp_path / "r.jsonl").read_bytes() == written
    with endpoint(knowing) as there:
        other = qa(*arguments, "--seed", "5", there=there)
        assert len(there.asked) == 6
    assert other.err.splitlines()[0] == (
        "6 results of the file made with other settings or for other questions: left there, and not counted"
    )


@pytest.mark.slow
def test_another_question_with_the_same_id_is_asked(qa, collection, tmp_path):
    arguments = ("-k", "1", "--strategy", "clamr+speech+subs", "--json", "--out", str(tmp_path / "r.jsonl"))
    records = json.loads((collection / "mme.json").read_text())
    (collection / "other.json").write_text(json.dumps([*records[:2], records[2] | {"answer": "A"}]))
    with endpoint(knowing) as there:
        assert rows(qa(*arguments, there=there))["clamr+speech+subs"]["accuracy"]["all"]["mean"] == 1.0
        ended = qa(*arguments, data="other.json", there=there)
        assert len(there.asked) == 3 + 1
    assert rows(ended)["clamr+speech+subs"]["accuracy"]["all"]["mean"] == round(2 / 3, 4)
    assert ended.err.splitlines() == [
        "1 result of the file made with other settings or for other questions: left there, and not counted",
        "accuracy over 3 questions with 95 % intervals; p: against clamr+speech+subs",
    ]


@pytest.mark.slow
def test_results_do_not_depend_on_how_many_are_asked_at_once(qa, tmp_path):
    with endpoint(knowing) as there:
        for name, count in (("one", "1"), ("four", "4")):
            qa("-k", "2", "--out", str(tmp_path / name), "--concurrency", count, there=there)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "four").read_bytes()


@pytest.mark.slow
def test_what_failed_is_told_does_not_count_and_is_tried_again(qa, tmp_path):
    arguments = ("-k", "2", "--strategy", "clamr+speech+subs", "--json", "--out", str(tmp_path / "r.jsonl"))
    with endpoint(lambda asked: error(500, "boom \x1b[2J") if "cat" in asked.user else knowing(asked)) as there:
        ended = qa(*arguments, there=there)
    assert ended.code == 3
    assert ended.err.splitlines()[0] == (
        r"failed harbour, question q2: the endpoint answers 500: boom \x1b[2J (after one try)"
    )
    row = rows(ended)["clamr+speech+subs"]
    assert (row["failed"], row["accuracy"]["all"]["questions"]) == (1, 2)
    with endpoint(knowing) as there:
        ended = qa(*arguments, there=there)
        assert len(there.asked) == 1
    assert ended.code == 0
    assert rows(ended)["clamr+speech+subs"]["accuracy"]["all"]["questions"] == 3


@pytest.mark.slow
def test_an_endpoint_that_is_down_ends_the_run_with_what_there_is(qa, tmp_path):
    with endpoint() as there:
        pass
    ended = qa("--out", str(tmp_path / "r.jsonl"), there=there)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, b"", 1)
    assert "nothing answers at" in ended.err
    with endpoint(lambda _: error(503, "busy")) as there:
        ended = qa("-k", "1", "--concurrency", "1", there=there)
    assert ended.code == 3
    assert f"stopped after {MOST_FAILURES} failures in a row; with --out FILE a run can go on later" in ended.err


@pytest.mark.slow
def test_without_a_model_the_choice_of_frames_is_measured(qa, collection):
    head = {"video": "harbour", "subtitles": "harbour.srt"}
    lines = [
        head | {"id": "a", "question": "ferry leaves", "windows": [[6.5, 9.5]]},
        head | {"id": "b", "question": "Minka the cat", "windows": [[19, 22]]},
    ]
    (collection / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = qa("-k", "1", "--json", "--context", "0", data="own.jsonl")
    found = rows(ended)
    assert ended.code == 0
    assert list(found) == ["uniform", "dense", "clamr", "clamr+speech"]
    assert (found["uniform"]["selection"]["recall"], found["dense"]["selection"]["recall"]) == (0.0, 1.0)
    assert found["clamr+speech"]["selection"]["recall"] == found["clamr+speech"]["selection"]["precision"] == 1.0
    assert set(found["clamr+speech"]["selection"]) == {
        "recall", "precision", "R1@0.5", "R1@0.7", "mAP@0.5", "mAP@0.75", "mAP",
    }  # fmt: skip
    assert all(not row["accuracy"] for row in found.values())


@pytest.mark.slow
def test_qvhighlights_and_longvideobench_are_read_too(qa, collection):
    moment = {
        "qid": 1, "query": "ferry leaves", "vid": "harbour", "duration": 24, "relevant_windows": [[6, 10]],
        "relevant_clip_ids": [3, 4], "saliency_scores": [[4, 4, 4], [4, 3, 2]],
    }  # fmt: skip
    (collection / "highlight_val_release.jsonl").write_text(json.dumps(moment) + "\n")
    shutil.copy(collection / "subtitle" / "harbour.srt", collection / "data" / "harbour.srt")
    ended = qa("--context", "0", "--json", "--strategy", "clamr+speech", data="highlight_val_release.jsonl")
    (collection / "data" / "harbour.srt").unlink()
    assert rows(ended)["clamr+speech"]["selection"]["HIT@1"] == 1.0
    cues = [{"start": f"00:01:{a:04.1f}", "end": f"00:01:{b:04.1f}", "line": text} for a, b, text in footage.SPOKEN]
    (collection / "subtitle" / "harbour_en.json").write_text(json.dumps(cues))
    record = {
        "id": "harbour_0", "video_path": "harbour.mp4", "subtitle_path": "harbour_en.json", "duration_group": 15,
        "starting_timestamp_for_subtitles": 60, "question": "when does the ferry leave?", "position": [30],
        "candidates": ["at noon", "at five"], "correct_choice": 0,
    }  # fmt: skip
    (collection / "lvb_val.json").write_text(json.dumps([record]))
    with endpoint(knowing) as there:
        arguments = ("-k", "1", "--context", "0", "--json", "--strategy", "clamr+speech+subs")
        ended = qa(*arguments, data="lvb_val.json", there=there)
    row = rows(ended)["clamr+speech+subs"]
    assert list(row["accuracy"]) == ["all", "15 s"]
    assert (row["accuracy"]["all"]["mean"], row["selection"]["recall"]) == (1.0, 1.0)


@pytest.mark.slow
def test_the_subtitles_of_the_collection_go_before_what_the_index_has(clamr, collection, tmp_path):  # noqa: F811
    """The video is found by its name in the index, where other words are known of it."""
    film = shutil.copy(collection / "data" / "harbour.mp4", tmp_path / "harbour.mp4")
    footage.subtitles(tmp_path / "harbour.srt", [(1.0, 2.0, "nothing about boats")])
    db = ("--db", str(tmp_path / "index"))
    assert clamr(*db, "index", str(film), *footage.CHEAP, "-q").code == 0
    (tmp_path / "set" / "subtitle").mkdir(parents=True)
    footage.subtitles(tmp_path / "set" / "subtitle" / "harbour.srt")
    shutil.copy(collection / "mme.json", tmp_path / "set")
    with endpoint(knowing) as there:
        named = ("--base-url", there.url, "--model", "m", "-k", "1", "--strategy", "clamr+speech+subs", "--json")
        ended = clamr(*db, "eval", "qa", str(tmp_path / "set" / "mme.json"), *named, *footage.CHEAP, "-q", "-n", "2")
        assert all("nothing about boats" not in asked.user for asked in there.asked)
    assert rows(ended)["clamr+speech+subs"]["accuracy"]["all"]["mean"] == 1.0


@pytest.mark.slow
def test_a_video_of_sound_alone_and_one_in_which_nobody_speaks(qa, collection, tmp_path):
    """Missing facts of both are reported, and the subtitles that a collection has but are empty are no error."""
    whole = Clip(size=(64, 48), fps=4).colour("red", 25).track().write(tmp_path / "whole.mkv")
    only_sound(whole, collection / "data" / "sound.mkv")
    (collection / "subtitle" / "nobody.json").write_text("[]")
    shutil.copy(collection / "data" / "market.mp4", collection / "data" / "nobody.mp4")
    head = {"question": "when does the ferry leave?", "choices": ["at noon", "at five"], "answer": "A"}
    lines = [head | {"id": f"s{n}", "video": "sound", "subtitles": "harbour.srt"} for n in range(MOST_FAILURES)]
    lines.append(head | {"id": "n", "video": "nobody", "subtitles": "nobody.json"})
    (collection / "odd.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with endpoint(knowing) as there:
        ended = qa("-k", "1", "--strategy", "clamr,clamr+subs", "--json", data="odd.jsonl", there=there)
        assert "[0:" in there.asked[0].user
        assert all("said:" not in asked.user for asked in there.asked[-2:])
    assert (ended.code, "stopped after" in ended.err) == (3, False)
    assert "there is nothing to answer from" in ended.err
    found = rows(ended)
    assert (found["clamr"]["failed"], found["clamr+subs"]["failed"]) == (MOST_FAILURES, 0)


@pytest.mark.slow
def test_videos_that_are_not_here_or_broken_do_not_stop_the_others(qa, collection):
    records = json.loads((collection / "mme.json").read_text())
    more = [records[0] | {"videoID": name, "question_id": name} for name in ("away", "letter\x1b[2J")]
    (collection / "data" / "letter\x1b[2J.mp4").write_bytes(b"Dear Anna,\n" * 90)
    (collection / "more.json").write_text(json.dumps([*more, *records]))
    with endpoint(knowing) as there:
        ended = qa("-k", "1", "--strategy", "clamr", "--json", data="more.json", there=there)
        assert len(there.asked) == 3
    assert ended.code == 3
    told = ended.err.splitlines()
    assert told[0] == "left out: 1 question about 1 video not here (away)"
    assert told[1].startswith(r"failed letter\x1b[2J, question letter\x1b[2J: ")
    assert len(told) == 3
    assert rows(ended)["clamr"]["accuracy"]["all"]["questions"] == 3


@pytest.mark.slow
def test_one_broken_video_stops_no_run_however_much_is_asked_of_it(qa, collection):
    records = json.loads((collection / "mme.json").read_text())
    broken = [records[0] | {"videoID": "broken", "question_id": f"b{n}"} for n in range(MOST_FAILURES)]
    (collection / "data" / "broken.mp4").write_bytes(b"Dear Anna,\n" * 90)
    (collection / "many.json").write_text(json.dumps([*broken, *records]))
    with endpoint(knowing) as there:
        ended = qa("-k", "1", "--strategy", "clamr,uniform", "--json", data="many.json", there=there)
        assert len(there.asked) == 3 * 2
    assert ended.code == 3
    assert (rows(ended)["clamr"]["failed"], "stopped after" in ended.err) == (MOST_FAILURES, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strategy", "best"), "invalid strategy 'best'"),
        (("--select", "best"), "'best' is not one of"),
        (("--format", "mme"), "'mme' is not one of"),
        (("--format", "qvhighlights"), "not of the format qvhighlights: Object missing required field `vid`"),
        (("--base-url", "http://localhost:1/v1"), "no model to ask at --base-url"),
        (("--model", "no/such/folder"), "no such folder"),
        (("--out", "."), "cannot be written"),
        (("-k", "0"), "see 'clamr eval qa --help'"),
    ],
)
def test_wrong_usage_is_one_line(qa, arguments, said):
    ended = qa(*arguments)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, b"", 1)
    assert said in ended.err


def test_without_a_model_and_without_evidence_there_is_nothing_to_measure(qa):
    ended = qa()
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, b"", 1)
    assert "nothing to measure: no question says where its answer is, and no model is named" in ended.err


def test_an_interval_that_cannot_be_taken_ends_the_run(qa, collection):
    record = {"id": "a", "video": "harbour", "question": "ferry", "windows": [[1, 2]]}
    (collection / "one.jsonl").write_text(json.dumps(record))
    ended = qa("--interval", "0", data="one.jsonl")
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, b"", 1)
    assert "candidates every 0 seconds cannot be taken" in ended.err


def test_a_collection_without_its_videos_is_one_line(clamr, tmp_path):  # noqa: F811
    (tmp_path / "q.json").write_text(json.dumps([{"video": "v", "question": "q", "windows": [[1, 2]]}]))
    ended = clamr("--db", str(tmp_path / "index"), "eval", "qa", str(tmp_path / "q.json"))
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "say where they are with --videos DIR" in ended.err


@pytest.mark.slow
def test_the_modules_of_eval_qa_import_without_ir_measures():
    modules = ("cli.commands.eval_qa", "evaluate.qa", "evaluate.questions")
    imports = "".join(f"importlib.import_module('clamr_cli.{name}')\n" for name in modules)
    script = f"import sys; sys.modules['ir_measures'] = None; import importlib\n{imports}"
    subprocess.run([sys.executable, "-c", script], check=True)
