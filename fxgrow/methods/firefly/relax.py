"""Step one (Eq. 4): minimise the loss over (eps, delta) of all candidates at once, without the sparsity constraint."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from fxgrow.growth import Batch, Objective
from fxgrow.methods.firefly.neighborhood import (
    candidate_directions,
    constraint_violation,
    project_candidates,
)
from fxgrow.rewrite import OverGrown


class OptimizerRule(NamedTuple):
    """An optimiser; eps = e u has the step size lr e^power, so that u = eps / e moves as a direction does.

    Adam and RMSprop step by lr whatever the size of the gradient, so u does if eps steps by lr e. A gradient step in u
    is -lr dL/du = -lr e dL/deps, which is lr e^2 in eps.
    """

    make: Callable[[list[dict[str, Any]]], Optimizer]
    power: int


class ConstraintRule(NamedTuple):
    """What is added to the loss, and what is done after every step, to stay in the box and the ball of that eps."""

    added: Callable[[OverGrown, float], Tensor | float]
    after: Callable[[OverGrown, float], None]


@dataclass(frozen=True)
class Bf16(Objective):
    """The objective with the forward pass under bfloat16 autocast."""

    def on(self, module: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast(batch[1].device.type, torch.bfloat16):
            return super().on(module, batch)


OPTIMIZERS = {
    "adam": OptimizerRule(Adam, 1),
    "rmsprop": OptimizerRule(
        partial(RMSprop, alpha=0.9, momentum=0.1), 1
    ),  # the settings of the authors' code
    "sgd": OptimizerRule(partial(SGD, momentum=0.9), 2),
}
CONSTRAINTS = {
    "projection": ConstraintRule(lambda *_: 0.0, project_candidates),
    "penalty": ConstraintRule(constraint_violation, lambda *_: None),
}
PRECISIONS: dict[str, type[Objective]] = {"fp32": Objective, "bf16": Bf16}


def relax(
    grown: OverGrown,
    objective: Objective,
    eps: float,
    steps: int,
    lr: float,
    descent: OptimizerRule = OPTIMIZERS["adam"],
    constraint: ConstraintRule = CONSTRAINTS["projection"],
) -> None:
    """``steps`` steps of an optimiser, one growth batch each. Base parameters get no gradient.

    The step size falls linearly to 0: Adam at a constant one stays lr away from the minimum, and where the loss is
    small the scores would be those of that noise. A candidate that is off (eps = 0) when it starts stays off, so the
    same steps refine a selection. Whatever the constraint, all are in the box and the ball at the end.
    """
    candidates = grown.candidates
    moved = [p for p in (candidates.split_eps, candidates.new_eps) if len(p)]
    on = [p.detach() != 0 for p in moved]
    rates = [(candidate_directions(grown), lr), (moved, lr * eps**descent.power)]
    optimizer = descent.make([{"params": parameters, "lr": rate} for parameters, rate in rates])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(steps, 1))
    for batch in itertools.islice(itertools.cycle(objective.batches), steps):
        optimizer.zero_grad(set_to_none=True)
        (objective.on(grown.graph_module, batch) + constraint.added(grown, eps)).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for parameter, mask in zip(moved, on, strict=True):
                parameter.mul_(mask)
        constraint.after(grown, eps)
    optimizer.zero_grad(set_to_none=True)
    project_candidates(grown, eps)
