from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clamr_cli.encoders import hub
from clamr_cli.encoders.clamr.checkpoint import check_memory
from clamr_cli.encoders.clamr.encoder import parse_options
from clamr_cli.encoders.clamr.model import Placement, plan, position_ids
from clamr_cli.encoders.clamr.projection import as_torch_draws, init_projection
from clamr_cli.encoders.clamr.prompt import (
    MAX_PIXELS,
    MIN_PIXELS,
    Content,
    EncoderInput,
    Grid,
    Limits,
    Prompter,
    fitted_size,
    pixels_of,
)
from clamr_cli.errors import ModelError
from tests.unit.encoders.clamr import tiny


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter(tiny.make_tokenizer())


# --- projection -----------------------------------------------------------------------------------------------------


def test_the_draws_are_those_of_the_training_run():
    # SHA-256 of the matrices as an older torch drew them for the published size and a small one.
    assert (
        init_projection("float16", 2048, 0.02).sha256
        == "d2eab13244c85a9a8a03d13f384d8adf5db251c89cb064d15ebaa4565e34a93b"
    )
    assert (
        init_projection("float16", 64, 0.02).sha256
        == "af9408ae3381cd651663db6a0e215a892d16f25adb16aff9e81a5404b84aa830"
    )


def test_the_float32_draw_is_that_of_torch():
    drawn = init_projection("float32", 64, 0.02)
    expected = torch.empty(128, 64).normal_(0.0, 0.02, generator=torch.Generator().manual_seed(42)).numpy()
    assert np.abs(drawn.weight - expected).max() < 4e-8
    assert np.array_equal(as_torch_draws(drawn, 0.02).weight, expected)


def test_the_draws_have_nothing_in_common():
    one, other = init_projection("float16", 64, 0.02).weight, init_projection("float32", 64, 0.02).weight
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


# --- positions ------------------------------------------------------------------------------------------------------


def test_text_after_a_long_video_starts_behind_its_time_axis():
    positions = position_ids(3 + 5 * 2 * 3 + 2, 3, Grid(5, 4, 6), 2)
    assert positions[:, :3].tolist() == [[0, 1, 2]] * 3
    assert positions[0, 3:33].tolist() == [3] * 6 + [5] * 6 + [7] * 6 + [9] * 6 + [11] * 6
    assert positions[1, 3:9].tolist() == [3, 3, 3, 4, 4, 4]
    assert positions[2, 3:9].tolist() == [3, 4, 5] * 2
    assert positions[:, 33:].tolist() == [[12, 13]] * 3


def test_text_after_a_wide_video_starts_behind_its_width():
    positions = position_ids(1 + 8 + 1, 1, Grid(1, 2, 16), 2)
    assert positions[:, -1].tolist() == [9, 9, 9]


# --- frames ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_frames_fit_the_pixel_budget(width, height):
    wide, high = fitted_size(width, height)
    assert wide % 28 == 0
    assert high % 28 == 0
    assert MIN_PIXELS <= wide * high <= MAX_PIXELS


def test_an_odd_number_of_frames_repeats_the_last():
    images = [Image.new("RGB", (112, 84), colour) for colour in ("red", "lime", "blue")]
    pixels = pixels_of(images)
    assert pixels.shape == (4, 3, 84, 112)
    assert np.array_equal(pixels[2], pixels[3])
    assert Grid.of(images) == Grid(2, 6, 8)


def test_later_frames_take_the_size_of_the_first():
    pixels = pixels_of([Image.new("RGB", (112, 84), "red"), Image.new("L", (500, 500), 128)])
    assert pixels.shape == (2, 3, 84, 112)
    assert (pixels[1] == 128).all()


def test_transparency_becomes_white():
    assert (pixels_of([Image.new("RGBA", (56, 56), (9, 9, 9, 0))]) == 255).all()


# --- prompts --------------------------------------------------------------------------------------------------------


TOKENIZER = tiny.make_tokenizer()


def prompt_of(prompter: Prompter, frames: int = 0, limits: Limits | None = None, **texts: str) -> EncoderInput:
    """The prompt of texts by their field, after frames of one token each two."""
    images = [Image.new("RGB", (56, 56))] * frames
    return prompter.document(Content.of({"frames": images, **texts}), limits or Limits())


def written(prompt: EncoderInput) -> str:
    return TOKENIZER.decode(prompt.input_ids.tolist(), skip_special_tokens=False)


def test_special_tokens_in_a_text_are_taken_out(prompter: Prompter):
    for text in ("a <|im_end|> b", "a <|im_<|im_end|>end|> b", "<|video_<|video_pad|>pad|>"):
        prompt = prompt_of(prompter, frames=2, ocr=text)
        assert written(prompt).count("<|im_end|>") == 2
        assert written(prompt).count("<|video_pad|>") == 4


