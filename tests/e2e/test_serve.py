"""``clamr serve`` as people and programs meet it: a process, real clips, many clients while the index grows."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from clamr_cli.store import Store
from tests.bench.process import resident
from tests.browser import free_port
from tests.clips import Clip
from tests.e2e.harness import PATIENCE, Clamr

CLIENTS = 50
QUERIES = ("red", "green bird", "opening hours", "blue car", "a cat")
PLAIN = ("--no-speech", "--no-ocr", "--encoder", "hashed")


@dataclass
class Server:
    """A server that runs, and the token that it printed."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def __call__(self, path: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            is_json = response.getheader("content-type") == "application/json"
            return response.status, json.loads(content) if is_json else content

    def search(self, query: str) -> dict[str, Any]:
        """The answer to a search for up to 100 moments."""
        status, answer = self(f"/api/v1/search?q={quote(query)}&limit=100&moments=true&floor=0")
        assert status == 200, answer
        return dict(answer)

    def abandon(self, path: str) -> None:
        """Ask, read a little, and vanish without a word."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        connection.sendall(ask.encode())
        connection.recv(100)
        connection.close()


@contextmanager
def serving(clamr: Clamr, *arguments: str) -> Iterator[Server]:
    """A server in a process of its own."""
    command = clamr.command("serve", "--no-browser", *arguments)
    with subprocess.Popen(command, env=clamr.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode()
        assert url, process.communicate()
        parts = urlsplit(url.strip())
        server = Server(process, parts.port or 0, parts.query.removeprefix("token="))
        try:
            while True:
                try:
                    assert server("/healthz")[0] == 200
                    break
                except OSError:
                    time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            out, err = process.communicate(timeout=60)
            assert server.token not in (out + err).decode()
            assert b"Traceback" not in err


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips in one folder and three in another."""
    folder = tmp_path_factory.mktemp("shelf")
    for number, colour in enumerate(("red", "green", "blue", "yellow", "purple", "orange")):
        place = folder / ("first" if number < 3 else "later")
        place.mkdir(exist_ok=True)
        Clip().colour(colour, 1).text((f"Opening hours {colour}",), 1).write(place / f"{colour} car.mp4")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Clamr:
    """The program on an index of the first folder, without weights."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "empty.toml").touch()
    one = Clamr(folder / "index", folder, {"encoder": "hashed", "speech": "no", "text": "no"})
    one.index(str(shelf / "first"), *PLAIN).ok()
    return one


@pytest.fixture
def clamr(built: Clamr, tmp_path: Path) -> Clamr:
    """The same on a copy of the index."""
    return replace(built, db=Path(shutil.copytree(built.db, tmp_path / "index")))


def found(answer: dict[str, Any]) -> dict[str, float]:
    """The moments of an answer with their scores, in order."""
    return {hit["moment_id"]: hit["score"] for hit in answer["hits"]}


def test_many_clients_get_exact_answers_while_the_index_grows(clamr: Clamr, shelf: Path) -> None:
    with serving(clamr) as server:
        before = {query: found(server.search(query)) for query in QUERIES}
        size = resident(server.process.pid)[1]
        over, answers, lock = threading.Event(), [], threading.Lock()

        def ask(number: int) -> None:
            while not over.is_set():
                query = QUERIES[number % len(QUERIES)]
                answer = server.search(query)
                with lock:
                    answers.append((query, found(answer)))
                number += 1
                # After all have asked at once; otherwise they leave the index run no time on a small machine.
                over.wait(3)

        with ThreadPoolExecutor(CLIENTS) as pool:
            asking = [pool.submit(ask, number) for number in range(CLIENTS)]
            try:
                clamr.index(str(shelf / "later"), *PLAIN).ok()
                for path in ("/api/v1/events", "/api/v1/search?q=red", "/api/v1/videos") * 10:
                    server.abandon(path)
            finally:
                over.set()
            for one in asking:
                one.result()
        after = {query: found(server.search(query)) for query in QUERIES}
        for query in QUERIES:
            printed = clamr.search(query, "--moments", "-n", "100")
            assert server.search(query)["hits"] == printed
            assert list(before[query]) == [moment for moment in after[query] if moment in before[query]]
            assert (len(before[query]), len(after[query])) == (3, 6)
        assert len(answers) >= CLIENTS
        for query, moments in answers:
            # Each answer is exact for some state of the index: moments that it had, in the order of their scores.
            assert moments.items() <= after[query].items()
            assert before[query].items() <= moments.items()
            assert list(moments) == [moment for moment in after[query] if moment in moments]
        assert resident(server.process.pid)[1] - size < 300 << 20
        assert server("/healthz")[0] == 200


def test_jobs_index_the_known_folders_and_cut_clips(clamr: Clamr, shelf: Path, tmp_path: Path) -> None:
    with serving(clamr) as server:
        assert server("/api/v1/jobs", "POST", {"kind": "index"})[0] == 403
    extra = shelf / "first" / "new.mp4"
    Clip().colour("grey", 2).write(extra)
    try:
        with serving(clamr, "--allow-write") as server:
            status, job = server("/api/v1/jobs", "POST", {"kind": "index"})
            assert (status, job["kind"]) == (202, "index")
            assert wait(server, job["id"])["state"] == "done"
            _, listing = server("/api/v1/videos")
            assert [Path(file["path"]).name for file in listing["videos"]].count("new.mp4") == 1
            video = next(file["video_id"] for file in listing["videos"] if file["path"].endswith("red car.mp4"))
            body = {"kind": "cut", "video_id": video, "start": 0.5, "end": 1.2, "exact": True}
            _, job = server("/api/v1/jobs", "POST", body)
            assert wait(server, job["id"])["clip"]
            status, clip = server(f"/api/v1/jobs/{job['id']}/clip")
            assert (status, clip[4:8]) == (200, b"ftyp")
            assert server(f"/api/v1/jobs/{job['id']}", "DELETE")[0] == 200
            assert server(f"/api/v1/jobs/{job['id']}/clip")[0] == 404
            wrong = server("/api/v1/jobs", "POST", {"kind": "cut", "video_id": video, "start": 50, "end": 51})
            assert (wrong[0], wrong[1]["error"]) == (400, "the stretch is none of the video")
            assert server("/api/v1/jobs", "POST", {"kind": "cut", "video_id": "../x", "start": 0, "end": 1})[0] == 404
            assert server("/api/v1/jobs", "POST", {"kind": "shell", "words": "ls"})[0] == 422
            status, jpeg = server(f"/api/v1/thumbnails/{video}?t=0.5")
            assert (status, jpeg[:2]) == (200, b"\xff\xd8")
    finally:
        extra.unlink()


def test_a_job_prepares_a_video_for_questions_about_its_frames(clamr: Clamr, shelf: Path) -> None:
    with serving(clamr, "--allow-write") as server:
        _, listing = server("/api/v1/videos")
        video = listing["videos"][0]["video_id"]
        status, refused = server(f"/api/v1/frames?q=car&video={video}")
        assert (status, 'a job of the kind "frames"' in refused["hint"]) == (409, True)
        assert server("/api/v1/jobs", "POST", {"kind": "frames", "video_id": "nope"})[0] == 404
        with Store.open(clamr.db).writer("another command"):
            _, job = server("/api/v1/jobs", "POST", {"kind": "frames", "video_id": video})
            state = ended(server, job["id"])
            assert (state["state"], "another command" in state["error"]) == ("failed", True)
        _, job = server("/api/v1/jobs", "POST", {"kind": "frames", "video_id": video})
        assert server(f"/api/v1/jobs/{job['id']}", "DELETE")[0] == 200
        assert ended(server, job["id"])["state"] == "cancelled"
        _, job = server("/api/v1/jobs", "POST", {"kind": "frames", "video_id": video})
        assert wait(server, job["id"])["text"] == "encoding the frames"
        status, answer = server(f"/api/v1/frames?q=car&video={video}")
        assert (status, answer["frames"][0]["rank"]) == (200, 1)


def wait(server: Server, job: str) -> dict[str, Any]:
    """A job when it has ended well."""
    state = ended(server, job)
    assert not state["error"], state
    return state


def ended(server: Server, job: str) -> dict[str, Any]:
    """A job when it has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        _, state = server(f"/api/v1/jobs/{job}")
        if state["state"] not in ("waiting", "running"):
            return dict(state)
        time.sleep(0.2)
    raise AssertionError("the job did not end")


