"""Element-wise operators: what is combined element by element belongs to one neuron."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.fields import Fields, field_core, field_support, place_field, spread_field
from fxgrow.coupling.values import Context, Role, joint_axes


def pointwise(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """Any operator tagged ``torch.Tag.pointwise``, in place or not."""
    result = out[0] if isinstance(out, (tuple, list)) else out
    operands = [arg for arg in args if isinstance(arg, Tensor)]
    library, name = ctx.operator.split(".")[:2]
    # A user's operator may have the name of one of ATen's and mean something else.
    linear_in = LINEAR_IN.get(name.rstrip("_"), _in_none) if library == "aten" else _in_none
    linear = linear_in(args)
    scales = [
        axis.scales and i in linear
        for i, operand in enumerate(operands)
        for axis in ctx.value(operand).axes
    ]
    combine(ctx, operands, result)
    known = ctx.value(result)
    if known.axes:
        known.axes = tuple(
            replace(axis, scales=one) for axis, one in zip(known.axes, scales, strict=True)
        )


def _in_none(_: Sequence[Any]) -> set[int]:
    return set()


def _in_both(args: Sequence[Any]) -> set[int]:
    return {0, 1} if all(isinstance(arg, Tensor) for arg in args[:2]) else set()


def _in_first(_: Sequence[Any]) -> set[int]:
    return {0}


LINEAR_IN = {"add": _in_both, "sub": _in_both, "neg": _in_first, "mul": _in_first, "div": _in_first}
"""In which of their operands these operators are linear (a number that is added spoils it)."""


def combine(
    ctx: Context, operands: Sequence[Tensor], out: Tensor, role: Role = Role.CARRIES
) -> None:
    """Unite the fields of the operands after broadcasting; parameters among activations play ``role``."""
    views = [broadcast(ctx, operand, out) for operand in operands]
    united: Fields = {}
    for fields in views:
        for key, labels in fields.items():
            if key in united:
                ctx.unite(united[key], labels)
            united.setdefault(key, labels)
    for operand, fields in zip(operands, views, strict=True):
        pin_against(ctx, united, fields, fixed_dims(operand, out))
    ctx.set_fields(out, united.values(), joint_axes(ctx, operands, role))


def broadcast(ctx: Context, operand: Tensor, out: Tensor) -> Fields:
    """The operand's fields in the shape of the result; a neuron that is broadcast over others cannot grow."""
    offset = out.dim() - operand.dim()
    found: Fields = {}
    for labels in ctx.fields(operand).values():
        moved = place_field(labels, range(offset, out.dim()), out.shape)
        if moved is not None and field_support(moved) == tuple(
            dim + offset for dim in field_support(labels)
        ):
            found[field_support(moved)] = moved
        else:
            ctx.pin(
                labels,
                "broadcast",
                "a dimension of size 1 is broadcast, it cannot have another size",
            )
            if moved is not None and field_support(moved):
                found.setdefault(field_support(moved), moved)
    return found


def fixed_dims(operand: Tensor, out: Tensor) -> set[int]:
    """Dimensions of the result along which the operand has a size of its own (is not broadcast)."""
    offset = out.dim() - operand.dim()
    return {
        dim + offset
        for dim, size in enumerate(operand.shape)
        if size == out.shape[dim + offset] and size > 1
    }


def pin_against(ctx: Context, united: Fields, fields: Fields, fixed: set[int]) -> None:
    """Neurons along a dimension in which another operand has a size but no neurons cannot grow."""
    labelled = {dim for key in fields for dim in key}
    for key, labels in united.items():
        if len(key) == 1 and key[0] in fixed - labelled:
            ctx.pin(labels, "fixed-size", "combined with a value whose size there is fixed")


def along_channels(ctx: Context, vector: Tensor, image: Tensor) -> Tensor:
    """A per-channel vector as it is broadcast over an image ``[batch, channels, ...]``."""
    view = torch.empty((vector.shape[0], *[1] * (image.dim() - 2)), device="meta")
    known = ctx.value(vector)
    ctx.set_fields(
        view,
        [spread_field(field_core(labels), (0,), view.shape) for labels in known.fields.values()],
        known.axes,
    )
    return view
