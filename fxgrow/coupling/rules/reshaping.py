"""Reshapes: dimensions are merged, and taken apart into grids."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling.constant_neurons import of_constants
from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import (
    by_support,
    field_core,
    field_support,
    lines_speak_for,
    place_field,
    select_dims,
    spread_field,
    squash,
)
from fxgrow.coupling.labels import FIXED, Ints
from fxgrow.coupling.rules.elementwise import repeated_dims
from fxgrow.coupling.values import Grid, line
from fxgrow.user_lines import running_frames, user_line

ReshapeGroup = tuple[list[int], list[int]]
"""Neighboring old dimensions, and the new ones that they become."""


def reshape(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``view``, ``reshape``, ``unsqueeze``, ``squeeze`` ...: merge and split groups of dims."""
    x = args[0]
    if not out.numel():
        return  # without elements there are no neurons
    groups = reshape_groups(x.shape, out.shape)
    known: Sequence[Tensor] = list(ctx.fields(x).values())
    for old, _ in groups:
        known = _without_constants(ctx, known, old)
    cells = [field for old, _ in groups for field in _merged(ctx, x, known, old)]
    # Where dimensions are merged, a grid's joint field tells more than its factors: it goes first.
    ordered = sorted([*known, *cells], key=lambda field: -len(field_support(field)))
    fields = _moved_fields(ctx, ordered, groups, out.shape)
    for old, new in groups:
        fields += _lines_of_new_grid(ctx, x, old, new, fields, out)
    if any(len(old) > 1 or len(new) > 1 for old, new in groups):
        ctx.record_reshape(ctx.fields(x).values())
        for old, new in groups:
            ctx.steady &= _is_vector(x.shape, old) and _is_vector(out.shape, new)
    ctx.set_fields(out, fields, ctx.value(x).axes)
    repeated = repeated_dims(ctx, x)
    kept = [(old[0], new[0]) for old, new in groups if len(old) == len(new) == 1]
    ctx.value(out).repeats = frozenset(to for dim, to in kept if dim in repeated)


def _moved_fields(
    ctx: Context, ordered: Sequence[Tensor], groups: Sequence[ReshapeGroup], shape: Sequence[int]
) -> list[Tensor]:
    """Fields after a reshape; neurons that lose their dimension are refused.

    A grid that loses the dimension of its only line is refused along that one alone.
    """
    known = by_support(ordered)
    fields = []
    for field in ordered:
        moved = _reshaped(field, groups, shape)
        if field_support(moved):
            fields.append(moved)
        # Where lines speak, that of the dropped dimension is refused, and the others go on.
        elif not lines_speak_for(known, field_support(field)):
            ctx.pin(field, "squeezed", "a dimension of size 1 is dropped")
            fields.append(moved)
    return fields


