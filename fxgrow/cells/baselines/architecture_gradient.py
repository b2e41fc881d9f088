"""The gradient of the validation loss with respect to the architecture.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 2.3. The weights w follow the architecture
a by one virtual step of SGD, w'(a) = w - xi * (momentum + grad_w L_train(w, a) + decay * w), and
(Eq. 7)

    d L_valid(w'(a), a) / da
        = grad_a L_valid(w', a) - xi * grad_a grad_w L_train(w, a) . grad_w' L_valid(w', a)

whose last product is a difference of two gradients (Eq. 8). xi = 0 is the first order. How we
differ: a loss is a plain function of weights and architecture; virtual weights are other arguments
to it, where the authors copy the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

TensorTuple = Sequence[Tensor]
LossOfWeights = Callable[[TensorTuple, TensorTuple], Tensor]
"""From weights and architecture to a loss."""

REACH = 0.01
"""The authors' value."""


@dataclass(frozen=True, eq=False)
class VirtualStep:
    """A step of SGD that is computed but not taken.

    Args:
        rate: learning rate, xi.
        weight_decay: L2 penalty.
        momentum: for every weight, the momentum coefficient times its momentum buffer.
        reach: norm of the difference between the weights and each of the two points of Eq. 8.
    """

    rate: float
    weight_decay: float
    momentum: TensorTuple
    reach: float = REACH

    def apply(self, weights: TensorTuple, gradients: TensorTuple) -> list[Tensor]:
        """The weights after the step."""
        moved = []
        for weight, gradient, momentum in zip(weights, gradients, self.momentum, strict=True):
            direction = momentum + gradient + self.weight_decay * weight
            moved.append(weight - self.rate * direction)
        return moved


def first_order(
    valid: LossOfWeights, weights: TensorTuple, architecture: TensorTuple
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss and its gradient with the weights as they are.

    Args:
        valid: the validation loss.
        weights: the shared weights.
        architecture: the weights of the architecture; the gradient is with respect to these.

    Returns:
        The loss, and the gradient for each tensor of ``architecture``.
    """
    loss = valid([weight.detach() for weight in weights], architecture)
    return loss.detach(), list(grad(loss, architecture))


def second_order(
    train: LossOfWeights,
    valid: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    step: VirtualStep,
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss after a virtual step, and its gradient through that step (Eq. 7).

    Args:
        train: the training loss, which the step descends on.
        valid: the validation loss.
        weights: the shared weights.
        architecture: the weights of the architecture; the gradient is with respect to these.
        step: the virtual step.

    Returns:
        The loss, and the gradient for each tensor of ``architecture``.
    """
    # Weights as leaves of their own, so that no gradient reaches the parameters themselves.
    current = [weight.detach().requires_grad_() for weight in weights]
    training_gradients = grad(train(current, architecture), current)
    stepped = step.apply(current, training_gradients)
    virtual = [weight.detach().requires_grad_() for weight in stepped]
    loss = valid(virtual, architecture)
    # One backward pass for both factors: grad_a L_valid and grad_w' L_valid, at w'.
    gradients = grad(loss, [*architecture, *virtual])
    direct, through_weights = gradients[: len(architecture)], gradients[len(architecture) :]
    product = mixed_product(train, weights, architecture, through_weights, step.reach)
    total = []
    for first, second in zip(direct, product, strict=True):
        total.append(first - step.rate * second)
    return loss.detach(), total


def mixed_product(
    train: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    direction: TensorTuple,
    reach: float,
) -> list[Tensor]:
    """grad_a grad_w L_train(w, a) . direction, by a central difference along ``direction`` (Eq. 8).

    Args:
        train: the training loss.
        weights: the shared weights.
        architecture: the weights of the architecture.
        direction: one tensor per weight; the product is zero if all of it is.
        reach: norm of the difference between the weights and each of the two points.

    Returns:
        The product, for each tensor of ``architecture``.
    """
    # The two points are a fixed distance apart, however long the direction is.
    norm = float(torch.cat([part.flatten() for part in direction]).norm())
    if not norm:  # a flat validation loss: nothing to divide by
        return [torch.zeros_like(part) for part in architecture]
    distance = reach / norm  # in units of ``direction``
    above = _gradient_at(train, weights, architecture, direction, distance)
    below = _gradient_at(train, weights, architecture, direction, -distance)
    difference = []
    for a, b in zip(above, below, strict=True):
        difference.append((a - b) / (2 * distance))
    return difference


def _gradient_at(
    train: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    direction: TensorTuple,
    distance: float,
) -> tuple[Tensor, ...]:
    """grad_a L_train at the weights moved by ``distance`` along ``direction``."""
    moved = []
    for weight, part in zip(weights, direction, strict=True):
        moved.append(weight.detach() + distance * part)
    return grad(train(moved, architecture), architecture)
