from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file

from clamr_cli.encoders.clamr import ClamrEncoder, ClamrOmniEncoder
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.train.clamr import IndexedDocuments, LoraOptions, TrainableEncoder, create_model, run, run_omni
from clamr_cli.train.run import Evaluated, RecipeOptions, Trained, TrainNote, TrainStep
from tests.unit.encoders.clamr import tiny
from tests.unit.train.clamr import shelf

DOCUMENT = {"asr": "the ferry leaves the harbour", "ocr": "PIER", "description": "a boat"}


def encoder(base: Path, adapter: Path | str, cache: Path, **settings: object) -> ClamrEncoder:
    return ClamrEncoder.create(cache=cache, device="cpu", model=str(base), adapter=str(adapter), **settings)


def steps(events: list[object]) -> list[TrainStep]:
    return [event for event in events if isinstance(event, TrainStep)]


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory) -> tuple[Path, list[object]]:
    """A run of 30 steps, and all its events."""
    out = tmp_path_factory.mktemp("runs") / "first"
    return out, list(run(bench.options(out, steps=30, dev=bench.root / "queries.jsonl")))


def test_the_loss_falls_on_a_small_task(trained):
    losses = [event.loss for event in steps(trained[1])]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    dev = [event.loss for event in trained[1] if isinstance(event, Evaluated)]
    assert dev[-1] < dev[0]


@pytest.mark.slow
def test_development_queries_that_stand_together_by_video_have_negatives(bench, tmp_path):
    # Four queries a video, as synth writes them: in the order of the file, a batch of four has one document.
    events = list(run(bench.options(tmp_path / "out", steps=2, batch=4, dev=bench.root / "queries.jsonl")))
    (dev,) = [event.loss for event in events if isinstance(event, Evaluated)]
    assert dev > 0.1


@pytest.mark.slow
def test_resuming_a_finished_run_trains_no_further(trained, bench):
    out, events = trained
    more = {"steps": 30, "dev": bench.root / "queries.jsonl"}
    again = list(run(bench.options(out, resume=True, **more)))
    assert not steps(again)
    assert again[-1].metrics["steps"] == events[-1].metrics["steps"]


def test_the_last_event_has_the_adapters_path_and_measures(trained):
    out, events = trained
    assert isinstance(events[-1], Trained)
    assert events[-1].path == out
    assert events[-1].metrics["steps"] == 30
    assert events[-1].metrics["loss"] > 0
    assert any("24 pairs" in event.text for event in events if isinstance(event, TrainNote))


def test_a_trained_adapter_needs_no_draw_of_the_projection(trained, bench):
    out, _ = trained
    found = {
        draw: encoder(bench.base, out, bench.root / "cache", projection_init=draw) for draw in ("float16", "float32")
    }
    vectors = {draw: made.encode_documents([DOCUMENT])[0].vectors for draw, made in found.items()}
    assert np.array_equal(vectors["float16"], vectors["float32"])
    assert found["float16"].info == found["float32"].info
    assert found["float16"].projection.source == "stored"


