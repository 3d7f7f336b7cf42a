"""Speed of encoding documents: ours against the steps of the published code, on one random model in one run.

``python -m tests.bench.encode --device cuda`` needs no weights. There the model has the published size in bfloat16 and
is made on the device; on a CPU it is scaled down in width and depth with the proportions kept (language model, vision
tower, output embedding). ``--shape tiny`` tries every line in a minute.

The published steps are those of its evaluation: one document after another through the library's processor in the main
process (frames resized one by one, normalised, cut into patches; the prompt padded on the left to 2,048 tokens), logits
of the whole vocabulary for every place, all hidden states kept, vectors of the last one projected, masked and copied
back in float32. Both ways use the same weights, the same adapter beside them, the same dtype and the same position ids,
and their vectors are compared. A small model is compared with the same one in float32 on the CPU too.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import platform
import random
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from clamr_cli.devices import choose_device
from clamr_cli.encoders.clamr import ClamrEncoder
from clamr_cli.encoders.clamr.checkpoint import LoraLinear
from clamr_cli.encoders.clamr.encoder import ClamrOptions
from clamr_cli.encoders.clamr.model import ATTENTION, Backbone, Placement, position_ids
from clamr_cli.encoders.clamr.projection import init_projection
from clamr_cli.encoders.clamr.prompt import fitted_size
from clamr_cli.types import Document, EncoderInfo, Frame, Segment, Span
from tests.unit.encoders.clamr.tiny import CONFIG, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clamr_cli.encoders.clamr.prompt import EncoderInput

RESULTS: Final = Path(__file__).parent / "results"
LIMIT: Final = 2048
WORDS: Final = (
    "harbour",
    "market",
    "ferry",
    "pier",
    "drone",
    "dog",
    "fox",
    "Hafen",
    "Markt",
    "Schiff",
    "lazy",
    "quick",
)
RANK: Final = 128


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int

    def config(self, dtype: torch.dtype) -> Qwen2_5_VLConfig:
        head = self.hidden // self.heads
        vision = {
            **CONFIG["vision_config"],
            "depth": self.vision_layers,
            "hidden_size": self.vision_hidden,
            "intermediate_size": self.vision_intermediate,
            "num_heads": self.vision_heads,
            "out_hidden_size": self.hidden,
            "fullatt_block_indexes": [n for n in range(self.vision_layers) if n % 8 == 7] or [self.vision_layers - 1],
        }
        return Qwen2_5_VLConfig(
            **{
                **CONFIG,
                "hidden_size": self.hidden,
                "intermediate_size": self.intermediate,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
                "rope_scaling": {"type": "mrope", "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16]},
                "vocab_size": self.vocabulary,
                "torch_dtype": str(dtype).removeprefix("torch."),
                "bos_token_id": None,
                "eos_token_id": None,
                "vision_config": vision,
            }
        )


PUBLISHED: Final = Shape(2048, 36, 16, 2, 11008, 151936, 1280, 32, 16, 3420)
SCALED: Final = Shape(256, 8, 4, 1, 1376, 4096, 160, 8, 4, 428)
TINY: Final = Shape(64, 2, 4, 2, 96, 512, 32, 2, 2, 48)
SHAPES: Final = {"published": PUBLISHED, "scaled": SCALED, "tiny": TINY}


@dataclass(frozen=True)
class Outcome:
    """Time and memory of one way, and its vectors."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int | None
    vectors: list[np.ndarray]


