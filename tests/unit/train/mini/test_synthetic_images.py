import io
import random

import numpy as np
import pytest
from PIL import Image

from clamr_cli.encoders.mini.networks import ImageFeatures, unit
from clamr_cli.train.mini import material
from clamr_cli.train.mini.material import Examples, cross_fit, fit, input_scale, pseudo_images
from clamr_cli.train.mini.synthetic_images import SyntheticImage, encode_jpeg, generate, restyle


def pixels_of(made: SyntheticImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(made.jpeg)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def photo() -> bytes:
    across, down = np.meshgrid(np.linspace(0, 255, 160), np.linspace(0, 255, 120))
    return encode_jpeg(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


@pytest.mark.slow
def test_styles_change_the_picture_and_say_so(photo: bytes) -> None:
    chance = random.Random(4)
    captions = tuple(f"A dog runs {n}" for n in range(5))
    found = [restyle(photo, captions, chance) for _ in range(40)]
    original = pixels_of(SyntheticImage(photo, captions))
    for made in found:
        assert len(made.captions) == 5
        assert all("a dog runs" in caption for caption in made.captions)
        assert not {*made.captions} & {*captions}
        assert np.abs(pixels_of(made) - original).mean() > 3
    grey = [made for made in found if "black and white" in made.captions[0]]
    assert grey
    for made in grey:
        assert np.ptp(pixels_of(made), axis=2).max() < 12


@pytest.mark.slow
def test_generated_images_are_what_their_captions_say() -> None:
    chance = random.Random(0)
    found = [generate(chance) for _ in range(60)]
    assert all(len({*made.captions}) == 5 for made in found)
    plain = [made for made in found if made.captions[0].startswith("plain")]
    assert plain
    for made in plain:
        assert np.ptp(pixels_of(made).reshape(-1, 3), axis=0).max() < 12
    green = [made for made in plain if made.captions[0] == "plain green background"]
    for made in green:
        assert pixels_of(made).mean(axis=(0, 1)).argmax() == 1
    assert {made.captions[0].split()[-1] for made in found} > {"background", "chart"}


def test_the_same_seed_makes_the_same_images(photo: bytes) -> None:
    one, two = (random.Random(2), random.Random(2))
    assert [generate(one) for _ in range(5)] == [generate(two) for _ in range(5)]
    said = ("A cat.",) * 5
    assert [restyle(photo, said, one) for _ in range(8)] == [restyle(photo, said, two) for _ in range(8)]


@pytest.mark.slow
def test_pseudo_images_are_as_far_from_their_captions_as_real_ones() -> None:
    chance = np.random.default_rng(0)
    mixing = chance.normal(size=(384, 11 * 384)).astype(np.float32) * 0.05
    # Captions differ in few directions, as sentences do.
    captions = unit(chance.normal(size=(1200, 8)) @ chance.normal(size=(8, 384))).astype(np.float32)
    rows = (captions @ mixing).reshape(-1, 11, 384)
    rows = unit(rows + 0.02 * chance.normal(size=rows.shape).astype(np.float32))
    made = pseudo_images(rows[:1000], captions[:1000], captions[1000:], seed=0)
    assert made.shape == (200, 11, 384)
    np.testing.assert_allclose(np.linalg.norm(made, axis=2), 1.0, atol=1e-5)
    close = np.einsum("nrd,nrd->nr", made, rows[1000:]).mean()
    other = np.einsum("nrd,nrd->nr", np.roll(made, 1, axis=0), rows[1000:]).mean()
    assert close > other + 0.2
    assert close < 0.99


def features(count: int, seed: int = 0) -> ImageFeatures:
    chance = np.random.default_rng(seed)
    return ImageFeatures(
        chance.normal(size=(count, 10, 3018)).astype(np.float32),
        chance.dirichlet(np.ones(1000), size=(count, 10)).astype(np.float32),
    )


@pytest.mark.slow
def test_no_image_has_rows_of_a_connector_fitted_to_it() -> None:
    chance = np.random.default_rng(1)
    seen, classes = features(60), unit(chance.normal(size=(1000, 384)).astype(np.float32))
    targets = unit(chance.normal(size=(60, 384)).astype(np.float32))
    folds = np.arange(60) % material.FOLDS
    folds[:6] = material.HELD_OUT_FOLD
    examples = Examples(seen.inputs[:, 0, :1306], targets, folds, np.ones(60), np.ones(1306, np.float32), ridge=2.0)
    rows, final = cross_fit(examples, targets.mean(axis=0), seen, folds, classes)
    known = final.image_rows(seen, classes)
    # There are more features than pictures, so a connector knows its own by heart.
    right = np.einsum("nd,nd->n", known[:, 0], targets)
    apart = np.einsum("nd,nd->n", rows[:, 0], targets)
    assert right[6:].min() > apart[6:].max()
    np.testing.assert_allclose(rows[:6], known[:6], atol=1e-6)
    left_out = fit(examples, targets.mean(axis=0), without=3)
    mine = np.flatnonzero(folds == 3)
    np.testing.assert_allclose(rows[mine], left_out.image_rows(seen.take(mine), classes), atol=1e-5)


@pytest.mark.slow
def test_an_image_of_more_weight_is_fitted_better() -> None:
    seen = features(2)
    inputs = np.repeat(seen.inputs[:1, 0], 2, axis=0)
    targets = unit(np.random.default_rng(3).normal(size=(2, 384)).astype(np.float32))
    folds, scale = np.full(2, material.ANY_FOLD), np.ones(3018, np.float32)
    examples = Examples(inputs, targets, folds, np.array([1.0, 0.1]), scale)
    found = fit(examples, np.zeros(384, np.float32))
    said = inputs[0] @ found.weight + found.bias
    np.testing.assert_allclose(said, (targets[0] + 0.1 * targets[1]) / 1.1, atol=1e-4)


@pytest.mark.slow
def test_the_unit_of_a_statistic_does_not_matter() -> None:
    chance = np.random.default_rng(4)
    inputs = features(40).inputs[:, 0]
    targets = unit(chance.normal(size=(40, 384)).astype(np.float32))
    other = inputs * 1.0
    other[:, 2000] = 50 * other[:, 2000] + 7
    folds, weights = np.full(40, material.ANY_FOLD), np.ones(40)
    said = []
    for each in (inputs, other):
        found = fit(Examples(each, targets, folds, weights, input_scale(each)), np.zeros(384, np.float32))
        said.append(each @ found.weight + found.bias)
    np.testing.assert_allclose(said[0], said[1], atol=1e-3)


@pytest.mark.slow
def test_plain_examples_have_no_stages() -> None:
    chance = np.random.default_rng(5)
    inputs = features(30).inputs[:, 0]
    targets = unit(chance.normal(size=(30, 384)).astype(np.float32))
    examples = Examples(inputs, targets, np.full(30, material.ANY_FOLD), np.ones(30), input_scale(inputs))
    assert fit(examples.plain(), np.zeros(384, np.float32)).weight.shape == (1306, 384)
