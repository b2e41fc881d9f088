"""Operators that choose elements by number or by order: what they choose along cannot grow, the rest is carried."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.rules.elementwise import combine
from fxgrow.coupling.rules.movement import embedding
from fxgrow.coupling.rules.normalization import space
from fxgrow.coupling.values import Context, placed_fields

LOOKED_UP = "looked up by number"
CHOOSES = "its values choose the elements of another tensor"
DimMap = Sequence[int | None]


def _keep(ctx: Context, x: Tensor, mapping: DimMap, out: Any, code: str, reason: str) -> None:
    """Dimension d of ``x`` goes to ``mapping[d]`` of every result; neurons along a dimension that goes nowhere stop."""
    for key, field in ctx.fields(x).items():
        if any(mapping[dim] is None for dim in key):
            ctx.pin(field, code, reason)
    for result in out if isinstance(out, (tuple, list)) else [out]:
        ctx.set_fields(
            result, placed_fields(ctx.fields(x), mapping, result.shape), ctx.value(x).axes
        )


def _without(x: Tensor, *dims: int) -> list[int | None]:
    gone = {dim % x.dim() for dim in dims}
    return [None if dim in gone else dim for dim in range(x.dim())]


def _choose(ctx: Context, tensors: Sequence[Any]) -> None:
    for tensor in tensors:
        ctx.pin_fields(ctx.fields(tensor).values(), "indexed", CHOOSES)


def lookup(rank: int, indices: Sequence[Any]) -> tuple[list[int | None], int]:
    """Where the dimensions of ``x[indices]`` come from, as a mapping of those of ``x``, and the rank of the result.

    A mask of rank r spans r dimensions. The looked-up dimensions stay where they were if they are neighbours,
    else they come first.
    """
    gone: list[int] = []
    dim = 0
    for one in indices:
        spans = (
            one.dim() if isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) else 1
        )
        gone += range(dim, dim + spans) if isinstance(one, Tensor) else []
        dim += spans
    new = max(
        (1 if one.dtype is torch.bool else one.dim() for one in indices if isinstance(one, Tensor)),
        default=0,
    )
    front = gone[0] if gone and gone[-1] - gone[0] == len(gone) - 1 else 0
    left = [dim for dim in range(rank) if dim not in gone]
    places = {dim: place if place < front else place + new for place, dim in enumerate(left)}
    return [places.get(dim) for dim in range(rank)], len(left) + new


def index(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index(x, [i, None, mask, ...])``: looked-up dimensions have a fixed size, the others are carried."""
    x, indices = args[0], args[1]
    _choose(ctx, indices)
    _keep(ctx, x, lookup(x.dim(), indices)[0], out, "indexed", LOOKED_UP)


