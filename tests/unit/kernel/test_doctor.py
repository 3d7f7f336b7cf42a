"""``clamr doctor`` about the kernel."""

from pathlib import Path

import pytest

from clamr_cli import kernel
from clamr_cli.cli.commands.doctor import checks
from clamr_cli.config import Settings


def test_doctor_names_the_path_in_use(compiled: bool) -> None:
    if not compiled:
        pytest.skip("no C compiler")
    [check] = [check for check in checks(Settings(threads=1)) if check.check == "kernel"]
    assert (check.state, check.found) == ("ok", f"{kernel.backends()[0]}, 1 thread")


def test_doctor_says_what_to_do_where_numpy_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "absent.so")
    [check] = [check for check in checks(Settings()) if check.check == "kernel"]
    assert check.state == "warn"
    assert check.found.startswith("numpy: searches work")
    assert "compiler" in check.hint
