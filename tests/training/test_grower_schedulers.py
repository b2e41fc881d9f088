"""Schedulers of several optimizers: each goes on with the copy of its own, or nothing grows."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Muon, Optimizer, lr_scheduler

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.training import EveryEpochs

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def optimizers_of(model: nn.Module) -> list[Optimizer]:
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.dim() == 2]
    biases = [parameter for parameter in parameters if parameter.dim() == 1]
    return [Muon(matrices, lr=0.02), SGD(biases, lr=0.1)]


def grower(model: nn.Module, optimizers: Any, **options: Any) -> fxgrow.Grower:
    return fxgrow.Grower(
        model,
        optimizers,
        loss_fn=F.cross_entropy,
        when=EveryEpochs(epochs=1),
        method=fxgrow.ZeroOutgoing(),
        budget=fxgrow.Budget(neurons=2),
        grow_steps=2,
        accept_no_gain=True,
        **options,
    )


def train(own: fxgrow.Grower) -> None:
    F.cross_entropy(own.model(INPUTS), LABELS).backward()
    for optimizer in own.optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.filterwarnings("error")  # torch's schedulers warn if they see no step
@pytest.mark.parametrize("inplace", [True, False])
def test_each_scheduler_goes_on_with_its_own_optimizer(inplace: bool) -> None:
    model = network()
    muon, sgd = optimizers_of(model)
    halving = lr_scheduler.StepLR(muon, 1, gamma=0.5)
    falling = lr_scheduler.ExponentialLR(sgd, 0.9)
    # Named in another order than the optimizers.
    own = grower(model, [muon, sgd], inplace=inplace, schedulers=[falling, halving])
    for _ in range(2):
        train(own)
        halving.step()
        falling.step()
        assert own.step([(INPUTS, LABELS)], loss=1.0) is not None
    assert (halving.optimizer, falling.optimizer) == own.optimizers
    assert (own.optimizers == (muon, sgd)) == inplace
    rates = [optimizer.param_groups[0]["lr"] for optimizer in own.optimizers]
    assert rates == pytest.approx([0.02 / 4, 0.1 * 0.81])
    assert own.model[0].out_features == 10  # type: ignore[index]
    train(own)


def test_one_scheduler_that_nobody_names_is_refused() -> None:
    model = network()
    muon, sgd = optimizers_of(model)
    named = lr_scheduler.StepLR(muon, 1)
    lr_scheduler.StepLR(sgd, 1)
    with pytest.raises(GrowthError, match="learning rate of the SGD") as caught:
        grower(model, [muon, sgd], inplace=False, schedulers=[named])
    assert caught.value.code == "lost-scheduler"
    grower(model, [muon, sgd], schedulers=[named])  # in place both go on
    foreign = lr_scheduler.StepLR(SGD(network().parameters()), 1)
    with pytest.raises(GrowthError, match="StepLR is no scheduler") as caught:
        grower(model, [muon, sgd], schedulers=[named, foreign])
    assert caught.value.code == "foreign-scheduler"


def test_the_first_optimizer_s_rate_is_told() -> None:
    model, told = network(), list[Any]()
    own = grower(model, optimizers_of(model), listeners=[told.append])
    own.step([(INPUTS, LABELS)], loss=1.0)
    assert told[0].lr == 0.02
