"""Element-wise operators: what is combined element by element belongs to one neuron."""

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.constant_neurons import adopt
from fxgrow.coupling.context import Context, joint_axes
from fxgrow.coupling.fields import (
    Fields,
    field_core,
    field_support,
    lines_speak_for,
    place_field,
    spread_field,
)
from fxgrow.coupling.values import Role, line


def pointwise(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """Any operator tagged ``torch.Tag.pointwise``, in place or not.

    Args:
        ctx: the context of the run.
        args: the positional arguments, the operands among them.
        out: the result; of several the first has the elements.
    """
    result = results_of(out)[0]
    operands = [arg for arg in args if isinstance(arg, Tensor)]
    linear = _linear_operands(ctx.operator, args)
    if linear == {0} and _is_masked(ctx, operands):
        linear = {1}
    # Whether halving a parameter halves the result, axis by axis of all operands.
    scales = []
    for i, operand in enumerate(operands):
        for axis in ctx.value(operand).axes:
            scales.append(axis.scales and i in linear)
    combine(ctx, operands, result)
    value = ctx.value(result)
    if value.axes:
        axes = []
        for axis, scales_result in zip(value.axes, scales, strict=True):
            axes.append(replace(axis, scales=scales_result))
        value.axes = tuple(axes)


def results_of(out: Any) -> Sequence[Tensor]:
    """The results of an operator as a list, if it has one or several."""
    return out if isinstance(out, (tuple, list)) else [out]


def _is_masked(ctx: Context, operands: Sequence[Tensor]) -> bool:
    """Whether a product is that of a buffer and of a weight, which is what copies are to share."""
    if len(operands) != 2 or not ctx.operator.startswith("aten.mul"):
        return False
    mask, weight = (ctx.value(operand).axes for operand in operands)
    is_mask = bool(mask) and all(axis.constant for axis in mask)
    return is_mask and any(axis.scales and not axis.constant for axis in weight)


LINEAR_IN_FIRST = {"neg", "mul", "div"}
LINEAR_IN_BOTH = {"add", "sub", "complex", "lerp"}
"""Operators of ATen that are linear in these operands (a number that is added spoils it)."""


def _linear_operands(operator: str, args: Sequence[Any]) -> Set[int]:
    """The operands in which an operator (``aten.add.Tensor``) is linear, by number."""
    library, name = operator.split(".")[:2]
    # A user's operator may have the name of one of ATen's and mean something else.
    if library != "aten":
        return set()
    name = name.rstrip("_")  # in place or not
    if name in LINEAR_IN_FIRST:
        return {0}
    if name in LINEAR_IN_BOTH and all(isinstance(arg, Tensor) for arg in args[:2]):
        return {0, 1}
    return set()


def combine(
    ctx: Context, operands: Sequence[Tensor], out: Tensor, role: Role = Role.CARRIES
) -> None:
    """Unite the fields of operands after broadcasting.

    Args:
        ctx: the context of the run.
        operands: what is combined.
        out: the result.
        role: what parameters do that meet an activation here.
    """
    broadcasts = [broadcast(ctx, operand, out) for operand in operands]
    united: Fields = {}
    for fields in broadcasts:
        for support, labels in fields.items():
            if support in united:
                ctx.unite(united[support], labels)
            united.setdefault(support, labels)
    for operand, fields in zip(operands, broadcasts, strict=True):
        pin_against(ctx, united, operand, fields, fixed_dims(operand, out))
    ctx.set_fields(out, united.values(), joint_axes(ctx, operands, role))
    # What all operands repeat, or are broadcast along, the result repeats.
    varying = [_varying_dims(ctx, operand, out) for operand in operands]
    ctx.value(out).repeats = frozenset(range(out.dim())).difference(*varying)


def _varying_dims(ctx: Context, operand: Tensor, out: Tensor) -> set[int]:
    """Dimensions of the result along which an operand is known to repeat nothing."""
    offset = out.dim() - operand.dim()
    repeated = {dim + offset for dim in repeated_dims(ctx, operand)}
    return fixed_dims(operand, out) - repeated


def repeated_dims(ctx: Context, x: Tensor) -> set[int]:
    """Dimensions along which a value repeats one number, having been expanded there.

    A copy has strides of its own, and repeats what the expanded value did.

    Args:
        ctx: the context of the run.
        x: the value.

    Returns:
        The dimensions.
    """
    expanded = {dim for dim in range(x.dim()) if x.stride(dim) == 0}
    return expanded | ctx.value(x).repeats


def broadcast(ctx: Context, operand: Tensor, out: Tensor) -> Fields:
    """See an operand's fields in the result; neurons that are broadcast over others cannot grow.

    Args:
        ctx: the context of the run.
        operand: the operand.
        out: the result.

    Returns:
        The fields in the shape of the result, by their support there.
    """
    offset = out.dim() - operand.dim()
    dims = range(offset, out.dim())
    result: Fields = {}
    for support, labels in ctx.fields(operand).items():
        moved = place_field(labels, dims, out.shape)
        moved_support = () if moved is None else field_support(moved)
        if moved is not None and moved_support == tuple(dim + offset for dim in support):
            result[moved_support] = moved
            continue
        if lines_speak_for(ctx.fields(operand), support):
            continue  # the line that is broadcast has a field of its own, which is refused
        reason = "a dimension of size 1 is broadcast, it cannot have another size"
        ctx.pin(labels, "broadcast", reason)
        if moved is not None and moved_support:
            result.setdefault(moved_support, moved)
    return result


def fixed_dims(operand: Tensor, out: Tensor) -> set[int]:
    """Dimensions of the result along which an operand has a size (is not broadcast)."""
    offset = out.dim() - operand.dim()
    dims = set()
    for dim, size in enumerate(operand.shape, start=offset):
        if size == out.shape[dim] and size > 1:
            dims.add(dim)
    return dims


def pin_against(
    ctx: Context, united: Fields, operand: Tensor, fields: Fields, fixed: Set[int]
) -> None:
    """Refuse neurons along a dimension in which an operand has a size but no neurons.

    Args:
        ctx: the context of the run.
        united: the fields of all operands.
        operand: the one operand.
        fields: its fields in the shape of the result.
        fixed: the dimensions of the result along which it has a size.
    """
    # The keys of fields are supports: dimensions that have neurons.
    without_neurons = set(fixed).difference(*fields)
    for support, labels in united.items():
        if len(support) != 1 or support[0] not in without_neurons:
            continue
        # Counted from the last dimension, as dimensions are when operands are broadcast.
        dim = support[0] - labels.dim()
        # What is expanded (``index[:, None].expand_as(h)``) repeats one number, whatever it is: a
        # trial growth shows whether its size follows.
        if dim + operand.dim() in repeated_dims(ctx, operand):
            continue
        if ctx.is_uniform(operand, [dim]):
            adopt(ctx, operand, dim + operand.dim(), line(labels))
        else:
            ctx.pin(labels, "fixed-size", "combined with a value whose size there is fixed")


def along_channels(ctx: Context, vector: Tensor, image: Tensor) -> Tensor:
    """See a vector per channel as it is broadcast over an image.

    Args:
        ctx: the context of the run.
        vector: ``[channels]``.
        image: ``[batch, channels, ...]``.

    Returns:
        A meta tensor ``[channels, 1, ...]`` with the vector's fields.
    """
    view = torch.empty((vector.shape[0], *[1] * (image.dim() - 2)), device="meta")
    value = ctx.value(vector)
    fields = []
    for labels in value.fields.values():
        fields.append(spread_field(field_core(labels), (0,), view.shape))
    ctx.set_fields(view, fields, value.axes)
    return view
