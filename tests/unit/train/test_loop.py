from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import spawn

from clamr_cli.errors import ModelError
from clamr_cli.train.loop import train, trained_state
from clamr_cli.train.run import Evaluated, TrainStep, last_checkpoint
from tests.unit.train import toy


def plain(entries: list[dict]) -> list[dict]:
    """Entries without the one field that no two runs share."""
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


@pytest.mark.slow
def test_training_lowers_the_loss_and_reports_every_step(tmp_path: Path):
    trainer = toy.trainer(tmp_path, steps=20, dev=6)
    events = list(train(trainer))
    steps = [event for event in events if isinstance(event, TrainStep)]
    assert [event.step for event in steps] == list(range(1, 21))
    assert steps[-1].total == 20
    assert steps[-1].loss < steps[0].loss / 2
    assert any(isinstance(event, Evaluated) for event in events)
    entries = trainer.follower.log.entries()
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 21))
    assert all(entry["grad_norm"] > 0 and entry["seconds"] > 0 for entry in entries if "loss" in entry)
    rates = [entry["lr"] for entry in entries if "loss" in entry]
    # Two of twenty steps warm up; the rate falls in a line after them.
    assert rates.index(max(rates)) == 2
    assert rates[3] - rates[4] == pytest.approx(rates[17] - rates[18])
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(("dev", "batches"), [(4, 1), (6, 1), (8, 1), (12, 2)])
def test_few_development_queries_are_evaluated_too(tmp_path: Path, dev: int, batches: int):
    # Batches are of six; fewer than a whole one are still something.
    trainer = toy.trainer(tmp_path, steps=4, dev=dev)
    told = [event for event in train(trainer) if isinstance(event, Evaluated)]
    assert [event.step for event in told] == [4]
    assert told[0].loss > 0
    assert len(trainer.get_eval_dataloader()) == batches
    assert trainer.args.dataloader_drop_last


@pytest.mark.slow
def test_checkpoints_hold_what_is_trained_and_no_more(tmp_path: Path):
    trainer = toy.trainer(tmp_path)
    list(train(trainer))
    assert set(trained_state(trainer.model)) == {"layer.1.weight", "layer.1.bias", "asked.weight"}
    newest = last_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    assert (newest / "model.safetensors").stat().st_size < 4 * 128 * (32 + 1 + toy.WORDS) + 500


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_is_the_whole_run_bit_for_bit(tmp_path: Path, accumulation: int):
    # Four batches an epoch: the break falls inside the second one (or the third), with dropout on.
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    first = toy.trainer(whole, accumulation=accumulation)
    list(train(first))
    shutil.copytree(whole / "checkpoint-3", parted / "checkpoint-3")
    shutil.copy(whole / "log.jsonl", parted / "log.jsonl")
    torch.manual_seed(99)
    second = toy.trainer(parted, accumulation=accumulation, resume=True)
    events = list(train(second))
    assert [event.step for event in events] == [4, 5, 6]
    for name, value in trained_state(first.model).items():
        assert torch.equal(value, trained_state(second.model)[name]), name
    assert plain(second.follower.log.entries()) == plain(first.follower.log.entries())


@pytest.mark.slow
def test_a_run_closed_early_keeps_a_checkpoint_and_goes_on_from_there(tmp_path: Path):
    whole = toy.trainer(tmp_path / "whole", save_every=100)
    list(train(whole))
    broken = toy.trainer(tmp_path / "broken", save_every=100)
    events = train(broken)
    next(events)
    events.close()
    newest = last_checkpoint(tmp_path / "broken")
    assert newest is not None
    resumed = toy.trainer(tmp_path / "broken", save_every=100, resume=True)
    list(train(resumed))
    assert torch.equal(resumed.model.layer[1].weight, whole.model.layer[1].weight)
    assert plain(resumed.follower.log.entries()) == plain(whole.follower.log.entries())


@pytest.mark.slow
def test_a_finished_run_takes_no_further_step(tmp_path: Path):
    first = toy.trainer(tmp_path, steps=5)
    list(train(first))
    again = toy.trainer(tmp_path, steps=5, resume=True)
    assert list(train(again)) == []
    assert again.state.global_step == 5
    assert torch.equal(again.model.layer[1].weight, first.model.layer[1].weight)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    list(train(toy.trainer(tmp_path)))
    other = toy.Toy()
    other.more = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="another model"):
        list(train(toy.trainer(tmp_path, other, resume=True)))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(tmp_path: Path):
    broken = toy.Toy()
    broken.layer[1].weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite at step 1"):
        list(train(toy.trainer(tmp_path, broken)))


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path: Path):
    alone = toy.trainer(tmp_path / "alone", toy.Toy(dropout=0), batch=6, steps=4)
    list(train(alone))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(one_of_two, args=(port, tmp_path / "two"), nprocs=2)
    found = torch.load(tmp_path / "two" / "weights-0.pt")
    for number in range(2):
        same = torch.load(tmp_path / "two" / f"weights-{number}.pt")
        assert all(torch.equal(found[name], same[name]) for name in found)
    for name, value in trained_state(alone.model).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    # Losses and gradients of every step are those of the whole batch.
    logs = [toy.trainer(tmp_path / name).follower.log.entries() for name in ("alone", "two")]
    assert len(logs[0]) == len(logs[1]) == 4
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def one_of_two(rank: int, port: int, out: Path) -> None:
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in names.items()})
    out.mkdir(exist_ok=True)
    trainer = toy.trainer(out, toy.Toy(dropout=0), batch=3, steps=4)
    assert trainer.accelerator.num_processes == 2
    list(train(trainer))
    torch.save(trained_state(trainer.model), out / f"weights-{rank}.pt")
