from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from clamr_cli.encoders.clamr import ClamrEncoder
from clamr_cli.errors import MissingExtra, ModelError, UsageError
from tests.unit.encoders.clamr import tiny
from tests.unit.encoders.clamr.conftest import Folders

LAYER = "model.layers.1.mlp.up_proj.weight"
HALF = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def vectors(encoder: ClamrEncoder):
    return encoder.encode_documents([{"asr": "the ferry leaves the harbour", "ocr": "PIER"}])[0].vectors


def test_the_module_imports_without_torch():
    code = "import sys, clamr_cli.encoders.clamr; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_old_and_new_layouts_give_the_same(encoder, folders: Folders, tmp_path):
    base = tiny.write_base(tmp_path / "base", rename=tiny.new_name)
    adapter = tiny.write_adapter(tmp_path / "adapter", new_layout=True)
    new = Folders(base, adapter, tmp_path).encoder()
    assert np.array_equal(vectors(new), vectors(encoder))
    mixed = Folders(folders.base, adapter, tmp_path).encoder()
    assert np.array_equal(vectors(mixed), vectors(encoder))


def test_a_sharded_base_is_the_same(encoder, copies: Folders):
    from safetensors.torch import load_file, save_file

    whole = copies.base / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names = sorted(tensors)
    places = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == part}, copies.base / part)
    index = copies.base / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    assert np.array_equal(vectors(copies.encoder()), vectors(encoder))
    (copies.base / "part-1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"part-1\.safetensors"):
        copies.encoder()


def test_every_tensor_matters(encoder, copies: Folders):
    def shift(tensors):
        tensors[LAYER] += 0.5

    tiny.change_tensors(copies.base, shift)
    changed = copies.encoder()
    assert np.abs(vectors(changed) - vectors(encoder)).max() > 1e-3
    assert changed.info.fingerprint != encoder.info.fingerprint


def test_a_missing_tensor_is_named(copies: Folders):
    tiny.change_tensors(copies.base, lambda tensors: tensors.pop(LAYER))
    with pytest.raises(ModelError, match=r"1 tensors are missing.*model\.layers\.1\.mlp\.up_proj\.weight"):
        copies.encoder()


def test_a_renamed_tensor_is_named_twice(copies: Folders):
    tiny.change_tensors(copies.base, lambda tensors: tensors.update({"model.extra": tensors.pop(LAYER)}))
    with pytest.raises(ModelError, match=r"up_proj.*1 tensors have no place \(model\.extra\)"):
        copies.encoder()


def test_a_language_model_under_foreign_names_is_not_left_random(copies: Folders):
    def move(tensors):
        for name in [name for name in tensors if name.startswith("model.")]:
            tensors["backbone." + name] = tensors.pop(name)

    tiny.change_tensors(copies.base, move)
    with pytest.raises(ModelError, match="would stay random"):
        copies.encoder()


def test_another_shape_is_named(copies: Folders):
    tiny.change_tensors(copies.base, lambda tensors: tensors.update({LAYER: tensors[LAYER][:-1].clone()}))
    with pytest.raises(ModelError, match=r"up_proj\.weight \[47, 32\] for \[48, 32\]"):
        copies.encoder()


def test_an_output_embedding_is_not_needed(encoder, copies: Folders):
    tiny.change_tensors(copies.base, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(4, 4)}))
    assert np.array_equal(vectors(copies.encoder()), vectors(encoder))


def test_the_adapter_changes_the_vectors(encoder, folders: Folders):
    plain = folders.encoder(adapter="none")
    assert np.abs(vectors(plain) - vectors(encoder)).max() > 1e-2
    assert plain.info.fingerprint != encoder.info.fingerprint
    assert any("without an adapter" in note for note in plain.notes)


def test_a_missing_half_is_named(copies: Folders):
    tiny.change_tensors(copies.adapter, lambda tensors: tensors.pop(HALF))
    with pytest.raises(ModelError, match=r"model\.layers\.0\.self_attn\.q_proj\.lora_B"):
        copies.encoder()


def test_an_adapter_without_a_layer_is_refused(copies: Folders):
    def drop(tensors):
        for name in [name for name in tensors if ".layers.1." in name]:
            del tensors[name]

    tiny.change_tensors(copies.adapter, drop)
    with pytest.raises(ModelError, match=r"14 tensors are missing.*layers\.1\."):
        copies.encoder()


def test_a_foreign_adapter_tensor_is_named(copies: Folders):
    def rename(tensors):
        tensors[HALF.replace("layers.0", "layers.7")] = tensors.pop(HALF)

    tiny.change_tensors(copies.adapter, rename)
    with pytest.raises(ModelError, match=r"layers\.0.*layers\.7"):
        copies.encoder()


def zero(part: str):
    def change(tensors):
        for name in tensors:
            if part in name and "lora_B" in name:
                tensors[name].zero_()

    return change


