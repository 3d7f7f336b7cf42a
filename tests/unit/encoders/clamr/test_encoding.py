from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from clamr_cli.encoders.clamr.model import attention_by_length, kernel_agrees
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.types import Document, Encoder, Frame, Segment, Span, Word
from tests.unit.encoders.clamr.conftest import Folders


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "JPEG")
    return buffer.getvalue()


DOCUMENTS = [
    {
        "frames": [picture(1), picture(2), picture(3)],
        "ocr": "HARBOUR",
        "asr": "the ferry leaves",
        "description": "pier",
    },
    {"frames": [picture(4, (300, 90))], "ocr": None, "asr": "a market", "description": None},
    {"frames": None, "ocr": "", "asr": None, "description": "Ein Hafen 港口 größer"},
    {"frames": [picture(5), picture(6, (64, 200))], "ocr": "fox " * 60, "asr": "", "description": "dog"},
]


def worst(one, other) -> float:
    return max(float(np.abs(a.vectors.astype(np.float32) - b.vectors).max()) for a, b in zip(one, other, strict=True))


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)


def test_rows_are_unit_vectors_one_per_token(encoder):
    for found in encoder.encode_documents(DOCUMENTS):
        assert found.vectors.shape == (len(found.input_ids), 128)
        assert found.vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-5)


def test_batch_neighbours_change_nothing(encoder, folders: Folders):
    together = encoder.encode_documents(DOCUMENTS)
    alone = [encoder.encode_documents([document])[0] for document in DOCUMENTS]
    small = folders.encoder(batch_tokens=64).encode_documents(DOCUMENTS)
    assert worst(together, alone) < 2e-6
    assert worst(together, small) < 2e-6
    assert all(np.array_equal(a.modality_ids, b.modality_ids) for a, b in zip(together, alone, strict=True))


