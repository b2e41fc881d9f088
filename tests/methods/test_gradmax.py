"""GradMax: the gradient of new incoming weights is as large as it can be, and the function is kept."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.growth import Objective
from fxgrow.methods import GradMax
from tests.methods.test_pool import Recurrent, Tagger, choose_nothing
from tests.networks import NETWORKS, images, network
from tests.rewrite.rewriting import over_grown

SLOPES = {nn.Tanh: 1.0, nn.ReLU: 1.0, nn.SiLU: 0.5, nn.GELU: 0.5}
"""sigma'(0), from above."""


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    return x, torch.randn(50, 3, generator=generator, dtype=torch.float64)


def mlp(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), activation, nn.Linear(7, 3)).double()


def gradient_matrix(model: nn.Sequential, slope: float) -> Tensor:
    """sigma'(0) E[[x, 1] (dL/dz)^T] by hand, for the mean squared error: dL/dz = 2 (z - y) / (n m)."""
    x, y = data()
    error = 2 * (model(x).detach() - y) / y.numel()
    return slope * torch.cat([x, torch.ones(50, 1)], 1).T @ error


def incoming_gradient(model: nn.Sequential, old: int) -> float:
    """The squared norm of the gradient of what enters the neurons after the old ones."""
    x, y = data()
    model.zero_grad()
    F.mse_loss(model(x), y).backward()
    weight, bias = model[0].weight.grad, model[0].bias.grad
    return float(weight[old:].square().sum() + bias[old:].square().sum())


@pytest.mark.parametrize("kind", SLOPES)
def test_the_gradient_is_the_sum_of_the_largest_singular_values(kind: type[nn.Module]) -> None:
    model = mlp(kind())
    growth = fxgrow.grow(
        model, [data()], F.mse_loss, method=GradMax(new=3), budget=Budget(neurons=2)
    )
    length = float(model[2].weight.detach().norm(dim=0).mean())
    values = torch.linalg.svdvals(gradient_matrix(model, SLOPES[kind]))
    expected = float((length * values[:2]).square().sum())
    assert incoming_gradient(growth.module, 7) == pytest.approx(expected, rel=1e-9)
    columns = growth.module[2].weight[:, 7:]
    torch.testing.assert_close(columns.T @ columns, length**2 * torch.eye(2).double())
    torch.testing.assert_close(growth.module(data()[0]), model(data()[0]), rtol=1e-14, atol=1e-15)


def test_the_gradient_is_larger_than_that_of_random_columns() -> None:
    model = mlp(nn.Tanh())
    growth = fxgrow.grow(
        model, [data()], F.mse_loss, method=GradMax(new=3), budget=Budget(neurons=2)
    )
    largest = incoming_gradient(growth.module, 7)
    others: list[float] = []
    for seed in range(20):
        rival = copy.deepcopy(growth.module)
        generator = torch.Generator().manual_seed(seed)
        columns = torch.linalg.qr(
            torch.randn(3, 2, generator=generator, dtype=torch.float64)
        ).Q  # orthonormal, too
        rival[2].weight.data[:, 7:] = columns * model[2].weight.norm(dim=0).mean()
        others.append(incoming_gradient(rival, 7))
    assert max(others) < largest and sum(others) / 20 < 0.8 * largest


