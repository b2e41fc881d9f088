"""Step one (Eq. 4): minimise the loss over (eps, delta) of all candidates at once, without the sparsity constraint."""

import itertools

import torch

from fxgrow.growth import Objective
from fxgrow.methods.firefly.neighbourhood import directions, project
from fxgrow.rewrite import OverGrown


def relax(grown: OverGrown, objective: Objective, eps: float, steps: int, lr: float) -> None:
    """``steps`` projected Adam steps, one growth batch each. Base parameters get no gradient.

    The step size falls linearly to 0: Adam at a constant one stays lr away from the minimum, and where the loss is
    small the scores would be those of that noise. A candidate that is off (eps = 0) when it starts stays off, so the
    same steps refine a selection.
    """
    candidates = grown.candidates
    moved = [p for p in (candidates.split_eps, candidates.new_eps) if len(p)]
    on = [p.detach() != 0 for p in moved]
    optimizer = torch.optim.Adam([{"params": directions(grown), "lr": lr}, {"params": moved, "lr": lr * eps}])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(steps, 1))
    for batch in itertools.islice(itertools.cycle(objective.batches), steps):
        optimizer.zero_grad(set_to_none=True)
        objective.on(grown.graph_module, batch).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for parameter, mask in zip(moved, on, strict=True):
                parameter.mul_(mask)
        project(grown, eps)
    optimizer.zero_grad(set_to_none=True)
