import pytest
import torch
from torch import nn

from fxgrow.continual.networks import VGG16, vgg


def widths(model: nn.Module) -> list[int]:
    return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def test_vgg16_has_the_widths_of_the_paper() -> None:
    """Simonyan, Zisserman 2015, Table 1, configuration D; no width beyond 8 times the first."""
    with torch.device("meta"):
        model = vgg(64, 100, blocks=VGG16)
    assert widths(model) == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in model) == 5


@pytest.mark.parametrize("size", [8, 9])
def test_shapes(size: int) -> None:
    model = vgg(2, 7, in_channels=1)
    assert widths(model) == [2, 4, 8, 8]
    assert model(torch.randn(3, 1, size, size)).shape == (3, 7)
    assert model[:-3](torch.randn(3, 1, size, size)).shape == (3, 8, 1, 1)


def test_parameters() -> None:
    """9 per pair of channels, two per normalised channel, no bias but the head's."""
    convolutions, norms = 9 * (3 * 2 + 2 * 4 + 4 * 8 + 8 * 8), 2 * (2 + 4 + 8 + 8)
    assert sum(p.numel() for p in vgg(2, 5).parameters()) == convolutions + norms + 5 * (8 + 1)
