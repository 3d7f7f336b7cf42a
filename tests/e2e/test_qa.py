"""``clamr eval qa`` and ``clamr ask`` in processes of their own: killed and interrupted, asking a server of ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import PATIENCE, Clamr, Running
from tests.unit.ask import footage
from tests.unit.llm.endpoint import Asked, Endpoint, Sent, answer, endpoint

QUESTIONS = (
    ("when does the ferry leave?", "at noon", "at five", "A"),
    ("what is the cat called?", "Anna", "Minka", "B"),
    ("where does the ferry go?", "Bornholm", "Oslo", "A"),
)
STRATEGIES = "uniform,clamr,clamr+speech,clamr+speech+subs"
ALL = len(QUESTIONS) * 4


def letter(asked: Asked) -> Sent:
    """A letter that depends on the question and what is shown alone."""
    return answer("AB"[(len(asked.user) + len(asked.images)) % 2])


class Gate:
    """Answers so many questions at once, and keeps all others waiting until it is opened."""

    def __init__(self, answers: int) -> None:
        self._left = answers
        self._lock = threading.Lock()
        self._opened = threading.Event()

    def __call__(self, asked: Asked) -> Sent:
        with self._lock:
            self._left -= 1
            wait = self._left < 0
        if wait:
            self._opened.wait(2 * PATIENCE)
        return letter(asked)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture(scope="module")
def clamr(tmp_path_factory: pytest.TempPathFactory) -> Clamr:
    place = tmp_path_factory.mktemp("qa")
    (place / "cache").mkdir()
    (place / "cache" / "empty.toml").touch()
    return Clamr(place / "index", place / "cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    footage.subtitles(footage.film(place / "harbour.mp4").with_suffix(".srt"))
    with (place / "q.jsonl").open("w") as stream:
        for number, (text, *choices, right) in enumerate(QUESTIONS):
            record = {"id": f"q{number}", "video": "harbour.mp4", "question": text, "choices": choices, "answer": right}
            stream.write(json.dumps(record) + "\n")
    return place / "q.jsonl"


def arguments(data: Path, there: Endpoint, out: Path) -> list[str]:
    options = ["--base-url", there.url, "--model", "m", "--out", str(out), "--concurrency", "1", "-k", "3", "--json"]
    return ["eval", "qa", str(data), *options, "--strategy", STRATEGIES, *footage.CHEAP]


@pytest.fixture(scope="module")
def whole(clamr: Clamr, data: Path) -> tuple[bytes, bytes]:
    """Files and report of a run that nothing stopped."""
    with endpoint(letter) as there:
        ended = clamr(*arguments(data, there, data.with_name("whole.jsonl"))).ok()
        assert len(there.asked) == ALL
    return data.with_name("whole.jsonl").read_bytes(), ended.out


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(5)
    yield made
    made.open()


def until_lines(running: Running, out: Path, count: int) -> None:
    for _ in range(1200):
        if out.exists() and out.read_bytes().count(b"\n") >= count:
            return
        assert running.process.poll() is None, running.end().err
        time.sleep(0.05)
    raise AssertionError("nothing was written")


def test_kill_9_loses_and_doubles_nothing(
    clamr: Clamr, data: Path, whole: tuple[bytes, bytes], gate: Gate, tmp_path: Path
) -> None:
    out = tmp_path / "r.jsonl"
    with endpoint(gate) as there:
        running = clamr.start(*arguments(data, there, out))
        until_lines(running, out, 5)
        running.kill()
        kept = out.read_bytes()
        assert kept == b"".join(whole[0].splitlines(keepends=True)[:5])
        # A kill may also fall into the middle of a line.
        out.write_bytes(whole[0][: len(kept) + 40])
        gate.open()
        there.asked.clear()
        ended = clamr(*arguments(data, there, out)).ok()
        assert len(there.asked) == ALL - 5
    assert (out.read_bytes(), ended.out) == whole


def test_an_interruption_reports_what_there_is_and_says_how_to_go_on(
    clamr: Clamr, data: Path, whole: tuple[bytes, bytes], gate: Gate, tmp_path: Path
) -> None:
    out = tmp_path / "r.jsonl"
    with endpoint(gate) as there:
        running = clamr.start(*arguments(data, there, out))
        until_lines(running, out, 5)
        result, _ = running.interrupt()
        assert result.code == 130
        assert b"interrupted: 5 results kept; run the same command again to go on" in result.err
        assert b"Traceback" not in result.err
        # Nobody opened the gate: an end that waited for the endpoint would not have come within the harness's patience.
        reported = {row["strategy"]: row["accuracy"]["all"]["questions"] for row in result.records if row["accuracy"]}
        assert sum(reported.values()) == 5
        gate.open()
        clamr(*arguments(data, there, out)).ok()
    assert out.read_bytes() == whole[0]


def test_a_question_is_interrupted_at_once(clamr: Clamr, data: Path, whole: tuple[bytes, bytes]) -> None:
    slow = Gate(0)
    with endpoint(slow) as there:
        options = ["--base-url", there.url, "--model", "m", *footage.CHEAP]
        running = clamr.start("ask", str(data.with_name("harbour.mp4")), "when does the ferry leave?", *options)
        for _ in range(1200):
            if there.asked:
                break
            assert running.process.poll() is None, running.end().err
            time.sleep(0.05)
        result, _ = running.interrupt()
        slow.open()
    assert (result.code, result.out) == (130, b"")
    assert result.err.splitlines()[-1] == b"clamr: interrupted"
