"""Counts are those of Liu et al. 2019: no biases; what is ours (``hidden``, odd sizes) is tested by hand."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.cells import OPERATIONS
from fxgrow.cells.genotype import Operation
from fxgrow.cells.operations import DilatedConvolution, FactorizedReduce, SeparableConvolution
from tests.cells.modules import parameters, plain, randomised

C = 6
# Separable: two depthwise and two pointwise convolutions and two batch norms; dilated: one of each.
COUNTS = {
    "max_pool_3x3": (0, 0),
    "avg_pool_3x3": (0, 0),
    "skip_connect": (0, C * C + 2 * C),
    "sep_conv_3x3": (2 * (9 * C + C * C + 2 * C),) * 2,
    "sep_conv_5x5": (2 * (25 * C + C * C + 2 * C),) * 2,
    "sep_conv_7x7": (2 * (49 * C + C * C + 2 * C),) * 2,
    "dil_conv_3x3": (9 * C + C * C + 2 * C,) * 2,
    "dil_conv_5x5": (25 * C + C * C + 2 * C,) * 2,
    "conv_7x1_1x7": (14 * C * C + 2 * C,) * 2,
}


def test_every_operation_of_a_genotype_is_there() -> None:
    assert set(OPERATIONS) == set(get_args(Operation)) == set(COUNTS)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", COUNTS)
def test_size_and_number_of_parameters(name: Operation, stride: int) -> None:
    operation = OPERATIONS[name](C, stride, True)
    assert parameters(operation) == COUNTS[name][stride - 1]
    for side in (8, 7):
        assert operation(torch.randn(2, C, side, side)).shape == (
            2,
            C,
            -(-side // stride),
            -(-side // stride),
        )


@pytest.mark.parametrize("name", COUNTS)
def test_batch_norm_that_is_not_affine_has_no_parameters(name: Operation) -> None:
    norms = [
        part for part in OPERATIONS[name](C, 2, False).modules() if isinstance(part, nn.BatchNorm2d)
    ]
    assert all(norm.weight is None for norm in norms)
    assert bool(norms) == ("pool" not in name)


def reach(operation: nn.Module) -> int:
    """The side of the square of inputs that one output in the middle depends on."""
    image = torch.ones(1, 1, 33, 33, requires_grad=True)
    plain(operation)(image)[0, 0, 16, 16].backward()
    assert image.grad is not None
    return int((image.grad[0, 0] != 0).any(0).nonzero().max() - 16) * 2 + 1


@pytest.mark.parametrize(
    ("name", "side"),
    [("sep_conv_3x3", 5), ("sep_conv_5x5", 9), ("sep_conv_7x7", 13), ("dil_conv_3x3", 5), ("dil_conv_5x5", 9),
     ("conv_7x1_1x7", 7)],
)  # fmt: skip
def test_how_far_they_see(name: Operation, side: int) -> None:
    assert reach(OPERATIONS[name](1, 1, True)) == side


def test_they_look_at_positive_values_alone() -> None:
    for name, operation in OPERATIONS.items():
        negative = -torch.rand(1, C, 4, 4)
        vanishes = bool((plain(operation(C, 2, True))(negative) == 0).all())
        assert vanishes == ("pool" not in name), name


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize("hidden", [None, 7])
def test_a_separable_convolution_step_by_step(hidden: int | None) -> None:
    op = randomised(SeparableConvolution(4, 5, 3, 2, hidden=hidden)).eval()
    x = images = torch.randn(2, 4, 8, 8)
    x = F.conv2d(
        F.conv2d(x.relu(), op.depthwise.weight, stride=2, padding=1, groups=4), op.inner.weight
    )
    x = normed(x, op.inner_norm)
    x = F.conv2d(x.relu(), op.inner_depthwise.weight, padding=1, groups=hidden or 4)
    assert torch.allclose(op(images), normed(F.conv2d(x, op.pointwise.weight), op.norm), atol=1e-6)


@pytest.mark.parametrize("hidden", [None, 7])
def test_a_dilated_convolution_step_by_step(hidden: int | None) -> None:
    op = randomised(DilatedConvolution(4, 5, 5, 2, hidden=hidden)).eval()
    x = images = torch.randn(2, 4, 8, 8)
    x = F.conv2d(x.relu(), op.depthwise.weight, stride=2, padding=4, dilation=2, groups=4)
    if hidden is not None:
        x = normed(F.conv2d(x, op.inner.weight), op.inner_norm).relu()
    assert torch.allclose(op(images), normed(F.conv2d(x, op.pointwise.weight), op.norm), atol=1e-6)


def test_a_reduction_by_hand() -> None:
    reduction = plain(FactorizedReduce(1, 2))
    assert halves(reduction, 4) == ([0, 2, 8, 10], [5, 7, 13, 15])
    assert halves(reduction, 3) == ([0, 2, 6, 8], [4, 0, 0, 0])


def halves(reduction: nn.Module, side: int) -> tuple[list[float], list[float]]:
    image: Tensor = torch.arange(float(side * side)).view(1, 1, side, side)
    even, odd = reduction(image)[0].flatten(1).tolist()
    return even, odd


def test_an_odd_number_of_channels_is_shared_out() -> None:
    assert FactorizedReduce(3, 5)(torch.randn(2, 3, 4, 4)).shape == (2, 5, 2, 2)


@pytest.mark.parametrize(("kind", "kernels"), [(SeparableConvolution, 2), (DilatedConvolution, 1)])
def test_hidden_channels(kind: Callable[..., nn.Sequential], kernels: int) -> None:
    operation = kind(4, 5, 3, 2, hidden=7)
    assert operation.inner.weight.shape == (7, 4, 1, 1)
    depthwise = 9 * 4 + (9 * 7 if kernels == 2 else 0)
    assert parameters(operation) == depthwise + 4 * 7 + 2 * 7 + 7 * 5 + 2 * 5
    assert operation(torch.randn(2, 4, 8, 8)).shape == (2, 5, 4, 4)
    assert operation.inner_norm.num_features == 7


def test_an_average_does_not_count_what_lies_outside() -> None:
    assert OPERATIONS["avg_pool_3x3"](1, 1, True)(torch.ones(1, 1, 3, 3)).unique().tolist() == [1]
