"""Hints that say how to install what is absent."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
SCRIPT = "from clamr_cli.errors import MissingExtra; print(MissingExtra('this', 'eval').hint)"


def _hint(site: Path, direct_url: object) -> list[str]:
    """The words of the hint of a clamr whose distribution says that it came from there; None says nothing."""
    info = site / "clamr_cli-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clamr-cli\nVersion: 9\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(direct_url if isinstance(direct_url, str) else json.dumps(direct_url))
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{TREE}"}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return shlex.split(ended.stdout)


def test_from_a_folder_it_is_installed_from_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "my clamr's"
    folder.mkdir()
    origin = {"url": folder.as_uri(), "dir_info": {}}
    assert _hint(tmp_path / "site", origin) == ["pip", "install", f"{folder}[eval]"]


def test_an_editable_installation_stays_one(tmp_path: Path) -> None:
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    assert _hint(tmp_path / "site", origin) == ["pip", "install", "-e", f"{tmp_path}[eval]"]


def test_from_an_archive_of_this_machine(tmp_path: Path) -> None:
    wheel = tmp_path / "clamr_cli-9-py3-none-any.whl"
    wheel.touch()
    origin = {"url": wheel.as_uri(), "archive_info": {"hash": "sha256=00"}}
    assert _hint(tmp_path / "site", origin) == ["pip", "install", f"{wheel}[eval]"]


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (
            {
                "url": "https://example.org/c.git",
                "vcs_info": {"vcs": "git", "commit_id": "ab", "requested_revision": "v2"},
            },
            "clamr-cli[eval] @ git+https://example.org/c.git@v2",
        ),
        ({"url": "https://example.org/c.whl", "archive_info": {}}, "clamr-cli[eval] @ https://example.org/c.whl"),
        (None, "clamr-cli[eval]"),
        ({"url": "file:///no/such/folder", "dir_info": {}}, "clamr-cli[eval]"),
        ("{not json", "clamr-cli[eval]"),
        ("[]", "clamr-cli[eval]"),
    ],
)
def test_from_elsewhere(tmp_path: Path, origin: object, source: str) -> None:
    assert _hint(tmp_path / "site", origin) == ["pip", "install", source]