def test_convolutions_get_the_singular_vectors_of_the_whole_second_derivative() -> None:
    """The mixed block of the dense Hessian of a network that is written out with its new neuron."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Tanh(), nn.Conv2d(3, 2, 2)).double()
    x, y = torch.randn(4, 2, 7, 7).double(), torch.randn(4, 2, 2, 2).double()
    first, last = model[0], model[2]

    def loss(ends: Tensor) -> Tensor:
        row, bias, column = ends.split([18, 1, 8])
        new = torch.tanh(F.conv2d(x, row.reshape(1, 2, 3, 3), bias, stride=2))
        return F.mse_loss(model(x) + F.conv2d(new, column.reshape(2, 1, 2, 2)), y)

    hessian = torch.autograd.functional.hessian(loss, torch.zeros(27).double())
    mixed = hessian[:19, 19:]
    values = torch.linalg.svdvals(mixed)
    grown = over_grown(copy.deepcopy(model), x, split=False, new=8)
    objective = Objective([(x, y)], F.mse_loss)
    scores = GradMax(new=8).search(grown, objective, torch.Generator(), choose_nothing)
    row_norms = (first.weight.flatten(1).square().sum(1) + first.bias.square()).sqrt()
    column_norms = last.weight.transpose(0, 1).flatten(1).norm(dim=1)
    unit = float((row_norms.mean() * column_norms.mean()).detach())
    torch.testing.assert_close(scores.new, (unit * values).square())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_kept_in_both_modes(name: str) -> None:
    model = network(name)
    growth = fxgrow.grow(
        model,
        [(images(8, seed), torch.arange(8) % 2) for seed in range(3)],
        F.cross_entropy,
        method=GradMax(new=6),
        budget=Budget(neurons=5),
        refresh_statistics=False,
    )
    assert sum(width.new for width in growth.report.widths) == 5
    for training in (False, True):
        one, other = copy.deepcopy(model).train(training), copy.deepcopy(growth.module)
        torch.testing.assert_close(other.train(training)(images(5)), one(images(5)))


@pytest.mark.parametrize("between", [nn.BatchNorm1d(7).double(), nn.Sigmoid()])
def test_where_incoming_weights_cannot_be_zero_outgoing_ones_are(between: nn.Module) -> None:
    """Then the incoming weights are singular vectors, and the outgoing ones have a gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), between, nn.Tanh(), nn.Linear(7, 3)).double()
    growth = fxgrow.grow(
        model, [data()], F.mse_loss, method=GradMax(new=3), budget=Budget(neurons=1)
    )
    grown, x = growth.module.eval(), data()[0]
    assert not grown[3].weight[:, 7:].any()
    first, last = model[0], grown[0]
    norms = (first.weight.square().sum(1) + first.bias.square()).sqrt().detach()
    weight, bias = last.weight[7].detach(), last.bias[7].detach()
    assert float(weight.square().sum() + bias.square()) == pytest.approx(
        float(norms.mean()) ** 2, rel=1e-9
    )
    F.mse_loss(grown(x), data()[1]).backward()
    assert grown[3].weight.grad[:, 7:].abs().max() > 1e-3


def test_neurons_beyond_the_rank_learn_all_the_same() -> None:
    """Three outputs: no more than three directions. The others have random incoming weights."""
    model = mlp(nn.Tanh())
    growth = fxgrow.grow(
        model, [data()], F.mse_loss, method=GradMax(new=6), budget=Budget(neurons=6)
    )
    grown, (x, y) = growth.module, data()
    torch.testing.assert_close(grown(x), model(x))
    F.mse_loss(grown(x), y).backward()
    for neuron in range(7, 13):
        entering = grown[0].weight.grad[neuron].abs().max()
        leaving = grown[2].weight.grad[:, neuron].abs().max()
        assert max(float(entering), float(leaving)) > 1e-6


@pytest.mark.parametrize("make", [Tagger, Recurrent])
def test_layers_that_compute_their_weights_grow_too(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().double()
    x = torch.randn(4, 3, 6 if make is Tagger else 3).double()
    growth = fxgrow.grow(
        model, [(x, None)], lambda out, _: out.square().mean(),
        method=GradMax(new=4), budget=Budget(neurons=6, per_width=2),
    )  # fmt: skip
    torch.testing.assert_close(growth.module.eval()(x), model.eval()(x))
    assert sum(width.new for width in growth.report.widths) >= 2


def test_the_same_seed_gives_the_same_neurons() -> None:
    options = {"method": GradMax(new=3), "budget": Budget(neurons=2), "seed": 3}
    one, other = (fxgrow.grow(mlp(nn.Tanh()), [data()], F.mse_loss, **options) for _ in range(2))
    for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(a, b)