def documents(count: int, seed: int) -> list[Document]:
    """Moments with ten JPEG frames and texts whose lengths vary as they do in videos."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        pictures = [jpeg(dice.randrange(1 << 30)) for _ in range(10)]
        frames = tuple(Frame(n * 6.0, Span(n * 6.0, n * 6.0 + 6.0), data) for n, data in enumerate(pictures))
        texts = [
            (Segment(Span(0.0, 60.0), " ".join(dice.choices(WORDS, k=dice.randint(low, high)))),)
            for low, high in ((5, 60), (0, 120), (0, 60))
        ]
        made.append(Document(f"v#{number}", Span(0.0, 60.0), frames, speech=texts[1], ocr=texts[2], metadata=texts[0]))
    return made


def jpeg(seed: int) -> bytes:
    """A smooth random picture of 640 x 360 pixels."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((640, 360), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Bench:
    """One random model, both ways of running it."""

    def __init__(self, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        self.tokenizer = make_tokenizer()
        config = shape.config(dtype)
        config.video_token_id = self.tokenizer.token_to_id("<|video_pad|>")
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                self.official = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(default)
        _beside_adapters(self.official.model, dtype, device)
        self.processor = Qwen2_5_VLProcessor(
            image_processor=Qwen2VLImageProcessor(),
            tokenizer=PreTrainedTokenizerFast(
                tokenizer_object=self.tokenizer, padding_side="left", pad_token="<|endoftext|>"
            ),
            video_processor=Qwen2VLVideoProcessor(do_sample_frames=False, do_resize=False, cap_pixels_per_frame=False),
        )
        projection = init_projection("float16", shape.hidden, 0.02)
        self.weight, self.bias = torch.from_numpy(projection.weight).to(device), torch.zeros(128, device=device)
        self.device, self.dtype = device, dtype
        ours = Backbone(_sharing(self.official.model), self.weight, self.bias, projection, Placement(device, dtype), 2)
        self.encoder = ClamrEncoder(EncoderInfo("clamr", "bench"), ours, self.tokenizer, ClamrOptions(model="bench"))

    def ours(self, wanted: Sequence[Document]) -> list[np.ndarray]:
        """Encode as the program does."""
        return [found.vectors for found in self.encoder.encode_documents(wanted)]

    @torch.inference_mode()
    def published(self, wanted: Sequence[Document], prepared: Sequence[EncoderInput]) -> list[np.ndarray]:
        """Encode by the published steps, see the head of this file; position ids are those of our inputs."""
        found: list[np.ndarray] = []
        for document, given in zip(wanted, prepared, strict=True):
            frames = [Image.open(io.BytesIO(frame.jpeg)).convert("RGB") for frame in document.frames]
            frames = [image.resize(fitted_size(*image.size), Image.Resampling.BICUBIC) for image in frames]
            inputs = self.processor(
                text=[prompt(document)],
                videos=[frames],
                padding="max_length",
                max_length=LIMIT,
                truncation=True,
                return_tensors="pt",
            )
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            size = int(mask.sum())
            assert given.input_ids.tolist() == ids[0, LIMIT - size :].tolist()
            positions = torch.ones(3, 1, LIMIT, dtype=torch.long)
            own = position_ids(size, given.video.start, given.grid, self.encoder.backbone.time_step)
            positions[:, 0, LIMIT - size :] = torch.from_numpy(own)
            outputs = self.official(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                position_ids=positions.to(self.device),
                pixel_values_videos=inputs["pixel_values_videos"].to(self.device),
                video_grid_thw=inputs["video_grid_thw"].to(self.device),
                output_hidden_states=True,
                use_cache=False,
            )
            projected = nn.functional.linear(outputs.hidden_states[-1].float(), self.weight, self.bias)
            vectors = projected / projected.norm(dim=-1, keepdim=True) * mask.to(self.device)[..., None]
            found.append(vectors.cpu().numpy()[0, LIMIT - size :])
        return found


def prompt(document: Document) -> str:
    """The text of a document as the published chat template writes it, one token in place of the video's."""
    texts = {"OCR": document.ocr, "ASR": document.speech, "Description": document.metadata}
    parts = "".join(f" {name}: {segments[0].text}".rstrip() for name, segments in texts.items())
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    return f"{head}<|vision_start|><|video_pad|><|vision_end|>{parts}<|im_end|>\n"


def _beside_adapters(model: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Put an adapter of the published rank beside the layers of the language model, as training leaves them."""
    language = model.language_model
    layers = [(name, layer) for name, layer in language.named_modules() if isinstance(layer, nn.Linear)]
    for name, layer in layers:
        rank = min(RANK, layer.in_features // 16)
        down, up = torch.randn(rank, layer.in_features) * 0.01, torch.randn(layer.out_features, rank) * 0.01
        language.set_submodule(name, LoraLinear(layer, down.to(device, dtype), up.to(device, dtype)))


def _sharing(model: Qwen2_5_VLModel) -> Qwen2_5_VLModel:
    """The same modules and weights under a configuration of their own, with packed attention."""
    configs = {id(config): copy.deepcopy(config) for config in _configs(model)}
    memo: dict[int, Any] = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    memo |= configs
    twin = copy.deepcopy(model, memo)
    for config in configs.values():
        config._attn_implementation = ATTENTION
    return twin


def _configs(model: nn.Module) -> list[Any]:
    return list({id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values())


def measured(run: Callable[[], list[np.ndarray]], device: torch.device) -> Outcome:
    """Run once and note the time and the highest memory use since the start of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        _reset_peak()
    start, busy = time.perf_counter(), time.process_time()
    vectors = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak()
    return Outcome(seconds, time.process_time() - busy, peak, vectors)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations per second of one large product of matrices, the best of several."""
    size = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def useful_work(shape: Shape, bench: Bench, inputs: Sequence[EncoderInput]) -> float:
    """Floating point operations that the tokens of the documents need: matrices and attention, no padding, no head."""

    def matrices(module: nn.Module) -> int:
        return sum(
            parameter.numel()
            for name, parameter in module.named_parameters()
            if parameter.ndim >= 2 and "embed_tokens" not in name
        )

    total = 0.0
    language, vision = matrices(bench.official.model.language_model), matrices(bench.official.model.visual)
    for given in inputs:
        tokens = len(given)
        total += 2.0 * language * tokens + 2.0 * shape.layers * shape.hidden * tokens**2
        if given.grid is not None:
            patches = given.grid.time * given.grid.height * given.grid.width
            total += 2.0 * vision * patches
            # Windows of 64 patches in most layers, whole frames in the others.
            total += 4.0 * shape.vision_layers * shape.vision_hidden * patches * 64
    return total


def report(outcome: Outcome, tokens: int, work: float, rate: float) -> dict[str, float | None]:
    """The figures of one way."""
    return {
        "seconds": round(outcome.seconds, 3),
        "cpu_seconds": round(outcome.cpu_seconds, 3),
        "documents_per_second": round(len(outcome.vectors) / outcome.seconds, 3),
        "tokens_per_second": round(tokens / outcome.seconds, 1),
        "fraction_of_matmul_rate": round(work / outcome.seconds / rate, 4),
        "peak_gigabytes": None if outcome.peak_bytes is None else round(outcome.peak_bytes / 1e9, 3),
    }


def differences(ours: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The largest difference of any number of two lists of vectors."""
    return max(float(np.abs(a.astype(np.float32) - b).max()) for a, b in zip(ours, others, strict=True))


def equality(device: torch.device) -> dict[str, float]:
    """Largest differences of vectors on a device from those of float32 on the CPU, for one small model, by dtype."""
    wanted = documents(3, seed=2)
    exact = Bench(TINY, torch.device("cpu"), torch.float32)
    expected = exact.ours(wanted)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        bench = Bench(TINY, device, dtype)
        bench.official.load_state_dict(exact.official.state_dict())
        found[str(dtype).removeprefix("torch.")] = differences(bench.ours(wanted), expected)
    return found


def versions(device: torch.device) -> dict[str, str]:
    """The device and the versions of what runs on it."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} CPUs"
    return {
        "device": name,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": str(torch.version.cuda) if device.type == "cuda" else "none",
    }


def main() -> None:
    """Run both ways, print the figures, write them down."""
    options = _arguments()
    device = torch.device(choose_device(options.device))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    usual = "published" if device.type == "cuda" else "scaled"
    shape = SHAPES[options.shape or usual]
    count = options.documents or (256 if device.type == "cuda" else 16)
    small = equality(device)
    bench = Bench(shape, device, dtype)
    if options.compile:
        bench.encoder.backbone.compile()
    wanted = documents(count, seed=1)
    # The first passes pay for kernels and caches, and for compiling where it is asked for.
    bench.ours(wanted[: max(2, count // 8)])
    inputs = [bench.encoder.prepare(document) for document in wanted]
    bench.published(wanted[:2], inputs[:2])
    tokens = sum(len(given) for given in inputs)
    work, rate = useful_work(shape, bench, inputs), matmul_rate(device, dtype)
    ours = measured(lambda: bench.ours(wanted), device)
    published = measured(lambda: bench.published(wanted, inputs), device)
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions(device),
        "dtype": str(dtype).removeprefix("torch."),
        "shape": asdict(shape),
        "scaled_down": shape is not PUBLISHED,
        "documents": count,
        "tokens": tokens,
        "compiled": options.compile,
        "matmul_rate_tflops": round(rate / 1e12, 3),
        "largest_difference_of_vectors": differences(ours.vectors, published.vectors),
        "largest_difference_from_float32_on_cpu": small,
        "ours": report(ours, tokens, work, rate),
        "published_steps": report(published, tokens, work, rate),
        "times_faster": round(published.seconds / ours.seconds, 2),
        "times_less_cpu": round(published.cpu_seconds / ours.cpu_seconds, 2),
    }
    write(result, options.out or (RESULTS / f"encode-{device.type}.json" if shape is SHAPES[usual] else None))


def write(result: dict[str, Any], path: Path | None) -> None:
    """Print a result, and write it to a file if there is one."""
    text = json.dumps(result, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--shape", choices=SHAPES, help="of the model; published on a GPU, scaled on a CPU")
    parser.add_argument("--documents", type=int, default=0, help="documents to encode (default by device)")
    parser.add_argument("--compile", action="store_true", help="compile our layers")
    parser.add_argument("--out", type=Path, help="file for the figures; by default none for another shape than usual")
    return parser.parse_args()


if __name__ == "__main__":
    main()
