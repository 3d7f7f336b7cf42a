"""Figures of an encoder on videos, photos and sentences with labels: ``python -m tests.bench.seen --encoder NAME``.

Each part is measured where its folder is given, by the commands and the encoder that users run:

- ``--videos DIR``: videos and ``queries.json`` (a list of ``{"video", "query", "modality"}``). The folder is indexed;
  printed are nDCG@10 of the queries of each modality, and how often the modality that a query aims at wins (modality
  accuracy).
- ``--photos DIR``: ``captions.csv`` (``image,caption``) and ``images/``. Every fifth photo is a document of its own;
  ``clamr train --recipe mini`` holds the same ones out. Printed are R@1 and R@10 of their captions.
- ``--sentences DIR``: parallel sentences, one a line, in files that end in ``.en``, ``.de`` and so on, maybe with
  ``.gz``. English ones are documents; printed is R@1 of those of every other language.

The figures of the parts that were measured are kept in ``results/seen-NAME.json``, beside those of the other parts.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from clamr_cli import encoders
from clamr_cli.config import default_cache
from clamr_cli.types import Document, Encoder, Frame, Segment, Span, TokenVectors
from tests.bench.encode import versions
from tests.bench.process import counted

RESULTS = Path(__file__).parent / "results"
WHOLE = Span(0.0, 10.0)

Figures = dict[str, float]


def videos(folder: Path, db: Path, options: argparse.Namespace) -> Figures:
    """Index a folder and score its queries with ``clamr eval``."""
    clamr = [sys.executable, "-m", "clamr_cli", "--db", str(db)]
    own = [f"--encoder={options.encoder}", *([f"--model={options.model}"] if options.model else [])]
    subprocess.run([*clamr, "index", str(folder), *own], check=True, stdout=sys.stderr)
    scored = subprocess.run(
        [*clamr, "eval", str(folder / "queries.json"), "--json", "--no-baselines", "--measure=nDCG@10", *own],
        check=True,
        stdout=subprocess.PIPE,
    )
    report = json.loads(scored.stdout.splitlines()[0])
    figures: Figures = {"nDCG@10": report["measures"]["nDCG@10"], "modality right": report["modality_accuracy"]}
    figures["queries"] = sum(report["rows"].values())
    for modality, value in report["by_modality"].items():
        figures[f"{modality}, nDCG@10"], figures[f"{modality}, queries"] = value, report["rows"][modality]
        figures[f"{modality}, modality right"] = report["modality_accuracy_by_modality"][modality]
    return figures


def encoded(encoder: Encoder, documents: list[Document], what: str) -> list[TokenVectors]:
    """Vectors of documents; one document a call."""
    return [encoder.encode_documents([document])[0] for document in counted(documents, f"{what}: documents")]


def recalls(encoder: Encoder, found: list[TokenVectors], queries: list[tuple[str, int]], what: str) -> Figures:
    """R@1 and R@10 of queries, each with the number of the document that answers it."""
    vectors = np.concatenate([item.vectors for item in found]).astype(np.float32)
    starts = np.cumsum([0, *map(len, found)])[:-1]
    ranks = []
    for first in counted(range(0, len(queries), 32), f"{what}: queries, 32 at a time"):
        some = queries[first : first + 32]
        for tokens, (_, answer) in zip(encoder.encode_queries([text for text, _ in some]), some, strict=True):
            scores = np.maximum.reduceat(tokens.vectors.astype(np.float32) @ vectors.T, starts, axis=1).sum(axis=0)
            ranks.append(int((scores > scores[answer]).sum()))
    figures: Figures = {f"R@{cutoff}": float(np.mean(np.array(ranks) < cutoff)) for cutoff in (1, 10)}
    return figures | {"queries": len(queries), "documents": len(found)}


def photos(folder: Path, encoder: Encoder, limit: int) -> Figures:
    """R@1 and R@10 of the captions of held-out photos."""
    captions: dict[str, list[str]] = {}
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            captions.setdefault(row["image"], []).append(row["caption"].removesuffix(" .").strip())
    held_out = sorted(captions)[4::5][:limit]
    frames = [Frame(0.0, WHOLE, (folder / "images" / name).read_bytes()) for name in held_out]
    documents = [Document(name, WHOLE, frames=(frame,)) for name, frame in zip(held_out, frames, strict=True)]
    queries = [(caption, number) for number, name in enumerate(held_out) for caption in captions[name]]
    return recalls(encoder, encoded(encoder, documents, "photos"), queries, "photos")


def sentences(folder: Path, encoder: Encoder, limit: int) -> dict[str, Figures]:
    """Recalls of sentences in other languages among the English ones."""
    texts: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(".gz")
        if len(Path(name).suffix) == 3:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            texts[name[-2:]] = content.decode("utf-8").splitlines()[:limit]
    english = texts.pop("en")
    documents = [Document(str(n), WHOLE, speech=(Segment(WHOLE, text),)) for n, text in enumerate(english)]
    found = encoded(encoder, documents, "English sentences")
    queries = {language: [(text, number) for number, text in enumerate(own)] for language, own in texts.items()}
    return {language: recalls(encoder, found, own, language) for language, own in queries.items()}


def main() -> None:
    """Measure what there is data for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--model", help="checkpoint, for encoders that have that setting")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--db", type=Path, help="index to use and keep; otherwise one that is thrown away")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--limit", type=int, default=1000, help="photos and sentences at most")
    options = parser.parse_args()
    path = RESULTS / f"seen-{options.encoder.partition(':')[0]}.json"
    result: dict[str, object] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    result |= {"encoder": options.encoder, "model": options.model} | versions(torch.device("cpu"))
    if options.videos:
        with tempfile.TemporaryDirectory() as folder:
            result["videos"] = videos(options.videos, options.db or Path(folder) / "index", options)
    if options.photos or options.sentences:
        own = {"model": options.model} if options.model else {}
        encoder = encoders.create(
            options.encoder, cache=options.cache, device=options.device, threads=options.threads, **own
        )
        if options.photos:
            result["photos"] = photos(options.photos, encoder, options.limit)
        if options.sentences:
            result["sentences"] = sentences(options.sentences, encoder, options.limit)
    print(json.dumps(result, indent=1))
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
