"""EmbeddingGemma 2, on a tiny checkpoint of random weights that is made here."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from clamr_cli import encoders
from clamr_cli.cli.options import choose_encoder
from clamr_cli.config import Settings
from clamr_cli.encoders import gemma
from clamr_cli.encoders.gemma import BANK, HALF, MARK, WIDTH, Bank, GemmaEncoder, unit
from clamr_cli.errors import MediaError, ModelError, UsageError
from clamr_cli.types import Document, Frame, Segment, Sound, Span
from tests.unit.encoders import tiny_gemma

PLAIN: Any = {"device": "cpu", "threads": 1, "dtype": "float32"}
WHOLE = Span(0.0, 9.0)
NOISE = np.random.default_rng(5)
SAMPLES = NOISE.integers(-9000, 9000, 40_000).astype(np.int16)


def jpeg(wide: int = 320, high: int = 180) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE.integers(0, 255, (high, wide, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES = [jpeg(), jpeg(120, 200)]
MOMENT = Document(
    "v#0",
    WHOLE,
    frames=tuple(Frame(float(n), WHOLE, picture) for n, picture in enumerate(PICTURES)),
    speech=(Segment(Span(1.0, 2.0), " "), Segment(Span(2.0, 3.0), "hello there."), Segment(Span(3.0, 5.0), "a ferry")),
    metadata=(Segment(WHOLE, "pier"),),
    audio=Sound(WHOLE, SAMPLES),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gemma.write_checkpoint(tmp_path_factory.mktemp("gemma") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def encoder(checkpoint: Path, cache: Path) -> Any:
    return encoders.create("gemma", cache=cache, **PLAIN, model=str(checkpoint))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Callable[..., NDArray[np.float32]]:
    """Sentence vectors as the library makes them: its processor, its forward pass, the mean, unit length."""
    from transformers import EmbeddingGemma2Processor, PreTrainedTokenizerFast
    from transformers.models.embedding_gemma2.modeling_embedding_gemma2 import EmbeddingGemma2Model
    from transformers.models.embedding_gemma2.video_processing_embedding_gemma2 import EmbeddingGemma2VideoProcessor
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor

    names = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_gemma.make_tokenizer(), pad_token="<pad>", extra_special_tokens=names
    )
    processor = EmbeddingGemma2Processor(
        Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(), tokenizer, EmbeddingGemma2VideoProcessor()
    )
    model = EmbeddingGemma2Model.from_pretrained(checkpoint).eval()

    def vectors(**inputs: Any) -> NDArray[np.float32]:
        prepared = processor(**inputs, return_tensors="pt")
        with torch.no_grad():
            states = model(**prepared).last_hidden_state
        mask = prepared["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        return np.asarray(torch.nn.functional.normalize(means[:, :WIDTH], dim=-1).numpy())

    return vectors


@pytest.mark.slow
def test_texts_pictures_and_sounds_have_the_vectors_that_the_library_gives(
    encoder: Any, checkpoint: Path, cache: Path, reference: Callable[..., NDArray[np.float32]]
) -> None:
    texts = ["task: search result | query: a red car", "title: none | text: hello there. a ferry at the pier"]
    expected = np.concatenate([reference(text=[text]) for text in texts])
    assert np.abs(encoder.model.texts(texts) - expected).max() < 1e-5
    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in PICTURES]
    expected = np.concatenate([reference(images=[image], max_soft_tokens=70) for image in images])
    assert np.abs(encoder.model.pictures(MOMENT.frames) - expected).max() < 1e-5
    hears = encoders.create("gemma-omni", cache=cache, **PLAIN, model=str(checkpoint))
    expected = reference(audio=[SAMPLES.astype(np.float32) / 32768])
    assert np.abs(hears.model.sounds([MOMENT.audio]) - expected).max() < 1e-5  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_score_is_the_cosine_of_the_library_less_its_mean_over_its_deviation(
    encoder: Any, reference: Callable[..., NDArray[np.float32]]
) -> None:
    found = encoder.encode_documents([MOMENT])[0]
    query = encoder.encode_queries(["a ferry"])[0]
    bank = np.concatenate([reference(text=[f"task: search result | query: {text}"]) for text in BANK])
    asked = reference(text=["task: search result | query: a ferry"]) - bank.mean(axis=0)
    frames = np.concatenate(
        [reference(images=[Image.open(io.BytesIO(p)).convert("RGB")], max_soft_tokens=70) for p in PICTURES]
    )
    centred = unit(bank - bank.mean(axis=0))
    deviations = np.sqrt(np.square(frames @ centred.T).mean(axis=1))
    similar = centred @ centred.T
    usual = np.sqrt(np.square(similar[~np.eye(len(BANK), dtype=bool)]).mean())
    expected = (1 - MARK) * (frames @ unit(asked)[0]) * np.minimum(1.0, 0.5 * usual / deviations)
    rows = found.vectors[found.modality_ids == 1]
    halves = query.vectors @ rows.T
    assert np.abs(halves[0, :2] + halves[1, 2:] - expected).max() < 1e-5


def test_rows_have_unit_length_and_know_their_place(encoder: Any) -> None:
    found, nothing = encoder.encode_documents([MOMENT, Document("v#1", WHOLE)])
    assert found.modality_ids.tolist() == [1, 1, 1, 1, 3, 3, 4, 4]
    assert found.segments.tolist() == [0, 1, 0, 1, 1, 1, 0, 0]
    assert found.spans[4].tolist() == [2.0, 5.0]
    assert found.offsets[4].tolist() == [0, len("hello there.")]
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-5)
    assert len(nothing) == 0
    (query,) = encoder.encode_queries(["\udcff ferry"])
    assert query.vectors.shape == (2, 128)
    assert not query.modality_ids.any()


@pytest.mark.slow
def test_sound_is_a_row_of_its_own_for_the_encoder_that_takes_it(checkpoint: Path, cache: Path) -> None:
    hears = encoders.create("gemma-omni", cache=cache, **PLAIN, model=str(checkpoint))
    (found,) = hears.encode_documents([MOMENT])
    assert found.modality_ids.tolist()[-2:] == [5, 5]
    assert encoders.accepts_audio("gemma-omni")
    assert not encoders.accepts_audio("gemma")


def test_unlike_halves_never_answer_one_another() -> None:
    rng = np.random.default_rng(0)
    bank = Bank.of(unit(rng.standard_normal((64, WIDTH)).astype(np.float32)))
    # Also the worst case: all of a query in one half, all of a document in the other.
    worst = np.zeros((2, WIDTH), np.float32)
    worst[0, :HALF], worst[1, HALF:] = 1.0, 1.0
    vectors = unit(np.concatenate([worst, rng.standard_normal((50, WIDTH)).astype(np.float32)]))
    rows = bank.document_rows(vectors)
    for vector in vectors:
        query = bank.query_rows(vector)
        for half in (0, 1):
            assert ((rows[half] - rows[1 - half]) @ query[half] > 0).all()


def test_a_long_text_is_cut_at_sentences_and_what_is_over_the_limit_is_left_out(encoder: Any) -> None:
    text = "one two three. " * 100
    passages = list(encoder.model.passages([text, "more"], across=True))
    assert all(text[pieces[0][1] : pieces[-1][2]].strip().endswith(".") for pieces in passages[:-1])
    assert sum(end - start for pieces in passages for _, start, end in pieces) <= gemma.TOKENS_PER_MODALITY
    apart = list(encoder.model.passages(["one", "two"], across=False))
    assert [pieces[0][0] for pieces in apart] == [0, 1]


def test_a_query_loads_neither_tower_and_pictures_no_audio(checkpoint: Path, cache: Path) -> None:
    fresh: Any = encoders.create("gemma", cache=cache, **PLAIN, model=str(checkpoint))
    fresh.encode_queries(["a ferry"])
    assert fresh.model.network.vision_tower is None
    fresh.encode_documents([MOMENT])
    assert fresh.model.network.vision_tower is not None
    assert fresh.model.network.audio_tower is None


def test_the_bank_is_computed_once(checkpoint: Path, tmp_path: Path) -> None:
    first: Any = encoders.create("gemma", cache=tmp_path, **PLAIN, model=str(checkpoint))
    mean = first.bank.mean
    second: Any = encoders.create("gemma", cache=tmp_path, **PLAIN, model=str(checkpoint))
    assert (second.bank.mean == mean).all()
    assert second.model.network is None


def test_what_is_described_is_what_is_made(encoder: GemmaEncoder, checkpoint: Path, cache: Path) -> None:
    assert encoders.describe("gemma", cache=cache, model=str(checkpoint)) == encoder.info
    finer = encoders.describe("gemma", cache=cache, model=str(checkpoint), image_tokens=140)
    whole = encoders.describe("gemma", cache=cache, model=str(checkpoint), dtype="int8")
    assert len({encoder.info.fingerprint, finer.fingerprint, whole.fingerprint}) == 3
    assert encoders.describe("gemma", cache=cache, model=str(checkpoint), dtype="bfloat16") == encoder.info


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_bfloat16_and_eight_bits_give_nearly_the_same_vectors(encoder: Any, checkpoint: Path, cache: Path) -> None:
    texts = ["a ferry at the pier", "hello there"]
    for dtype, least in (("bfloat16", 0.99), ("int8", 0.9)):
        other: Any = encoders.create("gemma", cache=cache, device="cpu", threads=1, model=str(checkpoint), dtype=dtype)
        for name, inputs in (("texts", texts), ("pictures", MOMENT.frames), ("sounds", [MOMENT.audio])):
            found, exact = getattr(other.model, name)(inputs), getattr(encoder.model, name)(inputs)
            assert (found * exact).sum(axis=1).min() > least, (dtype, name)


def test_pooling_leaves_the_halves_apart(checkpoint: Path, cache: Path) -> None:
    pooled = encoders.create("gemma", cache=cache, **PLAIN, model=str(checkpoint), pool=2)
    (found,) = pooled.encode_documents([MOMENT])
    assert found.modality_ids.tolist() == [1, 1, 3, 3, 4, 4]
    marks = found.vectors[:, HALF : HALF + 2]
    assert (np.abs(marks).min(axis=1) < 0.05).all()


def broken(checkpoint: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """A copy of the checkpoint with other tensors."""
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_every_tensor_is_accounted_for(checkpoint: Path, tmp_path: Path) -> None:
    name, tower = "language_model.norm.weight", "vision_tower.encoder.layers.0.self_attn.q_proj.linear.weight"
    changes: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
        rf"1 tensors are missing, they would stay random \({name}\)": lambda tensors: tensors.pop(name),
        rf"1 tensors are missing, they would stay random \({tower}\)": lambda tensors: tensors.pop(tower),
        r"1 tensors have no place \(lm_head\.weight\)": lambda tensors: tensors.update(
            {"lm_head.weight": torch.ones(2)}
        ),
        rf"1 tensors have another shape \({name} \[3\] for \[32\]\)": lambda tensors: tensors.update(
            {name: torch.ones(3)}
        ),
    }
    for number, (message, change) in enumerate(changes.items()):
        folder = broken(checkpoint, tmp_path / str(number), change)
        with pytest.raises(ModelError, match=message) as error:
            encoders.create("gemma", cache=tmp_path, device="cpu", threads=1, model=folder).encode_queries(["a ferry"])
        assert "\n" not in error.value.what


def test_a_file_that_ends_early_and_another_model_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(checkpoint, short)
    content = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        encoders.create("gemma", cache=tmp_path, device="cpu", threads=1, model=str(short)).encode_queries(["a ferry"])
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(ModelError, match="is a bert model"):
        encoders.describe("gemma", cache=tmp_path, model=str(other))
    with pytest.raises(ModelError, match="the model gemma is not installed"):
        encoders.describe("gemma", cache=tmp_path)


def test_settings_and_frames_that_cannot_be_used_are_refused(encoder: Any, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="invalid image_tokens: 71"):
        encoders.describe("gemma", cache=tmp_path, model=str(checkpoint), image_tokens=71)
    with pytest.raises(UsageError, match="invalid dtype: 'float16'"):
        encoders.describe("gemma", cache=tmp_path, model=str(checkpoint), dtype="float16")
    damaged = Document("v#2", WHOLE, frames=(Frame(1.5, WHOLE, b"no picture"),))
    with pytest.raises(MediaError, match=r"the frame at 1\.50 s"):
        encoder.encode_documents([damaged])


@pytest.mark.parametrize(
    ("installed", "device", "threads", "expected"),
    [
        ((), "cuda", 64, "mini"),
        (("gemma", "clamr"), "cuda", 1, "clamr"),
        (("gemma", "clamr"), "mps", 1, "gemma"),
        (("gemma",), "cpu", 8, "gemma"),
        (("gemma", "clamr"), "cpu", 4, "mini"),
    ],
)
def test_the_best_encoder_has_weights_and_speed_here(
    installed: tuple[str, ...], device: str, threads: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clamr_cli.weights.status", lambda name, _: SimpleNamespace(installed=name in installed))
    monkeypatch.setattr("clamr_cli.devices.choose_device", lambda _: device)
    monkeypatch.setattr("clamr_cli.kernel.usable_threads", lambda: threads)
    assert encoders.best(Path("nowhere"))[0] == expected


def test_an_index_keeps_its_encoder_and_a_new_one_gets_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    uses = [SimpleNamespace(info=SimpleNamespace(name=name, fingerprint=name)) for name in ("mini", "hashed")]
    store: Any = SimpleNamespace(encoders=lambda: uses, coverage=lambda name: ({"mini": 2, "hashed": 5}[name], 5))
    assert choose_encoder(store, Settings(encoder="auto")).encoder == "hashed"
    assert choose_encoder(store, Settings(encoder="st:x")).encoder == "st:x"
    assert capsys.readouterr() == ("", "")
    uses.clear()
    assert choose_encoder(store, Settings(encoder="auto", cache=Path("nowhere"))).encoder == "mini"
    out, err = capsys.readouterr()
    assert out == ""
    assert "using the encoder mini: no larger encoder is installed" in err


@pytest.mark.parametrize("gap", [0.0, 0.8, 2.0])
def test_the_modality_that_answers_wins_however_far_pictures_are_from_texts(gap: float) -> None:
    """Texts and pictures of 40 topics around two means; a query about a picture is closer to every text than to it."""
    rng = np.random.default_rng(2)

    def around(mean: NDArray[np.float32], topics: NDArray[np.float32], spread: float) -> NDArray[np.float32]:
        return unit((mean + spread * unit(topics + 0.7 * unit(rng.standard_normal(topics.shape)))).astype(np.float32))

    centre = unit(rng.standard_normal((1, WIDTH)))
    away = unit(centre + gap * unit(rng.standard_normal((1, WIDTH))))
    topics = unit(rng.standard_normal((80, WIDTH)))
    texts, pictures = around(centre, topics[:40], 0.6), around(away, topics[40:], 0.5)
    bank = Bank.of(around(centre, unit(rng.standard_normal((64, WIDTH))), 0.6))
    rows = bank.document_rows(np.concatenate([texts, pictures]))
    plain, won = [], []
    for number, query in enumerate(around(centre, topics, 0.6)):
        halves = [rows[half] @ bank.query_rows(query)[half] for half in (0, 1)]
        own = number >= 40
        best = [sum(half[part].max() for half in halves) for part in (slice(0, 40), slice(40, 80))]
        won.append((best[1] > best[0]) == own)
        plain.append(((pictures @ query).max() > (texts @ query).max()) == own)
    assert np.mean(won) > 0.95
    if gap > 0:
        assert np.mean(won) > np.mean(plain)