def test_attention_stays_inside_sequences_and_looks_back_only():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(heads, 9, 8, generator=generator) for heads in (4, 2, 2))
    borders = torch.tensor([0, 4, 8, 9], dtype=torch.int32)
    for causal in (True, False):
        found = attention_by_length(query, key, value, borders, 4, 0.3, causal)
        for start, end in ((0, 4), (4, 8), (8, 9)):
            for head in range(4):
                products = query[head, start:end] @ key[head // 2, start:end].T * 0.3
                if causal:
                    products = products.masked_fill(torch.ones_like(products).triu(1).bool(), -torch.inf)
                expected = products.softmax(-1) @ value[head // 2, start:end]
                assert torch.allclose(found[start:end, head], expected, atol=1e-6)


def test_a_kernel_that_fails_or_disagrees_is_not_used():
    def failing(*_):
        raise RuntimeError("no kernel image is available")

    def wrong(query, *_):
        return torch.zeros(query.shape[1], query.shape[0], query.shape[2], dtype=query.dtype)

    cpu = torch.device("cpu")
    assert kernel_agrees(cpu, attention_by_length)
    assert not kernel_agrees(cpu, failing)
    assert not kernel_agrees(cpu, wrong)


def test_text_sees_frames_but_frames_never_see_text(encoder):
    with_text, without = encoder.encode_documents(
        [{"frames": [picture(1)], "asr": "the ferry"}, {"frames": [picture(1)], "asr": "a market"}]
    )
    other_frame = encoder.encode_documents([{"frames": [picture(2)], "asr": "the ferry"}])[0]
    video = with_text.modality_ids == 1
    assert np.allclose(with_text.vectors[video], without.vectors[without.modality_ids == 1], atol=1e-6)
    speech = with_text.modality_ids == 3
    assert np.abs(with_text.vectors[speech] - other_frame.vectors[speech]).max() > 1e-3


def test_labels_follow_the_text(encoder, folders: Folders):
    found = encoder.encode_documents(DOCUMENTS[:1])[0]
    tokenizer = Tokenizer.from_file(str(folders.base / "tokenizer.json"))
    texts = {number: tokenizer.decode(found.input_ids[found.modality_ids == number].tolist()) for number in (2, 3, 4)}
    assert texts == {2: " OCR: HARBOUR", 3: " ASR: the ferry leaves", 4: " Description: pier"}
    assert (found.modality_ids[:3] == 0).all()
    assert (found.modality_ids[-2:] == 0).all()


def test_absent_modalities_have_no_label_and_empty_ones_their_name(encoder):
    found = encoder.encode_documents(DOCUMENTS[2:3])[0]
    assert set(found.modality_ids.tolist()) == {0, 2, 4}


def test_template_vectors_can_be_dropped(encoder, folders: Folders):
    kept = encoder.encode_documents(DOCUMENTS)
    dropped = folders.encoder(template_vectors="drop").encode_documents(DOCUMENTS)
    for one, other in zip(kept, dropped, strict=True):
        assert (other.modality_ids != 0).all()
        assert np.allclose(one.vectors[one.modality_ids != 0], other.vectors, atol=2e-6)


def test_nothing_gives_zero_rows(encoder):
    found = encoder.encode_documents([{"frames": None, "ocr": None, "asr": None, "description": None}])[0]
    assert found.vectors.shape == (0, 128)
    assert encoder.encode_documents([]) == []
    assert encoder.encode_queries([]) == []


def test_objects_work_like_mappings(encoder):
    thing = SimpleNamespace(**DOCUMENTS[0])
    assert worst(encoder.encode_documents([thing]), encoder.encode_documents(DOCUMENTS[:1])) == 0.0


def test_moments_know_time_segment_and_characters_of_every_token(encoder):
    words = (Word(0, 3, Span(2.0, 2.5)), Word(4, 9, Span(2.5, 3.5)))
    moment = Document(
        id="v#0",
        span=Span(0.0, 9.0),
        frames=tuple(Frame(t, Span(t, t + 3.0), jpeg(int(t))) for t in (0.0, 3.0, 6.0)),
        speech=(Segment(Span(0.0, 1.0), "hello"), Segment(Span(2.0, 3.5), "the ferry", words=words)),
        ocr=(Segment(Span(4.0, 5.0), "PIER"),),
    )
    found = encoder.encode_documents([moment])[0]
    video = np.flatnonzero((found.modality_ids == 1) & (found.segments >= 0))
    per_step = len(video) // 2
    assert found.segments[video].tolist() == [0] * per_step + [2] * per_step
    assert found.spans[video[0]].tolist() == [0.0, 6.0]
    assert found.spans[video[-1]].tolist() == [6.0, 9.0]
    speech = (found.modality_ids == 3) & (found.segments == 1)
    covered = {(int(a), int(b)) for a, b in found.offsets[speech]}
    assert min(a for a, _ in covered) == 0
    assert max(b for _, b in covered) == len("the ferry")
    last = np.flatnonzero(speech)[-1]
    assert found.spans[last].tolist() == [2.5, 3.5]
    assert found.spans[0].tolist() == [0.0, 9.0]
    assert set(found.segments[found.modality_ids == 2].tolist()) == {-1, 0}


def test_queries_end_with_ten_tokens_and_are_cut_on_the_right(encoder, folders: Folders):
    short, long = encoder.encode_queries(["ferry", "the lazy dog " * 40])
    end = Tokenizer.from_file(str(folders.base / "tokenizer.json")).token_to_id("<|endoftext|>")
    assert short.input_ids[-10:].tolist() == [end] * 10
    assert short.input_ids[-11] != end
    assert len(long) == 64
    assert end not in long.input_ids
    assert len(encoder.encode_queries([""], max_query_tokens=8)[0]) == 8
    covered = [(int(a), int(b)) for a, b in short.offsets if b]
    assert "".join("ferry"[a:b] for a, b in covered) == "ferry"


def test_half_precision_stays_close(encoder, folders: Folders):
    half = folders.encoder(dtype="bfloat16").encode_documents(DOCUMENTS)
    assert half[0].vectors.dtype == np.float16
    assert 1e-5 < worst(half, encoder.encode_documents(DOCUMENTS)) < 5e-2


def test_separate_context_encodes_each_modality_alone(folders: Folders):
    separate = folders.encoder(context="separate")
    whole = separate.encode_documents(DOCUMENTS[:1])[0]
    alone = separate.encode_documents([{"asr": DOCUMENTS[0]["asr"]}])[0]
    assert np.allclose(whole.vectors[whole.modality_ids == 3], alone.vectors, atol=2e-6)


@pytest.mark.slow
def test_compiled_layers_give_the_same(encoder, folders: Folders):
    compiled = folders.encoder()
    compiled.backbone.compile(backend="eager")
    assert worst(compiled.encode_queries(["ferry"]), encoder.encode_queries(["ferry"])) < 1e-5


@pytest.mark.parametrize(
    "document",
    [{"asr": 5}, {"frames": ["a.png"]}, {"frames": "a.png"}, {"frames": [picture(1, (30, 30))] * 11}],
)
def test_other_fields_are_refused(encoder, document):
    with pytest.raises(UsageError):
        encoder.encode_documents([document])


def test_a_limit_without_room_for_the_frames_is_refused(encoder):
    with pytest.raises(UsageError, match="room"):
        encoder.encode_documents(DOCUMENTS[:1], max_combined_tokens=20)
    with pytest.raises(UsageError, match="limit"):
        encoder.encode_documents(DOCUMENTS[:1], max_asr_tokens=0)


@pytest.mark.parametrize("data", [b"no picture", jpeg(1)[:200]])
def test_a_damaged_frame_is_a_media_error(encoder, data):
    moment = Document("v#0", Span(0, 1), frames=(Frame(0.0, Span(0, 1), data),))
    with pytest.raises(MediaError):
        encoder.encode_documents([moment])
