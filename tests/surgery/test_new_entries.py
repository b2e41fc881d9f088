import pytest
import torch
from torch import nn

from fxgrow.surgery.new_entries import carrier_entries, random_entries


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_random_entries_have_the_spread_of_the_others() -> None:
    weight = 3 * torch.randn(50, 40, generator=generator())
    new = random_entries(weight, 0, 60, generator())
    assert new.shape == (60, 40)
    assert float(new.std()) == pytest.approx(float(weight.std()), rel=0.1)
    assert torch.equal(new, random_entries(weight, 0, 60, generator()))


def test_kernels_are_random_and_scales_neutral() -> None:
    convolution, norm = nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)
    kernels = carrier_entries(convolution, "weight", convolution.weight, 0, 2, generator())
    assert kernels.shape == (2, 1, 3, 3)
    assert float(kernels.std()) > 0
    assert carrier_entries(norm, "0.weight", norm.weight, 0, 2, generator()).tolist() == [1, 1]
