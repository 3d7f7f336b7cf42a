"""Speed of training an adapter: ``clamr train --recipe clamr`` on a random model and an index made here.

``python -m tests.bench.train --device cuda`` needs no weights: a random checkpoint of the published size is made on the
device and written to a folder for the time of the run (8 GB). 200 steps are trained in bfloat16 with gradient
checkpointing and two accumulated batches each. ``--shape tiny --steps 4`` tries every line on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from clamr_cli import cli
from clamr_cli.devices import choose_device
from clamr_cli.encoders.hashed import HashedEncoder
from clamr_cli.index.documents import Recipe
from clamr_cli.index.workdir import DecodedMedia, StoredFrame
from clamr_cli.store import Store
from clamr_cli.types import Document, FileRecord, FileState, MediaInfo, MomentRecord, VideoFields, VideoRecord
from tests.bench.encode import RESULTS, SHAPES, Shape, documents, versions, write
from tests.unit.encoders.clamr.tiny import make_tokenizer

WARM: int = 5
"""First steps that are left out of the figures: they pay for kernels and caches."""


def write_checkpoint(folder: Path, shape: Shape, device: torch.device) -> None:
    """Write a random base model with its tokenizer."""
    tokenizer = make_tokenizer()
    config = shape.config(torch.bfloat16)
    config.video_token_id = tokenizer.token_to_id("<|video_pad|>")
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen2_5_VLModel(config)
    finally:
        torch.set_default_dtype(default)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config.save_pretrained(folder)


def build_index(folder: Path, moments: Sequence[Document]) -> None:
    """An index of videos of one moment each."""
    recipe = Recipe("m", "s", "t", 60.0)
    encoder = HashedEncoder.create(cache=folder, device="cpu", threads=1)
    store = Store.open(folder, create=True)
    with store.writer("bench"):
        for number, document in enumerate(moments):
            video = f"{number:012x}"
            moment = MomentRecord(
                f"{video}#0",
                video,
                document.span,
                tuple(frame.time for frame in document.frames),
                tuple(frame.span for frame in document.frames),
                document.speech,
                document.ocr,
                document.metadata,
            )
            media = MediaInfo("mov,mp4", 60.0, 60.0, 60.0, 640, 360, 0, 25.0, "h264", 0)
            record = VideoRecord(video, video * 5, media, VideoFields(document.metadata[0].text))
            store.put_video(record, [moment])
            frames = tuple(StoredFrame(place, frame.time, frame.span) for place, frame in enumerate(document.frames))
            payload = msgspec.to_builtins(DecodedMedia(media, frames))
            store.put_extraction(
                recipe.key(record.content_hash, "media"), payload, [frame.jpeg for frame in document.frames]
            )
            file = FileRecord(f"/videos/{number}.mp4", "/videos", video, 1, 1, FileState.INDEXED, recipe=recipe.dump())
            store.put_files([file])
            store.put_vectors(encoder.info, {moment.moment_id: encoder.encode_documents([document])[0]})
        store.finish()


def write_queries(path: Path, moments: Sequence[Document]) -> None:
    """Three queries about each video: words of its speech, of its title, and of its text on screen."""
    lines = []
    for number, document in enumerate(moments):
        texts = {"speech": document.speech, "metadata": document.metadata, "ocr": document.ocr}
        for modality, segments in texts.items():
            words = " ".join(segments[0].text.split()[:6]) or document.metadata[0].text
            lines.append({"id": f"{number}-{modality}", "query": words, "modality": modality, "video": f"{number}.mp4"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Train, print the figures, write them down."""
    options = _arguments()
    device = torch.device(choose_device(options.device))
    usual = "published" if device.type == "cuda" else "tiny"
    shape = SHAPES[options.shape or usual]
    moments = documents(options.videos, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_checkpoint(root / "base", shape, device)
        build_index(root / "index", moments)
        write_queries(root / "queries.jsonl", moments)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        arguments = ["--db", str(root / "index"), "train", str(root / "queries.jsonl"), "--recipe", "clamr"]
        arguments += ["--model", str(root / "base"), "--out", str(root / "out"), "--device", device.type]
        arguments += ["--steps", str(options.steps), "--batch", str(options.batch), "--accumulate", "2"]
        arguments += ["--bf16", "--gradient-checkpointing", "--lr", "1e-4"]
        start = time.perf_counter()
        code = cli.main(arguments)
        seconds = time.perf_counter() - start
        if code:
            raise SystemExit(code)
        log = [json.loads(line) for line in (root / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        adapter = (root / "out" / "adapter_model.safetensors").stat().st_size
    steps = [entry for entry in log if "loss" in entry]
    each = [entry["seconds"] for entry in steps[WARM:] or steps]
    losses = [entry["loss"] for entry in steps]
    tenth = max(1, len(losses) // 10)
    pairs = 2 * options.batch
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions(device),
        "dtype": "bfloat16",
        "model": options.shape or usual,
        "steps": len(steps),
        "pairs_per_step": pairs,
        "seconds": round(seconds, 1),
        "median_seconds_per_step": round(statistics.median(each), 3),
        "pairs_per_second": round(pairs / statistics.median(each), 2),
        "mean_loss_of_first_tenth": round(statistics.mean(losses[:tenth]), 4),
        "mean_loss_of_last_tenth": round(statistics.mean(losses[-tenth:]), 4),
        "peak_gpu_gigabytes": round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else None,
        "adapter_megabytes": round(adapter / 1e6, 1),
    }
    write(result, options.out or (RESULTS / f"train-{device.type}.json" if device.type == "cuda" else None))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--shape", choices=SHAPES, help="of the model; published on a GPU, tiny on a CPU")
    parser.add_argument("--steps", type=int, default=200, help="of the optimiser")
    parser.add_argument("--batch", type=int, default=8, help="pairs at once")
    parser.add_argument("--videos", type=int, default=64, help="of the index")
    parser.add_argument("--out", type=Path, help="file for the figures; by default one on a GPU alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()