def test_the_saved_adapter_gives_the_vectors_of_the_model_that_was_trained(bench, tmp_path):
    start = encoder(bench.base, "none", tmp_path)
    torch.manual_seed(3)
    model = TrainableEncoder(start.backbone, LoraOptions(4, 8)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save(tmp_path / "adapter", str(bench.base))
    documents = [IndexedDocuments(bench.store)[f"{shelf.video_id(number)}#0"] for number in range(3)]
    batch = collated(start, documents)
    with torch.no_grad():
        made = model(**batch["inputs"])
    loaded = encoder(bench.base, tmp_path / "adapter", tmp_path)
    for number, tokens in enumerate(loaded.encode_documents(documents)):
        real = made.document_mask[number]
        np.testing.assert_allclose(made.documents[number][real].numpy(), tokens.vectors, atol=1e-5)
        assert np.array_equal(made.modality_ids[number][real].numpy(), tokens.modality_ids)
    asked = loaded.encode_queries(["find it"])[0].vectors
    np.testing.assert_allclose(made.queries[0][made.query_mask[0]].numpy(), asked, atol=1e-5)
    again = encoder(bench.base, tmp_path / "adapter", tmp_path).encode_queries(["find it"])[0].vectors
    assert np.array_equal(again, asked)


def collated(made: ClamrEncoder, documents):
    from clamr_cli.train.clamr import Collator, Pair

    examples = [(Pair("find it", 0, one.id, place, place, (place,)), one) for place, one in enumerate(documents)]
    return Collator(made, 1)(examples)


def test_the_saved_adapter_has_the_published_layout_and_the_projection(trained):
    out, _ = trained
    tensors = load_file(out / "adapter_model.safetensors")
    lora = [name for name in tensors if "lora_" in name]
    assert len(lora) == tiny.LAYERS * 7 * 2 + 2
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in tensors
    assert tensors["base_model.model.custom_text_proj.base_layer.weight"].shape == (128, tiny.HIDDEN)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["lora_dropout"]) == ("LORA", 8, 8, 0.1)
    assert config["target_modules"] == tiny.TARGETS


def test_peft_itself_reads_the_saved_adapter(trained, bench, tmp_path):
    out, _ = trained
    model = TrainableEncoder(encoder(bench.base, "none", tmp_path).backbone, LoraOptions(8, 8)).eval()
    left = set_peft_model_state_dict(model, load_peft_weights(str(out), device="cpu"))
    assert not left.unexpected_keys
    documents = [IndexedDocuments(bench.store)[f"{shelf.video_id(0)}#0"]]
    known = encoder(bench.base, out, tmp_path)
    with torch.no_grad():
        found = model(**collated(known, documents)["inputs"]).documents[0]
    np.testing.assert_allclose(found.numpy(), known.encode_documents(documents)[0].vectors, atol=1e-5)


def test_training_starts_where_an_adapter_left_off(bench, tmp_path):
    made, model = create_model(
        bench.options(tmp_path / "out", adapter=str(bench.adapter), lora_rank=None), ClamrEncoder
    )
    known = encoder(bench.base, bench.adapter, tmp_path)
    documents = [IndexedDocuments(bench.store)[f"{shelf.video_id(0)}#0"]]
    with torch.no_grad():
        found = model.eval()(**collated(made, documents)["inputs"]).documents[0]
    np.testing.assert_allclose(found.numpy(), known.encode_documents(documents)[0].vectors, atol=1e-5)
    model.save(tmp_path / "kept", "base")
    kept = encoder(bench.base, tmp_path / "kept", tmp_path)
    np.testing.assert_allclose(found.numpy(), kept.encode_documents(documents)[0].vectors, atol=1e-5)


def test_an_adapter_over_other_layers_is_refused(bench, tmp_path):
    other = tiny.write_adapter(tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
    tiny.change_tensors(
        other, lambda tensors: [tensors.pop(name) for name in list(tensors) if "q_proj" not in name] and None
    )
    with pytest.raises(ModelError, match="changes other layers"):
        list(run(bench.options(tmp_path / "out", adapter=str(other), lora_rank=None)))


@pytest.mark.slow
def test_a_run_that_was_closed_goes_on_as_if_it_had_not_been(bench, tmp_path):
    whole = bench.options(tmp_path / "whole")
    list(run(whole))
    events = run(bench.options(tmp_path / "broken"))
    for event in events:
        if isinstance(event, TrainStep):
            break
    events.close()
    assert not (tmp_path / "broken" / "adapter_model.safetensors").exists()
    rest = list(run(bench.options(tmp_path / "broken", resume=True)))
    assert steps(rest)[-1].step == 4
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_computing_activations_again_changes_no_gradient(bench, tmp_path):
    gradients = []
    for again in (False, True):
        made = encoder(bench.base, "none", tmp_path)
        torch.manual_seed(1)
        model = TrainableEncoder(made.backbone, LoraOptions(4, 4, dropout=0.0)).train()
        if again:
            model.enable_checkpointing()
        assert model.model.layers[0].gradient_checkpointing is again
        documents = [IndexedDocuments(bench.store)[f"{shelf.video_id(number)}#0"] for number in range(2)]
        encoded = model(**collated(made, documents)["inputs"])
        (encoded.documents[0] @ encoded.queries[1].T).max(dim=0).values.sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    assert len(gradients[0]) == 2 * (tiny.LAYERS * 7 + 1)
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)
    assert any(value.abs().sum() > 0 for name, value in gradients[0].items() if "layers.0" in name)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"bf16": True}, {"checkpointing": True, "accumulation": 2}, {"loss": "pairwise"}])
