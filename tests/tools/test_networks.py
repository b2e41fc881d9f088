"""The networks of the paper's experiments."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.methods import AutoGrow, ZeroOutgoing
from tools.networks import mobilenet_v1, mobilenet_v2, shallow, vgg19


@pytest.mark.parametrize("size", [8, 16, 32])
def test_vgg19_for_small_images(size: int) -> None:
    """Poolings that have nothing left to halve take no part; the parameters are the same."""
    model = vgg19(4, size=size)
    assert sum(isinstance(one, nn.Conv2d) for one in model.modules()) == 16
    assert model(torch.randn(2, 3, size, size)).shape == (2, 10)
    assert sum(isinstance(one, nn.MaxPool2d) for one in model.modules()) == {8: 3, 16: 4, 32: 5}[size]  # fmt: skip


def test_scaled_full_widths() -> None:
    widths = [one.out_channels for one in vgg19(None, scale=0.125).modules() if isinstance(one, nn.Conv2d)]  # fmt: skip
    assert (widths[0], widths[2], widths[-1]) == (8, 16, 64)


@pytest.mark.parametrize("build", [mobilenet_v1, mobilenet_v2])
def test_depthwise_convolutions_follow_the_neurons_that_they_carry(
    build: Callable[[float], nn.Module],
) -> None:
    torch.manual_seed(0)
    # In float64, as on some processors float32 leaves it only three digits.
    model = build(0.1).double()
    data = [
        (torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(10, (4,))) for _ in range(3)
    ]
    method, budget = ZeroOutgoing(), Budget(neurons=0.3)
    grown = fxgrow.grow(model, data, F.cross_entropy, method=method, budget=budget)
    before = dict(model.named_modules())
    followed = 0
    for name, module in grown.module.named_modules():
        old = before[name]
        if isinstance(module, nn.Conv2d) and isinstance(old, nn.Conv2d) and old.groups > 1:
            assert module.groups == module.in_channels == module.out_channels
            followed += module.groups > old.groups
    assert followed > 4
    assert grown.report.preservation_error < 1e-5


def test_residual_layers_are_spread() -> None:
    """Stage by stage: one layer each for four of them, and the fifth in the first stage again."""
    model = shallow(5, hidden=2, channels=3)
    kinds = [type(one).__name__ for one in model if not isinstance(one, (nn.BatchNorm2d, nn.ReLU))]  # type: ignore[attr-defined]
    stages = " ".join(kinds).split("MaxPool2d")
    assert [stage.count("Residual") for stage in stages] == [2, 1, 1, 1]
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_layers_from_scratch_are_as_large_as_inserted_ones() -> None:
    model = shallow(0, hidden=2, channels=3)
    data = [(torch.randn(4, 3, 8, 8), torch.randint(10, (4,))) for _ in range(3)]
    budget = Budget(neurons=2)
    grown = fxgrow.grow(model, data, F.cross_entropy, method=AutoGrow(layers=2), budget=budget)
    (layer,) = grown.report.layers
    assert layer.neurons == 2
    sizes = [sum(one.numel() for one in net.parameters()) for net in (grown.module, shallow(1, 2, 3))]  # fmt: skip
    assert sizes[0] == sizes[1]
