from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clamr_cli.errors import MissingExtra
from clamr_cli.train.run_dir import Log


def filled(folder: Path) -> Log:
    log = Log(folder)
    log.begin(0)
    for step in range(1, 5):
        log.write({"step": step, "loss": 1 / step, "lr": 1e-5, "grad_norm": 1.0, "seconds": 0.1})
    log.write({"step": 4, "dev_loss": 0.3})
    return log


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path):
    log = filled(tmp_path)
    log.begin(2)
    assert [entry["step"] for entry in log.entries()] == [1, 2]
    log.begin(0)
    assert log.entries() == []


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path):
    log = filled(tmp_path)
    log.path.write_text(log.path.read_text()[:-10])
    assert len(log.entries()) == 4
    log.begin(3)
    log.write({"step": 4, "loss": 0.5})
    assert [entry["step"] for entry in log.entries()] == [1, 2, 3, 4]


def test_the_plot_is_a_picture_also_of_nothing(tmp_path: Path):
    for log in (Log(tmp_path), filled(tmp_path)):
        log.plot()
        assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"\[train\]"):
        filled(tmp_path).plot()