def test_other_ways_of_training_run(bench, tmp_path, settings):
    out = tmp_path / "out"
    assert len(steps(list(run(bench.options(out, steps=2, **settings))))) == 2
    assert encoder(bench.base, out, tmp_path).encode_queries(["boat"])


@pytest.mark.slow
def test_an_omni_adapter_trains_too(bench, tmp_path):
    base = tiny.write_omni_base(tmp_path / "base")
    list(run_omni(bench.options(tmp_path / "out", model=str(base), steps=2)))
    settings = {"model": str(base), "adapter": str(tmp_path / "out")}
    assert ClamrOmniEncoder.create(cache=tmp_path, device="cpu", **settings).encode_queries(["boat"])


@pytest.mark.slow
def test_the_reference_model_learns(bench, shared, tmp_path):
    base = shared / "oracle" / "tiny-qwen2.5-vl"
    told = steps(list(run(bench.options(tmp_path / "out", model=str(base), steps=30, learning_rate=5e-3))))
    assert np.mean([event.loss for event in told[-5:]]) < 0.7 * np.mean([event.loss for event in told[:5]])
    assert encoder(base, tmp_path / "out", tmp_path).projection.source == "stored"


REFUSED = {
    "no queries": ({"queries": None}, "labelled queries"),
    "data": ({"data": Path("x")}, "documents of an index"),
    "4 bits on a CPU": ({"four_bit": True}, "CUDA"),
    "rank and adapter": ({"adapter": "somewhere"}, "rank already"),
    "no such file": ({"queries": Path("nowhere.jsonl")}, "nowhere.jsonl"),
    "nothing to resume": ({"resume": True}, "no run to resume"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_options_are_refused_before_a_model_is_loaded(bench, tmp_path, name):
    settings, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        next(run(bench.options(tmp_path / "out", model="nowhere", **settings)))


def test_a_run_is_not_overwritten_and_not_resumed_with_other_options(trained, bench):
    out, _ = trained
    with pytest.raises(UsageError, match="holds a run already"):
        next(run(bench.options(out, steps=30)))
    with pytest.raises(UsageError, match=r"learning_rate 0\.01, not 0\.1"):
        next(run(bench.options(out, steps=30, resume=True, learning_rate=0.1)))


def test_queries_with_one_answer_are_refused(bench, tmp_path):
    queries = shelf.write_queries(tmp_path / "one.jsonl", shelf.lines()[:4])
    with pytest.raises(UsageError, match="same answer"):
        next(run(bench.options(tmp_path / "out", queries=queries)))


def test_a_batch_without_negatives_is_refused(bench, tmp_path):
    with pytest.raises(UsageError, match="no negatives"):
        next(run(bench.options(tmp_path / "out", batch=1)))


def test_options_fall_back_to_the_papers():
    options = RecipeOptions(out=Path("out"), cache=Path("cache")).training()
    assert (options.learning_rate, options.warmup, options.weight_decay) == (1e-5, 0.1, 0.01)
    assert (options.temperature, options.loss, options.aggregation) == (0.02, "contrastive", "modality-max")
    assert (LoraOptions().rank, LoraOptions().alpha, LoraOptions().dropout) == (128, 128, 0.1)
