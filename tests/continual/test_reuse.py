"""What is left out of a new task's network: by the true first-order effect, within the tolerance, from no replay."""

import copy

import pytest
import torch
from torch import nn

from fxgrow.continual.reuse import (
    full_masks,
    maskable_widths,
    select_reused,
    submodel,
    taylor_importance,
)
from fxgrow.coupling import Coupling, Role, couple
from fxgrow.growth import Objective
from fxgrow.modes import evaluation_mode
from fxgrow.training import cross_entropy
from tests.continual.zoo import data
from tests.coupling.test_channel_order import IMAGES, Beside
from tests.networks import NETWORKS, images, network

TINY = 1e-5


def objective(module: nn.Module) -> Objective:
    return Objective.of(data("a", 12), cross_entropy, module)  # of 8 and of 4


def barely_read(module: nn.Module, coupling: Coupling, number: int, neuron: int) -> nn.Module:
    """A copy in which whatever reads a neuron hardly does."""
    changed = copy.deepcopy(module)
    own, width = dict(changed.named_parameters()), coupling.widths[number]
    with torch.no_grad():
        for site in (
            site for site in width.sites if site.role is Role.READS and site.parameter in own
        ):
            owners, (name, axis) = coupling.owners[site.key], site.key
            index = (
                torch.from_numpy((owners.width == number) & (owners.neuron == neuron))
                .nonzero()
                .reshape(-1)
            )
            own[name].index_copy_(axis, index, TINY * own[name].index_select(axis, index))
    return changed


@pytest.mark.parametrize("name", NETWORKS)
def test_effects_are_the_change_of_the_loss_to_first_order(name: str) -> None:
    """Of a neuron that is hardly read: the change when it is removed, by the rules that remove it."""
    module = network(name)
    coupling = couple(module, (images(),))
    for number in maskable_widths(coupling):
        width = coupling.widths[number]
        neuron = width.size - 1
        nearly = barely_read(module, coupling, number, neuron)
        mask = torch.arange(width.size) != neuron
        losses = objective(nearly)
        change = losses.mean(submodel(nearly, coupling, {width.name: mask})) - losses.mean(nearly)
        found = float(taylor_importance(nearly, coupling, losses)[width.name][neuron])
        assert found == pytest.approx(abs(change), rel=1e-2)
        assert found > 1e-12


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 10.0])
@pytest.mark.parametrize("name", ["chain", "residual"])
def test_what_is_left_out_costs_no_more_than_is_tolerated(name: str, tolerance: float) -> None:
    module = network(name)
    coupling, losses = couple(module, (images(),)), objective(module)
    masks = select_reused(module, coupling, losses, 0.9, tolerance)
    with evaluation_mode(compact := submodel(module, coupling, masks)):
        assert losses.mean(compact) <= losses.mean(module) * (1 + tolerance)
    assert all(mask.sum() >= len(mask) - len(mask) // 2 for mask in masks.values())
    if tolerance == 10.0:
        assert all(mask.sum() == len(mask) - len(mask) // 2 for mask in masks.values())


def test_fewer_are_left_out_where_the_loss_would_rise_by_too_much() -> None:
    """Half of what the full share would cost is tolerated."""
    module = network("block")
    coupling, losses = couple(module, (images(),)), objective(module)
    full = select_reused(module, coupling, losses, 0.9, 1000.0)
    rise = losses.mean(submodel(module, coupling, full)) / losses.mean(module) - 1
    fewer = select_reused(module, coupling, losses, 0.9, rise / 2)
    assert rise > 0 and sum(int(m.sum()) for m in fewer.values()) > sum(
        int(m.sum()) for m in full.values()
    )


def test_two_neurons_are_left_at_least() -> None:
    """Of one pair alone the channel shuffle of the dense network is none, and coupling would see two widths of one."""
    module = network("dense")
    coupling = couple(module, (images(),))
    masks = select_reused(module, coupling, objective(module), 0.9, 100.0)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"a": 2, "b": 2, "c": 2}
    sizes = {
        width.name: width.size
        for width in couple(submodel(module, coupling, masks), (images(),)).widths
    }
    assert all(sizes[name] == mask.sum() for name, mask in masks.items())


def test_the_share_is_of_all_neurons_and_the_least_noticed_go_first() -> None:
    module = network("chain")
    coupling, losses = couple(module, (images(),)), objective(module)
    masks, noticed = (
        select_reused(module, coupling, losses, 0.25, 100.0),
        taylor_importance(module, coupling, losses),
    )
    gone = torch.cat([noticed[name][~mask] for name, mask in masks.items()])
    kept = torch.cat([noticed[name][mask] for name, mask in masks.items()])
    assert len(gone) == int(0.25 * 13) and gone.max() <= kept.min()


def test_without_a_share_all_are_used() -> None:
    module = network("chain")
    coupling = couple(module, (images(),))
    masks = select_reused(module, coupling, objective(module), 0.0, 100.0)
    assert (
        all(mask.all() for mask in masks.values()) and masks.keys() == full_masks(coupling).keys()
    )


def test_widths_whose_order_a_replay_decides_stay_whole() -> None:
    module = nn.Sequential(
        nn.Conv2d(5, 4, 1), Beside(4), nn.Conv2d(10, 6, 1, groups=2), nn.Conv2d(6, 2, 1)
    ).double()
    coupling = couple(module, (IMAGES,))
    replayed = {coupling.widths[number].name for number in coupling.replay.singly}  # type: ignore[union-attr]
    losses = Objective([(IMAGES, IMAGES)], lambda output, _: output.square().mean())
    masks = select_reused(module, coupling, losses, 0.9, 100.0)
    assert replayed and masks.keys() == {w.name for w in coupling.widths if w.growable} - replayed
    assert any(not mask.all() for mask in masks.values())
    assert submodel(module, coupling, masks)(IMAGES).shape == module(IMAGES).shape


def test_nothing_of_the_model_changes() -> None:
    module = network("chain").train()
    module.get_submodule("4").weight.requires_grad_(requires_grad=False)  # type: ignore[operator, union-attr]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    select_reused(module, couple(module, (images(),)), objective(module), 0.5, 0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training and all(parameter.grad is None for parameter in module.parameters())
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["4.weight"]
