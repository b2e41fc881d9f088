"""As many candidates for new neurons as the budget can buy, and a warning where there are too few."""

import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import resolve_budget, with_candidates_for_budget
from fxgrow.growth.candidate_counts import neurons_after
from fxgrow.growth.prepare import prepare
from fxgrow.growth.scope import resolve_ties
from fxgrow.methods.proposals import LEAST_NEW
from tests.networks import images, network

QUICK = {"steps": 1, "refine_steps": 1, "points": 1}


def mlp(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def data(inputs: int) -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(32, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return [(x, x.sin().sum(1, keepdim=True))]


def proposed(model: nn.Module, method: Any, budget: Budget, inputs: Tensor, *tie: str) -> list[int]:
    captured = capture(model, (inputs,))
    coupling = couple(captured)
    prepared = prepare(captured, coupling, method)
    ties = resolve_ties(coupling, [tie] if tie else ())
    resolved = resolve_budget(budget, captured, coupling, ties=ties)
    new = with_candidates_for_budget(prepared, resolved).proposal.new
    return [new[width] for width in sorted(new)]


@pytest.mark.parametrize("method", [Firefly(), RandomGrowth()])
def test_one_width_has_candidates_for_all_that_it_may_gain(method: Any) -> None:
    inputs = data(3)[0][0]
    assert proposed(mlp(3, 8, 1), method, Budget(neurons=88), inputs) == [88]
    # A neuron costs 3 + 1 + 1 parameters.
    assert proposed(mlp(3, 8, 1), method, Budget(parameters=204), inputs) == [40]
    assert proposed(mlp(3, 8, 1), method, Budget(neurons=88, per_width=20), inputs) == [20]
    assert proposed(mlp(3, 8, 1), method, Budget(neurons=2), inputs) == [LEAST_NEW]


def test_new_neurons_of_all_widths_together_can_spend_the_budget() -> None:
    inputs = data(3)[0][0]
    model = mlp(3, 8, 8, 1)
    assert proposed(model, Firefly(), Budget(neurons=60), inputs) == [31, 31]
    assert proposed(model, Firefly(), Budget(neurons=60, per_width=12), inputs) == [12, 12]
    # The first layer's neurons cost 3 + 1 + 8 at least, the second's 8 + 1 + 1.
    first, second = proposed(model, Firefly(), Budget(parameters=5000), inputs)
    assert first == second > 50
    total = 8 + first
    grown = (3 + 1) * total + (total + 1) * total + total + 1
    assert grown - sum(p.numel() for p in model.parameters()) > 5000


def test_ties_have_equally_many() -> None:
    inputs = data(3)[0][0]
    tied = proposed(mlp(3, 8, 8, 1), Firefly(), Budget(neurons=60), inputs, "0", "2")
    assert tied == [30, 30]


def test_a_number_that_is_given_stays() -> None:
    assert proposed(mlp(3, 8, 1), Firefly(new=5), Budget(neurons=88), data(3)[0][0]) == [5]


@pytest.mark.parametrize("budget", [Budget(neurons=60), Budget(parameters=1000), Budget(neurons=5)])
def test_the_budget_is_spent(budget: Budget) -> None:
    method = Firefly(**QUICK)  # type: ignore[arg-type]
    report = fxgrow.grow(
        mlp(3, 8, 8, 1), data(3), F.mse_loss, method=method, budget=budget, accept_no_gain=True
    ).report
    ((unit, spending),) = report.plan.spending.items()
    assert not report.unspent
    assert spending.limit - spending.spent < (1 if unit == "neurons" else 60)


def test_a_budget_that_is_left_is_a_warning() -> None:
    method = Firefly(new=2, **QUICK)  # type: ignore[arg-type]
    with pytest.warns(
        UserWarning, match=r"ran out .*\(20 of 60 neurons; none .* in 0, 2\)"
    ) as told:
        report = fxgrow.grow(
            mlp(3, 8, 8, 1), data(3), F.mse_loss, method=method, budget=Budget(neurons=60),
            accept_no_gain=True,
        ).report  # fmt: skip
    assert report.unspent == str(told[0].message) and told[0].filename == __file__


def test_a_width_that_may_not_grow_further_is_no_warning() -> None:
    """Its candidates are all taken, and its own limit is reached; or the budget is spent elsewhere."""
    method = Firefly(new=2, split=False, **QUICK)  # type: ignore[arg-type]
    options = {"method": method, "accept_no_gain": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for budget in (Budget(neurons=60, per_width=2), Budget(neurons=4)):
            fxgrow.grow(mlp(3, 8, 8, 1), data(3), F.mse_loss, budget=budget, **options)  # type: ignore[arg-type]


def test_candidate_layers_keep_their_number() -> None:
    model = network("residual")
    batches = [(images(8, 0), torch.arange(8) % 2)]
    method = Firefly(layers=2, **QUICK)  # type: ignore[arg-type]
    budget = Budget(neurons=40, layers=1)
    report = fxgrow.grow(
        model, batches, F.cross_entropy, method=method, budget=budget, accept_no_gain=True
    ).report
    assert all(layer.neurons <= 2 for layer in report.layers)


class InProportion(fxgrow.ZeroOutgoing):
    """New neurons by the same share in every width."""


def test_numbers_in_proportion_to_the_sizes() -> None:
    inputs = data(3)[0][0]
    model = mlp(3, 8, 16, 1)
    assert proposed(model, InProportion(), Budget(neurons=12), inputs) == [4, 8]
    assert proposed(model, InProportion(), Budget(neurons=13), inputs) == [4, 9]
    # 3 and 7 fit as well as 3 and 6: the one that is left goes to the width that is further behind.
    assert proposed(model, InProportion(), Budget(neurons=11), inputs) == [4, 7]
    assert proposed(model, InProportion(), Budget(neurons=11, per_width=2), inputs) == [2, 2]
    # 8 -> 16 and 16 -> 24; another step of either would be too much.
    assert proposed(model, InProportion(), Budget(neurons=22, round_to=8), inputs) == [8, 8]
    assert proposed(model, InProportion(), Budget(neurons=24, round_to=8), inputs) == [8, 16]


def test_tied_widths_take_their_steps_together() -> None:
    inputs = data(3)[0][0]
    sizes = proposed(mlp(3, 8, 8, 16, 1), InProportion(), Budget(neurons=14), inputs, "0", "2")
    assert sizes == [3, 3, 8]  # the one that is left is too little for both


def test_neurons_after_growth_are_all_that_the_budget_buys() -> None:
    captured = capture(mlp(3, 8, 16, 1), (data(3)[0][0],))
    coupling = couple(captured)
    prepared = prepare(captured, coupling, InProportion())
    for neurons, after in ((1, 25), (10, 34), (1.0, 48)):
        resolved = resolve_budget(Budget(neurons=neurons), captured, coupling)
        assert neurons_after(prepared, resolved) == after
