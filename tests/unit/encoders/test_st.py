"""Checkpoints of sentence-transformers, on a tiny one that is made here."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamr_cli import encoders
from clamr_cli.errors import MediaError, MissingExtra, ModelError, UsageError
from clamr_cli.types import Document, Encoder, Frame, Segment, Span
from tests.unit.encoders.clamr import tiny

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


def test_a_tensor_that_would_be_made_up_is_named(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    damaged = Path(shutil.copytree(checkpoint, tmp_path / "damaged"))
    tensors = load_file(damaged / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"would be random \(encoder\.layer\.0\.output\.dense\.weight\)"):
        encoders.create(f"st:{damaged}", cache=tmp_path)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny page retriever of random weights: it sees pictures."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from transformers import (
        ColQwen2Config,
        ColQwen2ForRetrieval,
        ColQwen2Processor,
        PreTrainedTokenizerFast,
        Qwen2VLImageProcessor,
    )

    root = tmp_path_factory.mktemp("pages")
    tokenizer = tiny.make_tokenizer()
    text = {key: value for key, value in tiny.CONFIG.items() if key not in ("vision_config", "model_type")}
    text |= {"model_type": "qwen2_vl_text", "vocab_size": tokenizer.get_vocab_size()}
    ids = {f"{name}_token_id": tokenizer.token_to_id(f"<|{name}_pad|>") for name in ("image", "video")}
    vision = {"model_type": "qwen2_vl", "depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 32}
    model = {"model_type": "qwen2_vl", "text_config": text, "vision_config": vision, **ids}
    ColQwen2ForRetrieval(ColQwen2Config(vlm_config=model, embedding_dim=128)).save_pretrained(root)
    special = {"pad_token": "<|endoftext|>", "additional_special_tokens": list(tiny.SPECIAL[1:])}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    pictures = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    ColQwen2Processor(image_processor=pictures, tokenizer=wrapped).save_pretrained(root)
    return root


def test_a_page_retriever_sees_frames(pages: Path, tmp_path: Path) -> None:
    encoder = encoders.create(f"st:{pages}", cache=tmp_path, device="cpu")
    frames = tuple(Frame(t, Span(t, t + 4.0), picture()) for t in (0.0, 4.0))
    (found,) = encoder.encode_documents([Document("v#0", Span(0.0, 8.0), frames=frames)])
    assert set(found.modality_ids.tolist()) == {1}
    assert found.segments.tolist() == sorted(found.segments.tolist())
    assert set(found.segments.tolist()) == {0, 1}
    assert found.spans[-1].tolist() == [4.0, 8.0]
    assert encoder.notes == ()
    with pytest.raises(MediaError):
        encoder.encode_documents([Document("v#1", Span(0, 1), frames=(Frame(0.0, Span(0, 1), b"none"),))])


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        encoders.create("st", cache=tmp_path)
    with pytest.raises(ModelError, match="no folder"):
        encoders.create("st:/nowhere", cache=tmp_path)


def test_the_extra_is_named(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"\[st\]"):
        encoders.create(f"st:{checkpoint}", cache=tmp_path)
