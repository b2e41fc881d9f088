"""What lies beside neurons and is nobody's: masks, tables of positions, biases of zeros.

A buffer has labels, because some buffers carry neurons (running means do). What only buffers hold
grows nowhere, so it must not stand in the way of neurons that it meets. And a constant of one
number, such as zeros, is as long as the neurons that it is combined with.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import axis_field, flat_labels
from fxgrow.coupling.labels import Bools, Ints, components


def of_constants(ctx: Context, fields: Sequence[Tensor]) -> list[Tensor]:
    """The fields all of whose labels come from buffers, so that nothing along them grows.

    Args:
        ctx: the context of the run.
        fields: fields of one value.

    Returns:
        Those; in a trial the ones along which nothing does grow.
    """
    if ctx.is_trial:
        return [field for field in fields if not ctx.grows(flat_labels(field))]
    own = np.zeros(ctx.labels.count, bool)
    for axis in ctx.axes:
        own[axis.labels] = not axis.constant
    # Most are labeled by a parameter itself, which costs less to see than what is united.
    doubtful = [field for field in fields if not own[flat_labels(field)].any()]
    if not doubtful:
        return []
    is_learned = _learned_labels(ctx)
    return [field for field in doubtful if not is_learned[flat_labels(field)].any()]


def _learned_labels(ctx: Context) -> Bools:
    """For each label whether it is that of a learned parameter's neuron, by what is united so far.

    The lines of a grid have labels of their own; they are learned if some cell of it is.

    Args:
        ctx: the context of a run that is no trial.

    Returns:
        One entry per label.
    """
    classes = components(ctx.labels.count, ctx.labels.pairs)
    learned = np.zeros(ctx.labels.count, bool)  # by class
    for axis in ctx.axes:
        if not axis.constant:
            learned[classes[axis.labels]] = True
    # A grid comes after those that its cells are lines of.
    for grid in ctx.grids:
        if learned[classes[grid.joint]].any():
            for factor in grid.factors:
                learned[classes[factor]] = True
    return learned[classes]


def adopt(ctx: Context, constant: Tensor, dim: int, neurons: Ints) -> None:
    """Note that a constant of one number has a place for each of these neurons.

    What else it is combined with has as many, so it grows with them (a bias of zeros for all
    heads, that one block makes and all blocks add).

    Args:
        ctx: the context of the run.
        constant: the constant, without neurons along the dimension.
        dim: the dimension.
        neurons: the label of each index of it.
    """
    value = ctx.value(constant)
    labels = axis_field(neurons, dim, constant.shape)
    fields = {**value.fields, (dim,): labels}
    ctx.set_value(constant, replace(value, fields=fields, adopted=True))
    for source in value.made_of:
        own_dim = dim - constant.dim() + source.dim()  # broadcast from the last dimension on
        is_as_long = own_dim >= 0 and source.shape[own_dim] == constant.shape[dim]
        if is_as_long and ctx.is_uniform(source, [own_dim]):
            adopt(ctx, source, own_dim, neurons)
