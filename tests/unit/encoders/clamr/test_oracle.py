"""Against values that the published code gave on a tiny checkpoint; needs the development data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from clamr_cli.encoders.clamr import ClamrEncoder
from clamr_cli.encoders.clamr.model import position_ids
from clamr_cli.encoders.clamr.prompt import Limits, pixels_of
from clamr_cli.search import cascade as maxsim

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("ocr", "asr", "description")
OURS = {"video": 1, "ocr": 2, "asr": 3, "description": 4}
DOCUMENTS = (
    "a_full_4frames",
    "a_mixed_aspect",
    "b_10frames",
    "c_multilingual_ocr512",
    "c_multilingual_ocr24",
    "d_empty_ocr",
    "e_asr_only",
    "g_odd_frames",
    "g_single_frame",
    "h_combined_overflow",
    "i_batch_of_3",
    "k_no_video",
)
WITH_VIDEO = tuple(name for name in DOCUMENTS if name != "k_no_video")
QUERIES = (*DOCUMENTS, "f_queries", "f_queries_multilingual", "j_separate")


@dataclass(frozen=True)
class Case:
    about: dict[str, Any]
    arrays: Any
    documents: list[dict[str, Any]]

    @property
    def limits(self) -> Limits:
        limits = self.about["limits"]
        return Limits(limits["ocr"], limits["asr"], limits["description"], limits["combined"])

    def encode(self, encoder: ClamrEncoder):
        return encoder.encode_documents(
            self.documents,
            max_ocr_tokens=self.limits.ocr,
            max_asr_tokens=self.limits.asr,
            max_description_tokens=self.limits.description,
            max_combined_tokens=self.limits.combined,
        )

    def unpadded(self, name: str, row: int):
        return self.arrays[name][row][self.arrays["attention_mask"][row].astype(bool)]


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Path:
    return shared / "oracle"


def load(oracle: Path, name: str) -> Case:
    about = json.loads((oracle / "cases" / f"{name}.json").read_text(encoding="utf-8"))
    documents = [
        {
            **{field: document.get(field) for field in TEXTS},
            "frames": [Image.open(oracle / "cases" / image) for image in document["images"]] or None,
        }
        for document in about.get("documents", ())
    ]
    return Case(about, np.load(oracle / "cases" / f"{name}.npz"), documents)


@pytest.fixture(scope="module")
def make(oracle: Path, tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    made: dict[tuple[tuple[str, str], ...], ClamrEncoder] = {}

    def encoder(**settings: str) -> ClamrEncoder:
        key = tuple(sorted(settings.items()))
        if key not in made:
            files = {"model": oracle / "tiny-qwen2.5-vl", "adapter": oracle / "tiny-clamr-adapter"}
            made[key] = ClamrEncoder.create(
                cache=cache, device="cpu", **{**files, "projection_init": "float32", **settings}
            )
        return made[key]

    return encoder


def worst(found, expected) -> float:
    return float(np.abs(found.astype(np.float32) - expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(oracle, make, name):
    case = load(oracle, name)
    meaning = {number: OURS[modality] for modality, number in case.about["modality_id_of"].items()} | {0: 0}
    for row, found in enumerate(case.encode(make())):
        assert np.array_equal(found.input_ids, case.unpadded("input_ids", row))
        aligned = [meaning[int(number)] for number in case.unpadded("modality_ids_aligned", row)]
        assert found.modality_ids.tolist() == aligned
        assert worst(found.vectors, case.unpadded("doc_embeddings", row)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTS)
def test_positions_grids_and_hidden_states(oracle, make, name):
    case, backbone = load(oracle, name), make().backbone
    for row, document in enumerate(case.documents):
        given = make().prepare(document, case.limits)
        positions = position_ids(len(given), given.video.start, given.grid, backbone.time_step)
        mask = case.arrays["attention_mask"][row].astype(bool)
        assert np.array_equal(positions, case.arrays["position_ids"][:, row][:, mask])
        if given.grid is not None:
            grid = [given.grid.time, given.grid.height, given.grid.width]
            assert grid == case.arrays["video_grid_thw"][row].tolist()
        if "last_hidden_state" in case.arrays:
            hidden = backbone.hidden([given.decoded()]).numpy()
            assert worst(hidden, case.unpadded("last_hidden_state", row)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_VIDEO)
def test_pixels_and_vision_embeddings(oracle, make, name):
    case, backbone = load(oracle, name), make().backbone
    pixels = [pixels_of(document["frames"]) for document in case.documents]
    for row, array in enumerate(pixels):
        patches = backbone.patches(array).numpy()
        assert worst(patches, case.arrays["pixel_values_videos"][row][: len(patches)]) < 1e-6
    found = backbone.vision(case.arrays["video_grid_thw"], pixels).numpy()
    assert worst(found, case.arrays["vision_embeddings"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
def test_queries(oracle, make, name):
    case = load(oracle, name)
    texts = case.about.get("queries") or [document["query"] for document in case.about["documents"]]
    prefix = "" if "queries" in case.about else "query_"
    found = make().encode_queries(texts, max_query_tokens=case.about["limits"]["query"])
    for row, query in enumerate(found):
        mask = case.arrays[f"{prefix}attention_mask"][row].astype(bool)
        assert np.array_equal(query.input_ids, case.arrays[f"{prefix}input_ids"][row][mask])
        assert worst(query.vectors, case.arrays["query_embeddings"][row][mask]) < 1e-5


@pytest.mark.slow
def test_modalities_encoded_one_by_one(oracle, make):
    case = load(oracle, "j_separate")
    parts = ("video", "ocr", "asr", "description")
    for row, found in enumerate(case.encode(make(context="separate"))):
        masks = [case.arrays[f"{part}_attention_mask"][row].astype(bool) for part in parts]
        ids = [case.arrays[f"{part}_input_ids"][row][mask] for part, mask in zip(parts, masks, strict=True)]
        mask = np.concatenate(masks)
        assert np.array_equal(found.input_ids, np.concatenate(ids))
        assert worst(found.vectors, case.arrays["doc_embeddings"][row][mask]) < 1e-5
        texts = found.modality_ids > 1
        assert np.array_equal(found.modality_ids[texts], case.arrays["modality_ids"][row][mask][texts])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a_full_4frames", "b_10frames", "i_batch_of_3", "k_no_video"])
def test_bfloat16(oracle, make, name):
    case = load(oracle, name)
    for row, found in enumerate(case.encode(make(dtype="bfloat16"))):
        assert worst(found.vectors, case.unpadded("doc_embeddings", row)) < 2e-2


def test_the_float16_base_of_the_projection(oracle, make):
    case = load(oracle, "a_full_4frames")
    expected = np.load(oracle / "projection_init.npz")["a_full_4frames_doc_embeddings_fp16_base"][0]
    (found,) = case.encode(make(projection_init="float16"))
    assert worst(found.vectors, expected[case.arrays["attention_mask"][0].astype(bool)]) < 1e-5


@pytest.mark.slow
def test_scores(oracle, make):
    about = json.loads((oracle / "scores_meta.json").read_text(encoding="utf-8"))["real"]
    scores = np.load(oracle / "scores.npz")
    cases = [load(oracle, name) for name in about["document_cases"]]
    documents = [case.encode(make())[0] for case in cases]
    # The published labels differ from the aligned ones; with them the sums must be the published sums.
    labels = np.concatenate([case.unpadded("modality_ids", 0) for case in cases]).astype(np.uint8)
    vectors = np.concatenate([document.vectors for document in documents])
    indptr = np.cumsum([0, *map(len, documents)])
    queries = [query for name in about["query_cases"] for query in load(oracle, name).about["queries"]]
    for row, query in enumerate(make().encode_queries(queries)):
        maxima = maxsim.score_packed(query.vectors, vectors, labels, indptr)
        assert worst(maxsim.token_max(maxima), scores["real_token_max_sum"][row]) < 1e-4
        assert worst(maxsim.modality_max(maxima), scores["real_modality_max_sum_without_id0"][row]) < 1e-4
