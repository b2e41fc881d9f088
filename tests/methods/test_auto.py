"""The default method searches where neurons are scarce, and says what it picked."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Auto, Budget
from fxgrow.methods import GradientPool
from fxgrow.surgery import SCARCE


def mlp(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(3, sizes[0])]
    for inputs, outputs in zip(sizes, (*sizes[1:], 1), strict=True):
        layers += [nn.Tanh(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers).double()


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(16, 3, dtype=torch.float64, generator=generator) for _ in range(8)]
    return [(x, x.sin().sum(1, keepdim=True)) for x in inputs]


CHOSEN = type(Auto().pick(1).method).__name__


@pytest.mark.parametrize(
    ("sizes", "budget", "picked"),
    [
        ((8,), Budget(neurons=2), CHOSEN),
        ((8,), Budget(neurons=SCARCE - 8), CHOSEN),
        ((8,), Budget(neurons=SCARCE - 7), "ZeroOutgoing"),
        ((SCARCE,), Budget(neurons=1), "ZeroOutgoing"),
        ((24, 24), Budget(neurons=4), CHOSEN),
        ((40, 40), Budget(neurons=4), "ZeroOutgoing"),
        ((8,), Budget(parameters=20), CHOSEN),
        ((8,), Budget(parameters=1000), "ZeroOutgoing"),  # 200 neurons of 5 parameters
    ],
)
def test_the_budget_decides(sizes: tuple[int, ...], budget: Budget, picked: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        growth = fxgrow.grow(mlp(*sizes), data(), F.mse_loss, method=Auto(), budget=budget)
    assert growth.report.picked.startswith(f"Auto picked {picked}: ")
    assert growth.spec.history[-1].method.name == picked  # what was done, not who chose it


def test_it_is_the_default() -> None:
    report = fxgrow.grow(mlp(80), data(), F.mse_loss).report
    assert report.picked.startswith("Auto picked ZeroOutgoing")
    assert [(width.before, width.after) for width in report.widths] == [(80, 104)]
    named = fxgrow.grow(mlp(80), data(), F.mse_loss, method=fxgrow.ZeroOutgoing()).report
    assert not named.picked


def test_widths_that_stay_do_not_count() -> None:
    report = fxgrow.grow(
        mlp(80, 8), data(), F.mse_loss, budget=Budget(neurons=2), only=["2"]
    ).report
    assert CHOSEN in report.picked


def test_batches_are_shared_out_for_the_method_that_was_picked() -> None:
    endless = (data()[0] for _ in iter(int, 1))
    report = fxgrow.grow(mlp(80), endless, F.mse_loss).report
    assert report.batches is not None and report.batches.steps == 0
    assert report.batches.held_out == 8


def test_candidates_of_its_own_are_those_without_a_search() -> None:
    coupling = fxgrow.couple(mlp(8, 8), data()[0][0])
    assert Auto().propose(coupling) == fxgrow.ZeroOutgoing().propose(coupling)


def test_what_is_picked_proposes_its_own_candidates() -> None:
    """The pool is many times what the budget buys."""
    options = {"budget": Budget(neurons=2), "seed": 1}
    picked = fxgrow.grow(mlp(8), data(), F.mse_loss, **options).module  # type: ignore[arg-type]
    named = fxgrow.grow(mlp(8), data(), F.mse_loss, method=GradientPool(), **options).module  # type: ignore[arg-type]
    for one, other in zip(picked.parameters(), named.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