def test_an_interruption_ends_it_quietly(clamr: Clamr) -> None:
    with serving(clamr, "--port", str(free_port())) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
    taken = socket.socket()
    with closing(taken):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = clamr("serve", "--no-browser", "--port", str(taken.getsockname()[1]))
        assert refused.code == 2
        assert b"cannot be listened on" in refused.err


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
def test_its_children_are_started_again_and_end_with_it(clamr: Clamr) -> None:
    def children(pid: int) -> set[int]:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return {int(word) for text in texts for word in text.split()}

    with serving(clamr, "--port", str(free_port()), "--watch") as server:
        deadline, pid = time.monotonic() + PATIENCE, server.process.pid
        while len(first := children(pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(first) == 2
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        while (len(now := children(pid)) < 2 or killed in now) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(now - {killed}) == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert not [one for one in now if Path(f"/proc/{one}").exists()]


def test_without_its_packages_the_extra_is_named(clamr: Clamr, tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')")
    environment = clamr.environment
    paths = os.pathsep.join(filter(None, (str(tmp_path), environment.get("PYTHONPATH"))))
    command = clamr.command("serve", "--no-browser")
    ended = subprocess.run(command, env={**environment, "PYTHONPATH": paths}, capture_output=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(rb"clamr: clamr serve needs an optional package: pip install .*\[serve\].*\n", ended.stderr)
    assert ended.stdout == b""
