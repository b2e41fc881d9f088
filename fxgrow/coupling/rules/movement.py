"""Operators that only move elements: run the operator itself on the fields.

Views (transpose, select, slice, ...) keep stride 0 where it was, so the support of the result is read off its strides.
Operators that copy get the varying part of a field only, so they stay O(channels).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxgrow.coupling.fields import field_core, field_support, place_field, spread_field, squash
from fxgrow.coupling.labels import FIXED, Ints
from fxgrow.coupling.rules.elementwise import combine
from fxgrow.coupling.values import Context, Grid, Role, joint_axes, placed_fields

aten = torch.ops.aten


def view(operator: Callable[..., Any]) -> Callable[[Context, Sequence[Any], Any], None]:
    """A rule for a view operator without new dimensions: ``operator`` itself on every field."""

    def rule(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
        ctx.set_fields(
            out,
            [operator(field, *args[1:]) for field in ctx.fields(args[0]).values()],
            ctx.value(args[0]).axes,
        )

    return rule


def same(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """The result has the elements of the first argument where they were (clone, dropout, random noise like it)."""
    result = out[0] if isinstance(out, (tuple, list)) else out
    ctx.set_fields(result, ctx.fields(args[0]).values(), ctx.value(args[0]).axes)


def expand(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``expand(x, sizes)``: new dimensions come in front; a neuron that is expanded cannot grow."""
    x = args[0]
    offset = out.dim() - x.dim()
    for key, field in ctx.fields(x).items():
        if any(x.shape[dim] != out.shape[dim + offset] for dim in key):
            ctx.pin(
                field, "broadcast", "a dimension of size 1 is expanded, it cannot have another size"
            )
    ctx.set_fields(
        out, placed_fields(ctx.fields(x), range(offset, out.dim()), out.shape), ctx.value(x).axes
    )


