"""Operators that only move elements: run the operator itself on the fields.

Views (transpose, select, slice, ...) keep stride 0 where it was, so the support of the result is
read off its strides. Operators that copy get the varying part of a field only, so they stay
O(channels).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.context import Context, joint_axes
from fxgrow.coupling.fields import (
    Support,
    axis_field,
    field_core,
    field_support,
    spread_field,
)
from fxgrow.coupling.labels import FIXED
from fxgrow.coupling.rules.elementwise import combine, repeated_dims, results_of
from fxgrow.coupling.values import Role, placed_fields

aten = torch.ops.aten


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
    """The result has a place for each element of the first argument where it was.

    So do dropout, and random noise that is written into a value.
    """
    x = args[0]
    ctx.set_fields(results_of(out)[0], ctx.fields(x).values(), ctx.value(x).axes)


def copied(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``clone(x)``, ``detach(x)``: the very elements of a value."""
    same(ctx, args, out)
    ctx.value(out).repeats = frozenset(repeated_dims(ctx, args[0]))


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
