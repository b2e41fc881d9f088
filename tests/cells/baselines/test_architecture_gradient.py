"""The second order against what autograd gives when it differentiates through the virtual step itself, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import grad

from fxgrow.cells.baselines import Darts
from fxgrow.cells.baselines.architecture_gradient import (
    LossOfWeights,
    TensorTuple,
    VirtualStep,
    first_order,
    second_order,
)
from fxgrow.cells.baselines.darts import DartsState
from fxgrow.cells.space import SearchSpace
from fxgrow.training.sgd import sgd_step
from tests.cells.baselines.tiny import supernet


def exact(
    train: LossOfWeights,
    valid: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    step: VirtualStep,
) -> tuple[Tensor, ...]:
    gradients = grad(train(weights, architecture), weights, create_graph=True)
    return grad(valid(step.apply(weights, gradients), architecture), architecture)


def mixed_layers(inputs: Tensor, target: Tensor) -> LossOfWeights:
    """Two smooth layers, their activations mixed by the architecture."""

    def loss(weights: TensorTuple, architecture: TensorTuple) -> Tensor:
        hidden = inputs
        for weight, choice in zip(weights, architecture, strict=True):
            share, before = choice.softmax(0), hidden @ weight
            hidden = share[0] * before.tanh() + share[1] * before.sin() + share[2] * before
        return ((hidden - target) ** 2).mean()

    return loss


@pytest.fixture
def problem() -> tuple[LossOfWeights, LossOfWeights, list[Tensor], list[Tensor], VirtualStep]:
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    train, valid = (mixed_layers(random(20, 4), random(20, 4)) for _ in range(2))
    weights, architecture = (
        [random(*shape).requires_grad_() for _ in range(2)] for shape in ((4, 4), (3,))
    )
    return (
        train,
        valid,
        weights,
        architecture,
        VirtualStep(0.3, 0.1, [0.5 * random(4, 4) for _ in range(2)]),
    )


def test_second_order_is_the_exact_gradient_but_for_the_difference(
    problem: tuple[LossOfWeights, LossOfWeights, list[Tensor], list[Tensor], VirtualStep],
) -> None:
    train, valid, weights, architecture, step = problem
    want = torch.cat(exact(*problem))
    loss, found = second_order(*problem)
    assert torch.allclose(torch.cat(found), want, rtol=1e-4, atol=1e-6)
    taken = step.apply(weights, grad(train(weights, architecture), weights))
    assert torch.equal(loss, valid(taken, architecture))
    _, first = first_order(valid, weights, architecture)
    assert not torch.allclose(torch.cat(first), want, rtol=0.1)


def test_first_order_is_second_order_with_a_step_of_zero(
    problem: tuple[LossOfWeights, LossOfWeights, list[Tensor], list[Tensor], VirtualStep],
) -> None:
    train, valid, weights, architecture, step = problem
    _, found = second_order(
        train, valid, weights, architecture, VirtualStep(0.0, step.weight_decay, step.momentum)
    )
    _, first = first_order(valid, weights, architecture)
    assert torch.equal(torch.cat(found), torch.cat(first))
    assert torch.equal(
        torch.cat(first), torch.cat(grad(valid(weights, architecture), architecture))
    )


def test_where_the_validation_loss_is_flat_nothing_is_divided_by_zero(
    problem: tuple[LossOfWeights, LossOfWeights, list[Tensor], list[Tensor], VirtualStep],
) -> None:
    train, _, weights, architecture, step = problem

    def flat(weights: TensorTuple, architecture: TensorTuple) -> Tensor:
        return torch.cat(list(architecture)).sum() + 0 * torch.cat(list(weights)).sum()

    _, found = second_order(train, flat, weights, architecture, step)
    assert all(torch.equal(part, torch.ones_like(part)) for part in found)


def test_the_virtual_step_is_the_optimiser_s_next_step_and_the_gradient_is_exact_on_a_supernet() -> (
    None
):
    space = SearchSpace(operations=("skip_connect", "dil_conv_3x3"), nodes=1, cells=3, channels=2)
    rng = torch.Generator().manual_seed(1)
    settings = Darts(order=2, lr=0.05, clip=1e9)
    descent = DartsState.start(settings, space, supernet(space).double(), rng)
    train, valid = (
        (
            torch.randn(6, 1, 4, 4, generator=rng, dtype=torch.float64),
            torch.randint(10, (6,), generator=rng),
        )
        for _ in range(2)
    )
    descent.step(train, valid)  # momentum to come
    weights, architecture = list(descent.supernet.parameters()), list(descent.architecture.values())
    step = descent._virtual_step(weights)
    want = exact(descent._loss(train), descent._loss(valid), weights, architecture, step)
    losses = descent._loss(train), descent._loss(valid)
    # Batch norm over six numbers bends so much that the authors' reach is too far here.
    _, found = second_order(*losses, weights, architecture, replace(step, reach=1e-7))
    assert torch.allclose(torch.cat(found), torch.cat(want), rtol=1e-4, atol=1e-6)
    same = second_order(*losses, weights, architecture, step)[1]
    assert all(map(torch.equal, descent.architecture_gradient(train, valid)[1], same))
    virtual = step.apply(weights, grad(descent._loss(train)(weights, architecture), weights))
    expected = [weight.detach().clone() for weight in virtual]
    loss = descent._loss(train)(weights, architecture)
    sgd_step(descent.optimizer, loss, clip=1e9)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(weights, expected, strict=True))
