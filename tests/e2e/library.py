"""A small library of videos whose content is known, and the questions it must answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clamr_cli.demo import NARRATIONS
from tests.clips import Clip


@dataclass(frozen=True)
class Question:
    """A query that aims at a modality, the file that must come first, and when (in seconds) the answer is there."""

    modality: str
    query: str
    file: str
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.modality}: {self.query}"


def _said(name: str, query: str, file: str, at: float) -> Question:
    return Question("speech", query, file, at, at + NARRATIONS[name].duration)


QUESTIONS = (
    Question("video", "a cat", "IMG_0001.mp4", 0.0, 5.0),
    Question("video", "rocket launch", "IMG_0003.mp4", 0.0, 5.0),
    Question("video", "a cup of coffee", "long.mp4", 0.0, 31.5),
    _said("bees", "honeybees dancing to show where the flowers are", "rec-1.mp4", 2.0),
    _said("bicycle", "pull out the inner tube of the flat tire", "long.mp4", 33.0),
    Question("speech", "the glacier melts faster every summer", "lesson.mp4", 1.0, 3.5),
    Question("speech", "the old clockmaker repairs a tower clock", "interview.mkv", 0.5, 4.0),
    _said("bridge", "the council closed the old bridge to cars", "two-tracks.mkv", 1.0),
    Question("ocr", "Harbour Street open until midnight", "long.mp4", 62.0, 67.25),
    Question("ocr", "Platform nine closed", "upright.mp4", 3.0, 8.0),
    Question("ocr", "Weekly chess club", "card.webm", 0.0, 4.0),
    Question("metadata", "night ferry to Bornholm", "download.mp4", 0.0, 4.0),
    Question("metadata", "wedding in Tbilisi", "VID_77.mp4", 0.0, 4.0),
)


def build(folder: Path) -> Path:
    """Makes the library in a folder."""
    folder.mkdir(parents=True)
    Clip().photo("cat", 5).write(folder / "IMG_0001.mp4")
    Clip().photo("retina", 5).write(folder / "IMG_0002.mp4")
    Clip(jitter=0.4).photo("rocket", 5).write(folder / "IMG_0003.mp4")
    Clip().photo("grass", 11).narration("bees", at=2).write(folder / "rec-1.mp4")
    Clip().photo("brick", 12).track("deu").narration("volcano", at=1).track("eng", default=True).narration(
        "bridge", at=1
    ).write(folder / "two-tracks.mkv")
    Clip(rotation=90, size=(270, 480)).photo("gravel", 3).text(("Platform nine", "closed"), 5).photo("gravel", 3).write(
        folder / "upright.mp4"
    )
    Clip().text(("Weekly", "chess club"), 4, background="#5a1a1a").photo("clock", 4).write(folder / "card.webm")
    Clip(tags={"title": "Wedding in Tbilisi", "comment": "Nino and Giorgi"}).photo("camera", 4).write(
        folder / "VID_77.mp4"
    )
    _with_sidecars(folder)
    _long(folder / "long.mp4")
    return folder


def _with_sidecars(folder: Path) -> None:
    Clip().colour("navy", 4).write(folder / "download.mp4")
    about = {
        "title": "Night ferry to Bornholm",
        "description": "Crossing the Baltic Sea from Sassnitz.",
        "uploader": "Marit Holm",
        "upload_date": "20230714",
        "duration": 4,
    }
    (folder / "download.info.json").write_text(json.dumps(about), encoding="utf-8")
    Clip().colour("darkgreen", 8).write(folder / "lesson.mp4")
    (folder / "lesson.srt").write_text(
        "1\n00:00:01,000 --> 00:00:03,500\nThe glacier melts faster every summer.\n\n"
        "2\n00:00:05,000 --> 00:00:07,000\nResearchers drill into the ice.\n",
        encoding="utf-8",
    )
    # The owner's own subtitles must win over what a machine would hear.
    Clip().colour("indigo", 12).narration("bread", at=0.5).subtitle(
        "eng", (0.5, 4.0, "The old clockmaker repairs a tower clock."), (5.0, 9.0, "His daughter holds the lamp.")
    ).write(folder / "interview.mkv")


def _long(path: Path) -> None:
    clip = (
        Clip(fps=4, gop=12)
        .photo("coffee", 31.5)
        .photo("brick", 30.5)
        .text(("Harbour Street 42", "open until midnight"), 5.25)
    )
    clip.photo("galaxies", 12).narration("bicycle", at=33).narration("volcano", at=67.5).write(path)
