"""Locked entries keep their bits, whatever the optimiser does."""

import math

import pytest
import torch
from torch import Tensor, nn

from fxgrow.continual.fit import train_task
from fxgrow.continual.settings import TrainSettings
from fxgrow.errors import TrainingError
from fxgrow.training import cross_entropy
from tests.continual.zoo import data
from tests.networks import network

HARD = TrainSettings(epochs=3, lr=0.1, momentum=0.9, weight_decay=0.5)


def free(module: nn.Module) -> dict[str, Tensor]:
    """Every second entry of two weights, and no other parameter."""
    own = dict(module.named_parameters())
    return {
        name: torch.arange(own[name].numel()).reshape(own[name].shape) % 2 == 0
        for name in ("4.weight", "7.bias")
    }


def test_decay_and_momentum_leave_locked_entries_alone() -> None:
    module = network("chain")
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    mask = free(module)
    train_task(module, data("a"), cross_entropy, HARD, mask)
    for name, parameter in module.named_parameters():
        locked = ~mask.get(name, torch.zeros_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter[locked], before[name][locked])
        assert (parameter[~locked] != before[name][~locked]).all()
    assert not torch.equal(
        module.get_submodule("1").running_mean, network("chain").get_submodule("1").running_mean
    )  # type: ignore[arg-type]


def test_free_entries_move_as_if_all_were_free() -> None:
    """In one step the mask decides nothing but what stays."""
    once = HARD.model_copy(update={"epochs": 1})
    ours, theirs = network("chain"), network("chain")
    mask = free(ours)
    train_task(ours, data("a")[:1], cross_entropy, once, mask)
    everything = {
        name: torch.ones_like(p, dtype=torch.bool) for name, p in theirs.named_parameters()
    }
    train_task(theirs, data("a")[:1], cross_entropy, once, everything)
    for name, entries in mask.items():
        mine, full = (dict(one.named_parameters())[name] for one in (ours, theirs))
        assert torch.equal(mine[entries], full[entries]) and not torch.equal(mine, full)


def test_gradients_are_asked_for_as_before() -> None:
    module = network("chain")
    module.get_submodule("4").weight.requires_grad_(requires_grad=False)  # type: ignore[operator, union-attr]
    train_task(module, data("a"), cross_entropy, HARD, free(module))
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["4.weight"]
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_loss_that_is_no_number_reaches_no_weight() -> None:
    module = network("chain")
    before = [parameter.detach().clone() for parameter in module.parameters()]
    with pytest.raises(TrainingError) as caught:
        train_task(module, data("a"), lambda *_: torch.tensor(math.nan), HARD, free(module))
    assert caught.value.code == "nan-loss"
    assert all(map(torch.equal, module.parameters(), before))
    assert all(parameter.requires_grad for parameter in module.parameters())