def test_an_adapter_that_changes_nothing_is_refused(copies: Folders):
    tiny.change_tensors(copies.adapter, zero(""))
    with pytest.raises(ModelError, match="changes nothing"):
        copies.encoder()


def test_an_adapter_that_is_partly_untouched_is_refused(copies: Folders):
    tiny.change_tensors(copies.adapter, zero("layers.1.mlp.down_proj"))
    with pytest.raises(ModelError, match=r"in part.*model\.layers\.1\.mlp\.down_proj"):
        copies.encoder()


def test_an_adapter_of_another_size_is_refused(copies: Folders):
    tiny.change_tensors(copies.adapter, lambda tensors: tensors.update({HALF: tensors[HALF][:-1].clone()}))
    with pytest.raises(ModelError, match=r"q_proj is \[32, 32\]"):
        copies.encoder()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "not a LoRA"),
        ({"use_dora": True}, "use_dora"),
        ({"r": 0}, "invalid r"),
        ({"target_modules": None}, "no target modules"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(copies: Folders, change, message):
    path = copies.adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        copies.encoder()


def test_vision_tensors_that_newer_names_bring_along_do_no_harm(encoder, copies: Folders):
    def add(tensors):
        name = "base_model.model.model.visual.blocks.0.mlp.up_proj"
        tensors[f"{name}.lora_A.weight"] = torch.ones(4, 16)
        tensors[f"{name}.lora_B.weight"] = torch.zeros(24, 4)

    tiny.change_tensors(copies.adapter, add)
    assert np.array_equal(vectors(copies.encoder()), vectors(encoder))


def test_a_stored_projection_is_used_instead_of_a_draw(encoder, copies: Folders):
    weight = torch.randn(128, tiny.HIDDEN, generator=torch.Generator().manual_seed(1))
    tiny.change_tensors(copies.base, lambda tensors: tensors.update({"custom_text_proj.weight": weight}))
    stored = copies.encoder()
    assert stored.projection.source == "stored"
    assert np.array_equal(stored.projection.weight, weight.numpy())
    assert np.abs(vectors(stored) - vectors(encoder)).max() > 1e-2


def test_damaged_files_are_one_clear_error(copies: Folders):
    (copies.base / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        copies.encoder()
    (copies.base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks safetensors"):
        copies.encoder()
    (copies.base / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        copies.encoder()


def test_another_kind_of_model_is_refused(copies: Folders):
    (copies.base / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    with pytest.raises(ModelError, match="llama"):
        copies.encoder()


def test_a_tokenizer_without_the_video_token_is_refused(copies: Folders):
    path = copies.base / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|video_pad|>", "<|other_pad|>"), encoding="utf-8")
    with pytest.raises(ModelError, match="video_pad"):
        copies.encoder()
    path.write_text("{}")
    with pytest.raises(ModelError, match="tokenizer"):
        copies.encoder()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_said_with_the_way_out(folders: Folders):
    with pytest.raises(ModelError, match=r"no CUDA device.*--encoder mini"):
        ClamrEncoder.create(cache=folders.cache, device="cuda", model=folders.base)


def test_four_bits_need_their_package(folders: Folders, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra, match="4 bits"):
        folders.encoder(quantize="4bit")


def test_four_bit_layers_are_the_rounded_ones(folders: Folders):
    library = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    four = folders.encoder(quantize="4bit")
    full = folders.encoder()
    merged = full.backbone.model
    plain = folders.encoder(adapter="none").backbone.model
    for name, layer in four.backbone.model.named_modules():
        if isinstance(layer, library.nn.Linear4bit):
            rounded = library.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
            place = name.removesuffix(".base")
            change = merged.get_submodule(place).weight.data - plain.get_submodule(place).weight.data
            merged.get_submodule(place).weight.data = rounded + change
    assert np.abs(vectors(four) - vectors(full)).max() < 1e-4
    assert four.info.fingerprint.endswith("4bit")


def test_describing_gives_the_fingerprint_of_creating(encoder, folders: Folders):
    described = ClamrEncoder.describe(cache=folders.cache, model=folders.base, adapter=folders.adapter)
    assert described == encoder.info
    other = ClamrEncoder.describe(
        cache=folders.cache, model=folders.base, adapter=folders.adapter, projection_init="float32"
    )
    assert other.fingerprint != described.fingerprint
    assert encoder.projection.sha256[:12] in described.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": "red"}, "'colour'.*projection_init"),
        ({"dtype": "int8"}, "invalid dtype: 'int8'.*bfloat16"),
        ({"projection_init": "zeros"}, "projection_init.*float16, float32"),
        ({"batch_tokens": "many"}, "whole number"),
        ({"batch_tokens": -1}, "whole number"),
        ({"compile": "perhaps"}, "true, false"),
    ],
)
def test_invalid_settings_are_refused_with_the_valid_ones(folders: Folders, settings, message):
    with pytest.raises(UsageError, match=message):
        folders.encoder(**settings)
