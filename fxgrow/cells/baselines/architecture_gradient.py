"""The gradient of the validation loss with respect to the architecture.

Reference: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 2.3. The weights w answer to the architecture a by one virtual
step of SGD, w'(a) = w - xi * (momentum + grad_w L_train(w, a) + decay * w), and (Eq. 7)

    d L_valid(w'(a), a) / da = grad_a L_valid(w', a) - xi * grad_a grad_w L_train(w, a) . grad_w' L_valid(w', a)

whose last product is a difference of two gradients (Eq. 8). xi = 0 is the first order. How we differ: a loss is a plain
function of weights and architecture; virtual weights are other arguments to it, where the authors copy the model.
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
    """A step of SGD that is not taken; ``moved``: momentum * what it moved along before, for every weight.

    ``reach``: how far the difference of Eq. 8 goes from the weights to either side, in norm.
    """

    rate: float
    weight_decay: float
    moved: TensorTuple
    reach: float = REACH

    def taken(self, weights: TensorTuple, gradients: TensorTuple) -> list[Tensor]:
        """The weights after it."""
        return [
            weight - self.rate * (moved + gradient + self.weight_decay * weight)
            for weight, gradient, moved in zip(weights, gradients, self.moved, strict=True)
        ]


def first_order(
    valid: LossOfWeights, weights: TensorTuple, architecture: TensorTuple
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss and its gradient with the weights as they are."""
    loss = valid([weight.detach() for weight in weights], architecture)
    return loss.detach(), list(grad(loss, architecture))


def second_order(
    train: LossOfWeights,
    valid: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    step: VirtualStep,
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss after a virtual step on the training loss, and its gradient through that step."""
    here = [weight.detach().requires_grad_() for weight in weights]
    ahead = [
        weight.detach().requires_grad_()
        for weight in step.taken(here, grad(train(here, architecture), here))
    ]
    loss = valid(ahead, architecture)
    found = grad(loss, [*architecture, *ahead])
    direct, onward = found[: len(architecture)], found[len(architecture) :]
    answer = mixed_product(train, weights, architecture, onward, step.reach)
    return loss.detach(), [a - step.rate * b for a, b in zip(direct, answer, strict=True)]


def mixed_product(
    train: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    direction: TensorTuple,
    reach: float,
) -> list[Tensor]:
    """grad_a grad_w L_train(w, a) . direction, by a central difference along ``direction`` (zero: zero)."""
    norm = float(torch.cat([part.flatten() for part in direction]).norm())
    if not norm:
        return [torch.zeros_like(part) for part in architecture]
    by = reach / norm
    above, below = (
        _gradient_at(train, weights, architecture, direction, part) for part in (by, -by)
    )
    return [(a - b) / (2 * by) for a, b in zip(above, below, strict=True)]


def _gradient_at(
    train: LossOfWeights,
    weights: TensorTuple,
    architecture: TensorTuple,
    direction: TensorTuple,
    by: float,
) -> tuple[Tensor, ...]:
    moved = [weight.detach() + by * part for weight, part in zip(weights, direction, strict=True)]
    return grad(train(moved, architecture), architecture)
