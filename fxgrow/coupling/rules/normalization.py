"""Statistics, reductions, pooling: what they run over cannot grow; what they leave is carried."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import lines_speak_for, place_field
from fxgrow.coupling.rules.elementwise import along_channels, combine, results_of
from fxgrow.coupling.rules.reshaping import record_grid, reshape
from fxgrow.coupling.values import line, placed_fields

NORMALIZED_REASON = "normalised over, so adding a neuron changes all the others"

REDUCED_REASON = "reduced over, so adding a neuron changes the result"

PARTLY_REDUCED_REASON = (
    "reduced over in parts, merged with other dimensions, so adding a neuron changes the result"
)


def _dims(dims: Any, rank: int) -> set[int]:
    """A dimension argument (None, an int or a list) as a set of non-negative dimensions."""
    listed = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return {dim % rank for dim in listed}


def _pin_normalized(ctx: Context, x: Tensor, dims: set[int]) -> None:
    """Neurons along ``dims`` alone cannot grow (a grid's factor speaks for its joint field)."""
    for support, field in ctx.fields(x).items():
        if dims.issuperset(support):
            ctx.pin(field, "normalised", NORMALIZED_REASON)


def _combine_with_vectors(
    ctx: Context, x: Tensor, arguments: Sequence[Any], out: Sequence[Tensor]
) -> None:
    """An image is scaled and shifted by vectors per channel, those of the arguments that are."""
    operands = [x]
    for argument in arguments:
        if isinstance(argument, Tensor):
            operands.append(along_channels(ctx, argument, x))
    combine(ctx, operands, out[0])


def batch_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_batch_norm(x, weight, bias, mean, var, training, ...)``: every channel by itself.

    In training the statistics are taken over all other dimensions (weight standardization runs
    over inputs so).
    """
    x, training = args[0], args[5]
    _combine_with_vectors(ctx, x, args[1:5], out)
    if training:
        _pin_normalized(ctx, out[0], set(range(x.dim())) - {1})


def layer_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_layer_norm(x, normalized_shape, weight, bias, eps)``."""
    x, shape = args[0], args[1]
    affine = [arg for arg in args[2:4] if isinstance(arg, Tensor)]
    combine(ctx, [x, *affine], out[0])
    _pin_normalized(ctx, out[0], set(range(x.dim() - len(shape), x.dim())))


def group_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``native_group_norm(x, weight, bias, N, C, HxW, groups, eps)``.

    Channels are a grid ``[groups, channels of each]`` that grows by whole groups, which have their
    own statistics. One group of all channels has the same mean as a layer norm, and stays one.
    """
    _combine_with_vectors(ctx, args[0], args[1:3], out)
    groups = args[6]
    channels = ctx.fields(out[0]).get((1,))
    if groups == 1 or channels is None:
        _pin_normalized(ctx, out[0], {1})
        return
    ctx.steady = False  # a trial has to see whether groups stay together
    joint = line(channels).reshape(groups, -1)
    # In a trial a group is one neuron, and looks like it unless it is torn.
    if not (ctx.is_trial and (joint == joint[:, :1]).all()):
        members = ctx.labels.new(joint.shape[1])
        ctx.pin(members, "normalised", NORMALIZED_REASON)
        record_grid(ctx, joint, (ctx.labels.new(groups), members))


def softmax(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``softmax(x, dim)`` and its relatives."""
    ctx.set_fields(out, ctx.fields(args[0]).values(), ctx.value(args[0]).axes)
    _pin_normalized(ctx, out, _dims(args[1], out.dim()))


def weight_norm(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``_weight_norm_interface(v, g, dim)``: ``g v / |v|``, the norm over all dims but ``dim``.

    Along ``dim`` only ``g`` scales the result: a reader's ``v`` must be copied there, and never be
    zero. Along the others ``v`` does, as emission restores its norm by ``g``
    (``surgery.weight_norm``), but only for the parameters of torch's own weight normalization.
    """
    v, g, dim = args[0], args[1], args[2] if len(args) > 2 else 0
    # One norm of the whole weight has one number as its gain.
    combine(ctx, [v, g] if g.dim() else [v], out[0])
    value = ctx.value(out[0])
    num_axes_of_v = len(ctx.value(v).axes)  # they come first
    is_restored = {axis.parameter for axis in ctx.value(v).axes} <= ctx.normalized
    axes = []
    for i, axis in enumerate(value.axes):
        scales = i >= num_axes_of_v or (is_restored and axis.axis != dim)
        axes.append(replace(axis, scales=scales))
    value.axes = tuple(axes)
    if not is_restored or not ctx.value(v).axes:
        _pin_normalized(ctx, out[0], set(range(v.dim())) - {dim})


def dot(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``dot(a, b)`` and ``vdot``: a sum over all neurons (so a spectral norm measures a weight)."""
    for operand in args[:2]:
        for field in ctx.fields(operand).values():
            ctx.pin_when_read([out], field, "reduced", REDUCED_REASON)


def reduction(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``op(x, dims=None, keepdim=False)``: sums, means, maxima, variances."""
    _reduce(ctx, args[0], args[1] if len(args) > 1 else None, out)


def vector_norm(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``linalg_vector_norm(x, ord, dims, keepdim)``."""
    _reduce(ctx, args[0], args[2] if len(args) > 2 else None, out)


def distances(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``cdist(x1 [..., P, M], x2 [..., R, M])``: the norms of all differences, over M."""
    terms = []
    for x, dim in zip(args[:2], (-2, -3), strict=True):
        terms.append(x.unsqueeze(dim))
        reshape(ctx, (x,), terms[-1])
    difference = terms[0] - terms[1]  # [..., P, R, M]
    combine(ctx, terms, difference)
    _reduce(ctx, difference, -1, out)


def _reduce(ctx: Context, x: Tensor, dims: Any, out: Any) -> None:
    reduced = _dims(dims, x.dim())
    results = results_of(out)
    for support, field in ctx.fields(x).items():
        if reduced.issuperset(support):
            # Many models compute a sum over neurons that nothing uses: that refuses nothing.
            ctx.pin_when_read(results, field, "reduced", REDUCED_REASON)
        elif not reduced.isdisjoint(support) and not lines_speak_for(ctx.fields(x), support):
            ctx.pin_when_read(results, field, "reduced", PARTLY_REDUCED_REASON)
    for result in results:
        keepdim = result.dim() == x.dim()
        mapping = _after_reduction(x.dim(), reduced, keepdim)
        fields = placed_fields(ctx.fields(x), mapping, result.shape)
        ctx.set_fields(result, fields, ctx.value(x).axes)


def _after_reduction(rank: int, reduced: set[int], keepdim: bool) -> list[int | None]:
    """Where each dimension goes when some are reduced."""
    mapping: list[int | None] = []
    num_left = 0
    for dim in range(rank):
        if dim in reduced:
            mapping.append(None)
        else:
            mapping.append(dim if keepdim else num_left)
            num_left += 1
    return mapping


def space(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """Pooling and resampling of ``[batch, channels, ...]``: channels are carried, space is not."""
    x = args[0]
    lead = x.dim() - _space_rank(x)  # dimensions before those of space
    mapping = [dim if dim < lead else None for dim in range(x.dim())]
    for result in results_of(out):
        fields = placed_fields(ctx.fields(x), mapping, result.shape)
        ctx.set_fields(result, fields, ctx.value(x).axes)
    pooled_shape = (*x.shape[:lead], *[1] * (x.dim() - lead))
    known = ctx.fields(x)
    for support, field in known.items():
        is_dropped = place_field(field, mapping, pooled_shape) is None
        if is_dropped and not lines_speak_for(known, support):
            ctx.pin(field, "space", "pooled or resampled over as over space")


def _space_rank(x: Tensor) -> int:
    """How many dimensions of space an image has; one without a batch has no more than one."""
    return x.dim() - 2 if x.dim() > 3 else 1
