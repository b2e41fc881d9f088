"""Sizes in a lane: where the old neurons have 12 places, 2 new ones have 2."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from fxgrow.rewrite.context import RewriteContext


def dims_of_neurons(context: RewriteContext, node: fx.Node, width: int) -> list[int]:
    """The dimensions of a value whose size is a multiple of the number of a width's neurons.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.
        width: the number of the width.
    """
    shape = context.coupling.shapes.get(node.name)
    if shape is None:
        return []
    count = context.coupling.widths[width].size
    fitting = [dim for dim in sorted(shape.dims) if shape.size[dim] % count == 0]
    # Three heads beside queries, keys and values: only along one of both are there neurons.
    along = shape.grids.get(width, frozenset())
    return [dim for dim in fitting if dim in along] if len(fitting) > 1 else fitting


def lane_size(context: RewriteContext, node: fx.Node, width: int, dim: int) -> int:
    """The size of a lane along the dimension of its neurons.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.
        width: the number of the width.
        dim: the dimension of its value along which the neurons lie.
    """
    entries = context.coupling.shapes[node.name].size[dim]
    per_neuron = entries // context.coupling.widths[width].size
    places = context.candidates.new[width]
    return int(per_neuron * (places.stop - places.start))


def kept_sizes(context: RewriteContext, node: fx.Node, dim: int) -> dict[int, int]:
    """The sizes that a lane has like the old neurons, of dimensions along which others lie.

    Args:
        context: the graph being rewritten.
        node: a node of the old graph.
        dim: the dimension of the lane's neurons.
    """
    shape = context.coupling.shapes[node.name]
    return {other: shape.size[other] for other in sorted(shape.dims) if other != dim}


def lane_shape(x: Tensor, shape: Any, dim: int, size: int, kept: Mapping[int, int]) -> Any:
    """The shape that a lane takes where the old neurons take ``shape``.

    Args:
        x: the lane.
        shape: a shape in which other sizes than that of the neurons are right for the lane, unless
            the model's code computes them of both (``c // self.groups``).
        dim: the dimension of the neurons.
        size: that of the lane in ``dim``.
        kept: sizes that are known to be the same in the lane, by their dimension.

    Returns:
        ``shape`` if it holds as many elements as the lane; else it follows in ``dim``.
    """
    sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    for other, known in kept.items():
        sizes[other] = sizes[other] if sizes[other] == -1 else known
    if sizes[dim] == -1 or math.prod(sizes) == x.numel():
        return sizes
    # Another dimension may follow from the rest (-1), so this one cannot.
    sizes[dim] = size if -1 in sizes else -1
    return sizes


def lane_constant(x: Tensor, dim: int, size: int) -> Tensor:
    """A constant as long as a lane: along neurons it repeats one number, or it would not grow.

    Args:
        x: the constant beside the old neurons.
        dim: the dimension along which they lie.
        size: that of the lane.
    """
    sizes = list(x.shape)
    sizes[dim] = size
    return x.narrow(dim, 0, 1).expand(sizes).clone()
