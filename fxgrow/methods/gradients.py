"""The gradient of the growth objective, which most methods use."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fxgrow.growth import Objective, gradients_of
from fxgrow.rewrite import OverGrown


def _watch_nothing(_: int) -> None:
    """Do nothing before a batch."""


def mean_gradients(
    grown: OverGrown,
    objective: Objective,
    parameters: Sequence[Tensor],
    before_batch: Callable[[int], None] = _watch_nothing,
) -> list[Tensor]:
    """Return dL/dp of the objective for each parameter p.

    Args:
        grown: the over-grown graph.
        objective: the loss and the growth batches; each batch counts by its number of examples.
        parameters: leaf tensors of the graph.
        before_batch: called before every batch with the number of its examples.

    Returns:
        One gradient per parameter, of its shape; zero where the loss does not depend on it.
    """
    sizes = objective.sizes
    total_size = objective.ranks.total(sum(sizes))
    means = [torch.zeros_like(parameter) for parameter in parameters]
    for batch, size in zip(objective.batches, sizes, strict=True):
        before_batch(size)
        loss = objective.on(grown.graph_module, batch)
        gradients = gradients_of(loss, parameters, allow_unused=True, materialize_grads=True)
        for mean, gradient in zip(means, gradients, strict=True):
            mean.add_(gradient, alpha=size / total_size)
    return objective.ranks.sums(means)
