from __future__ import annotations

import numpy as np
import pytest

from clamr_cli.encoders.mini import networks as row
from clamr_cli.encoders.mini.networks import LEXICAL, SEMANTIC, TIMELESS, WIDTH, Heads, attend, time_features, unit


@pytest.fixture(scope="module")
def model():
    """The trained model's shape with weights that do something, in torch."""
    torch = pytest.importorskip("torch")
    from clamr_cli.train.mini.model import MiniModel

    torch.manual_seed(0)
    chance = np.random.default_rng(0)
    directions = np.linalg.qr(chance.normal(size=(WIDTH, SEMANTIC)))[0].astype(np.float32)
    names = ("query.word", "query.sentence", "word", "passage", "picture")
    made = MiniModel(directions, {name: chance.normal(size=WIDTH).astype(np.float32) * 0.01 for name in names})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return made


def rows(count: int, seed: int = 0):
    chance = np.random.default_rng(seed)
    states = unit(chance.normal(size=(count, WIDTH)).astype(np.float32))
    spelled = unit(chance.normal(size=(count, LEXICAL)).astype(np.float32))
    which = np.array([row.IMAGE, row.IMAGE_CLASSES, row.IMAGE_REGION, *range(5, len(row.HEADS))])
    return states, which[np.arange(count) % len(which)], np.linspace(-1, 300, count).astype(np.float32), spelled


def heads_of(model) -> Heads:
    plain = {"classes": (1000, WIDTH), "connector.weight": (1306, WIDTH), "connector.bias": (WIDTH,)}
    return Heads(model.tensors() | {name: np.zeros(shape, np.float32) for name, shape in plain.items()})


@pytest.mark.slow
def test_numpy_and_torch_make_the_same_vectors(model) -> None:
    import torch

    from clamr_cli.train.mini.model import PaddedRows

    states, which, times, spelled = rows(40)
    ours = heads_of(model).vectors(states, which, times, spelled)
    whole = (states, which, time_features(times), spelled)
    with torch.inference_mode():
        theirs = model.vectors(PaddedRows(*(torch.from_numpy(part)[None] for part in whole)))[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-4)


@pytest.mark.slow
def test_padding_changes_nothing(model) -> None:
    import torch

    from clamr_cli.train.mini.model import PaddedRows, empty_rows

    lengths = (12, 30, 3, 25, 11, 18, 7, 29)
    padded = empty_rows(len(lengths), 30)
    for number, length in enumerate(lengths):
        states, which, times, spelled = rows(length, seed=number)
        for part, values in zip(padded, (states, which, time_features(times), spelled), strict=True):
            part[number, :length] = torch.from_numpy(values)
    with torch.inference_mode():
        found = model.vectors(padded)
        for number, length in enumerate(lengths):
            alone = model.vectors(PaddedRows(*(part[number : number + 1, :length] for part in padded)))[0]
            torch.testing.assert_close(found[number, :length], alone, atol=1e-5, rtol=1e-4)
            assert not found[number, length:].any()


def test_text_sees_every_other_row_and_pictures_and_queries_stay(model) -> None:
    states, which, times, spelled = rows(20)
    heads = heads_of(model)
    before = heads.vectors(states, which, times, spelled)
    told = which >= row.FIRST_TEXT
    for changed in (0, 19):
        other = states.copy()
        other[changed] = -other[changed]
        difference = np.abs(heads.vectors(other, which, times, spelled) - before).max(axis=1)
        assert (difference[told] > 1e-5).all()
        alone = ~told & (np.arange(20) != changed)
        assert not difference[alone].any()
    pictures = heads.vectors(states[~told], which[~told], times[~told], spelled[~told])
    np.testing.assert_allclose(pictures, before[~told], atol=1e-6)


@pytest.mark.slow
def test_attention_in_blocks_is_attention_over_all_rows_at_once() -> None:
    qkv = np.random.default_rng(0).normal(size=(600, 3 * WIDTH)).astype(np.float32)
    np.testing.assert_allclose(attend(qkv), attend(qkv, block=600), atol=1e-6)


def test_what_has_no_time_has_no_time_features() -> None:
    features = time_features(np.array([TIMELESS, 0.0, 1.0], dtype=np.float32))
    assert not features[0].any()
    assert features[1:].any(axis=1).all()
