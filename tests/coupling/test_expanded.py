"""Numbers that are expanded over neurons, and sums over groups of examples, as graph networks have them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import couple, widen
from tests.coupling.models import Net

INPUT = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _group(x: Tensor) -> Tensor:
    """The group of each example, a number that depends on the input."""
    return (x[:, :1] > 0).long()


def _reduced(h: Tensor, groups: Tensor, reduce: str) -> Tensor:
    return torch.zeros_like(h[:2]).scatter_reduce(0, groups.expand_as(h), h, reduce)


FOLLOWS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "product": lambda h, x: h * x[:, :1].expand_as(h),
    "product, by size": lambda h, x: h * x[:, :1].expand(-1, h.size(1)),
    "gather": lambda h, x: h.gather(0, _group(x).expand_as(h)),
    "scatter add": lambda h, x: h.new_zeros(2, h.size(1)).scatter_add(0, _group(x).expand_as(h), h),
    "scatter mean": lambda h, x: _reduced(h, _group(x), "mean"),
    "scatter maximum": lambda h, x: _reduced(h, _group(x), "amax"),
    "index maximum": lambda h, x: torch.zeros_like(h[:2]).index_reduce(
        0, _group(x).flatten(), h, "amax"
    ),
    "k-th value": lambda h, x: h.kthvalue(2, 0).values[None],
    "mode": lambda h, x: h.round().mode(0).values[None],
}
FIXED = {
    "expanded by number": lambda h, x: h * x[:, :1].expand(4, 5),
    "masked": lambda h, x: h.masked_scatter(x[:, :1] > 0, torch.zeros_like(h)),
}


def _model(between: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    model = Net(
        lambda net, x: net.b(between(torch.tanh(net.a(x)), x)), a=nn.Linear(6, 5), b=nn.Linear(5, 2)
    )
    return model.double().eval()


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", FOLLOWS)
def test_neurons_go_through(name: str, how: Any) -> None:
    model = _model(FOLLOWS[name])
    wider = widen(model, {"a": 3}, (INPUT,), how=how).module
    other = -INPUT.flip(0)
    torch.testing.assert_close(wider(INPUT), model(INPUT))
    torch.testing.assert_close(wider(other), model(other))
    assert wider.get_parameter("a.weight").shape == (8, 6)


@pytest.mark.parametrize("name", FIXED)
def test_a_size_that_is_fixed_is_refused(name: str) -> None:
    assert not couple(_model(FIXED[name]), (INPUT,)).by_name["a"].growable


class Differentiated(nn.Module):
    """Gives a directional derivative, whose tangents torch keeps as zeros without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, tangent = torch.func.jvp(lambda y: self.b(self.a(y).tanh()), (x,), (torch.ones_like(x),))
        return tangent


@pytest.mark.filterwarnings("ignore:.*jit.script. is deprecated")  # by torch's own jvp
def test_forward_differentiation_is_refused() -> None:
    """It ended the process. What is said depends on whether torch compiled its own code before."""
    coupling = couple(Differentiated().double().eval(), (INPUT,))
    assert [width.growable for width in coupling.widths] == [False, False]
