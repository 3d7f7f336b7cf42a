from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clamr_cli.config import default_cache
from clamr_cli.encoders.mini.networks import LEXICAL, Connector, Heads, unit
from clamr_cli.encoders.mini.passages import lexical_vectors
from clamr_cli.errors import UsageError
from clamr_cli.train import loop
from clamr_cli.train.mini import recipe
from clamr_cli.train.mini.compose import IMAGES_PER_BATCH, MAX_ROWS, Batches, CompositionConfig
from clamr_cli.train.mini.data import CaptionedImage, Entry, more_images
from clamr_cli.train.mini.material import PAGES, PHOTOS, PSEUDO, PassageFeatures, TrainingMaterial
from clamr_cli.train.run import STAGES, RecipeOptions, TrainNote, TrainStep, last_checkpoint
from clamr_cli.types import Modality

EVERY = (Modality.SPEECH, Modality.OCR, Modality.METADATA)


class WordModel:
    """Reads texts as bags of words: each word has a direction of its own. Queries are read in another language.

    Every direction of a query is turned, the same way for all, and its words are spelled otherwise: only what is
    learnt brings the two together.
    """

    def __init__(self) -> None:
        self._turn = np.linalg.qr(np.random.default_rng(9).normal(size=(384, 384)))[0].astype(np.float32)

    def queries(self, texts: list[str]) -> list[PassageFeatures]:
        return [self.read(text, query=True) for text in texts]

    def read(self, text: str, *, query: bool = False) -> PassageFeatures:
        words = text.split()
        states = np.stack([word_state(word) for word in words])
        lexical = lexical_vectors([word[::-1] + "?" if query else word for word in words], LEXICAL)
        turned = states @ self._turn if query else states
        return PassageFeatures(turned, lexical, unit(turned.mean(axis=0)))


def word_state(word: str) -> np.ndarray:
    return unit(np.random.default_rng(zlib.crc32(word.encode())).normal(size=384).astype(np.float32))


@pytest.fixture(scope="module")
def material() -> TrainingMaterial:
    model = WordModel()
    photos = [
        CaptionedImage(f"p{n}", tuple(f"thing{n} seen{n} {k}" for k in "abcde"), (f"thing{n}",)) for n in range(40)
    ]
    pool = [Entry(f"word{n} term{n} more{n}", EVERY, (f"word{n}", f"term{n} more{n}")) for n in range(160)]
    texts = [[model.read(entry.text)] for entry in pool]
    questions = [q for entry in pool for q in entry.queries] + [q for p in photos for q in (*p.captions, *p.pieces)]
    vectors = np.stack([[model.read(caption).mean for caption in photo.captions] for photo in photos])
    queries = dict(zip(questions, model.queries(questions), strict=True))
    # What a fair connector would say: the caption, disturbed.
    means = np.repeat(vectors.mean(axis=1)[:, None], 11, axis=1)
    disturbed = means + 0.05 * np.random.default_rng(0).normal(size=means.shape).astype(np.float32)
    return TrainingMaterial(
        text_model=model,
        images=photos,
        rows=unit(disturbed),
        groups={**{name: [] for name in IMAGES_PER_BATCH}, PHOTOS: list(range(30)), PSEUDO: list(range(30, 40))},
        connector=Connector(np.zeros((1306, 384), np.float32), np.zeros(384, np.float32)),
        classes=np.zeros((1000, 384), np.float32),
        entries=pool,
        train_texts=list(range(160)),
        texts=texts,
        queries=queries,
    )


def test_a_batch_is_the_same_each_time(material: TrainingMaterial) -> None:
    drawn = Batches(material, documents=6, count=3, seed=1, config=CompositionConfig())
    first, again, other = drawn[1], drawn[1], drawn[2]
    assert len(drawn) == 3
    assert first["inputs"]["queries"]["rows"].equal(again["inputs"]["queries"]["rows"])
    assert first["inputs"]["documents"]["rows"].shape[0] == other["inputs"]["documents"]["rows"].shape[0] == 6
    assert not first["targets"].equal(other["targets"]) or not first["query_modalities"].equal(
        other["query_modalities"]
    )
    assert first["inputs"]["documents"]["kinds"].shape[1] <= MAX_ROWS


