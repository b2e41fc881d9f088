"""Operators that only move elements: run the operator itself on the fields.

Views (transpose, select, slice, ...) keep stride 0 where it was, so the support of the result is
read off its strides. Operators that copy get the varying part of a field only, so they stay
O(channels).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling.fields import (
    Support,
    axis_field,
    field_core,
    field_support,
    place_field,
    select_dims,
    spread_field,
    squash,
)
from fxgrow.coupling.labels import FIXED, Ints
from fxgrow.coupling.rules.elementwise import combine, results_of
from fxgrow.coupling.values import Context, Grid, Role, joint_axes, line, placed_fields
from fxgrow.user_lines import running_frames, user_line

aten = torch.ops.aten

ReshapeGroup = tuple[list[int], list[int]]
"""Neighboring old dimensions, and the new ones that they become."""


def view(operator: Callable[..., Any]) -> Callable[[Context, Sequence[Any], Any], None]:
    """Make a rule for a view operator without new dimensions: ``operator`` itself on every field.

    Args:
        operator: the operator, which takes the value as its first argument.

    Returns:
        The rule.
    """

    def rule(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
        x = args[0]
        fields = [operator(field, *args[1:]) for field in ctx.fields(x).values()]
        ctx.set_fields(out, fields, ctx.value(x).axes)

    return rule


def same(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """The result has the elements of the first argument where they were.

    So do clones, dropout, and random noise that is written into a value.
    """
    x = args[0]
    ctx.set_fields(results_of(out)[0], ctx.fields(x).values(), ctx.value(x).axes)


def like(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``empty_like(x)`` and its relatives: noise or a constant in the shape of a value.

    Along a dimension of one element they are broadcast like any number: that is no neuron.
    """
    x = args[0]
    fields = []
    for support, field in ctx.fields(x).items():
        if all(x.shape[dim] > 1 for dim in support):
            fields.append(field)
    ctx.set_fields(out, fields, ctx.value(x).axes)