def test_the_document_is_written_as_published(prompter: Prompter):
    prompt = prompt_of(prompter, frames=1, description="pier", asr="dog", ocr="fox")
    assert written(prompt).replace("<|video_pad|>" * 4, "<|video_pad|>") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|video_pad|><|vision_end|> OCR: fox ASR: dog Description: pier<|im_end|>\n"
    )


@pytest.mark.slow
@given(st.text(max_size=40), st.integers(1, 30))
def test_every_token_points_into_its_own_text(prompter: Prompter, text, limit):
    prompt = prompt_of(prompter, limits=Limits(asr=limit), asr=text)
    assert (prompt.offsets >= 0).all()
    assert (prompt.offsets[:, 1] <= len(text)).all()
    assert (prompt.offsets[:, 0] <= prompt.offsets[:, 1]).all()
    assert (prompt.offsets[prompt.modality_ids != 3] == 0).all()


@pytest.mark.parametrize("text", ["the quick brown fox", "Ein Hafen größer 港口", "Cafe\u0301 am Hafen"])
def test_characters_of_all_tokens_cover_the_text(prompter: Prompter, text):
    prompt = prompt_of(prompter, description=text)
    covered = {place for start, end in prompt.offsets for place in range(start, end)}
    assert {place for place, character in enumerate(text) if not character.isspace()} <= covered


def test_a_cut_inside_a_character_keeps_labels_and_places(prompter: Prompter):
    broken = 0
    for limit in range(6, 12):
        prompt = prompt_of(prompter, limits=Limits(ocr=limit), ocr="港口港口", asr="dog")
        broken += "\ufffd" in written(prompt)
        speech = prompt.offsets[(prompt.modality_ids == 3) & (prompt.offsets[:, 1] > 0)]
        assert "".join("dog"[start:end] for start, end in speech) == "dog"
    assert broken


def test_undecodable_bytes_do_not_stop_anything(prompter: Prompter):
    prompt = prompt_of(prompter, description="a \udcff b")
    assert (prompt.modality_ids == 4).sum() > 4
    assert len(prompter.query("\udcff", 64)) > 10


# --- batches --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 80))
def test_batches_hold_everything_once_and_keep_the_budget(lengths, budget):
    groups = plan(lengths, budget)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[place] for place in group) <= budget for group in groups)


# --- settings, files, memory ----------------------------------------------------------------------------------------


def test_the_published_adapter_belongs_to_the_published_base():
    published = ("owner/base", "owner/adapter")
    assert parse_options({}, *published).adapter == "owner/adapter"
    assert parse_options({"model": "/some/folder"}, *published).adapter == ""
    assert parse_options({"adapter": "none"}, *published).adapter == ""
    assert parse_options({"dtype": torch.float32, "revision": None}, *published).dtype == "float32"


def test_a_path_that_is_not_there_is_said():
    with pytest.raises(ModelError, match="no folder"):
        hub.find("/nowhere/at/all")


def test_without_network_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be reached.*--encoder mini"):
        hub.find("owner/never-published-model")


def test_a_hub_cache_is_read_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--owner--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert hub.find(str(place)).folder == snapshot
    with pytest.raises(ModelError, match="0 snapshots"):
        hub.find(str(place), "v9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert hub.find("owner/name").folder == snapshot


def test_digests_of_large_files_are_kept_and_follow_the_contents(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub, "LARGE", 4)
    folder, cache = tmp_path / "model", tmp_path / "cache"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights one")
    files = hub.Files("model", folder)
    first = hub.digest(files, cache)
    assert (cache / "digests.json").is_file()
    assert hub.digest(files, cache) == first
    (cache / "digests.json").write_text("[broken")
    assert hub.digest(files, cache) == first
    (folder / "model.safetensors").write_bytes(b"weights two!")
    assert hub.digest(files, cache) != first


def test_a_model_that_does_not_fit_is_refused_before_loading():
    placement = Placement(torch.device("cpu"), torch.bfloat16)
    shapes = [(1_500_000, 5000)]
    with pytest.raises(ModelError, match=r"needs about 17\.2 GB and 8\.0 GB are free.*--encoder mini"):
        check_memory("owner/base", shapes, placement, free=8_000_000_000)
    check_memory("owner/base", shapes, placement, free=32_000_000_000)
    check_memory("tiny", [(500,)], placement, free=10)


def test_matrices_in_four_bits_need_less_memory():
    placement = Placement(torch.device("cpu"), torch.bfloat16, four_bit=True)
    check_memory("owner/base", [(1_500_000, 5000)], placement, free=5_000_000_000)
    with pytest.raises(ModelError, match=r"needs about 17\.2 GB"):
        check_memory("owner/base", [(7_500_000_000,)], placement, free=5_000_000_000)
