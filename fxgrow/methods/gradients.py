"""The gradient of the growth objective, which most methods read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fxgrow.growth import Objective
from fxgrow.rewrite import OverGrown


def mean_gradients(
    grown: OverGrown, objective: Objective, parameters: Sequence[Tensor]
) -> list[Tensor]:
    """dL/dp for each of ``parameters``, the mean over the growth batches; zero where the loss does not depend on p."""
    sizes = [len(target) for _, target in objective.batches]
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for batch, size in zip(objective.batches, sizes, strict=True):
        loss = objective.on(grown.graph_module, batch)
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for total, gradient in zip(totals, found, strict=True):
            total.add_(gradient, alpha=size / sum(sizes))
    return totals
