"""Inputs without a batch: an image, or one vector, which torch's layers take as well."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.methods import TINY, Firefly, GradientPool, GradMax, ZeroOutgoing
from tests.coupling.models import Net

METHODS = [TINY(), Firefly(new=2, steps=1), GradientPool(), GradMax(), ZeroOutgoing()]


def _of_images() -> nn.Module:
    return Net(
        lambda net, x: net.b(torch.relu(net.a(x))), a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 2, 1)
    )


def _of_vectors() -> nn.Module:
    return Net(lambda net, x: net.b(torch.tanh(net.a(x))), a=nn.Linear(6, 4), b=nn.Linear(4, 2))


def mean_square(output: Tensor, target: None) -> Tensor:
    return output.square().mean()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize(("make", "shape"), [(_of_images, (3, 6, 6)), (_of_vectors, (6,))])
def test_single_examples_grow(make: Any, shape: tuple[int, ...], method: Any) -> None:
    torch.manual_seed(0)
    model, examples = make().double(), torch.randn(3, *shape, dtype=torch.float64)
    growth = fxgrow.grow(
        model,
        [(example, None) for example in examples],
        mean_square,
        example_inputs=(examples[0],),
        method=method,
        budget=fxgrow.Budget(neurons=2),
        accept_no_gain=True,
    )
    grown = growth.module.eval()
    assert grown.get_parameter("a.weight").shape[0] == 6
    batch = grown(examples)  # what grew takes a batch as well
    for example, output in zip(examples, batch, strict=True):
        torch.testing.assert_close(grown(example), output)
