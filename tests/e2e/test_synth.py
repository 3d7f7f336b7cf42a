"""``clamr synth`` in processes of its own: killed, interrupted and run twice at once, asking a server of ours."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clamr_cli.queries import read_lines
from tests.e2e.harness import Clamr, Running
from tests.unit.llm.endpoint import Asked, Endpoint, Sent, endpoint, inventive
from tests.unit.synth import shelf


@pytest.fixture(scope="module")
def clamr(tmp_path_factory: pytest.TempPathFactory) -> Clamr:
    """The command line on a small index made without media or weights."""
    place = tmp_path_factory.mktemp("synth")
    (place / "cache").mkdir()
    (place / "cache" / "empty.toml").touch()
    shelf.build(place / "index")
    return Clamr(place / "index", place / "cache")


class Gate:
    """Answers the questions with these seeds at once, and keeps all others waiting until it is opened."""

    def __init__(self, seeds: list[int]) -> None:
        self._seeds = set(seeds)
        self._opened = threading.Event()

    def __call__(self, asked: Asked) -> Sent:
        if asked.body["seed"] not in self._seeds:
            self._opened.wait(300)
        return inventive(asked)

    def open(self) -> None:
        self._opened.set()


MakeGate = Callable[[int], tuple[Gate, Endpoint]]


@pytest.fixture(scope="module")
def seeds(clamr: Clamr) -> list[int]:
    """The seeds of all questions, in order."""
    return [prompt["seed"] for prompt in clamr("synth", "--dry-run", "--per-modality", "2").ok().records]


@pytest.fixture
def gate(seeds: list[int]) -> Iterator[MakeGate]:
    """Makes a gate for the first questions, and the endpoint behind it; both end with the test."""
    ends: list[Callable[[], None]] = []

    def make(answers: int) -> tuple[Gate, Endpoint]:
        made = Gate(seeds[:answers])
        there = Endpoint(made)
        ends.extend((made.open, there.stop))
        return made, there

    yield make
    for end in ends:
        end()


def arguments(there: Endpoint, out: Path) -> list[str]:
    return ["synth", "--base-url", there.url, "--model", "m", "--out", str(out), "--per-modality", "2"]


def until_lines(running: Running, out: Path, count: int) -> None:
    """Waits until a file has so many lines."""
    for _ in range(3000):
        if out.exists() and out.read_bytes().count(b"\n") >= count:
            return
        assert running.process.poll() is None, running.end().err
        time.sleep(0.05)
    raise AssertionError("nothing was written")


@pytest.fixture(scope="module")
def whole(clamr: Clamr, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Files of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "q.jsonl"
    with endpoint() as there:
        clamr(*arguments(there, out)).ok()
    assert len(read_lines(out)) == 16
    return out.read_bytes()


@pytest.mark.parametrize("answers", [3, 9])
def test_kill_9_loses_and_doubles_nothing(
    clamr: Clamr, gate: MakeGate, whole: bytes, tmp_path: Path, answers: int
) -> None:
    out = tmp_path / "q.jsonl"
    closed, there = gate(answers)
    running = clamr.start(*arguments(there, out))
    until_lines(running, out, answers)
    running.kill()
    kept = out.read_bytes()
    assert kept == b"".join(whole.splitlines(keepends=True)[:answers])
    # A kill may also fall into the middle of a line.
    out.write_bytes(whole[: len(kept) + 40])
    closed.open()
    there.asked.clear()
    clamr(*arguments(there, out)).ok()
    assert out.read_bytes() == whole
    assert len(there.asked) == 16 - answers


def test_interrupt_keeps_what_is_written_and_says_how_to_go_on(
    clamr: Clamr, gate: MakeGate, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "q.jsonl"
    closed, there = gate(5)
    running = clamr.start(*arguments(there, out))
    until_lines(running, out, 5)
    result, seconds = running.interrupt()
    assert result.code == 130
    assert b"interrupted: 5 queries written; run the same command again to go on" in result.err
    assert b"Traceback" not in result.err
    assert seconds < 30  # far less than the minute for which the endpoint would have kept it
    closed.open()
    clamr(*arguments(there, out)).ok()
    assert out.read_bytes() == whole


def test_being_told_to_end_is_an_interruption_too(clamr: Clamr, gate: MakeGate, tmp_path: Path) -> None:
    out = tmp_path / "q.jsonl"
    _, there = gate(5)
    running = clamr.start(*arguments(there, out))
    until_lines(running, out, 5)
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end().code == 130


def test_a_second_run_is_kept_from_the_file(clamr: Clamr, gate: MakeGate, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "q.jsonl"
    closed, there = gate(5)
    running = clamr.start(*arguments(there, out))
    until_lines(running, out, 5)
    second = clamr(*arguments(there, out))
    assert second.code == 2
    assert f"another run writes to {out}" in second.err.decode()
    closed.open()
    assert running.end().code == 0
    assert out.read_bytes() == whole


def test_a_reader_that_leaves_ends_the_run_quietly(clamr: Clamr) -> None:
    with endpoint() as there:
        running = clamr.start("synth", "--base-url", there.url, "--model", "m", "--concurrency", "1")
        assert running.process.stdout is not None
        first = json.loads(running.process.stdout.readline())
        running.process.stdout.close()
        running.process.wait(60)
    assert first["id"] == shelf.ALL_IDS[0]
    assert running.process.returncode == 0
    assert running.process.stderr is not None
    assert b"Traceback" not in running.process.stderr.read()
    running.process.stderr.close()
