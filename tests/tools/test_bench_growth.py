"""The benchmark's own arithmetic."""

import torch
from torch import nn
from torch.nn import functional as F

from fxgrow.methods import Firefly
from tools.bench_growth import (
    Step,
    grown_multiplications,
    over_grown,
    peak_of,
    plain_multiplications,
)


def small() -> nn.Module:
    """Two 3x3 convolutions on 4x4 positions, 3 -> 4 -> 2 channels."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))


def test_the_floor_of_a_plain_step() -> None:
    first, second = 4 * 3 * 9 * 16, 2 * 4 * 9 * 16
    assert plain_multiplications(small(), torch.randn(2, 3, 4, 4)) == 2 * first + 3 * second


def test_the_floor_of_an_over_grown_step() -> None:
    """4 rows of split directions and m' new rows in the first layer, m' columns in the second; W gets no gradient."""
    first, second, new = 4 * 3 * 9 * 16, 2 * 4 * 9 * 16, 5
    x = torch.randn(2, 3, 4, 4)
    rows, columns = new * 3 * 9 * 16, 2 * new * 9 * 16
    splits = over_grown(small(), x, Firefly(new=0))
    assert grown_multiplications(splits, x) == (first + first) + first + 2 * second
    both = over_grown(small(), x, Firefly(new=new))
    assert (
        grown_multiplications(both, x)
        == (2 * first + rows) + (first + rows) + 2 * (second + columns) + columns
    )


def test_the_peak_is_that_of_the_allocations() -> None:
    def step() -> None:
        one = torch.empty(1 << 20)
        two = one + 1
        del one
        three = torch.empty(1 << 18)
        del two, three

    assert 0 <= peak_of(step) - 4 * 2 * (1 << 20) < 1000  # and a few scalars


def test_what_a_step_holds() -> None:
    layer = nn.Linear(3, 2)
    x, frozen = torch.randn(4, 3), torch.zeros(5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    step = Step(optimizer, lambda: F.mse_loss(layer(x), torch.zeros(4, 2)), lambda: None, (frozen,))
    step()
    assert step.held() == 4 * (
        3 * (6 + 2) + 5
    )  # values, gradients and momentum, and what is frozen
