"""A model on this machine: a tiny one of random weights answers whatever it is asked, always the same."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from clamr_cli.errors import ModelError
from clamr_cli.llm import AnswerError, ImagesRefused, ImagesTooLarge, Prompt
from clamr_cli.llm.local import LocalModel
from tests.unit.llm.tiny_vl import write_seeing_model
from tests.unit.synth.shelf import jpeg

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
CORPUS = ["the quick brown fox jumps over the lazy dog", "a ferry sails at night in a storm", "be brief and write"]


def write_model(folder: Path, template: str | None = TEMPLATE, longest: int = 256) -> Path:
    """A tiny Qwen2 with a tokenizer of its own, as transformers saves them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=longest, initializer_range=0.4,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def write_gguf(folder: Path, path: Path) -> Path:
    """The model of a folder as one file, as converters write it."""
    model = Qwen2ForCausalLM.from_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    merges = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.added_tokens_encoder)
    config, writer = model.config, gguf.GGUFWriter(path, "qwen2")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocabulary])
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token, _ in vocabulary]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    # That of a text, as many files have it: an answer ends with that of a turn.
    writer.add_eos_token_id(tokenizer.pad_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        stem, _, suffix = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny-qwen2")


def load(folder: Path) -> LocalModel:
    return LocalModel(str(folder), device="cpu", max_tokens=12)


def prompt(text: str, seed: int = 1, temperature: float = 0.0) -> Prompt:
    return Prompt("be brief", (text,), seed, temperature)


@pytest.mark.slow
def test_answers_depend_on_the_prompt_alone(model):
    one, other = load(model), load(model)
    texts = ["a ferry", "a storm", "a fox and a dog"]
    greedy = [one.answer(prompt(text)) for text in texts]
    assert greedy == [other.answer(prompt(text)) for text in reversed(texts)][::-1]
    assert greedy == [one.answer(prompt(text, seed=9)) for text in texts]
    assert len(set(greedy)) > 1
    drawn = [one.answer(prompt("a ferry", seed, 1.0)) for seed in range(4)]
    assert drawn == [other.answer(prompt("a ferry", seed, 1.0)) for seed in reversed(range(4))][::-1]
    assert len(set(drawn)) > 1
    assert (one.name, one.workers, one.supports_images) == ("tiny-qwen2", 1, False)


@pytest.mark.slow
def test_sampling_leaves_the_global_generator_alone(model):
    one = load(model)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one.answer(prompt("a ferry", 1, 1.0))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_a_template_without_a_system_gets_its_words_in_the_users_message(tmp_path, model):
    stubborn = load(write_model(tmp_path / "stubborn", NO_SYSTEM + TEMPLATE))
    folded = Prompt("", ("be brief\n\na ferry",), 1)
    assert stubborn.answer(prompt("a ferry")) == load(model).answer(folded)
    assert stubborn.answer(prompt("a fox"))


def test_a_prompt_that_is_too_long_is_a_failure_of_the_query(model):
    with pytest.raises(AnswerError, match=r"tokens, and the model reads 256"):
        load(model).answer(prompt("storm " * 300))


def test_a_model_for_text_refuses_pictures(model):
    with pytest.raises(ImagesRefused):
        load(model).answer(Prompt("", ("look", jpeg("red")), 1))


@pytest.mark.slow
def test_a_gguf_file_answers_as_its_folder_does(tmp_path, model):
    file = write_gguf(model, tmp_path / "tiny.gguf")
    from_file, from_folder, own = load(file), load(tmp_path), load(model)
    assert (from_file.name, from_folder.name, from_file.supports_images) == ("tiny.gguf", "tiny.gguf", False)
    for text in ("a ferry", "a storm", "a fox and a dog", "be brief"):
        answer = own.answer(prompt(text))
        assert from_file.answer(prompt(text)) == answer
        assert from_folder.answer(prompt(text)) == answer
    with pytest.raises(ImagesRefused):
        from_file.answer(Prompt("", ("look", jpeg("red")), 1))


@pytest.mark.slow
def test_a_gguf_answer_ends_with_its_turn_though_the_file_names_the_end_of_a_text(tmp_path, model):
    folder = Path(shutil.copytree(model, tmp_path / "ending"))
    tensors = load_file(folder / "model.safetensors")
    # The end of a turn is often the most probable token.
    tensors["lm_head.weight"][PreTrainedTokenizerFast.from_pretrained(model).eos_token_id] *= 3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def answers(path: Path) -> list[str]:
        one, texts = load(path), []
        for text in ("a ferry", "a storm", "a fox and a dog", "be brief", "night", "write"):
            try:
                texts.append(one.answer(prompt(text)))
            except AnswerError as error:
                texts.append(error.what)
        return texts

    own = answers(folder)
    assert own != answers(model)
    assert answers(write_gguf(folder, tmp_path / "tiny.gguf")) == own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", b"hello", "notes.txt is not a model"),
        ("big-00001-of-00003.gguf", b"GGUF", "is one of several parts of a model: join them"),
        ("cut.gguf", b"GGUF", "not a model for transformers"),
        ("wrong.gguf", b"hello" * 100, "not a model for transformers"),
    ],
)
def test_a_file_that_is_no_model_is_one_clear_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        LocalModel(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_damaged_gguf_is_one_clear_line(tmp_path, model):
    file = write_gguf(model, tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(ModelError, match=r"not a model for transformers|cannot be loaded") as caught:
        LocalModel(str(file))
    assert "\n" not in str(caught.value)
    file.unlink()
    plain = shutil.copytree(model, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        LocalModel(str(write_gguf(plain, tmp_path / "plain.gguf")))


def test_one_of_several_gguf_files_must_be_named(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"2 GGUF files: name one: --model .*a\.gguf"):
        LocalModel(str(tmp_path))


def _without_template(folder):
    (folder / "chat_template.jinja").unlink()


def _without_weights(folder):
    (folder / "model.safetensors").unlink()


def _with_cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def _with_another_layer(folder):
    config = json.loads((folder / "config.json").read_text())
    layers = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (folder / "config.json").write_text(json.dumps(config | layers))


def _of_no_kind(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))


def _without_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without_template, "has no chat template"),
        (_without_weights, "cannot be loaded"),
        (_with_cut_weights, "cannot be loaded"),
        (_with_another_layer, "lacks .* tensors"),
        (_of_no_kind, "not a model that writes text"),
        (_without_config, "not a model for transformers"),
    ],
)
def test_a_damaged_model_is_one_clear_line(tmp_path, model, damage, said):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_here_is_never_fetched():
    with pytest.raises(ModelError, match=r"hf download nobody/nothing-of-this-name"):
        LocalModel("nobody/nothing-of-this-name")
    with pytest.raises(ModelError, match="no such folder"):
        LocalModel("no such folder")