@pytest.mark.slow
def test_training_lowers_the_loss_and_makes_a_file_that_the_encoder_reads(material, tmp_path) -> None:
    import torch

    torch.manual_seed(0)
    model = recipe.initial_model(material)
    losses = {}
    for stage, steps in zip(recipe.STAGES, (80, 5), strict=True):
        batches = Batches(material, documents=8, count=steps, seed=0, config=stage.config)
        options = replace(
            recipe.DEFAULTS,
            learning_rate=2e-3,
            steps=steps,
            batch=1,
            device="cpu",
            aggregation=stage.aggregations[0],
            bf16=not stage.separate,
        )
        model.separate = stage.separate
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer = recipe.MiniTrainer(stage, model, options, tmp_path / stage.name, batches, lambda drawn: drawn[0])
        losses[stage.name] = [event.loss for event in loop.train(trainer) if isinstance(event, TrainStep)]
        assert len(losses[stage.name]) == steps
        for name, tensor in model.state_dict().items():
            assert not name.startswith(stage.frozen or ("none",)) or tensor.equal(before[name])
        assert not model.maps["word"].equal(before["maps.word"])
    assert np.mean(losses["heads"][-5:]) < 0.7 * np.mean(losses["heads"][:5])
    assert model.correction.abs().max() > 0
    file = tmp_path / "mini.safetensors"
    file.write_bytes(recipe.weights_file(model, material))
    trained = Heads.load(file)
    rows = trained.vectors(
        material.rows[0], np.full(11, 2), np.zeros(11, np.float32), np.zeros((11, LEXICAL), np.float32)
    )
    assert rows.shape == (11, 128)
    assert np.isfinite(rows).all()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that has all its parts, though nothing in them."""
    folder = tmp_path / "data"
    for name in recipe.REQUIRED_FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    return folder


def run_of(out: Path, data: Path, **options: object) -> RecipeOptions:
    return RecipeOptions(out=out, cache=default_cache(), data=data, steps=10, batch=8, save_every=100, **options)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["heads", "joint"])
def test_a_run_that_was_closed_goes_on_as_if_it_had_not_been(material, data, tmp_path, monkeypatch, where) -> None:
    def loaded(*_: object) -> Iterator[object]:
        yield TrainNote("made for this test")
        return material

    monkeypatch.setattr(recipe, "load", loaded)
    monkeypatch.setattr(recipe, "evaluate", lambda *_: {})
    list(recipe.run(run_of(tmp_path / "whole", data)))
    events = recipe.run(run_of(tmp_path / "broken", data))
    total = {"heads": 10, "joint": 3}[where]
    next(event for event in events if isinstance(event, TrainStep) and event.total == total)
    events.close()
    assert not (tmp_path / "broken" / recipe.WEIGHTS).exists()
    last = last_checkpoint(tmp_path / "broken", STAGES["mini"])
    assert last is not None
    assert last.parent.name == where
    with pytest.raises(UsageError, match="holds a run already"):
        next(recipe.run(run_of(tmp_path / "broken", data)))
    with pytest.raises(UsageError, match="bf16"):
        next(recipe.run(run_of(tmp_path / "broken", data, resume=True, bf16=True)))
    list(recipe.run(run_of(tmp_path / "broken", data, resume=True)))
    first, second = ((tmp_path / name / recipe.WEIGHTS).read_bytes() for name in ("whole", "broken"))
    assert first == second


def test_the_stages_known_without_torch_are_the_recipes() -> None:
    assert STAGES["mini"] == tuple(stage.name for stage in recipe.STAGES)


@pytest.mark.parametrize("missing", [None, *recipe.REQUIRED_FILES])
def test_absent_data_are_named(tmp_path, data, missing) -> None:
    if missing is not None:
        gone = data / missing
        gone.rmdir() if gone.is_dir() else gone.unlink()
    options = RecipeOptions(out=tmp_path / "out", cache=default_cache(), data=data if missing else None)
    with pytest.raises(UsageError, match=f"lacks {missing}" if missing else "--data"):
        list(recipe.run(options))
    assert not options.out.exists()


def test_incomplete_data_are_named(tmp_path, data) -> None:
    (data / "train/flickr8k_1k/captions.csv").write_text("image,caption\ngone.jpg,a dog\n")
    (data / "text/msvd_captions.json").write_text("{}")
    with pytest.raises(UsageError, match=r"gone\.jpg"):
        list(recipe.run(run_of(tmp_path / "out", data)))


REFUSED = {
    "QUERIES": {"queries": Path("queries.jsonl")},
    "--model": {"model": "some"},
    "--lora-rank": {"lora_rank": 8},
    "--4bit": {"four_bit": True},
    "--gradient-checkpointing": {"checkpointing": True},
    "--epochs": {"epochs": 2.0},
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_of_other_recipes_are_refused(tmp_path, data, name) -> None:
    options = RecipeOptions(out=tmp_path / "out", cache=default_cache(), data=data, **REFUSED[name])
    with pytest.raises(UsageError, match=f"takes no {name}"):
        next(recipe.run(options))


def test_a_data_folder_may_lack_the_frames_of_project_pages(tmp_path: Path) -> None:
    assert not any(PAGES in name for name in recipe.REQUIRED_FILES)
    assert more_images(tmp_path, PAGES) == []
    (tmp_path / "train/more" / PAGES).mkdir(parents=True)
    (tmp_path / "train/more" / PAGES / "captions.csv").write_text("image,caption\na.jpg,a dog on the moon\n")
    (image,) = more_images(tmp_path, PAGES)
    assert image.captions == ("a dog on the moon",)
