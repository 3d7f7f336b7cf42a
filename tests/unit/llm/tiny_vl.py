"""A tiny Qwen2.5-VL of random weights with its processor, as transformers saves them: it sees, and writes nonsense."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tests.unit.encoders.clamr.tiny import CONFIG, make_tokenizer

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_seeing_model(folder: Path, *, longest: int = 4096, pixels: int = 112 * 112) -> Path:
    """Writes the model; ``longest`` is how many tokens it reads, ``pixels`` how many of a picture at most."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    )  # fmt: skip
    sizes = {"min_pixels": 28 * 28, "max_pixels": pixels}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**sizes), tokenizer, Qwen2VLVideoProcessor(**sizes), chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
        for name, mark in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    more = {"vocab_size": len(tokenizer), "max_position_embeddings": longest, "initializer_range": 0.4}
    config = Qwen2_5_VLConfig(**CONFIG | more | ids, eos_token_id=end)
    torch.manual_seed(3)
    Qwen2_5_VLForConditionalGeneration(config).to(torch.float32).save_pretrained(folder)
    return folder