def partial(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``select`` and ``slice``: taking a part of the neurons by number fixes them; taking all of them is a view."""
    x, dim = args[0], (args[1] if len(args) > 1 else 0) % args[0].dim()
    if out.shape != x.shape:
        for key, field in ctx.fields(x).items():
            if key == (dim,):
                ctx.pin(field, "sliced", "a part of it is taken by number")
    view(torch.ops.aten.select.int if out.dim() < x.dim() else torch.ops.aten.slice.Tensor)(
        ctx, args, out
    )


def split(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``split`` and ``chunk`` into equal parts: the parts must stay equal, so they are united one by one."""
    x, dim = args[0], (args[2] if len(args) > 2 else 0) % args[0].dim()
    for field in ctx.fields(x).values():
        _part(ctx, field, dim, out)
    sizes = [part.shape[dim] for part in out]
    starts = np.cumsum([0, *sizes[:-1]])
    for part, start in zip(out, starts, strict=True):
        parts = [f.narrow(dim, int(start), part.shape[dim]) for f in ctx.fields(x).values()]
        ctx.set_fields(part, parts, ctx.value(x).axes)


def _part(ctx: Context, field: Tensor, dim: int, parts: Sequence[Tensor]) -> None:
    if dim not in field_support(field) or len(parts) == 1:
        return
    size = parts[0].shape[dim]
    if any(part.shape[dim] != size for part in parts):
        ctx.pin(field, "sliced", "split into unequal parts by number")
        return
    first = field.narrow(dim, 0, size)
    for i in range(1, len(parts)):
        ctx.unite(first, field.narrow(dim, i * size, size))
    ctx.record_reshape([field])


def unbind(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``unbind(x, dim)``: the number of parts is part of the program."""
    x, dim = args[0], (args[1] if len(args) > 1 else 0) % args[0].dim()
    for key, field in ctx.fields(x).items():
        if key == (dim,):
            ctx.pin(field, "sliced", "taken apart into a fixed number of values")
    for i, part in enumerate(out):
        ctx.set_fields(
            part, [field.select(dim, i) for field in ctx.fields(x).values()], ctx.value(x).axes
        )


def cat(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``cat(tensors, dim)``: one after the other along ``dim``, united along all other dimensions."""
    parts = [part for part in args[0] if part.dim() == out.dim()]
    dim = (args[1] if len(args) > 1 else 0) % out.dim()
    keys = dict.fromkeys(key for part in parts for key in ctx.fields(part))
    result = [
        _along(ctx, parts, key, dim, out) if dim in key else _beside(ctx, parts, key, out)
        for key in keys
    ]
    ctx.set_fields(out, result, joint_axes(ctx, parts, Role.CARRIES))


def _along(
    ctx: Context, parts: Sequence[Tensor], key: tuple[int, ...], dim: int, out: Tensor
) -> Tensor:
    pieces = []
    for part in parts:
        shape = [part.shape[d] for d in key]
        field = ctx.fields(part).get(key)
        pieces.append(
            field_core(field).reshape(shape) if field is not None else torch.full(shape, FIXED)
        )
    return spread_field(torch.cat(pieces, key.index(dim)), key, out.shape)


def _beside(
    ctx: Context,
    parts: Sequence[Tensor],
    key: tuple[int, ...],
    out: Tensor,
    to: tuple[int, ...] | None = None,
) -> Tensor:
    found = [
        spread_field(field_core(ctx.fields(part)[key]), to or key, out.shape)
        for part in parts
        if key in ctx.fields(part)
    ]
    for field in found[1:]:
        ctx.unite(found[0], field)
    if len(found) < len(parts):
        ctx.pin(found[0], "fixed-size", "concatenated with a value whose size there is fixed")
    return found[0]


def stack(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``stack(tensors, dim)``: beside each other along a new dimension."""
    parts, dim = args[0], (args[1] if len(args) > 1 else 0) % out.dim()
    keys = dict.fromkeys(key for part in parts for key in ctx.fields(part))
    moved = {key: tuple(d + (d >= dim) for d in key) for key in keys}
    result = [_beside(ctx, parts, key, out, to) for key, to in moved.items()]
    ctx.set_fields(out, result, joint_axes(ctx, parts, Role.CARRIES))


def glu(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``glu(x, dim)``: one half of ``x`` times the sigmoid of the other."""
    x, dim = args[0], (args[1] if len(args) > 1 else -1) % out.dim()
    for field in ctx.fields(x).values():
        _part(ctx, field, dim, [out, out])
    ctx.set_fields(
        out,
        [field.narrow(dim, 0, out.shape[dim]) for field in ctx.fields(x).values()],
        ctx.value(x).axes,
    )


def copy(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x.copy_(source)``: element by element; what is written into a part of a bare tensor is lost from sight."""
    x, source = args[0], args[1]
    lost = not ctx.fields(x) and x._is_view()
    combine(ctx, [x, source] if ctx.fields(x) else [source], out)
    if lost:
        ctx.pin_fields(
            ctx.fields(source).values(), "written", "written into a part of another tensor"
        )


def pad(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``constant_pad_nd(x, pad)``: padding along a labelled dimension adds positions that are nobody's neuron."""
    x, amounts = args[0], list(args[1])
    before = {x.dim() - 1 - i // 2: amounts[i] for i in range(0, len(amounts), 2)}
    after = {x.dim() - 1 - i // 2: amounts[i] for i in range(1, len(amounts), 2)}
    fields = []
    for key, field in ctx.fields(x).items():
        flat = [n for dim in reversed(key) for n in (before.get(dim, 0), after.get(dim, 0))]
        fields.append(
            spread_field(aten.constant_pad_nd(field_core(field), flat, FIXED), key, out.shape)
        )
    ctx.set_fields(out, fields, ctx.value(x).axes)


def roll(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``roll(x, shifts, dims)``."""
    x, shifts, dims = (
        args[0],
        args[1],
        [dim % out.dim() for dim in args[2]] if len(args) > 2 else [],
    )
    fields = []
    for key, field in ctx.fields(x).items():
        mine = [
            (shift, key.index(dim)) for shift, dim in zip(shifts, dims, strict=True) if dim in key
        ]
        moved = (
            torch.roll(field_core(field), [s for s, _ in mine], [d for _, d in mine])
            if mine
            else field_core(field)
        )
        fields.append(spread_field(moved, key, out.shape))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def flip(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``flip(x, dims)``: fine over space, but flipped neurons cannot grow (where would a new one go?)."""
    dims = {dim % out.dim() for dim in args[1]}
    for key, field in ctx.fields(args[0]).items():
        if dims & set(key):
            ctx.pin(field, "flipped", "its order is reversed")
    ctx.set_fields(out, ctx.fields(args[0]).values(), ctx.value(args[0]).axes)


def repeat(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``repeat(x, counts)``: every copy belongs to the neuron it was copied from."""
    x, counts = args[0], list(args[1])
    fields = []
    for field in ctx.fields(x).values():
        key = [dim + out.dim() - x.dim() for dim in field_support(field)]
        fields.append(
            spread_field(field_core(field).repeat([counts[dim] for dim in key]), key, out.shape)
        )
    ctx.record_reshape(ctx.fields(x).values())
    ctx.set_fields(out, fields, ctx.value(x).axes)


def embedding(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``embedding(weight [V, C], numbers)``: the table writes C; V is looked up by number."""
    weight = args[0]
    ctx.record_role(weight, Role.WRITES, 1)
    for key, field in ctx.fields(weight).items():
        if 0 in key:
            ctx.pin(field, "indexed", "looked up by number")
    ctx.record_use(ctx.writes, [field for key, field in ctx.fields(weight).items() if key == (1,)])
    ctx.set_fields(out, placed_fields(ctx.fields(weight), [None, out.dim() - 1], out.shape))


def reshape(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``view``, ``reshape``, ``unsqueeze``, ``squeeze`` ...: merge and split groups of dimensions."""
    x = args[0]
    if not out.numel():
        return  # no element, nothing to say
    groups = reshape_groups(x.shape, out.shape)
    for old, _ in groups:
        _check_merge(ctx, x, old)
    # where dimensions are merged, a grid's joint field says more than its factors
    known = sorted(ctx.fields(x).values(), key=lambda field: -len(field_support(field)))
    fields = [_reshaped(field, groups, out.shape) for field in known]
    for field, moved in zip(known, fields, strict=True):
        if not field_support(moved):
            ctx.pin(field, "squeezed", "a dimension of size 1 is dropped")
    for old, new in groups:
        whole = [
            f
            for f in fields
            if len(set(field_support(f)) & set(new)) > 1 and set(field_support(f)) <= set(new)
        ]
        if sum(x.shape[dim] > 1 for dim in old) == 1 and whole:
            fields += _grid(ctx, whole[0], out)
    if any(len(old) > 1 or len(new) > 1 for old, new in groups):
        ctx.record_reshape(ctx.fields(x).values())
        ctx.steady &= all(
            _is_vector(x.shape, old) and _is_vector(out.shape, new) for old, new in groups
        )
    ctx.set_fields(out, fields, ctx.value(x).axes)


def _is_vector(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return sum(shape[dim] > 1 for dim in dims) <= 1


def reshape_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of old and new dimensions with equal numbers of elements, in order."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        mine, theirs = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        while (a := math.prod(old[d] for d in mine)) != (b := math.prod(new[d] for d in theirs)):
            side, start = (mine, i) if a < b else (theirs, j)
            side.append(start + len(side))
        groups.append((mine, theirs))
        i, j = i + len(mine), j + len(theirs)
    return groups


def _check_merge(ctx: Context, x: Tensor, old: Sequence[int]) -> None:
    """Two independent sets of neurons that are merged into one dimension have no common neuron: refuse both."""
    inside = [field for key, field in ctx.fields(x).items() if set(key) & set(old)]
    labelled = {dim for field in inside for dim in field_support(field)} & set(old)
    if len(labelled) > 1 and not any(labelled <= set(field_support(field)) for field in inside):
        ctx.pin_fields(
            inside, "merged", "two independent sets of neurons are merged into one dimension"
        )


def _reshaped(
    field: Tensor, groups: Sequence[tuple[list[int], list[int]]], shape: Sequence[int]
) -> Tensor:
    """The field after a reshape; only the groups that it varies in are materialised."""
    key = set(field_support(field))
    touched = [(old, new) for old, new in groups if key & set(old)]
    if all(
        sum(field.shape[d] > 1 for d in old) <= 1 and sum(shape[d] > 1 for d in new) <= 1
        for old, new in touched
    ):
        mapping: list[int | None] = [None] * field.dim()
        for old, new in touched:
            if new:
                source = next(
                    (d for d in old if field.shape[d] > 1), next(d for d in old if d in key)
                )
                mapping[source] = next((d for d in new if shape[d] > 1), new[0])
        moved = place_field(field, mapping, shape)
        return (
            moved
            if moved is not None
            else torch.full(tuple(shape), FIXED).as_strided(tuple(shape), [0] * len(shape))
        )
    olds, news = [d for old, _ in touched for d in old], [d for _, new in touched for d in new]
    index = tuple(slice(None) if d in olds else 0 for d in range(field.dim()))
    dense = field[index].reshape([shape[d] for d in news])
    # a neuron merged with space fills its new dimension even if it is the only one
    thin = squash(dense, [news.index(new[0]) for _, new in touched if len(new) == 1])
    return spread_field(field_core(thin), [news[d] for d in field_support(thin)], shape)


def _grid(ctx: Context, field: Tensor, out: Tensor) -> list[Tensor]:
    """A labelled dimension became a grid: label its lines, and remember that only one direction can grow."""
    key = field_support(field)
    factors: list[Ints] = [ctx.labels.new(out.shape[dim]) for dim in key]
    ctx.grids.append(
        Grid(field_core(field).contiguous().numpy(), tuple(factors), ctx.node(), ctx.modules[-1])
    )
    return [
        spread_field(torch.from_numpy(lines), (dim,), out.shape)
        for dim, lines in zip(key, factors, strict=True)
    ]