def _is_vector(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether at most one of these dimensions has more than one element."""
    return sum(shape[dim] > 1 for dim in dims) <= 1


def reshape_groups(old: Sequence[int], new: Sequence[int]) -> list[ReshapeGroup]:
    """Take a reshape apart.

    Args:
        old: the shape before.
        new: the shape after, with as many elements.

    Returns:
        The smallest groups of old and new dimensions with equal numbers of elements, in order.
    """
    groups: list[ReshapeGroup] = []
    i = j = 0
    while i < len(old) or j < len(new):
        # Begin with a dimension of each side, and add one to the smaller side until they agree.
        old_end, new_end = min(i + 1, len(old)), min(j + 1, len(new))
        while math.prod(old[i:old_end]) != math.prod(new[j:new_end]):
            if math.prod(old[i:old_end]) < math.prod(new[j:new_end]):
                old_end += 1
            else:
                new_end += 1
        groups.append((list(range(i, old_end)), list(range(j, new_end))))
        i, j = old_end, new_end
    return groups


def _without_constants(
    ctx: Context, fields: Sequence[Tensor], old: Sequence[int]
) -> Sequence[Tensor]:
    """The fields without those of constants (a mask for each window), if a merge mixes both.

    What only a constant holds grows nowhere, and neurons that lie beside it may all the same.
    """
    inside = [field for field in fields if not set(field_support(field)).isdisjoint(old)]
    labeled = {dim for field in inside for dim in field_support(field)} & set(old)
    if len(labeled) < 2:
        return fields
    dropped = [id(field) for field in of_constants(ctx, inside)]
    # Constants alone stay what they are: what refuses them is told of them.
    if len(dropped) == len(inside):
        return fields
    return [field for field in fields if id(field) not in dropped]


def _merged(ctx: Context, x: Tensor, fields: Sequence[Tensor], old: Sequence[int]) -> list[Tensor]:
    """Two independent sets of neurons that become one dimension are the lines of a grid there.

    Args:
        ctx: the context of the run.
        x: what is reshaped.
        fields: its fields.
        old: its dimensions that become one.

    Returns:
        The field of its cells, if that is not known yet. Where there is more to it than lines, the
        neurons are refused.
    """
    inside = []
    labeled: set[int] = set()
    lines = {}
    for field in fields:
        support = field_support(field)
        if not set(support).isdisjoint(old):
            inside.append(field)
            labeled.update(set(support) & set(old))
            lines[support] = field
    has_joint_field = any(labeled.issubset(field_support(field)) for field in inside)
    if len(labeled) < 2 or has_joint_field:
        return []
    if any(len(field_support(field)) > 1 for field in inside):
        reason = "two independent sets of neurons are merged into one dimension"
        ctx.pin_fields(inside, "merged", reason)
        return []
    dims = sorted(labeled)
    factors = [line(lines[dim,]) for dim in dims]
    cells = _cells_of_trial(ctx, factors)
    if cells is None:
        sizes = [len(factor) for factor in factors]
        cells = ctx.labels.new(math.prod(sizes)).reshape(sizes)
        ctx.merged.append(len(ctx.grids))
        record_grid(ctx, cells, factors)
    return [spread_field(torch.from_numpy(cells), dims, x.shape)]


def _cells_of_trial(ctx: Context, factors: Sequence[Ints]) -> Ints | None:
    """The cells of a grid in a trial: those of a line are copies of the neuron that grows."""
    for direction, factor in enumerate(factors):
        if ctx.grows(factor):
            shape = [1] * len(factors)
            shape[direction] = -1
            sizes = [len(other) for other in factors]
            return np.broadcast_to(factor.reshape(shape), sizes).copy()
    return None


def _reshaped(field: Tensor, groups: Sequence[ReshapeGroup], shape: Sequence[int]) -> Tensor:
    """The field after a reshape; only the groups that it varies in are materialized."""
    support = field_support(field)
    touched = [(old, new) for old, new in groups if not set(old).isdisjoint(support)]
    for old, new in touched:
        if not (_is_vector(field.shape, old) and _is_vector(shape, new)):
            return _reshaped_dense(field, touched, shape)
    moved = place_field(field, _moved_dims(field, touched, shape), shape)
    if moved is None:  # a dimension of size 1 is dropped: the result varies nowhere
        return torch.full(tuple(shape), FIXED).as_strided(tuple(shape), [0] * len(shape))
    return moved


def _moved_dims(
    field: Tensor, touched: Sequence[ReshapeGroup], shape: Sequence[int]
) -> list[int | None]:
    """Where dimensions go if groups only gain or lose dimensions of size 1."""
    support = field_support(field)
    mapping: list[int | None] = [None] * field.dim()
    for old, new in touched:
        if new:
            labeled = [dim for dim in old if dim in support]
            source = _first_larger_than_one(field.shape, old, labeled[0])
            mapping[source] = _first_larger_than_one(shape, new, new[0])
    return mapping


def _first_larger_than_one(shape: Sequence[int], dims: Sequence[int], default: int) -> int:
    for dim in dims:
        if shape[dim] > 1:
            return dim
    return default


def _reshaped_dense(field: Tensor, touched: Sequence[ReshapeGroup], shape: Sequence[int]) -> Tensor:
    """The field after a reshape of the groups in which it varies, element by element."""
    olds: list[int] = []
    news: list[int] = []
    keep = []
    for old, new in touched:
        # A neuron merged with space fills its new dimension even if it is the only one.
        if len(new) == 1:
            keep.append(len(news))
        olds += old
        news += new
    # All dimensions of the groups, and element 0 of the others, along which nothing varies.
    part = field[select_dims(tuple(olds), field.dim())]
    dense = part.reshape([shape[dim] for dim in news])
    thin = squash(dense, keep)
    dims = [news[dim] for dim in field_support(thin)]
    return spread_field(field_core(thin), dims, shape)


def _lines_of_new_grid(
    ctx: Context,
    x: Tensor,
    old: Sequence[int],
    new: Sequence[int],
    fields: Sequence[Tensor],
    out: Tensor,
) -> list[Tensor]:
    """The fields of the lines of a grid, if a group of dimensions became one that is labeled."""
    if sum(x.shape[dim] > 1 for dim in old) != 1:
        return []
    for field in fields:
        inside = set(field_support(field)) & set(new)
        if len(inside) > 1 and inside == set(field_support(field)):
            return _grid(ctx, field, out)
    return []


def _grid(ctx: Context, field: Tensor, out: Tensor) -> list[Tensor]:
    """Label the lines of a grid; it is remembered that only one direction of it can grow."""
    factors: list[Ints] = []
    line_fields = []
    for dim in field_support(field):
        labels = ctx.labels.new(out.shape[dim])
        factors.append(labels)
        line_fields.append(spread_field(torch.from_numpy(labels), (dim,), out.shape))
    joint = field_core(field).contiguous().numpy()  # the label of each cell
    record_grid(ctx, joint, factors)
    return line_fields


def record_grid(ctx: Context, joint: Ints, factors: Sequence[Ints]) -> None:
    """Record that labels are seen as a grid in the module that is running.

    Args:
        ctx: the context of the run.
        joint: the label of each cell.
        factors: the labels of the lines along each dimension.
    """
    where = user_line(running_frames(), ctx.packages)
    ctx.grids.append(Grid(joint, tuple(factors), ctx.node(), ctx.modules[-1], where))
