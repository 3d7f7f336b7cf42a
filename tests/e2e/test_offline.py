"""Every command runs where only the dependencies of ``clamr-cli[offline]`` are installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from clamr_cli.cli import build
from tests.clips import Clip
from tests.e2e.harness import Clamr
from tests.unit.encoders.clamr import tiny
from tests.unit.llm.endpoint import endpoint, inventive


def test_the_environment_lacks_what_other_extras_bring(offline: Path) -> None:
    names = ("ir_measures", "peft", "matplotlib", "pytest", "hypothesis")
    script = f"import importlib.util; print([importlib.util.find_spec(name) for name in {names}])"
    ended = subprocess.run([offline, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert ended.stdout == "[None, None, None, None, None]\n"


def _commands(program: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, one in program.commands.items():
        yield " ".join((*words, name))
        if hasattr(one, "commands"):
            yield from _commands(one, (*words, name))


EXTRA = {"eval": "eval", "train": "train"}
"""Commands that need another extra, and that extra."""

CALLS: dict[str, list[str]] = {
    "index": ["{videos}", "--no-speech", "--no-ocr", "--encoder", "hashed"],
    "search": ["seaside"],
    "explain": ["{id}", "--query", "seaside"],
    "similar": ["{id}", "--itself"],
    "tag add": ["{id}", "holiday"],
    "tag": [],
    "tag rm": ["{id}", "holiday"],
    "note": ["{id}", "by the sea"],
    "speakers": [],
    "speakers name": ["3", "Ann"],
    "frames": ["{video}", "red", "-k", "1", "--encoder", "hashed", "--no-asr", "--no-ocr"],
    "open": ["{id}@0:01", "--print"],
    "cut": ["{video}@0-1", "-o", "{place}/clips"],
    "export": ["edl", "{video}@0-1"],
    "ask": ["{id}", "what is it?", "-k", "1", "--encoder", "hashed", "--base-url", "{url}", "--model", "m"],
    "duplicates": [],
    "ls": [],
    "show": ["{id}"],
    "status": [],
    "optimize": ["--approximate"],
    "merge": ["{place}/index", "--into", "{place}/merged"],
    "encode": ["--query", "hi", "-o", "{place}/out.npz", "--model", "{base}", "--adapter", "none", "--device", "cpu"],
    "eval": ["{place}/queries.jsonl"],
    "eval qa": ["{place}/questions.jsonl", "--strategy", "uniform", "--base-url", "{url}", "--model", "m", "-k", "1"],
    "synth": ["--base-url", "{url}", "--model", "m"],
    "train": ["{place}/queries.jsonl", "--recipe", "clamr", "--model", "{base}", "--out", "{place}/run"],
    "doctor": [],
    "completions": ["bash"],
    "config": [],
    "config path": [],
    "config set": ["limit", "5"],
    "service print": ["systemd"],
    "models": [],
    "models pull": ["no-such-model"],
    "rm": ["{id}", "--yes"],
}
"""Arguments of each command, in this order; names in braces are filled in by the fixture."""


ELSEWHERE = {"demo", "edit", "config edit", "completions install", "mcp", "serve", "watch"}
"""Commands that another test runs in this environment, that start an editor, or that write to the home folder."""


def test_every_command_is_called_here() -> None:
    assert {*CALLS, *ELSEWHERE} == set(_commands(typer.main.get_command(build())))


@pytest.fixture(scope="module")
def library(offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clamr, dict[str, str]]]:
    """The command line in that environment on an index of one short video, and what calls may name."""
    place = tmp_path_factory.mktemp("offline-library")
    (place / "videos").mkdir()
    (place / "empty.toml").touch()
    video = place / "videos" / "seaside.mp4"
    Clip().colour("red", 3).write(video)
    tiny.write_base(place / "base")
    query = {"id": "a", "query": "seaside", "modality": None, "video": "seaside.mp4"}
    (place / "queries.jsonl").write_text(json.dumps(query) + "\n")
    question = {"id": "a", "video": str(video), "question": "where?", "choices": ["here", "there"], "answer": "A"}
    (place / "questions.jsonl").write_text(json.dumps(question) + "\n")
    clamr = Clamr(place / "index", place, {"encoder": "hashed"}, python=str(offline))
    clamr("index", str(place / "videos"), "--no-speech", "--no-ocr").ok()
    (record,) = clamr("ls", "--json").ok().records
    with endpoint(inventive) as there:
        yield (
            clamr,
            {
                "place": str(place),
                "videos": str(place / "videos"),
                "video": str(video),
                "base": str(place / "base"),
                "id": record["video_id"],
                "url": there.url,
            },
        )


@pytest.mark.parametrize("command", CALLS)
def test_a_command_needs_no_other_extra(library: tuple[Clamr, dict[str, str]], command: str) -> None:
    clamr, names = library
    ended = clamr(*command.split(), *(word.format(**names) for word in CALLS[command]), cwd=names["place"])
    err = ended.err.decode()
    if command in EXTRA:
        assert (ended.code, err.count("\n")) == (2, 1), err
        assert "needs an optional package: pip install" in err
        assert f"[{EXTRA[command]}]" in err
        return
    assert "optional package" not in err
    assert "defect" not in err
    # There is one video in which nobody speaks, the model cannot be fetched, and no frame answers the question.
    expected = {"models pull": 2, "duplicates": 1, "frames": 1, "speakers": 1, "speakers name": 2}
    assert ended.code == expected.get(command, 0), err
