"""New neurons without a search keep the function, and every width grows by the same share."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, ZeroOutgoing
from fxgrow.growth import Objective, Scores, Selection
from fxgrow.rewrite import OvergrownLayer
from fxgrow.rewrite.candidate_scaling import scaled_candidates
from tests.methods.toys import rbf, rbf_data
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown


def choose_nothing(scores: Scores) -> Selection:
    """The method has no use for a selection."""
    raise AssertionError(scores)


def grown(model: nn.Module, budget: Budget, **options: object) -> fxgrow.Growth:
    batches = [(images(8, seed), torch.arange(8) % 2) for seed in range(4)]
    return fxgrow.grow(
        model,
        batches,
        lambda out, target: out.flatten(1)[:, :2].square().sum() / len(target),
        method=ZeroOutgoing(),
        budget=budget,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept_in_both_modes(name: str) -> None:
    model = network(name)
    growth = grown(model, Budget(neurons=0.5), refresh_statistics=False)
    assert sum(width.new for width in growth.report.widths) > 0
    for training in (False, True):
        one, other = copy.deepcopy(model).train(training), copy.deepcopy(growth.module)
        torch.testing.assert_close(other.train(training)(images(5)), one(images(5)))


def test_loss_of_zero_is_no_reason_to_refuse() -> None:
    """There is nothing to gain at once, and nothing is asked for."""
    model = network("chain")
    target = model(images()).detach()
    growth = fxgrow.grow(
        model,
        [(images(), target)],
        F.mse_loss,
        method=ZeroOutgoing(),
        budget=Budget(neurons=3),
        refresh_statistics=False,
    )
    report = growth.report
    assert report.backtracks == 0 and report.loss_after < 1e-25
    assert sum(width.new for width in report.widths) == 3


def test_what_leaves_new_neurons_is_zero_and_learns_at_once() -> None:
    x, y = rbf_data()
    model = rbf(3)
    growth = fxgrow.grow(
        model, [(x, y)], F.mse_loss, method=ZeroOutgoing(), budget=Budget(neurons=4)
    )
    outer = growth.module.outer.weight
    assert outer.shape == (1, 7) and not outer[:, 3:].any()
    F.mse_loss(growth.module(x), y).backward()
    assert outer.grad is not None and outer.grad[:, 3:].all()


def test_what_enters_new_neurons_is_as_long_as_what_enters_old_ones() -> None:
    x, y = rbf_data()
    model = over_grown(rbf(3), x, new=5)
    scores = ZeroOutgoing().search(
        model, Objective([(x, y)], F.mse_loss), torch.Generator().manual_seed(0), choose_nothing
    )
    assert scores.new.tolist() == [1.0] * 5
    layer = model.graph_module.get_submodule("fxgrow_grown.inner")
    assert isinstance(layer, OvergrownLayer)
    (blocks,) = scaled_candidates([layer], None, None)
    assert blocks.incoming is not None and blocks.incoming.bias is not None
    weight, bias = blocks.incoming.weight, blocks.incoming.bias
    new = (weight.square().sum(1) + bias.square()).sqrt()
    base = layer.base()
    assert base.bias is not None
    old = (base.weight.square().sum(1) + base.bias.square()).sqrt().mean()
    torch.testing.assert_close(new, old.expand(5))


def mlp(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(108, sizes[0])]
    for inputs, outputs in zip(sizes, (*sizes[1:], 2), strict=True):
        layers += [nn.Tanh(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(
    ("budget", "sizes"),
    [
        (Budget(neurons=0.5), [12, 24, 48]),
        (Budget(neurons=28), [12, 24, 48]),
        (Budget(neurons=0.5, round_to=8), [24, 48]),
        (Budget(neurons=40, per_width=0.25), [10, 20, 40]),
    ],
)
def test_every_width_grows_by_the_same_share(budget: Budget, sizes: list[int]) -> None:
    report = grown(mlp(8, 16, 32), budget).report
    assert [width.after for width in report.widths] == sizes
    assert not report.unspent


@pytest.mark.parametrize("unit", ["parameters", "multiply_adds"])
def test_a_budget_in_other_units_is_spent_evenly(unit: str) -> None:
    report = grown(mlp(8, 16, 32), Budget(**{unit: 0.5})).report
    shares = [width.after / width.before for width in report.widths]
    assert min(shares) >= 1.25 and max(shares) - min(shares) < 0.2
    spending = report.plan.spending[unit]
    assert 0.95 < spending.spent / spending.limit <= 1 and not report.unspent


def test_the_optimizer_grows_along() -> None:
    model = network("chain").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(images()).square().sum().backward()
    optimizer.step()
    growth = grown(model, Budget(neurons=4), optimizer=optimizer)
    growth.module.train()(images()).square().sum().backward()
    assert growth.optimizer is not None
    growth.optimizer.step()
