"""Emission against its formula, written out entry by entry for a small layer that both reads and writes."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.coupling import Coupling, couple
from fxgrow.growth.emit import ParameterUpdate, emit, split_signs
from fxgrow.surgery.index_map import Change, IndexMap

VECTOR = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def example() -> tuple[Any, Coupling]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)
    ).double()
    return model, couple(model, (VECTOR,))


def test_plus_delta_for_the_original_and_minus_for_its_copy() -> None:
    model, coupling = example()
    old = copy.deepcopy(model)
    delta = torch.arange(1.0, 7).double().view(2, 3)
    emit(model, coupling, {0: Change((2, 1))}, {"0.weight": ParameterUpdate(delta={0: delta})})
    rows = torch.stack([old[0].weight[0] + delta[0], old[0].weight[0] - delta[0], old[0].weight[1]])
    assert torch.equal(model[0].weight, rows)
    assert torch.equal(model[0].bias, old[0].bias[[0, 0, 1]])
    assert torch.equal(model[2].weight, old[2].weight[:, [0, 0, 1]] * torch.tensor([0.5, 0.5, 1]))


def test_both_axes_of_one_weight_at_once() -> None:
    """The middle layer's rows are split with a delta while its columns are split and receive fresh entries."""
    model, coupling = example()
    old = model[2].weight.detach().clone()
    delta = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    new = torch.tensor([[5.0], [6.0]]).double()
    changes = {0: Change((2, 1), new=1), 1: Change((2, 1))}
    emit(model, coupling, changes, {"2.weight": ParameterUpdate(delta={0: delta}, new={1: new})})

    def row(i: int, sign: float) -> list[float]:
        first, second = old[i] + sign * delta[i]
        return [float(first / 2), float(first / 2), float(second), float(new[i])]

    expected = torch.tensor([row(0, 1), row(0, -1), row(1, 0)]).double()
    torch.testing.assert_close(model[2].weight.detach(), expected)


def test_without_fillings_the_function_is_kept() -> None:
    model, coupling = example()
    before = model(VECTOR)
    maps = emit(model, coupling, {0: Change((3, 1)), 1: Change((1, 2), new=2)}, {})
    torch.testing.assert_close(model(VECTOR), before, rtol=1e-12, atol=1e-12)
    assert set(maps) == {
        ("0.weight", 0),
        ("0.bias", 0),
        ("2.weight", 0),
        ("2.weight", 1),
        ("2.bias", 0),
        ("4.weight", 1),
    }


def test_fillings_of_unknown_parameters_are_ignored() -> None:
    model, coupling = example()
    emit(
        model, coupling, {0: Change((2, 1))}, {"nowhere": ParameterUpdate(delta={0: torch.ones(2)})}
    )
    assert model[0].weight.shape == (3, 3)


def test_signs() -> None:
    source, copies = torch.tensor([0, 0, 1, -1, 2, 2, 2]), torch.tensor([0, 1, 0, 0, 0, 1, 2])
    index_map = IndexMap(source, torch.ones(7, dtype=torch.float64), copies)
    assert split_signs(index_map).tolist() == [1, -1, 0, 0, 1, -1, 0]


@pytest.mark.parametrize("copies", [2, 3, 4])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", ["linear", "convolution", "weight norm"])
def test_copies_part_when_they_are_trained(name: str, kind: Any, copies: int) -> None:
    torch.manual_seed(0)
    model, inputs = {
        "linear": (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), torch.randn(32, 5)),
        "convolution": (
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3)),
            torch.randn(8, 2, 7, 7),
        ),
        "weight norm": (
            nn.Sequential(
                nn.Linear(5, 4),
                nn.Tanh(),
                nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
            ),
            torch.randn(32, 5),
        ),
    }[name]
    model, inputs = model.double(), inputs.double()
    widened = fxgrow.widen(model, {"0": 4 * (copies - 1)}, (inputs,))
    wider = widened.module
    assert widened.preservation_error is not None
    assert widened.preservation_error < 1e-14
    first = wider.get_parameter("0.weight")
    assert first.detach().unique(dim=0).shape[0] == 4  # incoming weights are copies
    target = torch.randn_like(wider(inputs).detach())
    optimizer = kind(wider.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        (wider(inputs) - target).square().mean().backward()
        optimizer.step()
    rows = first.detach().flatten(1)
    assert len(rows) == 4 * copies
    apart = torch.cdist(rows, rows) + torch.diag(torch.full((len(rows),), torch.inf).double())
    assert apart.min() > 1e-5


def test_no_two_of_many_copies_are_read_alike_and_their_sum_is_kept() -> None:
    """Of a convolution before a flattening, whose copies take several places."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 5)).double()
    inputs = torch.randn(4, 2, 3, 3).double()
    wider: Any = fxgrow.widen(model, {"0": 9}, (inputs,)).module
    columns = wider[2].weight.detach().view(5, 3, 4, 4)  # [out, neuron, copy, place]
    torch.testing.assert_close(columns.sum(2), model[2].weight.detach().view(5, 3, 4))
    for one, other in itertools.combinations(range(4), 2):
        assert (columns[:, :, one] - columns[:, :, other]).abs().min() > 1e-7
