"""Checkpoints of sentence-transformers, on a tiny one that is made here."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from clamr_cli import encoders
from clamr_cli.errors import MissingExtra, ModelError, UsageError
from clamr_cli.types import Document, Encoder, Frame, Segment, Span

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "dog", "pier", "ferry", "the"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-vector checkpoint of random weights: a tiny BERT, a projection to 128, unit length."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    import torch
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("st")
    (root / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(root / "vocab.txt")).save_pretrained(root / "bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = BertConfig(vocab_size=len(WORDS), **sizes)
    BertModel(config).save_pretrained(root / "bert")
    modules = [
        Transformer(str(root / "bert")),
        Dense(32, 128, bias=False, module_input_name="token_embeddings"),
        MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    library.MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(root / "model"))
    return root / "model"


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def test_segments_become_vectors_that_know_their_place(checkpoint: Path, tmp_path: Path) -> None:
    encoder = encoders.create(f"st:{checkpoint}", cache=tmp_path, device="cpu")
    assert isinstance(encoder, Encoder)
    moment = Document(
        "v#0",
        Span(0.0, 9.0),
        frames=(Frame(0.0, Span(0.0, 9.0), picture()),),
        speech=(Segment(Span(1.0, 2.0), " "), Segment(Span(2.0, 3.0), "the red ferry")),
        metadata=(Segment(Span(0.0, 9.0), "pier"),),
    )
    found, nothing = encoder.encode_documents([moment, Document("v#1", Span(9.0, 10.0))])
    assert set(found.modality_ids.tolist()) == {3, 4}
    assert set(found.segments[found.modality_ids == 3].tolist()) == {1}
    assert found.spans[found.modality_ids == 3][0].tolist() == [2.0, 3.0]
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-5)
    assert len(nothing) == 0
    assert "sees no pictures" in encoder.notes[0]


def test_a_query_finds_the_passage_with_its_words(checkpoint: Path, tmp_path: Path) -> None:
    encoder = encoders.create(f"st:{checkpoint}", cache=tmp_path, device="cpu")
    texts = ["the red ferry", "dog", "pier the dog"]
    documents = encoder.encode_documents(
        [Document(f"v#{n}", Span(0, 1), speech=(Segment(Span(0, 1), text),)) for n, text in enumerate(texts)]
    )
    (query,) = encoder.encode_queries(["the red ferry"])
    scores = [float((query.vectors @ found.vectors.T).max(axis=1).sum()) for found in documents]
    assert scores[0] == max(scores)


def test_the_name_holds_the_checkpoint_and_describing_is_enough_to_know_it(checkpoint: Path, tmp_path: Path) -> None:
    described = encoders.describe(f"st:{checkpoint}", cache=tmp_path)
    assert described.name == f"st:{checkpoint}"
    assert described == encoders.create(f"st:{checkpoint}", cache=tmp_path, device="cpu").info


def test_a_plain_language_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="random numbers"):
        encoders.create(f"st:{checkpoint.parent / 'bert'}", cache=tmp_path)


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        encoders.create("st", cache=tmp_path)
    with pytest.raises(ModelError, match="no folder"):
        encoders.create("st:/nowhere", cache=tmp_path)


def test_the_extra_is_named(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"clamr-cli\[st\]"):
        encoders.create(f"st:{checkpoint}", cache=tmp_path)