def index_select(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index_select(x, dim, numbers)``."""
    _choose(ctx, args[2:3])
    _keep(ctx, args[0], _without(args[0], args[1]), out, "indexed", LOOKED_UP)


def gather(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``gather(x, dim, numbers)``: element by element beside the numbers, looked up along ``dim``."""
    x, dim, numbers = args[0], args[1], args[2]
    carried = torch.empty(out.shape, device="meta")
    _keep(ctx, x, _without(x, dim), carried, "indexed", LOOKED_UP)
    combine(ctx, [carried, numbers], out)


def index_put(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x[indices] = values``: with one mask and one number element by element, else along the other dimensions."""
    x, indices, values = args[0], args[1], args[2]
    if (
        values.numel() == 1
        and len(indices) == 1
        and indices[0].dtype is torch.bool
        and indices[0].shape == x.shape
    ):
        combine(ctx, [x, indices[0]], out)
        return
    _choose(ctx, indices)
    mapping, rank = lookup(x.dim(), indices)
    back = {to: dim for dim, to in enumerate(mapping) if to is not None}
    dims = [back.get(dim + rank - values.dim()) for dim in range(values.dim())]
    _write(ctx, x, mapping, values, dims, out)


def index_add(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index_add(x, dim, numbers, source)`` and ``index_copy``."""
    x, dim, numbers, source = args[:4]
    _choose(ctx, [numbers])
    mapping = _without(x, dim)
    _write(ctx, x, mapping, source, mapping, out)


def scatter(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``scatter(x, dim, numbers, source or number)`` and its sums: element by element beside the numbers."""
    x, dim, numbers = args[:3]
    mapping = _without(x, dim)
    source = args[3] if len(args) > 3 and isinstance(args[3], Tensor) else numbers
    beside = torch.empty(source.shape, device="meta")
    combine(ctx, [source, numbers] if source.shape == numbers.shape else [source], beside)
    _write(ctx, x, mapping, beside, mapping, out)


def _write(
    ctx: Context, x: Tensor, mapping: DimMap, source: Tensor, dims: DimMap, out: Tensor
) -> None:
    """``source`` is written into ``x``, its dimension d at ``dims[d]``; what ``mapping`` sends nowhere is fixed."""
    for key, field in ctx.fields(x).items():
        if any(mapping[dim] is None for dim in key):
            ctx.pin(field, "indexed", LOOKED_UP)
    shape = [1] * out.dim()
    for size, dim in zip(source.shape, dims, strict=True):
        if dim is not None and size > 1:
            shape[dim] = out.shape[dim]
    seen = torch.empty(shape, device="meta")
    _keep(ctx, source, dims, seen, "written", "written into a part of another tensor")
    combine(ctx, [seen] if _blank(ctx, x) else [x, seen], out)


def _blank(ctx: Context, x: Tensor) -> bool:
    """Whether a tensor without neurons has the same number everywhere, so that a longer one of its kind is its copy."""
    real = ctx.value(x).real
    return not ctx.fields(x) and real is not None and bool((real == real.reshape(-1)[:1]).all())


def ordered(position: int) -> Callable[[Context, Sequence[Any], Any], None]:
    """A rule for sorting and scanning along the dimension in this argument (default: the last one)."""

    def rule(ctx: Context, args: Sequence[Any], out: Any) -> None:
        x = args[0]
        if "stable" in ctx.operator:  # its dimension is a keyword, which rules do not see
            ctx.pin_fields(
                ctx.fields(x).values(), "reduced", "sorted, along a dimension that rules do not see"
            )
            return
        mapping = _without(x, args[position] if len(args) > position else -1)
        for key, field in ctx.fields(x).items():
            if all(mapping[dim] is None for dim in key):
                ctx.pin(
                    field,
                    "reduced",
                    "sorted or accumulated over, so adding a neuron changes the result",
                )
        for result in out if isinstance(out, (tuple, list)) else [out]:
            ctx.set_fields(
                result, placed_fields(ctx.fields(x), mapping, result.shape), ctx.value(x).axes
            )

    return rule


def choosing(ctx: Context, args: Sequence[Any], _: Any) -> None:
    """``nonzero``, ``masked_select``, ``nms`` ...: the values decide how many elements there are."""
    _choose(ctx, [arg for arg in args if isinstance(arg, Tensor)])


def triangle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``tril(x)`` and ``triu(x)`` clear elements by their place in the last two dimensions."""
    _keep_places(ctx, args[0], out, "cut into a triangle by number")


def _keep_places(ctx: Context, x: Tensor, out: Tensor, reason: str) -> None:
    for key, field in ctx.fields(x).items():
        if max(key) >= x.dim() - 2:
            ctx.pin(field, "sliced", reason)
    ctx.set_fields(out, ctx.fields(x).values(), ctx.value(x).axes)


def diagonal(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``diagonal(x, offset, dim1, dim2)``: the two dimensions become one, the last."""
    x = args[0]
    mapping = _without(x, *(args[2:4] if len(args) > 3 else (0, 1)))
    left = [dim for dim in mapping if dim is not None]
    moved = [None if dim is None else left.index(dim) for dim in mapping]
    _keep(ctx, x, moved, out, "sliced", "a diagonal of it is taken by number")


def grid_sample(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``grid_sampler_2d(x, grid)``: channels are carried, the grid says where to read."""
    _choose(ctx, args[1:2])
    space(ctx, args, out)


def roi_align(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``torchvision::roi_align(x [N, C, H, W], boxes)``: one image of C channels per box."""
    _choose(ctx, args[1:2])
    _keep(ctx, args[0], [None, 1, None, None], out, "space", "cut into boxes as out of space")


def embedding_bag(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``_embedding_bag(weight, numbers, offsets, ...)``: means or sums of rows."""
    embedding(ctx, args, out[0])


def spectrum(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``_fft_r2c(x, dims, ...)`` and its relatives."""
    _keep(
        ctx,
        args[0],
        _without(args[0], *args[1]),
        out,
        "space",
        "a Fourier transform runs over it as over time",
    )


def complex_pairs(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``view_as_complex`` drops a last dimension of two, ``view_as_real`` adds it."""
    x = args[0]
    mapping: DimMap = range(x.dim()) if out.dim() > x.dim() else _without(x, -1)
    _keep(ctx, x, mapping, out, "sliced", "its two parts make complex numbers")
