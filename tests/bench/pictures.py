"""Measures and fits the confidence of hits for pictures: ``python -m tests.bench.pictures DATA --db DB [--fit]``.

DATA is the folder that ``clamr train --recipe mini`` learns from; its held-out photos make libraries of one photo a
video. DB is an index of real videos whose files are there: frames at any second are taken from them. Each picture is
cropped, made smaller and compressed anew, by chance, and looked for in a library that has what it was made from, and in
one that has something else instead. A first hit that is the picture's own video is right; any first hit in the other
library is wrong. Everything is cross-validated in five parts by picture.

Prints the AUROC and the share of pictures without an answer that are refused where 95 % of the right hits are kept.
``--fit`` writes the regressions to ``clamr_cli/search/confidence.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from clamr_cli import load_encoder
from clamr_cli.config import default_cache
from clamr_cli.media.pictures import read_clip
from clamr_cli.search import confidence, picture_example
from clamr_cli.search.cascade import ScoringRule, modality_maxima, slot_weights
from clamr_cli.search.confidence import PICTURES, Background, ConfidenceModel, Judge, Null
from clamr_cli.store import Store
from clamr_cli.train.mini.data import photos, split_photos
from clamr_cli.types import Document, Frame, Modality, Span
from tests.bench.confidence import RESULTS, Case, cross_validated, fitted, measures, report, table

SIGNALS = ("score", "margin", "spreads", "moments")
SCALE_FREE = ("spreads", "moments")
SIZES = (2, 5, 20, 60)
CLIP_PICTURES = 4


def perturbed(jpeg: bytes, rng: random.Random) -> bytes:
    """A copy of a picture that was cropped, made smaller and compressed."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    width, height = (round(side * rng.uniform(0.8, 1.0)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    scale = rng.uniform(0.3, 1.0)
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    buffer = io.BytesIO()
    image.crop((left, top, left + width, top + height)).resize(size).save(buffer, "JPEG", quality=rng.randint(30, 80))
    return buffer.getvalue()


def frame(jpeg: bytes) -> Frame:
    """A picture as a frame."""
    return Frame(0.0, Span(0.0, 0.0), jpeg)


def main() -> None:
    """Measure, print, and fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--db", required=True, help="an index of real videos by the same encoder")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--photos", type=int, default=80)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="clamr's cache folder")
    parser.add_argument("--fit", action="store_true", help="write the models")
    options = parser.parse_args()
    encoder, rng = load_encoder(options.encoder, cache=options.cache), random.Random(3)
    every = photos(options.data)
    (_, held_out) = split_photos(every)
    chosen = rng.sample(sorted(held_out), min(options.photos, len(held_out)))
    folder = options.data / "train/flickr8k_1k/images"
    jpegs = [(folder / every[number].name).read_bytes() for number in chosen]
    documents = [Document(f"photo{n}#0", Span(0.0, 0.0), frames=(frame(jpeg),)) for n, jpeg in enumerate(jpegs)]
    vectors, videos = encoder.encode_documents(documents), [f"photo{n}" for n in range(len(jpegs))]
    asked = [(f"photo{n}", perturbed(jpeg, rng), "photos") for n, jpeg in enumerate(jpegs)]
    store = Store.open(options.db)
    for moment_id, item in store.scan_vectors(encoder.info.fingerprint):
        vectors.append(item)
        videos.append(moment_id.partition("#")[0])
    for file in store.files():
        length = store.video(file.video_id).media.duration
        for number in range(CLIP_PICTURES):
            second = length * (number + rng.random()) / CLIP_PICTURES
            (shown,) = read_clip(file.path, Span(second, second))
            asked.append((file.video_id, perturbed(shown.jpeg, rng), "clips"))
    indptr = np.cumsum([0, *map(len, vectors)], dtype=np.int64)
    rows = np.concatenate([item.vectors.astype(np.float32) for item in vectors])
    ids = np.concatenate([item.modality_ids for item in vectors])
    real = [number for number, video in enumerate(videos) if not video.startswith("photo")]
    ours = range(len(jpegs))
    found: list[Case] = []
    nulls: list[list[float]] = []
    first = {"photos": 0, "clips": 0}
    for answer, jpeg, aim in asked:
        example = picture_example(encoder, [frame(jpeg)], ["picture"])
        rule = ScoringRule("token-max", slot_weights({}), kinds=example.tokens.modality_ids)
        maxima = modality_maxima(example.tokens.vectors @ rows.T, ids, indptr)
        scores = rule.scores(maxima) / len(example.tokens)
        own = [number for number, video in enumerate(videos) if video == answer]
        others = scores[[number for number in range(len(videos)) if number not in own]]
        low, median, high = np.percentile(others[np.isfinite(others)], [25, 50, 75])
        nulls.append([median, (high - low) / confidence.QUARTILES])
        first[aim] += videos[int(scores.argmax())] == answer
        group = answer if aim == "clips" else f"composed of {answer}"
        for size in rng.sample(SIZES, 2):
            beside = set(rng.sample(ours, min(size, len(ours)))) | set(
                real if rng.random() < 0.5 else rng.sample(real, 2)
            )
            spare = [number for number in range(len(videos)) if number not in {*beside, *own}]
            for possible in (True, False):
                members = sorted(
                    (beside - set(own)) | set(own if possible else rng.sample(spare, min(len(own), len(spare))))
                )
                part = maxima[:, members]
                best = int(rule.scores(part).argmax())
                video = videos[members[best]]
                names = [videos[number] for number in members]
                judge = Judge("", rule, Background(part, names, len(members)), ConfidenceModel(0.0, {}, Null(0.6, 0.1)))
                signals = judge.signals(float(rule.scores(part)[best]), (), video, Modality.VIDEO)
                found.append(Case(signals, possible, possible and video == answer, aim, len(members), group))
    null = Null(*(round(float(value), 4) for value in np.median(nulls, axis=0)))
    right, wrong = np.array([one.right for one in found]), np.array([not one.possible for one in found])
    result: dict[str, Any] = {
        "encoder": options.encoder,
        "pictures": {aim: sum(one[2] == aim for one in asked) for aim in first},
        "own video first of all": {
            aim: f"{count} of {sum(one[2] == aim for one in asked)}" for aim, count in first.items()
        },
        "measures": report(found, cross_validated(found, SIGNALS)),
        "scale-free": report(found, cross_validated(found, SCALE_FREE))["all"],
        "score alone": measures(*(table(found, ["score"])[mask, 0] for mask in (right, wrong)), 0.0)["AUROC"],
        "reference": [null.score, null.spread],
    }
    if options.fit:
        path = Path(confidence.__file__).with_name(confidence.MODELS)
        models = dict(confidence.models())
        models[f"{options.encoder}{PICTURES}"] = fitted(found, SIGNALS, null)
        models[f"{confidence.DEFAULT}{PICTURES}"] = fitted(found, SCALE_FREE, null)
        text = msgspec.json.encode({name: models[name] for name in sorted(models)})
        path.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"pictures-{options.encoder}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
