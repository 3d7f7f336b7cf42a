"""An index run may be stopped at any moment: what was finished stays, and the next run does the rest once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clamr_cli.store import Store
from tests.clips import Clip
from tests.e2e.harness import Clamr


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos with speech and text each, so that a run takes long enough to be stopped anywhere."""
    folder = tmp_path_factory.mktemp("stopped")
    for name, title in (("bees", "Alpha"), ("volcano", "Bravo")):
        clip = Clip().text((title, "chapter"), 3).photo("brick", 8).narration(name, at=1)
        clip.write(folder / f"{title.lower()}.mp4")
    return folder


@pytest.fixture(scope="module")
def whole(videos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Content of an index after a run that nothing stopped."""
    clamr = Clamr(tmp_path_factory.mktemp("whole") / "index", cache, {"encoder": "hashed"})
    clamr.index(str(videos)).ok()
    return contents(clamr)


def contents(clamr: Clamr) -> dict[str, Any]:
    """Everything in an index that does not depend on when it was made."""
    ids = sorted(known(clamr))
    shown = [undated(clamr("show", one, "--json").ok().out) for one in ids]
    (status,) = clamr("status", "--json").ok().records
    counts = {name: status[name] for name in ("videos", "moments", "failed", "missing")}
    return {"ids": ids, "shown": shown, "counts": counts, "use": status["encoders"]}


def undated(text: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name != "indexed_at"}


MOMENTS = (("progress", "decode"), ("progress", "speech"), ("progress", "ocr"), ("progress", "encode"), ("indexed", ""))
"""Moments of the kills, in turn: at the first sign of each stage, and when a video has just become searchable."""


def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    videos: Path, cache: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    clamr = Clamr(tmp_path / "index", cache, {"encoder": "hashed"})
    finished: Counter[str] = Counter()
    for kind, stage in MOMENTS:
        run = clamr.start("index", "--json", str(videos))
        run.until(kind, stage)
        workers = run.workers()
        assert workers
        run.kill()
        finished.update(event["video_id"] for event in run.seen if event["event"] == "indexed")
        assert not [worker for worker in workers if alive(worker)]
        assert set(finished) <= known(clamr)
    rest = clamr.index(str(videos)).ok()
    finished.update(event["video_id"] for event in rest.events("indexed"))
    # A video that was written when the kill came, but not yet told of, is in the index without an event.
    assert set(finished.values()) == {1}
    assert contents(clamr) == whole


def known(clamr: Clamr) -> set[str]:
    return {record["video_id"] for record in clamr("ls", "--json").records}


def alive(pid: int) -> bool:
    """Whether a process is still there and no zombie."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True


def test_interrupt_ends_soon_and_says_how_to_go_on(videos: Path, cache: Path, tmp_path: Path) -> None:
    clamr = Clamr(tmp_path / "index", cache, {"encoder": "hashed"})
    run = clamr.start("index", "--json", str(videos))
    run.until("progress", "ocr")
    result, seconds = run.interrupt()
    assert result.code == 130
    assert b"run the same command again" in result.err
    assert b"Traceback" not in result.err
    # Two seconds are what is asked for where nothing else runs; a loaded machine gets some more.
    assert seconds < 10
    kept = sum(event["event"] == "indexed" for event in run.seen) + len(result.events("indexed"))
    assert f"{kept} video" in result.err.decode()
    assert len(known(clamr)) == kept


def test_second_indexer_is_told_who_writes(videos: Path, cache: Path, tmp_path: Path) -> None:
    clamr = Clamr(tmp_path / "index", cache, {"encoder": "hashed"})
    first = clamr.start("index", "--json", str(videos))
    first.until("discovered")
    # However long the second takes to start, the first is still at work.
    os.kill(first.process.pid, signal.SIGSTOP)
    second = clamr.index(str(videos))
    assert second.code == 2
    (line,) = second.err.decode().splitlines()
    assert str(first.process.pid) in line
    assert first.process.poll() is None
    assert clamr("ls").code in (0, 1)
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.interrupt()[0].code == 130


def test_while_videos_are_encoded_anew_the_old_vectors_answer_for_all_of_them(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(("alpha", "bravo", "charlie", "delta"), 1):
        Clip().photo("brick", number).write(folder / f"{name}.mp4")
    clamr = Clamr(tmp_path / "index", cache, {"encoder": "hashed"})
    clamr.index(str(folder), "--no-ocr", "--no-speech").ok()
    before = clamr.search("alpha brick", "-n", "10")
    assert len(before) == 4
    run = clamr.start("index", "--json", "--pool", "2", "--encoder", "hashed")
    run.until("indexed")
    # However long a search takes, the run is not through before it.
    os.kill(run.process.pid, signal.SIGSTOP)
    assert clamr.search("alpha brick", "-n", "10") == before
    run.kill()
    assert clamr.search("alpha brick", "-n", "10") == before
    clamr.index("--pool", "2", "--encoder", "hashed").ok()
    after = clamr("search", "alpha brick", "-n", "10", "--json").ok()
    assert len(after.records) == 4
    assert Store.open(clamr.db).encoder_settings("hashed") == {"pool": 2}
    assert after.err == b""
