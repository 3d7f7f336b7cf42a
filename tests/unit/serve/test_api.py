"""The API: its records are those of the command line, its errors one line, its description right."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import openapi_spec_validator
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image

from clamr_cli import config
from clamr_cli.cli.commands.serve import _listen
from clamr_cli.serve import schemas
from clamr_cli.serve.library import Library
from clamr_cli.store import Store
from tests.unit.cli.conftest import Clamr
from tests.unit.cli.small_index import BEES, LAGOS, VIDEOS
from tests.unit.serve.conftest import TOKEN, Answer, Served, serving


def lines(clamr: Clamr, db: Path, *arguments: str) -> list[dict[str, Any]]:
    """The objects that a command prints with --json."""
    return [json.loads(line) for line in clamr(*arguments, "--json", "--db", str(db)).out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["crowd marching"], {"q": "crowd marching"}),
        (["crowd", "--moments", "-n", "2"], {"q": "crowd", "moments": "true", "limit": "2"}),
        (["crowd", "--offset", "1"], {"q": "crowd", "offset": "1"}),
        (["crowd", "-m", "speech", "--weight", "speech=2"], {"q": "crowd", "modality": "speech", "weight": "speech=2"}),
        (["crowd", "--since", "2020", "--until", "2021"], {"q": "crowd", "since": "2020", "until": "2021"}),
        (["crowd", "--longer", "1m", "--language", "English"], {"q": "crowd", "longer": "1m", "language": "English"}),
        (["crowd", "--not", "bees", "--path", "*.mp4"], {"q": "crowd", "not": "bees", "path": "*.mp4"}),
        (["crowd", "--and", "toll gate", "--floor", "0"], {"q": "crowd", "and": "toll gate", "floor": "0"}),
        (['"speech at the toll gate"'], {"q": '"speech at the toll gate"'}),
        (["sale"], {"q": "sale"}),
    ],
    ids=str,
)
def test_hits_are_those_of_the_command_line(
    served: Served, index: Path, clamr: Clamr, arguments: list[str], parameters: dict[str, str]
) -> None:
    answer = served(f"/api/v1/search?{urlencode(parameters)}").json()
    assert answer["hits"] == lines(clamr, index, "search", *arguments)
    assert answer["hits"]
    schemas.Answer.model_validate(answer, extra="forbid")


def test_a_picture_is_searched_for_as_by_the_command_line(served: Served, index: Path, clamr: Clamr, tmp_path) -> None:
    Image.new("RGB", (32, 32), "yellow").save(tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    body = json.dumps({"picture": base64.b64encode(picture).decode()}).encode()

    def ask(parameters: str, body: bytes) -> Answer:
        return served(f"/api/v1/search/picture?{parameters}", "POST", body, content_type="application/json")

    for words in ([], ["crowd"]):
        answer = ask(urlencode({"q": " ".join(words)}), body).json()
        printed = lines(clamr, index, "search", "--image", str(tmp_path / "picture.png"), *words)
        assert [hit["moment_id"] for hit in answer["hits"]] == [hit["moment_id"] for hit in printed]
        assert answer["hits"]
    refused = ask("", json.dumps({"picture": base64.b64encode(b"no picture").decode()}).encode())
    assert (refused.status, refused.json()["error"]) == (400, "the picture is no picture")
    assert ask("", b'{"picture": 1}').status == 422


@pytest.mark.slow
def test_videos_are_those_of_the_command_line(served: Served, index: Path, clamr: Clamr) -> None:
    listed = lines(clamr, index, "ls")
    answer = served("/api/v1/videos").json()
    assert answer == {"total": 5, "offset": 0, "videos": listed}
    schemas.Files.model_validate(answer, extra="forbid")
    assert served("/api/v1/videos?offset=1&limit=2").json()["videos"] == listed[1:3]
    for video in VIDEOS:
        shown = served(f"/api/v1/videos/{video.video_id}").json()
        assert [shown] == lines(clamr, index, "show", video.video_id)
        schemas.Video.model_validate(shown, extra="forbid")
    status = served("/api/v1/status").json()
    assert [status] == lines(clamr, index, "status")
    schemas.Status.model_validate(status, extra="forbid")


@pytest.mark.slow
def test_an_explanation_is_that_of_the_command_line(served: Served, index: Path, clamr: Clamr) -> None:
    (line,) = lines(clamr, index, "explain", LAGOS, "--query", "speech at the toll gate")
    answer = served(f"/api/v1/moments/{quote(line['moment_id'])}/explain?q=speech+at+the+toll+gate")
    assert answer.json() == line
    schemas.Explanation.model_validate(line, extra="forbid")
    # Another moment of the video has evidence of its own, and the rank of the video.
    other = served(f"/api/v1/moments/{LAGOS}%230/explain?q=speech+at+the+toll+gate").json()
    assert (other["moment_id"], other["rank"]) == (f"{LAGOS}#0", line["rank"])
    assert other["score"] < line["score"]


def test_similar_moments_are_those_of_the_command_line(served: Served, index: Path, clamr: Clamr) -> None:
    answer = served(f"/api/v1/moments/{LAGOS}%230/similar?t=10").json()
    assert answer["hits"] == lines(clamr, index, "similar", f"{LAGOS}@0:10")
    assert answer["hits"]


def test_what_is_said_comes_as_subtitles(served: Served) -> None:
    answer = served(f"/api/v1/videos/{BEES}/transcript.vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    assert answer.body.startswith(b"WEBVTT")
    assert b"bees dance" in answer.body
    assert b" --> " in served(f"/api/v1/videos/{BEES}/transcript.srt").body
    assert served(f"/api/v1/videos/{BEES}/transcript.txt").body == b"bees dance for the crowd\n"
    assert served(f"/api/v1/videos/{BEES}/transcript.exe").status == 404


def test_the_time_line_has_all_that_is_known(served: Served) -> None:
    line = served(f"/api/v1/videos/{LAGOS}/timeline").json()
    schemas.Timeline.model_validate(line, extra="forbid")
    assert [entry["text"] for entry in line["timeline"] if entry["modality"] == "speech"] == [
        "the crowd is marching",
        "a speech at the toll gate",
    ]


def test_a_misspelt_word_and_an_empty_answer_are_explained(served: Served) -> None:
    assert served("/api/v1/search?q=protset").json()["corrections"] == {"protset": "protest"}
    assert served("/api/v1/search?q=protset&verbatim=true").json()["corrections"] == {}
    answer = served("/api/v1/search?q=crowd&language=fr").json()
    assert answer["hits"] == []
    assert answer["reason"].startswith("language fr leaves 0 (there are en: 1")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/v1/videos/nope", 404, "no video"),
        ("/api/v1/moments/nope%231/explain?q=x", 404, "no moment"),
        (f"/api/v1/moments/{LAGOS}%2399/similar", 404, "no moment"),
        (f"/api/v1/moments/{LAGOS}/similar", 404, "no moment id"),
        ("/api/v1/thumbnails/nope", 404, "no video"),
        (f"/api/v1/thumbnails/{LAGOS}", 404, "no picture"),
        ("/api/v1/jobs/nope", 404, "no such job"),
        (f"/api/v1/frames?q=x&video={LAGOS}", 409, "not prepared"),
        ("/api/v1/search", 422, "q is missing"),
        ("/api/v1/search?q=x&limit=0", 422, "limit cannot be used"),
        ("/api/v1/search?q=x&limits=3", 422, "unknown parameter: limits"),
        ("/api/v1/search?q=x&floor=nan", 422, "floor"),
        ("/api/v1/search?q=%20", 400, "empty"),
        ("/api/v1/search?q=x&modality=smell", 400, "invalid modality: 'smell'"),
        ("/api/v1/search?q=x&since=2021&until=2020", 400, "since 2021 is later than until 2020"),
        ("/api/v1/nowhere", 404, "nothing here"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(served: Served, path: str, status: int, error: str) -> None:
    answer = served(path)
    assert answer.status == status
    content = answer.json()
    assert set(content) == {"error", "hint"}
    assert error in content["error"]
    assert "\n" not in content["error"] + content["hint"]
    assert "--" not in content["error"]


@pytest.mark.slow
def test_too_many_at_once_are_told_when_to_come_again(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(index, workers=1, waiting=0) as served:
        release = threading.Event()
        monkeypatch.setattr(served.library, "videos", lambda path: release.wait(20) and [])
        first = threading.Thread(target=served, args=("/api/v1/videos",))
        first.start()
        try:
            while not served.library._pending:
                time.sleep(0.01)
            refused = served("/api/v1/status")
            assert (refused.status, refused.headers["retry-after"]) == (503, "2")
            assert served("/healthz").status == 200
        finally:
            release.set()
            first.join()
        assert served("/api/v1/status").status == 200


@pytest.mark.slow
def test_what_another_process_writes_is_seen(db: Path) -> None:
    with serving(db) as served:
        assert [hit["video_id"] for hit in served("/api/v1/search?q=bees&limit=1").json()["hits"]] == [BEES]
        other = Store.open(db)
        with other.writer("another process"):
            other.remove_videos([BEES])
        hits = served("/api/v1/search?q=bees").json()["hits"]
        assert BEES not in [hit["video_id"] for hit in hits]
        assert served(f"/api/v1/videos/{BEES}").status == 404


def events(served: Served) -> Iterator[dict[str, Any]]:
    """The events that the server sends, for as long as they are read."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/api/v1/events", headers={"authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
    try:
        for line in response:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        connection.close()


@pytest.mark.slow
def test_followers_are_told_of_changes_and_forgotten_when_they_go(db: Path) -> None:
    with serving(db, write=True) as served:
        followed = events(served)
        ready = served("/api/v1/jobs", "POST", b'{"kind": "index"}', content_type="application/json")
        assert (ready.status, ready.json()["error"]) == (400, "the index knows no folder")

        def change() -> None:
            time.sleep(1.5)
            other = Store.open(db)
            with other.writer("another process"):
                other.remove_videos([BEES])

        threading.Thread(target=change).start()
        assert next(followed)["event"] == "index"
        jobs = served.app.state.jobs
        assert jobs.followers == 1
        followed.close()
        deadline = time.monotonic() + 30
        while jobs.followers and time.monotonic() < deadline:
            time.sleep(0.05)
        assert jobs.followers == 0


@pytest.mark.slow
def test_the_description_is_valid_openapi(served: Served) -> None:
    description = served("/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    openapi_spec_validator.validate(description)
    assert "https://" not in json.dumps(description)
    page = served("/docs").body.decode()
    assert "/api/v1/search" in page
    assert "<script" not in page
    assert "//cdn" not in page


@pytest.mark.slow
def test_answers_are_as_described(served: Served) -> None:
    """Schemathesis asks every route with odd values; the stream of events has no end, so it is left out."""
    schema = schemathesis.openapi.from_dict(served("/openapi.json").json()).exclude(path_regex="events$|^/media|^/mcp")
    schema.config.update(base_url=f"http://127.0.0.1:{served.port}")
    schemathesis.checks.load_all_checks()
    names = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in names]
    examined = 0
    for result in schema.get_all_operations():

        @settings(max_examples=5, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
        @given(case=result.ok().as_strategy())
        def examine(case: schemathesis.Case) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=checks)

        examine()
        examined += 1
    assert examined > 15


def test_parts_of_an_answer_do_not_wait_for_the_client() -> None:
    async def delayed() -> bool:
        accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _, writer: accepted.set_result(writer.get_extra_info("socket")), sock=_listen("127.0.0.1", None)
        )
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            connection = await accepted
            result = not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
        return result

    assert not asyncio.run(delayed())


def test_queries_are_encoded_once(index: Path) -> None:
    library = Library(Store.open(index), config.load({"db": str(index), "encoder": "hashed"}))
    encoder, _ = library.encoder()
    (first,) = encoder.encode_queries(["bees"])
    assert encoder.encode_queries(["crowd", "bees"])[1] is first
    assert library.encoder()[0] is encoder
    library.close()
