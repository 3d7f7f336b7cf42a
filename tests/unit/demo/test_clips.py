"""The demonstration's clips hold what their facts say."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from clamr_cli.demo import ASSETS, CLIPS, NARRATIONS, PHOTOS, RATE, SIZE, card, make_clips, photo, samples_of
from clamr_cli.types import Modality


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_clips(folder)
    return folder


@pytest.mark.parametrize("name", PHOTOS)
def test_every_photo_is_carried_by_an_installed_package(name: str) -> None:
    assert photo(name).mode == "RGB"


@pytest.mark.parametrize("narration", NARRATIONS.values(), ids=list(NARRATIONS))
def test_narration_lasts_as_long_as_it_says(narration) -> None:
    assert len(samples_of(narration.path)) / RATE == pytest.approx(narration.duration, abs=0.1)


def test_readme_of_the_narrations_has_every_text() -> None:
    notes = (ASSETS / "README.md").read_text()
    assert all(f"| `{one.path.name}` | {one.voice} | {one.text} |" in notes for one in NARRATIONS.values())


@pytest.mark.parametrize("clip", CLIPS, ids=[clip.name for clip in CLIPS])
def test_clip_has_its_length_and_tracks(folder: Path, clip) -> None:
    with av.open(str(folder / clip.name)) as media:
        assert media.duration / av.time_base == pytest.approx(clip.duration, abs=0.2)
        assert (media.streams.video[0].width, media.streams.video[0].height) == SIZE
        assert len(media.streams.audio) == (0 if clip.silent else 1)


def test_narration_starts_when_its_fact_says(folder: Path) -> None:
    clip = CLIPS[-1]
    samples = np.abs(samples_of(folder / clip.name))
    for fact in (fact for fact in clip.facts if fact.modality is Modality.SPEECH):
        start = round(fact.span.start * RATE)
        assert samples[start - RATE : start - RATE // 10].max() < 0.01
        assert samples[start : start + RATE].max() > 0.05


@pytest.mark.slow
def test_title_card_is_shown_when_its_fact_says(folder: Path) -> None:
    clip = CLIPS[-1]
    fact = next(fact for fact in clip.facts if fact.modality is Modality.OCR)
    title = np.asarray(card(clip.scenes[2].lines, SIZE), dtype=float)
    with av.open(str(folder / clip.name)) as media:
        near = [
            frame.time for frame in media.decode(video=0) if np.abs(frame.to_ndarray(format="rgb24") - title).mean() < 8
        ]
    assert min(near) == pytest.approx(fact.span.start, abs=0.2)
    assert max(near) == pytest.approx(fact.span.end, abs=0.2)


def test_clips_are_made_once(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    make_clips(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
