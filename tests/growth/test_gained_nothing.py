"""A growth that ends at eps = 0 is refused, unless the caller accepts it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.errors import GrowthError
from tests.networks import images, network


def perfect() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A model, and batches on which its loss is 0: whatever moves, the loss rises."""
    model = network("chain").eval()
    inputs = [images(8, seed) for seed in range(4)]
    return model, [(x, model(x).detach()) for x in inputs]


@pytest.mark.parametrize(
    "method",
    [Firefly(new=0, steps=2, refine_steps=1), Firefly(new=2, split=False), RandomGrowth(new=2)],
)
def test_refused_before_anything_is_touched(method: fxgrow.Firefly | RandomGrowth) -> None:
    model, batches = perfect()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        GrowthError, match=r"gained nothing.*train longer, or ask for new"
    ) as caught:
        fxgrow.grow(
            model,
            batches,
            F.mse_loss,
            method=method,
            budget=Budget(neurons=2),
            refresh_statistics=False,
            inplace=True,
        )
    assert caught.value.code == "gained-nothing" and "accept_no_gain=True" in str(caught.value)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_accepted_when_told() -> None:
    model, batches = perfect()
    growth = fxgrow.grow(
        model,
        batches,
        F.mse_loss,
        method=Firefly(new=2, steps=2, refine_steps=1),
        budget=Budget(neurons=2),
        refresh_statistics=False,
        accept_no_gain=True,
    )
    assert growth.report.backtracks == 9 and sum(w.split + w.new for w in growth.report.widths) == 2
    torch.testing.assert_close(growth.module.eval()(images()), model(images()))


def test_neurons_that_are_stable_gain_nothing() -> None:
    """Splitting switches them off by itself, without any halving."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(32, 3, dtype=torch.float64)
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    # No neuron has an effect, so no splitting matrix has a negative eigenvalue.
    with pytest.raises(GrowthError, match="gained nothing") as caught:
        fxgrow.grow(
            model, [(x, x[:, :1])], F.mse_loss, method=fxgrow.Splitting(), budget=Budget(neurons=2)
        )
    assert "halving" not in str(caught.value)