def expand(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``expand(x, sizes)``: new dims come in front; a neuron that is expanded cannot grow."""
    x = args[0]
    offset = out.dim() - x.dim()
    for support, field in ctx.fields(x).items():
        if any(x.shape[dim] != out.shape[dim + offset] for dim in support):
            reason = "a dimension of size 1 is expanded, it cannot have another size"
            ctx.pin(field, "broadcast", reason)
    fields = placed_fields(ctx.fields(x), range(offset, out.dim()), out.shape)
    ctx.set_fields(out, fields, ctx.value(x).axes)


def _dim_argument(args: Sequence[Any], position: int, rank: int, default: int = 0) -> int:
    """A dimension among the arguments, counted from 0."""
    dim: int = args[position] if len(args) > position else default  # may count from the end
    return dim % rank


def partial(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``select`` and ``slice``: a part of the neurons that is taken by number.

    A slice makes widths of their own of what it takes and leaves (``x[:, :self.c]``): a trial
    growth shows whether its numbers follow. One neuron, or every second one, cannot grow. Taking
    all of them is a view.
    """
    x = args[0]
    dim = _dim_argument(args, 1, x.dim())
    is_slice = out.dim() == x.dim() and (len(args) < 5 or args[4] == 1)
    # Run the operator itself on the fields: their strides say what is left of the support.
    operator = aten.select.int if out.dim() < x.dim() else aten.slice.Tensor
    if out.shape != x.shape:
        for support, field in ctx.fields(x).items():
            if support == (dim,) and is_slice:
                start = _first_index(args, x.shape[dim])
                _unite_aligned(ctx, field, dim, start, out.shape[dim])
                ctx.record_reshape([field, operator(field, *args[1:])])
            elif support == (dim,):
                ctx.pin(field, "sliced", "a part of it is taken by number")
    view(operator)(ctx, args, out)


def _first_index(args: Sequence[Any], size: int) -> int:
    """The first index that ``slice(x, dim, start, ...)`` takes."""
    start: int = (args[2] if len(args) > 2 else None) or 0
    return max(start + size, 0) if start < 0 else start


def _unite_aligned(ctx: Context, field: Tensor, dim: int, start: int, size: int) -> None:
    """A slice that is one of several equal parts of an axis (a half): these must stay equal."""
    # In a trial growth sizes may be equal by chance.
    if not ctx.is_trial and size > 1 and start % size == 0 and field.shape[dim] % size == 0:
        _unite_equal(ctx, field, dim, size)


def _unite_equal(ctx: Context, field: Tensor, dim: int, size: int) -> None:
    """Neuron i of one part of this size is neuron i of all others."""
    first = field.narrow(dim, 0, size)
    for start in range(size, field.shape[dim], size):
        ctx.unite(first, field.narrow(dim, start, size))


def split(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``split`` and ``chunk``: parts of one size must stay equal, so they are united.

    Parts of other sizes (``split(x, [a.in_channels, b.in_channels])``) are widths of their own.
    """
    x = args[0]
    dim = _dim_argument(args, 2, x.dim())
    for field in ctx.fields(x).values():
        _unite_parts(ctx, field, dim, out)
    start = 0
    for part in out:
        size = part.shape[dim]
        fields = [field.narrow(dim, start, size) for field in ctx.fields(x).values()]
        ctx.set_fields(part, fields, ctx.value(x).axes)
        start += size


def _unite_parts(ctx: Context, field: Tensor, dim: int, parts: Sequence[Tensor]) -> None:
    """Neuron i of one part is neuron i of the others of its size."""
    if dim not in field_support(field) or len(parts) == 1:
        return
    ctx.record_reshape([field])
    are_equal = len({part.shape[dim] for part in parts}) == 1
    first_of_size: dict[int, Tensor] = {}
    start = 0
    for part in parts:
        size = part.shape[dim]
        labels = field.narrow(dim, start, size)
        start += size
        if ctx.is_trial and not are_equal:  # sizes may be equal by chance
            continue
        if size in first_of_size:
            ctx.unite(first_of_size[size], labels)
        else:
            first_of_size[size] = labels
            ctx.record_reshape([labels])


def unbind(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``unbind(x, dim)``: the number of parts is part of the program."""
    x = args[0]
    dim = _dim_argument(args, 1, x.dim())
    for support, field in ctx.fields(x).items():
        if support == (dim,):
            ctx.pin(field, "sliced", "taken apart into a fixed number of values")
    for i, part in enumerate(out):
        fields = [field.select(dim, i) for field in ctx.fields(x).values()]
        ctx.set_fields(part, fields, ctx.value(x).axes)


def _supports_of(ctx: Context, parts: Sequence[Tensor]) -> list[Support]:
    """All supports that fields of these values have, in the order in which they occur."""
    supports: dict[Support, None] = {}
    for part in parts:
        supports.update(dict.fromkeys(ctx.fields(part)))
    return list(supports)


def cat(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``cat(tensors, dim)``: one after the other along ``dim``, united along all other dims."""
    # Torch leaves out empty vectors, whatever the others are.
    dim = _dim_argument(args, 1, out.dim())
    parts = [part for part in args[0] if part.dim() == out.dim()]
    labeled = [_with_new_neurons(ctx, part, dim) for part in parts]
    fields = []
    for support in _supports_of(ctx, labeled):
        if dim in support:
            fields.append(_one_after_another(ctx, labeled, support, dim, out))
        else:
            fields.append(_united(ctx, parts, support, support, out))
    ctx.set_fields(out, fields, joint_axes(ctx, parts, Role.CARRIES))


def holds_new_neurons(ctx: Context, args: Sequence[Any]) -> bool:
    """Whether ``cat(tensors, dim)`` puts a constant of one number beside what is none."""
    dim = args[1] if len(args) > 1 else 0
    known = [part.dim() > 0 and ctx.is_uniform(part, [dim]) for part in args[0]]
    return any(known) and not all(known)


def _with_new_neurons(ctx: Context, part: Tensor, dim: int) -> Tensor:
    """A constant of one number, as the state that a recurrence starts from: as long as neurons.

    Which ones tells what it meets later; new neurons are as good as any where it meets none.
    """
    if not ctx.is_uniform(part, [dim]):
        return part
    # Not on the constant itself: beside something else it may have another length.
    labeled = torch.empty_like(part, device="meta")
    labels = ctx.labels.new(part.shape[dim])
    ctx.set_fields(labeled, [axis_field(labels, dim, part.shape)])
    return labeled


def _one_after_another(
    ctx: Context, parts: Sequence[Tensor], support: Support, dim: int, out: Tensor
) -> Tensor:
    """The field along a dimension of concatenation; a part without neurons there is ``FIXED``."""
    pieces = []
    for part in parts:
        shape = [part.shape[d] for d in support]
        field = ctx.fields(part).get(support)
        if field is None:
            pieces.append(torch.full(shape, FIXED))
        else:
            pieces.append(field_core(field).reshape(shape))
    return spread_field(torch.cat(pieces, support.index(dim)), support, out.shape)


def _united(
    ctx: Context, parts: Sequence[Tensor], support: Support, to: Support, out: Tensor
) -> Tensor:
    """The fields of all parts with one support, united, along the dimensions ``to`` of ``out``."""
    fields = []
    for part in parts:
        field = ctx.fields(part).get(support)
        if field is not None:
            fields.append(spread_field(field_core(field), to, out.shape))
    for field in fields[1:]:
        ctx.unite(fields[0], field)
    for part in parts:
        if support not in ctx.fields(part) and not ctx.is_uniform(part, support):
            ctx.pin(fields[0], "fixed-size", "concatenated with a value whose size there is fixed")
    return fields[0]


def stack(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``stack(tensors, dim)``: beside each other along a new dimension."""
    parts = args[0]
    new_dim = _dim_argument(args, 1, out.dim())
    fields = []
    for support in _supports_of(ctx, parts):
        # Dimensions from the new one on move by one.
        to = tuple(dim + (dim >= new_dim) for dim in support)
        fields.append(_united(ctx, parts, support, to, out))
    ctx.set_fields(out, fields, joint_axes(ctx, parts, Role.CARRIES))


def glu(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``glu(x, dim)``: one half of ``x`` times the sigmoid of the other."""
    x = args[0]
    dim = _dim_argument(args, 1, out.dim(), default=-1)
    fields = []
    for field in ctx.fields(x).values():
        _unite_parts(ctx, field, dim, [out, out])
        fields.append(field.narrow(dim, 0, out.shape[dim]))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def copy(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x.copy_(source)``: element by element, whatever ``x`` held before."""
    x, source = args[0], args[1]
    combine(ctx, [x, source] if ctx.fields(x) else [source], out)


def pad(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``constant_pad_nd(x, pad)``: what is padded along neurons is nobody's neuron."""
    x, amounts = args[0], list(args[1])
    # Torch lists the amounts from the last dimension on: before, after, before, after, ...
    fields = []
    for support, field in ctx.fields(x).items():
        core_amounts = []
        for dim in reversed(support):
            start = 2 * (x.dim() - 1 - dim)
            of_dim = amounts[start : start + 2]  # empty for a dimension that is not padded
            core_amounts += of_dim or [0, 0]
        padded = aten.constant_pad_nd(field_core(field), core_amounts, FIXED)
        fields.append(spread_field(padded, support, out.shape))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def roll(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``roll(x, shifts, dims)``; without ``dims`` it rolls over all axes as over one."""
    x, shifts = args[0], args[1]
    dims = [dim % out.dim() for dim in args[2]] if len(args) > 2 else []
    if not dims:
        for field in ctx.fields(x).values():
            ctx.pin(field, "rolled", "it is rolled as a part of one long axis")
        ctx.set_fields(out, ctx.fields(x).values(), ctx.value(x).axes)
        return
    fields = []
    for support, field in ctx.fields(x).items():
        core = field_core(field)
        for shift, dim in zip(shifts, dims, strict=True):
            if dim in support:
                core = torch.roll(core, shift, support.index(dim))
        fields.append(spread_field(core, support, out.shape))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def flip(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``flip(x, dims)``: flipped neurons cannot grow (where would a new one go?)."""
    x = args[0]
    dims = {dim % out.dim() for dim in args[1]}
    for support, field in ctx.fields(x).items():
        if not dims.isdisjoint(support):
            ctx.pin(field, "flipped", "its order is reversed")
    ctx.set_fields(out, ctx.fields(x).values(), ctx.value(x).axes)


def repeat(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``repeat(x, counts)``: every copy belongs to the neuron it was copied from."""
    x, counts = args[0], list(args[1])
    offset = out.dim() - x.dim()
    fields = []
    for support, field in ctx.fields(x).items():
        dims = [dim + offset for dim in support]
        # Only the varying part is copied; the counts of the other dimensions change nothing.
        repeated = field_core(field).repeat([counts[dim] for dim in dims])
        fields.append(spread_field(repeated, dims, out.shape))
    ctx.record_reshape(ctx.fields(x).values())
    ctx.set_fields(out, fields, ctx.value(x).axes)


def embedding(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``embedding(weight [V, C], numbers)``: the table writes C; V is looked up by number."""
    weight = args[0]
    ctx.record_role(weight, Role.WRITES, 1)
    written = []
    for support, field in ctx.fields(weight).items():
        if 0 in support:
            ctx.pin(field, "indexed", "looked up by number")
        if support == (1,):
            written.append(field)
    ctx.record_use(ctx.writes, written)
    ctx.set_fields(out, placed_fields(ctx.fields(weight), [None, out.dim() - 1], out.shape))


def reshape(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``view``, ``reshape``, ``unsqueeze``, ``squeeze`` ...: merge and split groups of dims."""
    x = args[0]
    if not out.numel():
        return  # without elements there are no neurons
    groups = reshape_groups(x.shape, out.shape)
    known = list(ctx.fields(x).values())
    for old, _ in groups:
        known += _merged(ctx, x, old)
    # Where dimensions are merged, a grid's joint field tells more than its factors: it goes first.
    known.sort(key=lambda field: -len(field_support(field)))
    fields = []
    for field in known:
        moved = _reshaped(field, groups, out.shape)
        if not field_support(moved):
            ctx.pin(field, "squeezed", "a dimension of size 1 is dropped")
        fields.append(moved)
    for old, new in groups:
        fields += _lines_of_new_grid(ctx, x, old, new, fields, out)
    if any(len(old) > 1 or len(new) > 1 for old, new in groups):
        ctx.record_reshape(ctx.fields(x).values())
        for old, new in groups:
            ctx.steady &= _is_vector(x.shape, old) and _is_vector(out.shape, new)
    ctx.set_fields(out, fields, ctx.value(x).axes)


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


def _merged(ctx: Context, x: Tensor, old: Sequence[int]) -> list[Tensor]:
    """Two independent sets of neurons that become one dimension are the lines of a grid there.

    Returns:
        The field of its cells, if that is not known yet. Where there is more to it than lines, the
        neurons are refused.
    """
    inside = []
    labeled: set[int] = set()
    for support, field in ctx.fields(x).items():
        if not set(support).isdisjoint(old):
            inside.append(field)
            labeled.update(set(support) & set(old))
    has_joint_field = any(labeled.issubset(field_support(field)) for field in inside)
    if len(labeled) < 2 or has_joint_field:
        return []
    if any(len(field_support(field)) > 1 for field in inside):
        reason = "two independent sets of neurons are merged into one dimension"
        ctx.pin_fields(inside, "merged", reason)
        return []
    dims = sorted(labeled)
    factors = [line(ctx.fields(x)[dim,]) for dim in dims]
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
