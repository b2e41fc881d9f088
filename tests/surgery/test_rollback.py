"""A module is put back as it was, or left as it has become."""

from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.surgery.index_map import IndexMap
from fxgrow.surgery.resize import resize
from fxgrow.surgery.rollback import restore_on_failure

TWICE = IndexMap(torch.tensor([0, 0, 1, 2]), torch.ones(4), torch.tensor([0, 1, 0, 0]))


def changed(model: Any) -> None:
    resize(model, {("0.weight", 0): TWICE, ("1.running_mean", 0): TWICE, ("1.weight", 0): TWICE})
    model[0].extra = nn.ReLU()
    model.later = 3


def interrupted(model: Any) -> None:
    changed(model)
    assert model[0].weight.shape == (4, 2)
    raise KeyboardInterrupt


def test_put_back() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[0].weight.grad = torch.ones(3, 2)
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    with pytest.raises(KeyboardInterrupt), restore_on_failure(model):
        interrupted(model)
    after = model.state_dict(keep_vars=True)
    assert all(
        id(after[name]) == one and torch.equal(after[name], value)
        for name, (one, value) in before.items()
    )
    assert (model[0].out_features, model[1].num_features) == (3, 3)
    assert torch.equal(model[0].weight.grad, torch.ones(3, 2))
    assert not hasattr(model, "later") and not hasattr(model[0], "extra")


def test_left_alone_without_a_failure() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with restore_on_failure(model):
        changed(model)
    assert (model[0].out_features, model[1].num_features, model.later) == (4, 4, 3)


def interrupted_in_flags(model: Any, optimizer: torch.optim.Optimizer) -> None:
    model.requires_grad_(False)[0].bias.requires_grad_(True)
    model.eval().register_forward_hook(lambda *_: None)
    extra = nn.Parameter(torch.ones(1))
    optimizer.param_groups[0]["params"].append(extra)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.state[extra] = {"momentum_buffer": extra}
    raise KeyboardInterrupt


def test_flags_hooks_and_groups_are_put_back() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[0].bias.requires_grad_(False)
    handle = model.register_forward_hook(lambda *_: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    count = len(optimizer.param_groups[0]["params"])
    with pytest.raises(KeyboardInterrupt), restore_on_failure(model, [optimizer]):
        interrupted_in_flags(model, optimizer)
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        True,
        False,
        True,
        True,
    ]
    assert model.training and model[1].training and len(model._forward_hooks) == 1
    assert len(optimizer.param_groups[0]["params"]) == count and not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1
    handle.remove()  # the handle still knows its table
    assert not model._forward_hooks
