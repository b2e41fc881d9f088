"""A grower that bought blocks or layers is saved and goes on: moments find their parameters."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

import fxgrow
from fxgrow.training import EveryEpochs, regrow_from_state

INPUTS = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.relu(self.inner(x)))


class Net(nn.Module):
    """Its blocks lie before its head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(x))
        return out


def optimizer_of(model: nn.Module) -> Optimizer:
    """Biases are not decayed, as Hugging Face's trainer does it."""
    parameters = list(model.parameters())
    decayed = {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1}
    others = {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}
    return AdamW([decayed, others], lr=0.01)


def new_grower(model: nn.Module, optimizer: Optimizer, state: Any) -> fxgrow.Grower:
    return fxgrow.Grower(
        model,
        optimizer,
        loss_fn=F.cross_entropy,
        when=EveryEpochs(epochs=1),
        scope=fxgrow.Scope(blocks=("blocks",)),
        method=fxgrow.Firefly(new=1, steps=1, refine_steps=0),
        budget=fxgrow.Budget(parameters=0.6),
        accept_no_gain=True,
        grow_steps=2,
        state=state,
    )


def train(model: nn.Module, optimizer: Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(INPUTS), LABELS).backward()
        optimizer.step()


@pytest.mark.parametrize("state", ["padded", "own-age"])
def test_a_grower_that_bought_blocks_goes_on(state: Any) -> None:
    torch.manual_seed(0)
    start = Net()
    model = copy.deepcopy(start)
    optimizer = optimizer_of(model)
    grower = new_grower(model, optimizer, state)
    for _ in range(2):
        train(model, optimizer)
        assert grower.step([(INPUTS, LABELS)], loss=1.0) is not None
    assert len(model.blocks) > 2
    train(model, optimizer)
    kept = json.loads(json.dumps(grower.state_dict()))
    weights, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    train(model, optimizer)
    again: Any = regrow_from_state(copy.deepcopy(start), kept, (INPUTS,))
    assert all(module.training for module in again.modules())
    again.load_state_dict(weights)
    its_optimizer = optimizer_of(again)
    its_optimizer.load_state_dict(moments)
    fxgrow.follow_ages(its_optimizer)
    train(again, its_optimizer)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


class HeadFirst(nn.Module):
    """Registers its modules in another order than it uses them in, as inserted layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.second, self.first = nn.Linear(6, 3), nn.Linear(6, 6), nn.Linear(4, 6)
        self.activations = nn.ModuleList([nn.ReLU(), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.activations[0](self.first(x))
        out: Tensor = self.head(self.activations[1](self.second(x)))
        return out


@pytest.mark.parametrize(("state", "growths"), [("padded", 1), ("own-age", 2)])
def test_a_grower_that_inserted_layers_goes_on(state: Any, growths: int) -> None:
    torch.manual_seed(0)
    start = HeadFirst()
    model = copy.deepcopy(start)
    grower = fxgrow.Grower(
        model,
        optimizer_of(model),
        loss_fn=F.cross_entropy,
        when=EveryEpochs(epochs=1),
        method=fxgrow.Firefly(new=3, layers=3, split=False, steps=1, refine_steps=0),
        budget=fxgrow.Budget(neurons=4, layers=1),
        accept_no_gain=True,
        grow_steps=2,
        inplace=False,
        state=state,
    )
    for _ in range(growths):
        train(grower.model, *grower.optimizers)
        growth = grower.step([(INPUTS, LABELS)], loss=1.0)
        assert growth is not None and growth.report.layers
    train(grower.model, *grower.optimizers)
    (optimizer,) = grower.optimizers
    weights, moments = (
        copy.deepcopy(grower.model.state_dict()),
        copy.deepcopy(optimizer.state_dict()),
    )
    train(grower.model, optimizer)
    again = regrow_from_state(copy.deepcopy(start), grower.state_dict(), (INPUTS,))
    again.load_state_dict(weights)
    its_optimizer = optimizer_of(again)
    its_optimizer.load_state_dict(moments)
    fxgrow.follow_ages(its_optimizer)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert all(module.training for module in again.modules())
    train(again, its_optimizer)
    assert list(again.state_dict()) == list(weights)
    for name, tensor in grower.model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
