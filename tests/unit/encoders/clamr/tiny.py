"""A tiny random Qwen2.5-VL with a tokenizer and an adapter, in the layout of the published files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5OmniConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "You are a helpful assistant. system user OCR: ASR: Description: Query: harbour market ferry pier drone",
    "The quick brown fox jumps over the lazy dog near the harbour. Ein Hafen, ein Markt, ein Schiff.",
]
LAYERS = 2
HIDDEN = 32
TARGETS = "(.*(model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|.*(custom_text_proj).*$)"

CONFIG = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 70,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "vision_config": {
        "depth": 2,
        "hidden_act": "silu",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "in_chans": 3,
        "out_hidden_size": HIDDEN,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    },
}


def make_tokenizer(special: tuple[str, ...] = SPECIAL) -> Tokenizer:
    """A byte-level BPE with Qwen's splitting rule and special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def old_name(name: str) -> str:
    """A tensor of the current library's model, as published files call it."""
    return name.replace("language_model.", "model.", 1) if name.startswith("language_model.") else name


def new_name(name: str) -> str:
    """A tensor of the current library's model, as files saved today call it."""
    return f"model.{name}"


def write_base(folder: Path, *, rename: Callable[[str], str] = old_name, seed: int = 7) -> Path:
    """Write a base model with random weights; the same seed gives the same weights under every naming."""
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    ids = {f"{name}_token_id": tokenizer.token_to_id(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    pads = {f"{name}_token_id": tokenizer.token_to_id(f"<|{name}_pad|>") for name in ("image", "video")}
    config = {**CONFIG, "vocab_size": size, **ids, **pads}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Qwen2_5_VLModel(Qwen2_5_VLConfig(**config)).state_dict().items()}
    tensors = {}
    for name in sorted(shapes):
        base = 1.0 if "norm" in name or name.endswith("ln_q.weight") else 0.0
        tensors[rename(name)] = base + 0.2 * torch.randn(shapes[name], generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_adapter(folder: Path, *, new_layout: bool = False, seed: int = 9, rank: int = 4) -> Path:
    """Write an adapter over every linear layer of the language model and the projection."""
    folder.mkdir(parents=True)
    sizes = {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}
    mlp = {"gate_proj": (48, 32), "up_proj": (48, 32), "down_proj": (32, 48)}
    modules = {"custom_text_proj": (128, HIDDEN)}
    root = "model.language_model.layers" if new_layout else "model.layers"
    for layer in range(LAYERS):
        modules |= {f"{root}.{layer}.self_attn.{name}": size for name, size in sizes.items()}
        modules |= {f"{root}.{layer}.mlp.{name}": size for name, size in mlp.items()}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, into) in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = 0.2 * torch.randn(rank, into, generator=generator)
        tensors[f"base_model.model.{name}.lora_B.weight"] = 0.2 * torch.randn(out, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "target_modules": TARGETS}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


OMNI_SPECIAL = (
    *SPECIAL[:3],
    "<|vision_bos|>",
    "<|VIDEO|>",
    "<|vision_eos|>",
    "<|audio_bos|>",
    "<|AUDIO|>",
    "<|audio_eos|>",
    "<|IMAGE|>",
)


def omni_config(tokenizer: Tokenizer) -> dict[str, object]:
    """A configuration of a tiny Qwen2.5-Omni without the parts that speak."""
    text = {key: value for key, value in CONFIG.items() if key not in ("vision_config", "architectures")}
    text["rope_scaling"] = {"type": "default", "rope_type": "default", "mrope_section": [1, 1, 2]}
    ids = {
        "audio_token_index": "<|AUDIO|>",
        "image_token_index": "<|IMAGE|>",
        "video_token_index": "<|VIDEO|>",
        "audio_start_token_id": "<|audio_bos|>",
        "audio_end_token_id": "<|audio_eos|>",
        "vision_start_token_id": "<|vision_bos|>",
        "vision_end_token_id": "<|vision_eos|>",
    }
    audio = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    return {
        "model_type": "qwen2_5_omni",
        "thinker_config": {
            **{key: tokenizer.token_to_id(token) for key, token in ids.items()},
            "model_type": "qwen2_5_omni_thinker",
            "text_config": {**text, "model_type": "qwen2_5_omni_text", "vocab_size": tokenizer.get_vocab_size()},
            "vision_config": {**CONFIG["vision_config"], "model_type": "qwen2_5_omni_vision_encoder"},
            "audio_config": {**audio, "model_type": "qwen2_5_omni_audio_encoder", "output_dim": HIDDEN},
        },
    }


def write_omni_base(folder: Path, seed: int = 11) -> Path:
    """Write a tiny Qwen2.5-Omni base in the published layout, with a tensor of the part that speaks."""
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(OMNI_SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = omni_config(tokenizer)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Qwen2_5OmniThinkerModel(Qwen2_5OmniConfig(**config).thinker_config)
    tensors = {"talker.model.norm.weight": torch.zeros(4), "thinker.lm_head.weight": torch.zeros(4, 4)}
    for name, value in sorted(model.state_dict().items()):
        base = 1.0 if "norm" in name or "ln_" in name else 0.0
        tensors[f"thinker.{old_name(name)}"] = base + 0.2 * torch.randn(value.shape, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Edit the tensors of a folder's only safetensors file in place."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
