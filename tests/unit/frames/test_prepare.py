"""Preparing one video: everything once, kept by content, and gone on with after an interruption."""

from __future__ import annotations

import os
import shutil
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import pytest

from clamr_cli import encoders
from clamr_cli.errors import EncoderMismatch, IndexLocked, MediaError, UsageError
from clamr_cli.events import Progress
from clamr_cli.frames import (
    DenseOptions,
    FrameChoice,
    Prepared,
    find,
    full_size,
    locate,
    prepare,
    stills,
    uniform,
)
from clamr_cli.index.run import IndexOptions, index
from clamr_cli.store import Store
from clamr_cli.types import Encoder, ForeignQuery, Modality, TokenVectors
from tests import clips

SRT = "1\n00:00:01,000 --> 00:00:03,000\nThe red door opens.\n\n2\n00:00:13,000 --> 00:00:15,000\nBees dance.\n"


@pytest.fixture(scope="module")
def _film(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("film")
    film = clips.Clip().colour("red", 6).colour("blue", 6).colour("green", 6).colour("yellow", 6)
    film.chapter(0, 12, "Morning").chapter(12, 24, "Evening").write(place / "film.mp4")
    (place / "film.srt").write_text(SRT, encoding="utf-8")
    return place


@pytest.fixture
def film(_film: Path, tmp_path: Path) -> str:
    return os.fspath(Path(shutil.copytree(_film, tmp_path / "videos")) / "film.mp4")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "index", create=True)


@pytest.fixture
def options(tmp_path: Path) -> DenseOptions:
    return DenseOptions(IndexOptions(tmp_path / "cache", encoder="hashed", speech=False, text=False))


def prepared(store: Store, video: str, options: DenseOptions) -> tuple[Prepared, set[str]]:
    """The prepared video, and the stages that there was work in."""
    *events, last = prepare(store, locate(store, video), options)
    assert isinstance(last, Prepared)
    return last, {event.stage for event in events if isinstance(event, Progress)}


def hashed(options: DenseOptions):
    return encoders.create("hashed", cache=options.index.cache)


@pytest.mark.slow
def test_a_question_is_answered_by_what_is_seen_said_and_noted(store, film, options):
    ready, stages = prepared(store, film, options)
    assert stages == {"sample", "encode"}
    assert [one.time for one in ready.candidates] == [0.0, 6.0, 12.0, 18.0]
    for question, time, modality in (
        ("red", 0.0, Modality.VIDEO),
        ("the door opens", 0.0, Modality.SPEECH),
        ("bees dance", 12.0, Modality.SPEECH),
        ("yellow", 18.0, Modality.VIDEO),
    ):
        best = find(ready, hashed(options), question, FrameChoice(k=2))[0]
        assert (best.rank, best.frame.time, best.modality) == (1, time, modality)
    (evening,) = find(ready, hashed(options), "evening", FrameChoice(k=1, modalities=(Modality.METADATA,)))
    assert evening.frame.time >= 12.0
    assert find(ready, hashed(options), "evening", FrameChoice(modalities=(Modality.OCR,))) == []


