import pytest
import torch
from torch import nn

from clamr_cli.extract.ocr_easy import InStrips


@pytest.mark.parametrize("height", [32, 96, 97, 192, 200, 416])
def test_a_picture_seen_in_strips_is_the_picture_seen_whole(height):
    torch.manual_seed(0)
    block = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)),
    )
    picture = torch.randn(1, 3, height, 64)
    with torch.inference_mode():
        torch.testing.assert_close(InStrips(block)(picture), block(picture), atol=1e-5, rtol=1e-4)
