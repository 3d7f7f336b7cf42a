"""``clamr synth`` as people call it: what it prints, how it ends, and what it refuses before anything is asked."""

import json
import os
import signal
from pathlib import Path

import pytest

from clamr_cli.llm.client import sends_key_unencrypted
from clamr_cli.queries import parse_lines, read_lines
from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr, clamr, home  # noqa: F401 -- fixtures
from tests.unit.llm.endpoint import Asked, Sent, answer, endpoint, error, inventive
from tests.unit.llm.test_local import write_model
from tests.unit.synth import shelf


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index that is only read, of videos that are not there."""
    db = tmp_path_factory.mktemp("shelf") / "index"
    shelf.build(db)
    return str(db)


@pytest.fixture
def synth(clamr: Clamr, index: str):  # noqa: F811
    def call(*arguments: str, there=None):
        where = ["--base-url", there.url, "--model", "m"] if there else []
        return clamr("--db", index, "synth", *where, *arguments)

    return call


def test_without_a_file_queries_go_to_stdout_and_talk_to_stderr(synth):
    with endpoint() as there:
        ended = synth(there=there)
    assert ended.code == 0
    assert [query.id for query in parse_lines(ended.out.decode().splitlines(), "out")] == shelf.ALL_IDS
    assert ended.err == "8 queries written\n"


@pytest.mark.slow
def test_a_second_run_has_nothing_left_to_write(synth, tmp_path):
    out = tmp_path / "q.jsonl"
    with endpoint() as there:
        assert synth("--out", str(out), there=there).out == b""
        written = out.read_bytes()
        again = synth("--out", str(out), there=there)
        assert (again.code, again.err) == (0, "nothing was left to write\n")
        assert out.read_bytes() == written
        assert len(there.asked) == 8
    assert not (tmp_path / "q.jsonl.rejected").exists()


def test_failures_are_named_and_give_exit_code_3(synth, tmp_path):
    out = tmp_path / "q.jsonl"

    def reply(asked: Asked) -> Sent:
        if "orchard" in asked.user:
            return Sent(200, b"not \x1b[31mjson")
        return error(500, "line one\nline \x1b[2Jtwo") if "Deck 7" in asked.user else inventive(asked)

    with endpoint(reply) as there:
        ended = synth("--out", str(out), "--retries", "0", there=there)
    assert ended.code == 3
    assert ended.err.splitlines() == [
        f"failed {shelf.FERRY}_ocr_1: the endpoint answers 500: line one line \\x1b[2Jtwo (after one try)",
        f"failed {shelf.BEES}_metadata_1: the endpoint's answer is not JSON (after one try)",
        f"6 queries written, 2 failed; why is in {out}.rejected",
    ]


@pytest.mark.slow
def test_what_the_filters_took_is_counted_by_reason(synth):
    with endpoint(lambda _: answer("a boat")) as there:
        ended = synth("--modality", "base,speech", there=there)
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "1 query written, 2 dropped",
        "dropped 1: repeats a query of the same video",
        "dropped 1: repeats a query of another video",
        "asked twice: 2",
    ]


def test_a_model_that_takes_no_pictures_is_noted_once(synth):
    with endpoint(lambda asked: error(400, "no image input") if asked.images else inventive(asked)) as there:
        ended = synth(there=there)
    assert ended.code == 0
    assert ended.err.count("the model takes no pictures: no queries about what is seen are written") == 1
    assert ended.err.endswith("5 queries written\n")


def test_examples_with_broken_characters_are_no_trouble(synth, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"id": "a", "query": "half \\ud83d a character", "modality": null}\n')
    with endpoint() as there:
        ended = synth("--modality", "base", "--examples", str(tmp_path / "own.jsonl"), there=there)
        assert "\n- half ? a character\n" in there.asked[0].user
    assert (ended.code, ended.err) == (0, "2 queries written\n")


def test_a_run_that_shows_nothing_says_so(synth):
    with endpoint() as there:
        ended = synth("--modality", "video", "--vision", "no", there=there)
        assert not there.asked
    assert ended.code == 1
    assert "nothing that a model is shown" in ended.err


def test_a_dry_run_prints_the_prompts_and_asks_nobody(synth):
    ended = synth("--dry-run", "--limit", "1", "--shots", "3")
    prompts = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert [prompt["target"] for prompt in prompts] == ["base", "video", "speech", "ocr"]
    assert [prompt["messages"][0]["role"] for prompt in prompts] == ["system"] * 4
    assert any("[JPEG, " in part for part in prompts[1]["messages"][1]["content"])
    assert "Deck 7 restaurant open" in prompts[3]["messages"][1]["content"][0]


def test_a_dry_run_shows_what_is_asked_then(synth):
    prompts = [json.loads(line) for line in synth("--dry-run", "--modality", "ocr").out.splitlines()]
    with endpoint() as there:
        synth("--modality", "ocr", there=there)
    assert [asked.user for asked in there.asked] == [prompt["messages"][1]["content"][0] for prompt in prompts]
    assert [asked.body["seed"] for asked in there.asked] == [prompt["seed"] for prompt in prompts]


def test_the_key_comes_from_a_file_and_is_never_shown(synth, tmp_path):
    (tmp_path / "key").write_text("sk-very-secret\n")
    with endpoint(lambda _: error(401, "bad key")) as there:
        ended = synth("--api-key-file", str(tmp_path / "key"), there=there)
        assert there.asked[0].headers["authorization"] == "Bearer sk-very-secret"
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "very-secret" not in ended.err


def test_the_key_comes_from_a_variable_too(synth, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with endpoint() as there:
        assert synth("--api-key-env", "MY_KEY", there=there).code == 0
        assert there.asked[0].headers["authorization"] == "Bearer sk-very-secret"
        monkeypatch.delenv("MY_KEY")
        ended = synth("--api-key-env", "MY_KEY", there=there)
    assert ended.code == 2
    assert ended.err.startswith("clamr: the environment variable MY_KEY is not set")


def test_nobody_there_is_one_line_and_exit_code_2(synth):
    with endpoint() as there:
        pass
    ended = synth(there=there)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith(f"clamr: nothing answers at {there.url}/chat/completions")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--base-url", "http://localhost:1/v1"),
        ("--base-url", "localhost", "--model", "m"),
        ("--model", "/no/such/folder"),
        ("--model", "nobody/nothing-of-this-name"),
        ("--model", "m", "--vision", "maybe"),
        ("--model", "m", "--temperature", "nan"),
        ("--model", "m", "--timeout", "inf"),
        ("--model", "m", "--modality", "smell"),
        ("--model", "m", "--examples", "/no/such/file"),
        ("--model", "m", "--out", "/no/such/folder/q.jsonl"),
        ("--model", "m", "--out", "/"),
        ("--model", "m", "--per-modality", "0"),
        ("--model", "m", "--api-key-file", "/etc/hostname"),
        ("--base-url", "http://localhost:1/v1", "--model", "m", "--api-key-file", "/no/such/file"),
        ("/no/such/folder", "--model", "m"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(synth, arguments):
    ended = synth(*arguments)
    assert (ended.code, ended.out) == (2, b"")
    (line,) = ended.err.splitlines()
    assert line.startswith("clamr: ")


def test_a_foreign_file_is_left_as_it_is(synth, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("milk, bread\n")
    with endpoint() as there:
        ended = synth("--out", str(notes), there=there)
        assert not there.asked
    assert ended.code == 2
    assert notes.read_text() == "milk, bread\n"


def test_an_index_without_videos_is_exit_code_1(clamr: Clamr, tmp_path):  # noqa: F811
    Store.open(tmp_path / "empty", create=True)
    ended = clamr("--db", str(tmp_path / "empty"), "synth", "--dry-run")
    assert (ended.code, ended.err) == (1, "the index holds no videos; index some with: clamr index DIR\n")


@pytest.mark.slow
def test_only_the_videos_of_a_folder_and_those_not_indexed_are_told_of(clamr: Clamr, tmp_path):  # noqa: F811
    videos = tmp_path / "my videos"
    (videos / "trip").mkdir(parents=True)
    for name in (*shelf.PATHS.values(), "new.mp4", "trip/other.mp4"):
        (videos / name).write_bytes(b"")
    shelf.build(tmp_path / "index", videos)

    def asked(place: Path) -> tuple[int, set[str], str]:
        ended = clamr("--db", str(tmp_path / "index"), "synth", "--dry-run", str(place))
        return ended.code, {json.loads(line)["video"] for line in ended.out.splitlines()}, ended.err

    code, found, said = asked(videos / "trip")
    assert (code, found) == (0, {shelf.FERRY})
    assert said == f"1 video there is not indexed; index it with: clamr index '{videos}/trip'\n"
    code, found, said = asked(videos)
    assert (code, len(found)) == (0, 3)
    assert said.startswith("2 videos there are not indexed; index them with: clamr index")
    assert asked(videos / "bees.mp4")[:2] == (0, {shelf.BEES})
    assert asked(videos / "new.mp4")[:2] == (1, set())


@pytest.mark.slow
def test_a_local_model_writes_too(synth, tmp_path):
    folder = write_model(tmp_path / "tiny", longest=2048)
    kinds = ("--modality", "base,video", "--limit", "1")
    ended = synth("--model", str(folder), "--device", "cpu", *kinds, "--out", str(tmp_path / "q.jsonl"))
    # Random weights write nonsense, which the filters may take or leave; the run itself must be whole.
    assert ended.code in (0, 3)
    assert "note: the model takes no pictures" in ended.err
    files = (tmp_path / "q.jsonl", tmp_path / "q.jsonl.rejected")
    settled = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    assert {json.loads(line)["id"] for line in settled} == {f"{shelf.FERRY}_base_1"}
    assert {json.loads(line)["model"] for line in settled} == {"tiny"}
    read_lines(tmp_path / "q.jsonl")


@pytest.mark.slow
def test_a_run_that_is_told_to_end_keeps_what_it_wrote_and_leaves_signals_as_they_were(synth, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    out = tmp_path / "q.jsonl"

    def reply(asked: Asked) -> Sent:
        if "Deck 7" in asked.user:
            os.kill(os.getpid(), signal.SIGTERM)
        return inventive(asked)

    with endpoint(reply) as there:
        # The endpoint complains of the broken connection when it will, so what is said is not looked at.
        assert synth("--out", str(out), "--concurrency", "1", there=there).code == 130
        assert signal.getsignal(signal.SIGTERM) is before
        there.reply = inventive
        assert synth("--out", str(out), there=there).code == 0
    assert [query.id for query in read_lines(out)] == shelf.ALL_IDS


def test_a_run_that_reaches_nobody_leaves_no_files(synth, tmp_path):
    with endpoint() as there:
        pass
    ended = synth("--out", str(tmp_path / "q.jsonl"), there=there)
    assert ended.code == 2
    assert "nothing answers at" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_even_if_nothing_is_written_to_it(synth, tmp_path):
    (tmp_path / "q.jsonl").touch()
    with endpoint() as there:
        pass
    assert synth("--out", str(tmp_path / "q.jsonl"), there=there).code == 2
    assert [one.name for one in tmp_path.iterdir()] == ["q.jsonl"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://192.0.2.1:9/v1", True),
        ("http://models.example/v1", True),
        ("http://localhost.example/v1", True),
        ("https://models.example/v1", False),
        ("http://127.0.0.1:9/v1", False),
        ("http://127.8.8.8:9/v1", False),
        ("http://[::1]:9/v1", False),
        ("http://LOCALHOST:9/v1", False),
    ],
)
def test_a_key_that_would_be_readable_on_the_way_is_warned_of(url, warned):
    assert sends_key_unencrypted(url, "secret") is warned
    assert sends_key_unencrypted(url.replace("://", "://user:password@"), "") is warned
    assert not sends_key_unencrypted(url, "")


def test_the_warning_comes_before_anything_is_sent(synth, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "sesame")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    named = ("--base-url", "http://models.invalid/v1", "--model", "m", "--api-key-env", "KEY")
    ended = synth(*named, "--retries", "0", "--timeout", "5")
    assert ended.err.startswith("warning: the key goes over the network unencrypted: use https")
    assert "sesame" not in ended.err


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:sesame@host/v1",
        "ftp://:sesame@host",
        "user:sesame@host",
        "http://user:ses/ame@host:port/v1",
        "http://user:sesame@",
        "file:///v1?key=sesame",
        "http:///v1?api_key=sesame",
    ],
)
def test_an_address_that_cannot_be_used_is_named_without_its_password(synth, url):
    ended = synth("--base-url", url, "--model", "m")
    assert (ended.code, ended.out) == (2, b"")
    assert "invalid address: --base-url" in ended.err
    assert "ses" not in ended.err
