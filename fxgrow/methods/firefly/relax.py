"""Step one (Eq. 4): minimize the loss over (eps, delta) of all candidates, without sparsity.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020. How we differ:
the learning rate falls linearly to 0, because Adam at a constant one stays lr away from the
minimum, and where the loss is small the scores would be those of that noise; the constraints are
kept by projection or by a penalty; the pass may run in bfloat16.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer, RMSprop

from fxgrow.growth import Objective, gradients_of
from fxgrow.methods.firefly.neighborhood import Neighborhood, candidate_directions
from fxgrow.rewrite import OverGrown


class OptimizerRule(NamedTuple):
    """An optimizer, and how its step size for eps follows from that for directions.

    eps = e u gets the learning rate lr e^power, so that u = eps / e moves as a direction does. Adam
    and RMSprop step by lr whatever the size of the gradient, so u does if eps steps by lr e. A
    gradient step in u is -lr dL/du = -lr e dL/deps, which is lr e^2 in eps.

    Args:
        make: from parameter groups to the optimizer.
        power: of e in the learning rate for eps.
    """

    make: Callable[[list[dict[str, Any]]], Optimizer]
    power: int


class ConstraintRule(NamedTuple):
    """How candidates are kept in their neighborhood.

    Args:
        added: a term that is added to the loss.
        after: what is done after every step.
    """

    added: Callable[[Neighborhood], Tensor | float]
    after: Callable[[Neighborhood], None]


def _adam(groups: list[dict[str, Any]]) -> Adam:
    """Adam in one kernel for all parameters, where torch has it: they are many and small."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(p.dtype in _FUSED_DTYPES and p.device.type in _FUSED_DEVICES for p in parameters)
    return Adam(groups, fused=fused)


_FUSED_DTYPES = (torch.float32, torch.float64)
_FUSED_DEVICES = ("cpu", "cuda")

OPTIMIZERS = {
    # It moves each coordinate by lr, so a direction of n by lr sqrt(n), and projection ends that in
    # the ball. A rate of lr / sqrt(n) was tried and gained less: see docs/when-to-grow.md.
    "adam": OptimizerRule(_adam, 1),
    # The settings of the authors' code.
    "rmsprop": OptimizerRule(partial(RMSprop, alpha=0.9, momentum=0.1), 1),
    "sgd": OptimizerRule(partial(SGD, momentum=0.9), 2),
}
CONSTRAINTS = {
    "projection": ConstraintRule(lambda _: 0.0, Neighborhood.project),
    "penalty": ConstraintRule(Neighborhood.violation, lambda _: None),
}
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
"""What the passes compute in; None for the model's own dtype."""


@torch.no_grad()
def _keep_off(parameters: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    """Put candidates back to 0 that were off."""
    for parameter, mask in zip(parameters, masks, strict=True):
        parameter.mul_(mask)


_ADAM_EPS = 1e-8
"""What torch's optimizers add to a root before they divide by it."""


def relax(
    grown: OverGrown,
    objective: Objective,
    eps: float,
    steps: int,
    lr: float,
    optimizer_rule: OptimizerRule = OPTIMIZERS["adam"],
    constraint: ConstraintRule = CONSTRAINTS["projection"],
    first_batch: int = 0,
) -> None:
    """Optimize eps and the directions of all candidates, one growth batch per step.

    A candidate that is off (eps = 0) at the start stays off, so the same steps refine a selection.
    Whatever the constraint, all candidates are in the box and the ball at the end. Base parameters
    get no gradient.

    Args:
        grown: the over-grown graph, changed in place.
        objective: the loss; its batches take turns.
        eps: radius of the box.
        steps: number of optimizer steps.
        lr: learning rate of the directions at the start.
        optimizer_rule: the optimizer, a value of ``OPTIMIZERS``.
        constraint: a value of ``CONSTRAINTS``.
        first_batch: how many batches earlier steps took.
    """
    neighborhood = Neighborhood.of(grown, eps)
    every_eps = (grown.candidates.split_eps, grown.candidates.new_eps)
    eps_parameters = [parameter for parameter in every_eps if len(parameter)]
    masks = [parameter.detach() != 0 for parameter in eps_parameters]  # 1: the candidate is on
    groups: list[dict[str, Any]] = [
        {"params": candidate_directions(grown), "lr": lr},
        {"params": eps_parameters, "lr": lr * eps**optimizer_rule.power},
    ]
    learning = [parameter for group in groups for parameter in group["params"]]
    for group in groups:
        # Adam and RMSprop divide by the root of a squared gradient, which float16 rounds to 0.
        group["eps"] = max(_ADAM_EPS, torch.finfo(grown.candidates.new_eps.dtype).tiny)
    optimizer = optimizer_rule.make(groups)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(steps, 1))
    for step in range(steps):
        objective.on_step(step + 1, steps)
        number = (first_batch + step) % len(objective.batches)
        optimizer.zero_grad(set_to_none=True)
        loss = objective.on(grown.graph_module, objective.batches[number])
        loss = loss + constraint.added(neighborhood)
        # Not ``backward()``: it would leave gradients in the loss's own parameters and in inputs.
        own = gradients_of(loss, learning, allow_unused=True)
        gradients = objective.ranks.mean_gradients(own, learning, objective.sizes[number])
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        # The optimizer's momentum may move what has no gradient, so this is done every step.
        _keep_off(eps_parameters, masks)
        constraint.after(neighborhood)
    optimizer.zero_grad(set_to_none=True)
    neighborhood.project()
