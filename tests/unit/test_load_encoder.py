from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import clamr_cli
from clamr_cli.errors import ModelError, UsageError
from tests.unit.encoders.clamr import tiny


def test_importing_the_package_imports_nothing_else():
    code = "import sys, clamr_cli; print(sorted(n for n in sys.modules if n.split('.')[0] in %r))"
    code %= ["numpy", "torch", "typer", "transformers", "PIL"]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_researcher_gets_vectors_of_documents_and_queries(tmp_path):
    encoder = clamr_cli.load_encoder(
        "clamr",
        model=str(tiny.write_base(tmp_path / "base")),
        adapter=str(tiny.write_adapter(tmp_path / "adapter")),
        dtype="float32",
        projection_init="float32",
        device="cpu",
        cache=tmp_path,
    )
    document = {"frames": [Image.new("RGB", (80, 60), "red")], "ocr": "PIER", "asr": None, "description": "dog"}
    (found,) = encoder.encode_documents([document], max_ocr_tokens=8, max_combined_tokens=512)
    assert found.vectors.shape == (len(found.modality_ids), 128) == (len(found.input_ids), 128)
    assert set(found.modality_ids.tolist()) == {0, 1, 2, 4}
    (query,) = encoder.encode_queries(["red pier"], max_query_tokens=32)
    assert np.allclose(np.linalg.norm(query.vectors, axis=1), 1.0, atol=1e-5)


def test_weights_that_are_not_installed_are_said_with_the_way_out(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"not installed: clamr models pull clamr, .*--encoder mini"):
        clamr_cli.load_encoder("clamr", cache=tmp_path)


def test_an_unknown_encoder_is_said():
    with pytest.raises(UsageError, match="invalid encoder"):
        clamr_cli.load_encoder("other")
