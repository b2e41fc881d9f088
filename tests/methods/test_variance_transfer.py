"""Pairs of new neurons cancel out, and their entries have the variance of the old ones."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.growth import Objective
from fxgrow.methods import VarianceTransfer
from tests.methods.test_pool import Recurrent, Tagger, choose_nothing
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images(8, seed), torch.arange(8) % 2) for seed in range(3)]


@pytest.mark.parametrize("neurons", [1, 6])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept_in_both_modes(name: str, neurons: int) -> None:
    model = network(name)
    growth = fxgrow.grow(
        model, batches(), F.cross_entropy, method=VarianceTransfer(),
        budget=Budget(neurons=neurons), refresh_statistics=False,
    )  # fmt: skip
    assert sum(width.new for width in growth.report.widths) >= 1
    for training in (False, True):
        one, other = copy.deepcopy(model).train(training), copy.deepcopy(growth.module)
        torch.testing.assert_close(other.train(training)(images(5)), one(images(5)))


@pytest.mark.parametrize("make", [Tagger, Recurrent])
def test_computed_weights_and_recurrent_layers(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().double()
    x = torch.randn(4, 3, 6 if make is Tagger else 3).double()
    growth = fxgrow.grow(
        model, [(x, None)], lambda out, _: out.square().mean(),
        method=VarianceTransfer(), budget=Budget(neurons=4),
    )  # fmt: skip
    torch.testing.assert_close(growth.module.eval()(x), model.eval()(x))


def mlp(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(108, sizes[0]), nn.Tanh(), nn.Linear(sizes[0], sizes[1])
    ).double()


def test_entries_have_the_variance_of_the_old_ones() -> None:
    model = mlp(64, 40)
    growth = fxgrow.grow(
        model, [(images(8), None)], lambda out, _: out.square().mean(),
        method=VarianceTransfer(), budget=Budget(neurons=64),
    )  # fmt: skip
    first, last = growth.module[1].weight.detach(), growth.module[3].weight.detach()
    for old, new in ((first[:64], first[64:]), (last[:, :64], last[:, 64:])):
        assert float(new.std() / old.std()) == pytest.approx(1, rel=0.05)
    # So are those of the hidden layer's values, which the incoming weights make.
    values = growth.module[1](growth.module[0](images(200))).detach()
    assert float(values[:, 64:].std() / values[:, :64].std()) == pytest.approx(1, rel=0.15)


def test_pairs_have_opposite_outgoing_weights_and_part_in_the_first_step() -> None:
    model = mlp(6, 2)
    module = fxgrow.grow(
        model, batches(), F.cross_entropy, method=VarianceTransfer(), budget=Budget(neurons=4)
    ).module
    first, last = module[1].weight, module[3].weight
    for one in (6, 8):
        assert torch.equal(first[one], first[one + 1])
        assert torch.equal(last[:, one], -last[:, one + 1]) and last[:, one].abs().min() > 0
    x, y = batches()[0]
    F.cross_entropy(module(x), y).backward()
    assert first.grad[6].abs().max() > 1e-4
    torch.testing.assert_close(first.grad[6], -first.grad[7])


def test_a_neuron_whose_twin_was_not_bought_leaves_nothing() -> None:
    """Candidates 1 and 2 of a width are on: each the half of another pair."""
    grown = over_grown(mlp(6, 2), images(), split=False, new=4)
    objective = Objective(batches(), F.cross_entropy)
    method = VarianceTransfer()
    method.search(grown, objective, torch.Generator().manual_seed(0), choose_nothing)
    before = objective.mean(grown.graph_module)
    with torch.no_grad():
        grown.candidates.new_eps[0] = grown.candidates.new_eps[3] = 0
    assert objective.mean(grown.graph_module) != pytest.approx(before, rel=1e-9)
    method.refine(grown, objective)
    assert objective.mean(grown.graph_module) == pytest.approx(before, rel=1e-12)
