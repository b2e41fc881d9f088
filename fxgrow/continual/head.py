"""Heads: the last layer of a classifier, of which every task has its own."""

import torch
from torch import nn

from fxgrow.growth import HEAD_TYPES, find_head
from fxgrow.surgery import sync_size_attributes

__all__ = ["HEAD_TYPES", "find_head", "new_head"]


@torch.no_grad()
def new_head(model: nn.Module, head: str, classes: int, generator: torch.Generator) -> None:
    """Draw a head for so many classes, in place.

    Weights and bias are uniform in +-1 / sqrt(fan-in), as torch initializes these layers.

    Args:
        model: the network.
        head: the path of its head.
        classes: how many rows the head gets.
        generator: draws the weights.
    """
    layer = model.get_submodule(head)
    for parameter in layer.parameters(recurse=False):
        fan_in = max(1, layer.weight[0].numel())  # type: ignore[index]
        bound = fan_in**-0.5
        shape = (classes, *parameter.shape[1:])
        # In float64, so that the same seed gives the same head in every dtype.
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        parameter.data = ((2 * uniform - 1) * bound).to(parameter)
        parameter.grad = None
    sync_size_attributes(layer)
