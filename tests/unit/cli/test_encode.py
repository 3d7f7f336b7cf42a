from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clamr_cli.cli import main
from tests.unit.encoders.clamr import tiny

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("model")
    base, adapter = tiny.write_base(root / "base"), tiny.write_adapter(root / "adapter")
    return ["--model", str(base), "--adapter", str(adapter), "--device", "cpu"]


def test_a_document_and_a_query_become_an_archive(model: list[str], tmp_path: Path) -> None:
    frames = [str(tmp_path / f"{colour}.png") for colour in ("red", "blue")]
    for frame in frames:
        Image.new("RGB", (80, 60), Path(frame).stem).save(frame)
    out = tmp_path / "out.npz"
    texts = ["--asr", "the ferry", "--query", "red pier"]
    assert main(["encode", "--frames", *frames, *texts, *model, "-o", str(out)]) == 0
    found = np.load(out)
    assert found["vectors"].shape == (len(found["input_ids"]), 128)
    assert set(found["modality_ids"].tolist()) == {0, 1, 3}
    assert found["query_vectors"].shape == (len(found["query_input_ids"]), 128)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blue.png", "out.npz", "red.png"]


def test_settings_reach_the_encoder(model: list[str], tmp_path: Path) -> None:
    kept, dropped = tmp_path / "kept", tmp_path / "dropped"
    assert main(["encode", "--asr", "dog", *model, "-o", str(kept)]) == 0
    assert main(["encode", "--asr", "dog", "--template-vectors", "drop", *model, "-o", str(dropped)]) == 0
    assert (np.load(kept)["modality_ids"] == 0).any()
    assert (np.load(dropped)["modality_ids"] == 3).all()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to encode"),
        (["--frames", "/nowhere.png"], 2, "there is no picture /nowhere.png"),
        (["--frames", __file__], 2, "is not a picture that can be read"),
        (["--asr", "dog", "--model", "/nowhere"], 2, "no folder"),
        (["--asr", "dog", "--encoder", "mini"], 2, "'mini' is not one of"),
        (["--asr", "dog", "--max-asr-tokens", "0"], 2, "max-asr-tokens"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["encode", *arguments, "-o", str(tmp_path / "out.npz")]) == code
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_loaded(tmp_path: Path, capsys: Capture) -> None:
    assert main(["encode", "--asr", "dog", "-o", str(tmp_path / "no" / "out.npz")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_weights_that_are_absent_are_not_replaced_by_an_encoder_that_cannot_be_used_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("CLAMR_CACHE", str(tmp_path / "cache"))
    assert main(["encode", "--query", "hi", "-o", str(tmp_path / "out.npz")]) == 2
    told = capsys.readouterr().err
    assert told.endswith("is not installed: clamr models pull clamr\n")