def answered(seeing: LocalModel, picture: bytes) -> bool:
    try:
        return bool(seeing.answer(Prompt("", ("look", picture, "now"), 1)))
    except AnswerError as error:
        if error.what != "the answer is empty":
            raise
        return False


@pytest.mark.slow
def test_a_vision_model_reads_the_frames(tmp_path):
    seeing = LocalModel(str(write_seeing_model(tmp_path / "tiny-vl")), device="cpu", max_tokens=12)
    inputs = [
        seeing.tokenize(Prompt("", ("look", *frames, "now"), 1))
        for frames in ([jpeg("red")], [jpeg("blue")], [jpeg("red"), jpeg("blue")])
    ]
    assert seeing.supports_images
    assert [len(one["image_grid_thw"]) for one in inputs] == [1, 1, 2]
    assert not torch.equal(inputs[0]["pixel_values"], inputs[1]["pixel_values"])
    # Its weights are random: some pictures it answers with spaces only, which is no answer.
    assert any(answered(seeing, jpeg(colour)) for colour in ("red", "green", "blue", "white"))
    with pytest.raises(AnswerError, match="the model failed"):
        seeing.answer(Prompt("", ("look", b"no picture"), 1))


def test_pictures_that_do_not_fit_are_too_much_and_not_the_words(tmp_path):
    folder = write_seeing_model(tmp_path / "tiny-vl", longest=60)
    seeing = LocalModel(str(folder), device="cpu", max_tokens=4, image_hint="give a smaller -k")
    many = Prompt("", ("look", *[jpeg("red")] * 12), 1)
    with pytest.raises(ImagesTooLarge, match=r"the model reads 60: give a smaller -k"):
        seeing.answer(many)
    with pytest.raises(AnswerError, match="the model reads 60") as caught:
        seeing.answer(Prompt("", ("storm " * 300,), 1))
    assert not isinstance(caught.value, ImagesTooLarge)
