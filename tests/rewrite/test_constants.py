"""Each lane has its own of the constants that a model makes on its way."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.rewrite.lane_sizes import lane_constant
from tests.coupling.size_cases import INPUT, sized
from tests.coupling.test_written_views import GROWS
from tests.rewrite.rewriting import assert_faithful, exported_capture

X = INPUT.double()


def copied_into(h: Tensor) -> Tensor:
    return h.new_empty(h.shape).copy_(h)


def full(h: Tensor) -> Tensor:
    return h + h.new_full((h.shape[1],), 0.5)


def made_of_constants(h: Tensor) -> Tensor:
    ones = torch.ones(h.shape[0], 1, dtype=h.dtype) + torch.zeros(h.shape[1], dtype=h.dtype)
    return h * (2 * ones + 1)


def parts_of_one_value(h: Tensor) -> Tensor:
    return torch.cat(h.split(h.shape[1] // 2, 1)[::-1], 1)


def counted(h: Tensor) -> Tensor:
    count = torch.zeros(h.shape[0], dtype=h.dtype)
    count += torch.ones(h.shape[0], dtype=h.dtype)
    return h * count[:, None]


def counted_in_place(h: Tensor) -> Tensor:
    count = h.new_zeros(len(X)).add_(h.new_ones(h.shape[0]))  # one sized by a number, one by h
    return h * count[:, None]


MORE: list[Callable[[Tensor], Tensor]] = [
    copied_into,
    full,
    made_of_constants,
    counted,
    counted_in_place,
]


def _model(between: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return sized(lambda h, _: between(h)).double().eval()


@pytest.mark.parametrize("between", [*GROWS, *MORE, parts_of_one_value])
def test_lanes_are_faithful(between: Callable[[Tensor], Tensor]) -> None:
    captured = fxgrow.capture(_model(between), X)
    coupling, grown = assert_faithful(captured, regrows=False)
    assert coupling.by_name["a"].growable
    assert not grown.refusals


@pytest.mark.parametrize("between", [*GROWS, *MORE])
def test_lanes_of_exported_graphs_are_faithful(between: Callable[[Tensor], Tensor]) -> None:
    """There the sizes of constants are numbers."""
    captured = exported_capture(_model(between), (X,))
    _, grown = assert_faithful(captured, regrows=False)
    assert not grown.refusals


def test_a_size_in_an_attribute() -> None:
    def between(h: Tensor, net: Any) -> Tensor:
        return torch.zeros(h.shape[0], net.b.in_features, dtype=h.dtype).add_(h)

    model = sized(between).double().eval()
    _, grown = assert_faithful(fxgrow.capture(model, X), regrows=False)
    assert not grown.refusals


def test_a_constant_as_long_as_a_lane() -> None:
    constant = torch.tensor([[1.0], [2.0]]).expand(2, 4)
    longer = lane_constant(constant, -1, 6)
    assert longer.tolist() == [[1.0] * 6, [2.0] * 6]
    longer[0, 0] = 5  # its own memory
    assert longer[0, 1] == 1


class Recurrence(nn.Module):
    """A recurrent layer by hand, with or without gates; ``start`` makes the state at the start."""

    def __init__(self, start: Callable[[Any, Tensor], Tensor], gates: int = 1) -> None:
        super().__init__()
        self.start, self.gates = start, gates
        self.i, self.h, self.o = nn.Linear(5, 6 * gates), nn.Linear(6, 6 * gates), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = self.start(self, x)
        for step in x.unbind(1):
            z = self.i(step) + self.h(h)
            if self.gates > 1:
                forget, write, show = z.chunk(3, 1)
                c = torch.sigmoid(forget) * c + torch.tanh(write)
                z = c * torch.sigmoid(show)
            h = torch.tanh(z)
        return self.o(h)


def by_attribute(net: Recurrence, x: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], net.h.in_features)


def by_weight(net: Recurrence, x: Tensor) -> Tensor:
    return torch.full((x.shape[0], net.h.weight.shape[1]), 0.5, dtype=x.dtype)


def by_method(net: Recurrence, x: Tensor) -> Tensor:
    return x.new_ones(x.shape[0], net.h.weight.size(1))


@pytest.mark.parametrize("start", [by_attribute, by_weight, by_method])
@pytest.mark.parametrize("gates", [1, 3])
def test_a_state_that_a_recurrence_starts_from(start: Any, gates: int) -> None:
    torch.manual_seed(0)
    model = Recurrence(start, gates).double()
    x, other = torch.randn(2, 4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)
    for how in ("split", "new"):
        wider = fxgrow.widen(model, {"i": 2}, x, how=how).module
        torch.testing.assert_close(wider(other), model(other), rtol=1e-12, atol=1e-12)
    _, grown = assert_faithful(fxgrow.capture(model, (x,)), regrows=False)
    assert not grown.refusals


def test_what_activations_are_summed_over_stays_as_it_is() -> None:
    """A constant that is read by a weight follows; one that sums activations does not."""
    between = lambda h, _: h @ torch.ones(h.shape[1], 4, dtype=h.dtype)  # noqa: E731
    model = sized(between)
    model.b = nn.Linear(4, 3)
    refusal = fxgrow.couple(model, INPUT).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-size"
