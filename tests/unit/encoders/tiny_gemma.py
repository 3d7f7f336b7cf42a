"""A tiny random EmbeddingGemma 2 with tokenizer and processor settings, as the published files lie."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import EmbeddingGemma2Config
from transformers.models.embedding_gemma2.modeling_embedding_gemma2 import EmbeddingGemma2Model

SPECIAL = {
    "<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<|image>": 4, "<image|>": 5, "<|image|>": 6, "<|video|>": 7,
    "<|audio>": 8, "<audio|>": 9, "<|audio|>": 10,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüéñ0123456789.,:|?!-'_()%"

SIZES = {
    "text_config": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, "hidden_size_per_layer_input": 16,
        "embedding_dim": 256, "layer_types": ["sliding_attention", "full_attention"],
        "per_layer_config": {1: {"head_dim": 16, "num_key_value_heads": 1}}, "initializer_range": 0.3,
    },
    "vision_config": {
        "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "position_embedding_size": 128,
        "initializer_range": 0.3,
    },
    "audio_config": {
        "model_type": "gemma4_audio", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "output_proj_dims": 32, "subsampling_conv_channels": [128, 8], "initializer_range": 0.3,
    },
}  # fmt: skip


def make_tokenizer() -> Tokenizer:
    """Letters, with the marks that the published tokenizer puts around a text."""
    tokens = [*SPECIAL, "▁", *dict.fromkeys(LETTERS)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", SPECIAL["<bos>"]), ("<eos>", SPECIAL["<eos>"])]
    )
    return tokenizer


def write_checkpoint(folder: Path, *, seed: int = 3) -> Path:
    """Write all files that the encoder reads; the same seed gives the same weights."""
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {**SIZES, "text_config": {**SIZES["text_config"], "vocab_size": tokenizer.get_vocab_size()}}
    config = EmbeddingGemma2Config(
        **sizes, boi_token_id=4, eoi_token_id=5, image_token_id=6, video_token_id=7, boa_token_id=8,
        eoa_token_index=9, audio_token_id=10,
    )  # fmt: skip
    torch.manual_seed(seed)
    EmbeddingGemma2Model(config).eval().save_pretrained(folder)
    processor = {"image_processor": {"max_soft_tokens": 280}, "feature_extractor": {"feature_size": 128}}
    (folder / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder
