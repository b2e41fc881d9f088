"""Statistics, reductions and pooling: what they run over cannot grow; what they leave alone is carried."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from fxgrow.coupling.fields import place_field
from fxgrow.coupling.rules.elementwise import along_channels, combine
from fxgrow.coupling.values import Context, placed_fields

NORMALIZED_REASON = "normalised over, so adding a neuron changes all the others"

REDUCED_REASON = "reduced over, so adding a neuron changes the result"


def _dims(dims: Any, rank: int) -> set[int]:
    """A dimension argument (None, an int or a list) as a set of non-negative dimensions."""
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return {dim % rank for dim in listed}


def _over(ctx: Context, x: Tensor, dims: set[int]) -> None:
    """Neurons that lie along ``dims`` alone cannot grow (a joint field's factor says the same of a grid)."""
    for key, field in ctx.fields(x).items():
        if dims.issuperset(key):
            ctx.pin(field, "normalised", NORMALIZED_REASON)


def batch_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_batch_norm(x, weight, bias, running_mean, running_var, training, ...)``: every channel by itself.

    In training the statistics are taken over all other dimensions (weight standardisation runs over inputs so).
    """
    x, vectors = args[0], [arg for arg in args[1:5] if isinstance(arg, Tensor)]
    combine(ctx, [x, *(along_channels(ctx, vector, x) for vector in vectors)], out[0])
    if args[5]:
        _over(ctx, out[0], set(range(x.dim())) - {1})


def layer_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_layer_norm(x, normalized_shape, weight, bias, eps)``."""
    x, shape = args[0], args[1]
    combine(ctx, [x, *(arg for arg in args[2:4] if isinstance(arg, Tensor))], out[0])
    _over(ctx, out[0], set(range(x.dim() - len(shape), x.dim())))


def group_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_group_norm(x, weight, bias, N, C, HxW, groups, eps)``."""
    x, vectors = args[0], [arg for arg in args[1:3] if isinstance(arg, Tensor)]
    combine(ctx, [x, *(along_channels(ctx, vector, x) for vector in vectors)], out[0])
    _over(ctx, out[0], {1})


def softmax(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``softmax(x, dim)`` and its relatives."""
    ctx.set_fields(out, ctx.fields(args[0]).values(), ctx.value(args[0]).axes)
    _over(ctx, out, _dims(args[1], out.dim()))


def weight_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``_weight_norm_interface(v, g, dim)``: ``g v / |v|``, the norm over all dimensions but ``dim``.

    Only ``g`` scales the result: a reader's ``v`` must be copied, and never be zero.
    """
    v, g, dim = args[0], args[1], args[2] if len(args) > 2 else 0
    combine(ctx, [v, g], out[0])
    known, free = ctx.value(out[0]), len(ctx.value(v).axes)
    known.axes = tuple(replace(axis, scales=i >= free) for i, axis in enumerate(known.axes))
    _over(ctx, out[0], set(range(v.dim())) - {dim})


def reduction(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``op(x, dims=None, keepdim=False)``: sums, means, maxima, variances."""
    _reduce(ctx, args[0], args[1] if len(args) > 1 else None, out)


def vector_norm(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``linalg_vector_norm(x, ord, dims, keepdim)``."""
    _reduce(ctx, args[0], args[2] if len(args) > 2 else None, out)


def _reduce(ctx: Context, x: Tensor, dims: Any, out: Any) -> None:
    gone = _dims(dims, x.dim())
    results = out if isinstance(out, (tuple, list)) else [out]
    for key, field in ctx.fields(x).items():
        if gone.issuperset(key):
            ctx.pin_when_read(results, field, "reduced", REDUCED_REASON)
    for result in results:
        kept = result.dim() == x.dim()
        left = [dim for dim in range(x.dim()) if dim not in gone]
        mapping = [
            None if dim in gone else dim if kept else left.index(dim) for dim in range(x.dim())
        ]
        ctx.set_fields(
            result, placed_fields(ctx.fields(x), mapping, result.shape), ctx.value(x).axes
        )


def space(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """Pooling and resampling of ``[batch, channels, ...]``: channels are carried, space is not neurons."""
    x = args[0]
    lead = x.dim() - _space_rank(x)
    mapping = [dim if dim < lead else None for dim in range(x.dim())]
    for result in out if isinstance(out, (tuple, list)) else [out]:
        ctx.set_fields(
            result, placed_fields(ctx.fields(x), mapping, result.shape), ctx.value(x).axes
        )
    for field in ctx.fields(x).values():
        if place_field(field, mapping, (*x.shape[:lead], *[1] * (x.dim() - lead))) is None:
            ctx.pin(field, "space", "pooled or resampled over as over space")


def _space_rank(x: Tensor) -> int:
    return x.dim() - 2 if x.dim() > 3 else 1
