import numpy as np
import pytest

from clamr_cli.encoders.mini.vision import NAMED_COLOURS, colour_shares


@pytest.mark.parametrize("name", sorted(NAMED_COLOURS))
def test_a_picture_of_one_colour_is_mostly_of_that_colour(name: str) -> None:
    found = colour_shares(np.full((40, 70, 3), NAMED_COLOURS[name], np.uint8), 3)
    assert found.shape == (10, len(NAMED_COLOURS))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-4)
    assert (found.argmax(axis=1) == list(NAMED_COLOURS).index(name)).all()
    assert found.max() > 0.5


def test_parts_stand_row_by_row() -> None:
    pixels = np.zeros((90, 90, 3), np.uint8)
    pixels[:30, 60:] = NAMED_COLOURS["red"]
    pixels[60:, :30] = NAMED_COLOURS["yellow"]
    found = colour_shares(pixels, 3)
    red, yellow, black = (list(NAMED_COLOURS).index(name) for name in ("red", "yellow", "black"))
    assert found[3, red] > 0.9
    assert found[7, yellow] > 0.9
    assert found[[1, 2, 4, 5, 6, 8, 9], black].min() > 0.9
    assert 0.08 < found[0, red] < 0.14


def test_a_picture_may_be_smaller_than_the_sample() -> None:
    assert np.isfinite(colour_shares(np.full((1, 2, 3), 200, np.uint8), 3)).all()
