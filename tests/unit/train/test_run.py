from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from clamr_cli.errors import MissingExtra
from clamr_cli.train import run
from clamr_cli.train.run import Log, RecipeOptions, TrainOptions, last_checkpoint, load_recipe


def asked(**changes: object) -> RecipeOptions:
    return RecipeOptions(out=Path("out"), cache=Path("cache"), **changes)


def test_every_recipe_of_the_table_is_there():
    assert all(callable(load_recipe(name)) for name in run.RECIPES)


def test_without_the_packages_the_extra_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(MissingExtra, match=r"\[train\]"):
        load_recipe("clamr")


def test_what_was_asked_for_goes_before_a_recipes_defaults():
    defaults = TrainOptions(steps=800, learning_rate=3e-4, batch=40)
    found = asked(learning_rate=1e-3, seed=4).training(defaults)
    assert (found.learning_rate, found.steps, found.batch, found.seed) == (1e-3, 800, 40, 4)
    assert asked(epochs=2).training(defaults).steps == 0
    assert asked(steps=5).training(defaults).steps == 5


def test_every_option_of_the_trainer_that_can_be_asked_for_is_passed_on():
    shared = {field.name for field in fields(TrainOptions)} & {field.name for field in fields(RecipeOptions)}
    given = {"loss": "pairwise", "aggregation": "token-max", "device": "cpu", "bf16": True, "resume": True}
    given |= {
        "learning_rate": 0.5,
        "epochs": 7.0,
        "steps": 9,
        "batch": 3,
        "accumulation": 5,
        "save_every": 6,
        "seed": 8,
    }
    assert set(given) == shared
    found = asked(**given).training()
    assert {name: getattr(found, name) for name in given} == given


def test_the_newest_whole_checkpoint_counts(tmp_path: Path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-11"
    # The disk was full, or the process was killed, while the newest was written.
    (tmp_path / "checkpoint-11" / "trainer_state.json").write_text('{"global_')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    shutil.rmtree(tmp_path / "checkpoint-10")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_a_run_in_stages_goes_on_from_the_last_of_them(tmp_path: Path):
    stages = ("first", "second")
    for name in ("first/checkpoint-80", "checkpoint-99", "elsewhere/checkpoint-5"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path, stages) == tmp_path / "first/checkpoint-80"
    (tmp_path / "second/checkpoint-3").mkdir(parents=True)
    assert last_checkpoint(tmp_path, stages) == tmp_path / "first/checkpoint-80"
    (tmp_path / "second/checkpoint-3/trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path, stages) == tmp_path / "second/checkpoint-3"
    assert last_checkpoint(tmp_path, ()) == tmp_path / "checkpoint-99"


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


@pytest.mark.slow
def test_the_plot_is_a_picture_also_of_nothing(tmp_path: Path):
    for log in (Log(tmp_path), filled(tmp_path)):
        log.plot()
        assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"\[train\]"):
        filled(tmp_path).plot()
