"""TINY against the closed form, written out with dense matrices."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.methods import TINY
from fxgrow.methods.firefly.neighborhood import overgrown_layers
from fxgrow.methods.tiny import layer_inputs
from tests.methods.test_pool import Recurrent, choose_nothing
from tests.networks import images, network
from tests.rewrite.rewriting import over_grown


def data(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    return x @ mixing, torch.randn(count, 3, generator=generator, dtype=torch.float64)


def mlp(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 2), activation, nn.Linear(2, 3)).double()


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)


def closed_form(model: nn.Sequential) -> tuple[Tensor, Tensor, Tensor]:
    """u_k, s_k, v_k of S^{-1/2} N for a mean squared error, all matrices dense: propositions 1 to 3."""
    x, y = data()
    h = with_ones(model[1](model[0](x)).detach())  # [n, inputs of the last layer, and 1]
    wanted = -2 * (model(x).detach() - y) / 3  # minus the gradient of one example's loss: [n, 3]
    left = wanted - h @ torch.linalg.lstsq(h, wanted).solution
    inputs = with_ones(x)
    values, vectors = torch.linalg.eigh(inputs.T @ inputs / len(x))
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    u, s, v = torch.linalg.svd(root @ (inputs.T @ left / len(x)), full_matrices=False)
    return root @ u, s, v


def test_the_decrease_is_gamma_times_the_squares_of_the_singular_values() -> None:
    """Neurons without an activation, so that nothing is linearized."""
    model, gamma = mlp(nn.Identity()), 1e-4
    _, s, _ = closed_form(model)
    x, y = data()
    grown = over_grown(copy.deepcopy(model), x, split=False, new=3)
    objective = Objective([(x, y)], F.mse_loss)
    before = objective.mean(grown.graph_module)
    method = TINY(new=3, step=gamma)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), choose_nothing)
    torch.testing.assert_close(scores.new, gamma * s.square())
    assert (s > 1e-2).all()
    fallen = before - objective.mean(grown.graph_module)
    assert fallen == pytest.approx(float(gamma * s.square().sum()), rel=1e-3)


def test_a_step_by_the_closed_form_falls_as_far() -> None:
    """Independent of the over-grown graph: c_k = gamma s_k v_k and w_k = S^{-1/2} u_k by hand."""
    model, gamma = mlp(nn.Identity()), 1e-4
    rows, s, v = closed_form(model)
    x, y = data()
    before = F.mse_loss(model(x), y)
    moved = model(x) + gamma * with_ones(x) @ rows @ torch.diag(s) @ v
    fallen = float((before - F.mse_loss(moved, y)).detach())
    assert fallen == pytest.approx(float(gamma * s.square().sum()), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_relu_gains_at_least_what_its_linear_half_does(seed: int) -> None:
    """relu(a) = (a + |a|) / 2, and of the two signs that one is taken whose second half helps."""
    model = mlp(nn.ReLU())
    torch.manual_seed(seed)
    model[0].reset_parameters()
    _, s, _ = closed_form(model)
    x, y = data()
    grown = over_grown(copy.deepcopy(model), x, split=False, new=3)
    objective = Objective([(x, y)], F.mse_loss)
    before = objective.mean(grown.graph_module)
    method = TINY(new=3, step=1e-4)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), choose_nothing)
    assert (scores.new >= 0.5e-4 * s.square() * (1 - 1e-6)).all()
    assert scores.new[0] > 0.52e-4 * s[0].square()
    fallen = before - objective.mean(grown.graph_module)
    assert fallen == pytest.approx(float(scores.new.sum()), rel=1e-2)


def test_what_the_layer_can_do_itself_is_no_bottleneck() -> None:
    """The target is another read-out of the same hidden neurons: no new one is needed."""
    model = mlp(nn.Tanh())
    x, y = data()
    with torch.no_grad():
        hidden = with_ones(torch.tanh(model[0](x)))
        reachable = model(x) + hidden @ torch.randn(3, 3).double()
    gains = []
    for target in (reachable, y):
        grown = over_grown(copy.deepcopy(model), x, split=False, new=3)
        objective = Objective([(x, target)], F.mse_loss)
        scores = TINY(new=3).search(grown, objective, torch.Generator(), choose_nothing)
        gains.append(float(scores.new.max()))
    assert gains[0] < 1e-9 * gains[1]


@pytest.mark.parametrize(
    ("conv", "groups"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), 1),
        (nn.Conv2d(4, 6, (2, 3), dilation=2, bias=False), 1),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), 2),
    ],
)
def test_inputs_of_a_convolution_are_its_patches(conv: nn.Conv2d, groups: int) -> None:
    model = nn.Sequential(conv, nn.Tanh(), nn.Conv2d(6, 2, 1)).double()
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    grown = over_grown(model, x, split=False, new=2)
    layer = overgrown_layers(grown)[0]
    inputs = layer_inputs(layer, x)
    patches = F.unfold(
        x, conv.kernel_size, padding=conv.padding, stride=conv.stride, dilation=conv.dilation
    )  # [batch, channels * kernel, positions]
    by_group = patches.unflatten(1, (groups, -1)).movedim(1, 0).transpose(2, 3).flatten(1, 2)
    size = by_group.shape[2]
    torch.testing.assert_close(inputs[:, :, :size], by_group)
    assert inputs.shape[2] == size + (conv.bias is not None)
    assert conv.bias is None or (inputs[:, :, size] == 1).all()


def test_convolutions_fall_as_predicted() -> None:
    """Strided convolutions on both ends, without an activation: the scores add up to the decrease."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.Identity(), nn.Conv2d(2, 3, 3, padding=1)
    ).double()
    x, y = torch.randn(6, 2, 8, 8).double(), torch.randn(6, 3, 4, 4).double()
    grown = over_grown(model, x, split=False, new=4)
    objective = Objective([(x, y)], F.mse_loss)
    before = objective.mean(grown.graph_module)
    method = TINY(new=4, step=1e-3, iterations=6)
    scores = method.search(grown, objective, torch.Generator().manual_seed(0), choose_nothing)
    fallen = before - objective.mean(grown.graph_module)
    assert (scores.new > 0).all()
    assert fallen == pytest.approx(float(scores.new.sum()), rel=1e-2)


@pytest.mark.parametrize("name", ["chain", "residual", "gate", "dense", "grouped", "block"])
def test_the_loss_falls_at_once(name: str) -> None:
    batches = [(images(8, seed), torch.arange(8) % 2) for seed in range(4)]
    report = fxgrow.grow(
        network(name), batches, F.cross_entropy, method=TINY(new=4), budget=Budget(neurons=4)
    ).report
    assert report.loss_after < report.loss_before
    assert sum(width.new for width in report.widths) == 4


def test_widths_without_a_closed_form_are_named() -> None:
    batches = [(images(8, seed), torch.arange(8) % 2) for seed in range(4)]
    report = fxgrow.grow(
        network("residual"), batches, F.cross_entropy, method=TINY(new=2), budget=Budget(neurons=1)
    ).report
    refusal = report.refusals["stem"]
    assert refusal.code == "method"
    assert refusal.reason == "TINY has no candidates for it: 2 layers write it (a2, stem)"


def test_a_model_without_any_such_width_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(GrowthError, match="weight_ih_l0 is no weight of a linear layer") as caught:
        fxgrow.grow(
            Recurrent().double(), [(torch.randn(4, 6, 3).double(), None)],
            lambda out, _: out.square().mean(), method=TINY(), budget=Budget(neurons=2),
        )  # fmt: skip
    assert caught.value.code == "no-candidates"
