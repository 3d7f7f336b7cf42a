"""Gates for a frozen encoder: trained on vectors that are made here, and on a tiny random EmbeddingGemma 2."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clamr_cli import encoders
from clamr_cli.encoders.gemma import GATES, OPEN, WIDTH, Bank, Gates, unit
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.train import clamr
from clamr_cli.train.mini import gates as recipe
from clamr_cli.train.mini.recipe import REQUIRED_FILES, run
from clamr_cli.train.run import RecipeOptions, Trained, TrainNote
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span
from tests.bench.calibration import OTHER_TEXTS, PUBLISHED, compared
from tests.unit.encoders import tiny_gemma


def some_gates(seed: int = 1) -> Gates:
    draw = np.random.default_rng(seed)
    parts = (draw.normal(size=part.shape) for part in (OPEN.documents, OPEN.query, OPEN.tilt))
    return Gates(*(part.astype(np.float32) for part in parts))


def test_the_model_that_is_trained_scores_as_the_encoder_does() -> None:
    draw = np.random.default_rng(3)
    bank = Bank.of(unit(draw.normal(size=(64, WIDTH)).astype(np.float32)))
    documents, query = (unit(draw.normal(size=(n, WIDTH)).astype(np.float32)) for n in (6, 1))
    ids, gates = [1, 1, 2, 3, 4, 5], some_gates()
    model = recipe.GateModel()
    with torch.no_grad():
        for name in ("documents", "query", "tilt"):
            getattr(model, name).copy_(torch.from_numpy(getattr(gates, name)))
        encoded = model(
            torch.from_numpy(unit(query - bank.mean)), torch.from_numpy(bank.scaled(documents))[None],
            torch.tensor([ids]),
        )  # fmt: skip
    rows = bank.document_rows(documents, ids, gates)
    assert np.allclose(np.linalg.norm(rows, axis=-1), 1.0, atol=1e-5)
    expected = bank.query_rows(query[0], gates) @ rows.reshape(-1, 128).T
    assert np.abs((encoded.queries[0] @ encoded.documents[0].T).numpy() - expected).max() < 1e-5
    # The own half of a vector still wins against the other half of any.
    assert (expected[0].reshape(2, 6)[0] > expected[0].reshape(2, 6)[1].max()).all()
    assert np.array_equal(bank.document_rows(documents), bank.document_rows(documents, ids, OPEN))


@pytest.mark.slow
@pytest.mark.parametrize("picture", PUBLISHED)
def test_calibration_lets_queries_choose_the_modality(picture: float) -> None:
    ways = compared(picture, steps=30)
    plain, bank, gates = (ways[name] for name in ("plain", "bank", "bank and gates"))
    for way in (bank, gates):
        # Where pictures are as close to queries as texts are, there is nothing to gain.
        gain = 0.2 if picture < OTHER_TEXTS else -0.05
        assert way["video/won"] > plain["video/won"] + gain
        assert way["all/won"] > plain["all/won"] + gain
        assert way["all/R@1"] > plain["all/R@1"] + gain / 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The recipe's data folder with ten photos and a few texts of each kind."""
    folder, draw = tmp_path / "data", np.random.default_rng(2)
    (folder / "train/flickr8k_1k/images").mkdir(parents=True)
    for name in ("train/caltech101", "train/imagenet_sample", "text"):
        (folder / name).mkdir()
    with (folder / "train/flickr8k_1k/captions.csv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "caption"])
        for number in range(10):
            picture = Image.fromarray(draw.integers(0, 255, (48, 64, 3), dtype=np.uint8))
            picture.save(folder / f"train/flickr8k_1k/images/{number}.jpg")
            writer.writerows([[f"{number}.jpg", f"thing {number} seen {k}"] for k in "abc"])
    buffers = {
        "clamr_val_queries.json": json.dumps({str(n): {"query": f"line {n} on screen"} for n in range(30)}),
        "msvd_captions.json": json.dumps({str(n): [f"a man does {n} {k}" for k in "abcd"] for n in range(20)}),
        "multivent1_base.csv": "language,video_description,event_name,en_article_excerpt\n",
        "multivent2_q.csv": "Query_id,query\n",
        "multivent2_qrels.jsonl": "",
    }
    for name, content in buffers.items():
        (folder / "text" / name).write_text(content, encoding="utf-8")
    for language in ("de", "en", "fr"):
        content = io.BytesIO()
        with gzip.GzipFile(fileobj=content, mode="wb") as stream:
            stream.write("\n".join(f"two people walk past number {n}" for n in range(20)).encode())
        (folder / f"text/multi30k_train.{language}.gz").write_bytes(content.getvalue())
    # Parts that the recipe has and gates are not trained on.
    for path in (folder / name for name in REQUIRED_FILES):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder


@pytest.mark.slow
def test_the_recipe_trains_gates_that_the_encoder_reads(data: Path, tmp_path: Path) -> None:
    cache, model = tmp_path / "cache", tiny_gemma.write_checkpoint(tmp_path / "tiny")
    options = RecipeOptions(
        out=tmp_path / "run", cache=cache, data=data, backbone="gemma", model=str(model), steps=4, batch=4, device="cpu"
    )
    events = list(run(options))
    trained = events[-1]
    assert isinstance(trained, Trained)
    assert {"open/all/R@1", "trained/all/R@1", "trained/video/won"} <= set(trained.metrics)
    # What was encoded is not encoded again.
    again = list(run(replace(options, out=tmp_path / "again")))
    assert any(isinstance(event, TrainNote) for event in events)
    assert not any(isinstance(event, TrainNote) for event in again)
    assert (tmp_path / "run" / GATES).read_bytes() == (tmp_path / "again" / GATES).read_bytes()

    plain = encoders.create("gemma", cache=cache, device="cpu", model=str(model))
    gated = encoders.create("gemma", cache=cache, device="cpu", model=str(model), adapter=str(tmp_path / "run"))
    by_file = encoders.describe("gemma", cache=cache, model=str(model), adapter=str(tmp_path / "run" / GATES))
    assert by_file == gated.info != plain.info
    frame = Frame(0.0, Span(0.0, 1.0), (data / "train/flickr8k_1k/images/0.jpg").read_bytes())
    moment = Document("v#0", Span(0.0, 1.0), frames=(frame,), speech=(Segment(Span(0.0, 1.0), "hello"),))
    rows = gated.encode_documents([moment])[0]
    assert np.allclose(np.linalg.norm(rows.vectors, axis=1), 1.0, atol=1e-5)
    assert sorted(set(rows.modality_ids.tolist())) == sorted(MODALITY_IDS[m] for m in (Modality.VIDEO, Modality.SPEECH))
    assert np.abs(rows.vectors - plain.encode_documents([moment])[0].vectors).max() > 1e-3


def test_gates_of_nothing_are_one_clear_line(data: Path, tmp_path: Path) -> None:
    cache, model = tmp_path / "cache", tiny_gemma.write_checkpoint(tmp_path / "tiny")
    with pytest.raises(ModelError, match="no gates in"):
        encoders.create("gemma", cache=cache, model=str(model), adapter=str(tmp_path / "nowhere"))
    (tmp_path / GATES).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        encoders.create("gemma", cache=cache, model=str(model), adapter=str(tmp_path))
    (tmp_path / GATES).write_bytes((model / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="holds no gates of this encoder"):
        encoders.create("gemma", cache=cache, model=str(model), adapter=str(tmp_path))
    options = RecipeOptions(out=tmp_path / "run", cache=cache, data=data, backbone="siglip")
    with pytest.raises(UsageError, match="invalid backbone 'siglip': use gemma"):
        list(run(options))
    with pytest.raises(UsageError, match="takes no --backbone: use --recipe mini"):
        list(clamr.run(RecipeOptions(out=tmp_path / "run", cache=cache, backbone="gemma")))