class Translating:
    """An encoder that takes every question for one in another language, of which "blue" is the translation."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.info = encoder, encoder.info

    def encode_queries(self, questions: list[str]) -> list[TokenVectors]:
        (wrong,) = self._encoder.encode_queries(["blue"])
        parts = {each.name: getattr(wrong, each.name) for each in fields(wrong)}
        return [
            ForeignQuery(**parts, as_written=tokens, certain=True, translation=0, sentence=0)
            for tokens in self._encoder.encode_queries(questions)
        ]


@pytest.mark.slow
def test_a_question_whose_words_stand_together_in_the_video_is_not_translated(store, film, options):
    ready, _ = prepared(store, film, options)
    encoder = Translating(hashed(options))
    for question, time in (("bees dance", 12.0), ("bees open", 6.0)):
        assert find(ready, encoder, question, FrameChoice(k=1))[0].frame.time == time


@pytest.mark.slow
def test_the_second_time_nothing_is_done_and_the_file_is_not_needed(store, film, options):
    first, _ = prepared(store, film, options)
    target = locate(store, film)
    os.unlink(film)
    with store.writer("somebody else"):
        *events, again = prepare(store, target, options)
    assert events == []
    assert (again.vectors.vectors == first.vectors.vectors).all()
    hits = find(again, hashed(options), "blue", FrameChoice(k=2))
    times = [(small, hit.frame.time) for hit, _, small in full_size(store, again, hits, side=1280)]
    assert times == [(True, time) for time in sorted(hit.frame.time for hit in hits)]
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in stills(store, again, [hit.number for hit in hits]))


@pytest.mark.slow
def test_the_content_of_a_known_file_is_not_looked_at_again(store, film, options, monkeypatch):
    ready, _ = prepared(store, film, options)
    monkeypatch.setattr(import_module("clamr_cli.frames.prepare"), "content_hash", None)
    assert locate(store, film) == ready.target
    os.utime(film, (1, 1))
    with pytest.raises(TypeError):
        locate(store, film)


@pytest.mark.slow
def test_what_took_the_place_of_a_file_is_not_kept_as_that_file(store, film, options):
    meant = locate(store, film)
    clips.Clip().colour("white", 6).write(film)
    with pytest.raises(MediaError, match="changed while it was read"):
        list(prepare(store, meant, options))
    assert locate(store, film).content_hash != meant.content_hash
    ready, stages = prepared(store, film, options)
    assert "sample" in stages
    assert ready.target.content_hash != meant.content_hash


@pytest.mark.slow
def test_other_words_give_other_vectors_from_the_same_pictures(store, film, options):
    prepared(store, film, options)
    Path(film).with_suffix(".srt").write_text(SRT.replace("Bees dance", "Wolves howl"), encoding="utf-8")
    ready, stages = prepared(store, film, options)
    assert stages == {"encode"}
    assert find(ready, hashed(options), "wolves howl", FrameChoice(k=1))[0].frame.time == 12.0


@pytest.mark.slow
def test_another_interval_gives_other_candidates(store, film, options):
    ready, stages = prepared(store, film, replace(options, interval=1.0))
    assert "sample" in stages
    assert len(ready.candidates) == 4
    assert prepared(store, film, options)[1] == {"sample", "encode"}


@pytest.mark.slow
def test_an_interrupted_preparation_goes_on_with_the_next_part(store, film, options, monkeypatch):
    for module in ("prepare", "rank"):
        monkeypatch.setattr(import_module(f"clamr_cli.frames.{module}"), "PART", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    kept = []
    store_put = Store.put_extraction

    def put(self, key, payload, blobs=()):
        store_put(self, key, payload, blobs)
        kept.append(key)
        if "/vectors/" in key and sum("/vectors/" in one for one in kept) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "put_extraction", put)
    with pytest.raises(KeyboardInterrupt):
        prepared(store, film, options)
    before = list(kept)
    ready, stages = prepared(store, film, options)
    assert stages <= {"encode"}
    assert len(ready.candidates) == 4
    assert len(set(kept)) == len(before) + 1
    assert find(ready, hashed(options), "yellow", FrameChoice(k=1))[0].frame.time == 18.0


@pytest.mark.slow
def test_two_processes_encode_as_one_does(store, film, options, monkeypatch):
    one, _ = prepared(store, film, options)
    for module in ("prepare", "rank"):
        monkeypatch.setattr(import_module(f"clamr_cli.frames.{module}"), "PART", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    other = Store.open(Path(store.uri).with_name("other"), create=True)
    many, _ = prepared(other, film, options)
    assert (one.vectors.vectors == many.vectors.vectors).all()
    assert (one.indptr == many.indptr).all()
    hits = [find(ready, hashed(options), "bees dance", FrameChoice(k=3)) for ready in (one, many)]
    assert [hit.score for hit in hits[0]] == pytest.approx([hit.score for hit in hits[1]])
    assert len(stills(other, many, [3, 0])) == 2


@pytest.mark.slow
def test_an_indexed_video_brings_its_words(store, film, options):
    list(index(store, [film], options.index))
    (record,) = store.files()
    Path(film).with_suffix(".srt").unlink()
    ready, stages = prepared(store, record.video_id[:6], options)
    assert stages == {"sample", "encode"}
    assert [segment.text for segment in ready.texts.speech] == ["The red door opens.", "Bees dance."]
    assert ready.target.path == film


@pytest.mark.slow
def test_sound_alone_has_no_candidates(store, options, tmp_path):
    path = os.fspath(clips.Clip().narration("bees", at=0).write(tmp_path / "sound.m4a"))
    ready, _ = prepared(store, path, options)
    assert ready.candidates == ()
    assert find(ready, hashed(options), "bees") == uniform(ready, 3) == []


@pytest.mark.slow
def test_a_silent_video_has_pictures(store, options, tmp_path):
    path = os.fspath(clips.Clip().colour("red", 4).colour("blue", 4).write(tmp_path / "silent.mp4"))
    ready, _ = prepared(store, path, options)
    assert find(ready, hashed(options), "blue", FrameChoice(k=1))[0].frame.time == 4.0
    assert [hit.frame.time for hit in uniform(ready, 2)] == [0.0, 4.0]
    assert len(uniform(ready, 9)) == len(uniform(ready, 10**15)) == 2


@pytest.mark.slow
def test_what_cannot_be_done_is_said(store, film, options, tmp_path):
    target = locate(store, film)
    with store.writer("clamr index"), pytest.raises(IndexLocked):
        list(prepare(store, target, options))
    with pytest.raises(UsageError, match="every 0 seconds"):
        list(prepare(store, target, replace(options, interval=0.0)))
    with pytest.raises(MediaError, match="no file of video"):
        list(prepare(store, replace(target, path=""), options))
    ready, _ = prepared(store, film, options)
    with pytest.raises(UsageError, match="empty"):
        find(ready, hashed(options), " ")
    with pytest.raises(UsageError, match="invalid -k"):
        FrameChoice(k=0)
    with pytest.raises(EncoderMismatch):
        find(replace(ready, encoder=replace(ready.encoder, fingerprint="x")), hashed(options), "red")
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(Path(film).read_bytes()[:2000])
    with pytest.raises(MediaError):
        list(prepare(store, locate(store, os.fspath(damaged)), options))
