"""Time and memory of ``gemma`` with random weights of the true shapes: ``python -m tests.bench.gemma``.

The configuration is the library's default, which has the tensors of the published checkpoint: 1,376 of them, 744
million numbers. Each precision runs in a process of its own. Times are of one thread; CPU seconds depend little on what
else the machine does, and the ratios of precisions less. Memory is the largest of the process until then.

With ``--layer`` it times one linear layer of the text model instead, in float32 and bfloat16, with the instructions of
this CPU and of lesser ones (oneDNN's ONEDNN_MAX_CPU_ISA): where bfloat16 pays decides what "auto" means.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import EmbeddingGemma2Config
from transformers.models.embedding_gemma2.modeling_embedding_gemma2 import EmbeddingGemma2Model

from clamr_cli import encoders
from clamr_cli.types import Document, Frame, Segment, Span
from tests.bench.encode import versions
from tests.unit.encoders.tiny_gemma import make_tokenizer

RESULTS = Path(__file__).parent / "results" / "gemma-cpu.json"
INSTRUCTIONS = ("AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "ALL")
PRECISIONS = ("float32", "bfloat16", "int8")
QUERY, PASSAGE = "q" * 12, "passage of text. " * 4
WHOLE = Span(0.0, 60.0)


def write_checkpoint(folder: Path) -> None:
    """Random bfloat16 weights of the true shapes: the file has as many bytes as the published one, 1,488,915,288."""
    config = EmbeddingGemma2Config(
        text_config={}, vision_config={"model_type": "gemma4_vision"}, audio_config={"model_type": "gemma4_audio"}
    )
    config.architectures = ["EmbeddingGemma2Model"]
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in EmbeddingGemma2Model(config).state_dict().items()}
    tensors = {name: torch.full(shape, 1.0, dtype=torch.bfloat16) for name, shape in shapes.items()}
    for tensor in tensors.values():
        if tensor.dim() > 1:
            tensor.normal_(std=0.02)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    make_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "processor_config.json").write_text("{}", encoding="utf-8")


def measured(action: Callable[[], object], times: int = 1) -> dict[str, float]:
    """Seconds on the wall and of the CPU, the best of some runs, and the largest memory so far in MB."""
    runs = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        runs.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = min(runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(cpu, 3), "wall_seconds": round(wall, 3), "peak_mb": round(peak)}


def measure(folder: Path, dtype: str, times: int) -> dict[str, dict[str, float]]:
    """One precision: loading for a query, a query, a picture of each size, a document."""
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    frame = Frame(0.0, WHOLE, buffer.getvalue())
    result: dict[str, dict[str, float]] = {}
    # A larger picture takes the same steps in every precision.
    for tokens in (70, 140, 280) if dtype == "float32" else (70,):
        encoder = encoders.create(
            "gemma", cache=folder, device="cpu", threads=1, model=str(folder), dtype=dtype, image_tokens=tokens
        )
        model = encoder.model  # type: ignore[attr-defined]
        if tokens == 70:
            result["load the text model, first query"] = measured(partial(model.texts, [QUERY]))
            result["query of 14 tokens"] = measured(partial(model.texts, [QUERY]), times)
            result["passage of 70 tokens"] = measured(partial(model.texts, [PASSAGE]), times)
            result["the bank, once"] = measured(partial(getattr, encoder, "bank"))
        result[f"load, first picture, {tokens} tokens"] = measured(partial(model.pictures, [frame]))
        result[f"picture, {tokens} tokens"] = measured(partial(model.pictures, [frame]), times)
        if tokens == 70:
            speech = tuple(Segment(WHOLE, PASSAGE) for _ in range(7))
            document = Document("v#0", WHOLE, frames=(frame,) * 2, speech=speech)
            result["document of 2 frames and 7 passages"] = measured(partial(encoder.encode_documents, [document]))
        del encoder, model
    return result


def layer() -> dict[str, dict[str, float]]:
    """CPU milliseconds of a linear layer of the text model by the rows of its input and the precision."""
    torch.set_num_threads(1)
    result: dict[str, dict[str, float]] = {}
    for rows in (14, 70, 630):
        for dtype in (torch.float32, torch.bfloat16):
            # Several, so that weights come from memory as they do in a model.
            layers = [torch.nn.Linear(768, 3072, dtype=dtype) for _ in range(8)]
            inputs = torch.randn(rows, 768, dtype=dtype)
            with torch.inference_mode():
                best = measured(partial(_each, layers * 4, inputs), times=8)["cpu_seconds"]
            result.setdefault(f"{rows} rows", {})[str(dtype).removeprefix("torch.")] = round(best / 32e-3, 2)
    return result


def _each(layers: list[torch.nn.Linear], inputs: torch.Tensor) -> None:
    for one in layers:
        one(inputs)


def main() -> None:
    """Measure every precision, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", help="measure this one here, and only print")
    parser.add_argument("--folder", type=Path, help="a checkpoint that is there")
    parser.add_argument(
        "--only", action="append", help="this precision; the file keeps the others' figures; repeatable"
    )
    parser.add_argument("--times", type=int, default=3, help="runs of each step, of which the best counts")
    parser.add_argument("--layer", choices=("all", "here"), nargs="?", const="all", help="see above")
    options = parser.parse_args()
    if options.layer == "here":
        print(json.dumps(layer()))
        return
    if options.layer:
        result = json.loads(RESULTS.read_text("utf-8"))
        result["milliseconds of a layer of 768 x 3072"] = {
            name: json.loads(
                subprocess.run(
                    [sys.executable, "-m", "tests.bench.gemma", "--layer", "here"],
                    check=True,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "ONEDNN_MAX_CPU_ISA": name},
                ).stdout
            )
            for name in INSTRUCTIONS
        }
        print(json.dumps(result["milliseconds of a layer of 768 x 3072"], indent=1))
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return
    if options.dtype:
        print(json.dumps(measure(options.folder, options.dtype, options.times)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not options.folder:
            write_checkpoint(folder)
        size = (folder / "model.safetensors").stat().st_size
        former = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        figures: dict[str, object] = {
            **former, **versions(torch.device("cpu")), "bytes of weights": size, "threads": 1,
        }  # fmt: skip
        whole: dict[str, dict[str, float]] = former.get("float32", {}).get("steps", {})
        for dtype in options.only or PRECISIONS:
            command = [sys.executable, "-m", "tests.bench.gemma", "--dtype", dtype, "--folder", str(folder)]
            load = os.getloadavg()[0]
            output = subprocess.run(
                [*command, "--times", str(options.times)], check=True, stdout=subprocess.PIPE
            ).stdout
            steps: dict[str, dict[str, float]] = json.loads(output.splitlines()[-1])
            whole = steps if dtype == "float32" else whole
            ratios = {
                name: round(step["cpu_seconds"] / whole[name]["cpu_seconds"], 2)
                for name, step in steps.items()
                if whole.get(name, {}).get("cpu_seconds")
            }
            loads = [round(load, 1), round(os.getloadavg()[0], 1)]
            figures[dtype] = {"load before and after": loads, "steps": steps, "cpu seconds by those of float32": ratios}
            print(dtype, json.dumps(figures[dtype], indent=1), flush=True)
            # A slow machine may be stopped before the last precision.
            RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
