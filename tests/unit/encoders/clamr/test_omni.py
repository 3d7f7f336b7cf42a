"""The encoder that listens, against the library's own forward pass: no published values are known for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2_5OmniConfig, WhisperFeatureExtractor
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerModel

from clamr_cli.encoders.clamr import ClamrEncoder, ClamrOmniEncoder
from clamr_cli.encoders.clamr.prompt import SAMPLE_RATE, audio_tokens, pixels_of
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import Document, Sound, Span
from tests.unit.encoders.clamr import tiny
from tests.unit.encoders.clamr.test_encoding import picture


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * SAMPLE_RATE), dtype=np.int16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory):
    return tiny.write_omni_base(tmp_path_factory.mktemp("omni") / "base")


@pytest.fixture(scope="module")
def omni(base):
    return ClamrOmniEncoder.create(cache=base.parent, device="cpu", model=str(base))


def library(base, ids: np.ndarray, frames, samples: np.ndarray) -> np.ndarray:
    """Hidden states of the same tokens by the library, which computes its own positions and features."""
    config = Qwen2_5OmniConfig(**tiny.omni_config(tiny.make_tokenizer(tiny.OMNI_SPECIAL))).thinker_config
    model = Qwen2_5OmniThinkerModel(config).eval().float()
    stored = load_file(base / "model.safetensors")
    own = {
        name.removeprefix("thinker.").replace("model.", "language_model.", 1)
        if name.startswith("thinker.model.")
        else name.removeprefix("thinker."): value
        for name, value in stored.items()
        if name.startswith("thinker.") and "lm_head" not in name
    }
    model.load_state_dict(own, strict=True)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    heard = extractor(
        samples / 32768.0, sampling_rate=16000, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    pixels = pixels_of(frames)
    grid = torch.tensor([[len(pixels) // 2, pixels.shape[2] // 14, pixels.shape[3] // 14]])
    patches = ClamrOmniEncoder.create(cache=base.parent, device="cpu", model=str(base)).backbone.patches(pixels)
    with torch.inference_mode():
        output = model(
            input_ids=torch.from_numpy(ids.astype(np.int64))[None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values_videos=patches,
            video_grid_thw=grid,
            video_second_per_grid=torch.ones(1),
            input_features=heard["input_features"],
            feature_attention_mask=heard["attention_mask"],
        )
    return output.last_hidden_state[0].numpy()


@pytest.mark.slow
def test_it_agrees_with_the_library(base, omni):
    frames, samples = [picture(1), picture(2), picture(3)], noise(3.1)
    (found,) = omni.encode_documents([{"frames": frames, "audio": samples, "ocr": "PIER", "description": "dog"}])
    hidden = library(base, found.input_ids, frames, samples)
    projected = hidden @ omni.projection.weight.T
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    assert np.abs(found.vectors - expected).max() < 1e-5


def test_audio_is_a_modality_of_its_own_with_times(omni):
    moment = Document("v#0", Span(60.0, 120.0), audio=Sound(Span(60.0, 62.0), noise(2.0)))
    (found,) = omni.encode_documents([moment])
    heard = np.flatnonzero(found.modality_ids == 5)
    assert len(heard) == 1 + audio_tokens(2 * SAMPLE_RATE)
    assert np.allclose(found.spans[heard[1]], [60.0, 60.04])
    assert np.allclose(found.spans[heard[-1]], [61.96, 62.0], atol=0.05)


def test_thirty_seconds_are_750_tokens_and_no_more_is_heard(omni):
    assert audio_tokens(30 * SAMPLE_RATE) == 750
    long = noise(31.0)
    one, other = omni.encode_documents([{"audio": long}, {"audio": long[: 30 * SAMPLE_RATE]}])
    assert np.allclose(one.vectors, other.vectors, atol=1e-6)
    assert (one.modality_ids == 5).sum() == 751


def test_neighbours_change_nothing(omni):
    documents = [{"audio": noise(2.5, 1), "ocr": "a"}, {"frames": [picture(4)]}, {"audio": noise(1.0, 2)}]
    together = omni.encode_documents(documents)
    for document, found in zip(documents, together, strict=True):
        assert np.allclose(found.vectors, omni.encode_documents([document])[0].vectors, atol=2e-6)


def test_floats_are_heard_like_integers_and_too_little_is_nothing(omni):
    samples = noise(1.0)
    one, other = omni.encode_documents([{"audio": samples}, {"audio": (samples / 32767.0).astype(np.float32)}])
    assert np.allclose(one.vectors, other.vectors, atol=2e-2)
    assert len(omni.encode_documents([{"audio": samples[:100]}])[0]) == 0
    with pytest.raises(UsageError, match="samples"):
        omni.encode_documents([{"audio": samples.astype(np.int32)}])


def test_separate_context_hears_audio_alone(base, omni):
    separate = ClamrOmniEncoder.create(cache=base.parent, device="cpu", model=str(base), context="separate")
    (whole,) = separate.encode_documents([{"frames": [picture(1)], "audio": noise(1.0), "asr": "dog"}])
    (alone,) = omni.encode_documents([{"audio": noise(1.0)}])
    heard = whole.modality_ids == 5
    assert np.allclose(whole.vectors[heard], alone.vectors[alone.modality_ids == 5], atol=2e-6)


def test_the_encoder_that_only_sees_passes_over_audio(encoder):
    one, other = encoder.encode_documents([{"asr": "dog", "audio": noise(1.0)}, {"asr": "dog"}])
    assert np.array_equal(one.input_ids, other.input_ids)


def test_the_two_kinds_of_base_are_told_apart(base, folders):
    with pytest.raises(ModelError, match="clamr-omni"):
        ClamrEncoder.create(cache=base.parent, device="cpu", model=str(base))
    with pytest.raises(ModelError, match="is a qwen2_5_vl model"):
        ClamrOmniEncoder.create(cache=base.parent, device="cpu", model=str(folders.base))


def test_an_adapter_changes_its_language_model(base, omni, folders):
    adapted = ClamrOmniEncoder.create(cache=base.parent, device="cpu", model=str(base), adapter=str(folders.adapter))
    document = [{"asr": "dog"}]
    assert (
        np.abs(adapted.encode_documents(document)[0].vectors - omni.encode_documents(document)[0].vectors).max() > 1e-2
    )
    assert adapted.info.name == "clamr-omni"
