"""Grids of heads and size in which something of one line is dropped or broadcast: the heads still grow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import couple, widen
from tests.coupling.models import SEQUENCE, Net


def every_two(x: Tensor) -> Tensor:
    """Rotary pairs of neighbors (GPT-J): of a pair each entry is one line of the grid."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def gated(x: Tensor) -> Tensor:
    """The first entry of each head is broadcast over all of its entries."""
    return x * x[..., :1].sigmoid()


def rotary(turned: Callable[[Tensor], Tensor], size: int) -> nn.Module:
    """Attention in which the first entries of queries and keys are turned."""

    def heads(layer: nn.Module, x: Tensor) -> Tensor:
        h = layer(x).view(*x.shape[:2], -1, 4)
        return torch.cat((turned(h[..., :size]), h[..., size:]), -1).transpose(1, 2)

    def forward(net: Any, x: Tensor) -> Tensor:
        scores = heads(net.q, x) @ heads(net.k, x).transpose(-1, -2)
        v = net.v(x).view(*x.shape[:2], -1, 4).transpose(1, 2)
        out: Tensor = net.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return out

    return Net(forward, q=nn.Linear(6, 8), k=nn.Linear(6, 8), v=nn.Linear(6, 8), o=nn.Linear(8, 2))


CASES = {
    "a pair": (every_two, 2),
    "two pairs": (every_two, 4),
    "one entry broadcast": (gated, 3),
}


@torch.no_grad()
@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", CASES)
def test_heads_grow_beside_a_dimension_of_one_line(name: str, how: Any) -> None:
    torch.manual_seed(0)
    model, x = rotary(*CASES[name]).double(), SEQUENCE.double()
    amounts = {width.name: 1 for width in couple(model, (x,)).widths if width.growable}
    assert amounts
    wider = widen(model, amounts, (x,), how=how).module
    assert wider.q.out_features == wider.v.out_features == 12
    for training in (False, True):
        torch.testing.assert_close(
            wider.train(training)(x), model.train(training)(x), rtol=1e-12, atol=1e-12
        )


PICKED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "a list of numbers": lambda h, number: h[:, :, :, [number]].flatten(3),
    "a piece": lambda h, number: h[:, :, :, number : number + 1].flatten(3),
    "a number": lambda h, number: h[:, :, :, number],
}
"""Queries, keys or values of all heads, out of what one layer gives (the list: Falcon)."""


@torch.no_grad()
@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("by", PICKED)
def test_heads_grow_whose_queries_are_picked_by_number(by: str, how: Any) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.qkv(x).view(*x.shape[:2], -1, 3, 4)
        q, k, v = (PICKED[by](h, number).transpose(1, 2) for number in (0, 1, 2))
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        out: Tensor = net.o((scores @ v).transpose(1, 2).flatten(2))
        return out

    torch.manual_seed(0)
    model, x = Net(forward, qkv=nn.Linear(6, 24), o=nn.Linear(8, 2)).double(), SEQUENCE.double()
    amounts = {width.name: 1 for width in couple(model, (x,)).widths if width.growable}
    wider = widen(model, amounts, (x,), how=how).module
    assert wider.qkv.out_features == 36
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)
