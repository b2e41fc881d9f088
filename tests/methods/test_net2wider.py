"""Random copies keep the function, and learn apart."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.methods import Net2Wider
from tests.networks import NETWORKS, images, network


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images(8, seed), torch.arange(8) % 2) for seed in range(3)]


def grown(model: nn.Module, seed: int = 0, **options: object) -> fxgrow.Growth:
    return fxgrow.grow(
        model, batches(), F.cross_entropy, method=Net2Wider(), budget=Budget(neurons=4),
        refresh_statistics=False, seed=seed, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept_in_both_modes(name: str) -> None:
    model = network(name)
    growth = grown(model)
    report = growth.report
    assert sum(width.split for width in report.widths) == 4
    assert not sum(width.new for width in report.widths) and report.backtracks == 0
    for training in (False, True):
        one, other = copy.deepcopy(model).train(training), copy.deepcopy(growth.module)
        torch.testing.assert_close(other.train(training)(images(5)), one(images(5)))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def test_copies_share_the_outgoing_weights_and_part_in_training() -> None:
    model = mlp()
    growth = grown(model)
    module = growth.module
    (width,) = growth.report.widths
    rows = module[1].weight.detach()
    twins = [
        (one, other)
        for one in range(12)
        for other in range(one + 1, 12)
        if torch.equal(rows[one], rows[other])
    ]
    assert len(twins) == width.split == 4
    columns = module[3].weight.detach()
    for one, other in twins:
        old = int((model[1].weight == rows[one]).all(1).nonzero())
        together = columns[:, one] + columns[:, other]
        torch.testing.assert_close(together, model[3].weight[:, old].detach())
        assert (columns[:, one] - columns[:, other]).abs().min() > 0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for x, y in batches():
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    for one, other in twins:
        assert (module[1].weight[one] - module[1].weight[other]).abs().max() > 1e-4


def test_the_seed_decides_who_is_copied() -> None:
    first, again, other = (grown(mlp(), seed).module[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_no_loss_is_differentiated_by_the_search() -> None:
    """But once, to see that there is a gradient at all; the rest are losses that the report tells."""
    gradients: list[bool] = []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            gradients.append(True)
            return gradient

    fxgrow.grow(
        mlp(), batches(), lambda out, y: Noted.apply(F.cross_entropy(out, y)),
        method=Net2Wider(), budget=Budget(neurons=4),
    )  # fmt: skip
    assert len(gradients) == 1
