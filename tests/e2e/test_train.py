"""``clamr train`` as its users run it: to the end, interrupted and resumed, and its adapter in use."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.e2e.harness import Clamr, Running
from tests.unit.encoders.clamr import tiny
from tests.unit.train.clamr import shelf


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, an index made without media, and queries about it."""
    root = tmp_path_factory.mktemp("train")
    tiny.write_base(root / "base")
    shelf.build(root / "index")
    shelf.write_queries(root / "queries.jsonl")
    (root / "empty.toml").touch()
    return root


def clamr(desk: Path) -> Clamr:
    return Clamr(desk / "index", desk, {"threads": "1"})


def arguments(desk: Path, out: str, *more: str) -> list[str]:
    queries, base = str(desk / "queries.jsonl"), str(desk / "base")
    fixed = ["--recipe", "clamr", "--model", base, "--out", str(desk / out), "--device", "cpu", "--json"]
    return ["train", queries, *fixed, "--lora-rank", "8", "--lr", "0.01", "--batch", "8", *more]


def losses(records: list[dict]) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in records if record["event"] == "trainstep"]


def logged(out: Path) -> list[tuple[int, float, float]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in entries]


@pytest.mark.slow
def test_a_trained_adapter_encodes_the_index_and_answers(desk: Path):
    command = clamr(desk)
    done = command(*arguments(desk, "run", "--steps", "12", "--dev", str(desk / "queries.jsonl"))).ok()
    told = losses(done.records)
    assert [step for step, _ in told] == list(range(1, 13))
    assert told[-1][1] < told[0][1]
    assert done.records[-1]["event"] == "trained"
    assert any(record["event"] == "evaluated" for record in done.records)
    # On no terminal, stderr has lines of talk and nothing that libraries print.
    assert all(
        line.startswith(("step ", "24 pairs", "use it: ", "trained ")) for line in done.err.decode().splitlines()
    ), done.err
    assert (desk / "run" / "loss.png").is_file()
    assert len((desk / "run" / "log.jsonl").read_text().splitlines()) >= 12

    settings = ["--encoder", "clamr", "--model", str(desk / "base"), "--adapter", str(desk / "run"), "--device", "cpu"]
    command("index", *settings).ok()
    hits = command.search("find the ferry leaves", "--encoder", "clamr")
    assert hits[0]["path"] == "/videos/0.mp4"


@pytest.mark.slow
def test_an_interrupted_run_keeps_a_checkpoint_and_goes_on_to_the_same_end(desk: Path):
    command = clamr(desk)
    command(*arguments(desk, "whole", "--steps", "20")).ok()
    running: Running = command.start(*arguments(desk, "broken", "--steps", "20"))
    running.until("trainstep")
    stopped, _ = running.interrupt()
    assert stopped.code == 130
    assert b"--resume" in stopped.err
    assert b"Traceback" not in stopped.err
    rest = command(*arguments(desk, "broken", "--steps", "20", "--resume")).ok()
    assert 0 < len(losses(rest.records)) < 20
    assert logged(desk / "broken") == logged(desk / "whole")
    first, second = (load_file(desk / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
def test_a_terminated_run_is_an_interruption_too(desk: Path):
    running = clamr(desk).start(*arguments(desk, "ended", "--steps", "1000"))
    running.until("trainstep")
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end().code == 130
    assert list((desk / "ended").glob("checkpoint-*"))


REFUSED = {
    "another recipe": (["--recipe", "large"], "'large' is not one of"),
    "another loss": (["--loss", "triplet"], "'triplet' is not one of"),
    "another aggregation": (["--aggregation", "mean"], "'mean' is not one of"),
    "steps and epochs": (["--steps", "3", "--epochs", "2"], "exclude each other"),
    "no rate": (["--lr", "0"], "invalid number: 0"),
    "no steps": (["--steps", "0"], "--steps"),
    "4 bits without a GPU": (["--4bit"], "CUDA"),
    "no development queries": (["--dev", "nowhere.jsonl"], "no file or folder nowhere.jsonl"),
    "no base": (["--model", "no-such-folder"], "no folder 'no-such-folder'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_clear_line(desk: Path, name: str):
    more, message = REFUSED[name]
    found = clamr(desk)(*arguments(desk, f"refused-{name}", *more))
    (line,) = found.err.decode().splitlines()
    assert found.code == 2
    assert message in line
    assert not found.out
