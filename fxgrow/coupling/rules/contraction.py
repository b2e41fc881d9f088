"""Products that sum over an axis: the two contracted axes are one set of neurons, the free axes are carried on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.fields import Fields, field_support, place_field, spread_field
from fxgrow.coupling.rules.elementwise import along_channels, combine
from fxgrow.coupling.values import Context, Role, line

FIXED_INPUT = "reads a dimension that is not made of neurons (a model input, a constant, positions in space or time)"


OperandSides = tuple[Tensor, Tensor]
DimMapping = Sequence[int | None]


def product(
    ctx: Context,
    sides: OperandSides,
    along: tuple[int, int],
    maps: Sequence[DimMapping],
    out: Tensor,
) -> None:
    """``out`` sums ``sides[0] * sides[1]`` over dimension ``along[i]`` of side i.

    ``maps[i]`` sends the dimensions of side i to those of ``out`` (None for the contracted one). Dimensions that both
    sides send to one place are batch dimensions.
    """
    shared = _contracted(ctx, sides, along, maps, out)
    weights = _weights(ctx, sides)
    for i, weight in enumerate(sides):
        if weights[i] and not weights[1 - i]:
            _play(ctx, weight, along[i], maps[i], maps[1 - i])
            ctx.record_use(ctx.reads, shared)
            ctx.record_use(
                ctx.writes,
                [field for key, field in ctx.fields(weight).items() if along[i] not in key],
            )
    if not any(weights):
        ctx.pin_fields(
            shared,
            "bilinear",
            "two activations are multiplied and summed over it, which rescales the result",
        )
    _free(ctx, sides, maps, out)


def _weights(ctx: Context, sides: OperandSides) -> list[bool]:
    """Which sides are weights; a buffer that meets a learnt weight is an input (a table of positions)."""
    axes = [ctx.value(side).axes for side in sides]
    learnt = [any(not axis.constant for axis in found) for found in axes]
    return learnt if all(axes) and any(learnt) else [bool(found) for found in axes]


def _play(ctx: Context, weight: Tensor, along: int, mine: DimMapping, other: DimMapping) -> None:
    """A weight reads along the contracted axis, writes along its free axes and carries along batch axes."""
    ctx.record_role(weight, Role.READS, along)
    for dim, to in enumerate(mine):
        if to is not None:
            ctx.record_role(weight, Role.CARRIES if to in other else Role.WRITES, dim)


def _contracted(
    ctx: Context,
    sides: OperandSides,
    along: tuple[int, int],
    maps: Sequence[DimMapping],
    out: Tensor,
) -> list[Tensor]:
    """Unite the fields along the contracted dimension; gives back those that vary along it alone."""
    shape = (*out.shape, sides[0].shape[along[0]])
    views: list[Fields] = []
    for side, mapping, contracted in zip(sides, maps, along, strict=True):
        to = [out.dim() if dim == contracted else where for dim, where in enumerate(mapping)]
        moved = [place_field(field, to, shape) for field in ctx.fields(side).values()]
        views.append(
            {
                field_support(one): one
                for one in moved
                if one is not None and len(shape) - 1 in field_support(one)
            }
        )
    alone = (len(shape) - 1,)
    for key in views[0].keys() & views[1].keys():
        ctx.unite(views[0][key], views[1][key])
    for mine, other in (views, views[::-1]):
        if alone in mine and alone not in other:
            ctx.pin(mine[alone], "fixed-size", FIXED_INPUT)
        for key, field in mine.items():
            if alone not in mine and key not in other:
                ctx.pin(
                    field,
                    "mixed-axis",
                    "summed together with a dimension that is not part of the neuron",
                )
    return [view[alone] for view in views if alone in view]


def _free(ctx: Context, sides: OperandSides, maps: Sequence[DimMapping], out: Tensor) -> None:
    """The result carries what varies along free and batch dimensions; batch dimensions are united."""
    united: Fields = {}
    for side, mate, mapping, other in zip(sides, sides[::-1], maps, maps[::-1], strict=True):
        batch = {dim for dim in mapping if dim is not None and dim in other}
        known = {other[dim] for key in ctx.fields(mate) for dim in key}
        for field in ctx.fields(side).values():
            moved = place_field(field, mapping, out.shape)
            if moved is None:
                continue
            key = field_support(moved)
            if key in united:
                ctx.unite(united[key], moved)
            united.setdefault(key, moved)
            if len(key) == 1 and key[0] in batch - known and out.shape[key[0]] > 1:
                ctx.pin(moved, "fixed-size", "multiplied with a value whose size there is fixed")
    both = ctx.value(sides[0]).axes + ctx.value(sides[1]).axes
    ctx.set_fields(out, united.values(), both if all(_weights(ctx, sides)) else ())


def mm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[m, k] @ [k, n]``."""
    product(ctx, (args[0], args[1]), (1, 0), ((0, None), (None, 1)), out)


def mv(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[m, k] @ [k]``."""
    product(ctx, (args[0], args[1]), (1, 0), ((0, None), (None,)), out)


def bmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[b, m, k] @ [b, k, n]``."""
    product(ctx, (args[0], args[1]), (2, 1), ((0, 1, None), (0, None, 2)), out)


def addmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``bias + [m, k] @ [k, n]``; the bias writes what the weight writes."""
    mm(ctx, args[1:], out)
    _add_bias(ctx, args[0], out)


def baddbmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``bias + [b, m, k] @ [b, k, n]``."""
    bmm(ctx, args[1:], out)
    _add_bias(ctx, args[0], out)


def _add_bias(ctx: Context, bias: Tensor, out: Tensor) -> None:
    combine(ctx, [out, bias], out, Role.WRITES)


def convolution(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``aten.convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    if groups > 1 and groups == x.shape[1]:
        _depthwise(ctx, x, weight, out, transposed)
    elif groups > 1:
        _grouped(ctx, x, weight, out, transposed, groups)
    else:
        product(ctx, (x, weight), (1, int(not transposed)), _maps(x, int(transposed)), out)
    _pin_space(ctx, x)
    if isinstance(bias, Tensor):
        combine(ctx, [out, along_channels(ctx, bias, out)], out, Role.WRITES)


def deformable(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``torchvision::deform_conv2d(x, weight, offset, mask, bias, 2 strides, paddings, dilations, groups, ...)``."""
    ctx.pin_fields(
        [f for one in args[2:4] for f in ctx.fields(one).values()],
        "indexed",
        "its values say where to read",
    )
    convolution(ctx, (args[0], args[1], args[4], None, None, None, False, None, args[11]), out)


def _maps(x: Tensor, free: int) -> tuple[DimMapping, DimMapping]:
    """Where the dimensions of input and kernel go: batch to 0, output channels to 1, space nowhere."""
    space: list[int | None] = [None] * (x.dim() - 2)
    return [0, None, *space], [1 if dim == free else None for dim in (0, 1)] + space


def _pin_space(ctx: Context, x: Tensor) -> None:
    for key, field in ctx.fields(x).items():
        if any(dim > 1 for dim in key):
            ctx.pin(field, "space", "a convolution runs over it as over space")


def _depthwise(ctx: Context, x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> None:
    """Every channel c has its own kernels: they carry it to output channels c r .. c r + r - 1."""
    rate = out.shape[1] // x.shape[1]
    found = [spread_field(f.repeat_interleave(rate), (1,), out.shape) for f in _channels(ctx, x)]
    kernel = [f for key, f in ctx.fields(weight).items() if key == (0,)]
    repeats = (
        rate if transposed else 1
    )  # a transposed kernel is [channels, rate, ...], a plain one [channels rate, 1, ...]
    mine = [
        spread_field(torch.from_numpy(line(f)).repeat_interleave(repeats), (1,), out.shape)
        for f in kernel
    ]
    ctx.record_role(weight, Role.CARRIES, 0)
    if not found:
        ctx.pin_fields(kernel, "fixed-size", FIXED_INPUT)
    for field in found and mine:
        ctx.unite(field, found[0])
    ctx.set_fields(out, [*found, *mine][:1])


def _grouped(
    ctx: Context, x: Tensor, weight: Tensor, out: Tensor, transposed: bool, groups: int
) -> None:
    """Column j is shared by all groups, so its neuron has one input channel per group; so for the output rows."""
    by_dim = {
        key[0]: torch.from_numpy(line(f)) for key, f in ctx.fields(weight).items() if len(key) == 1
    }
    shared, split = (1, 0)
    across = _channels(ctx, x)
    ctx.steady = False
    inputs, outputs = (
        (by_dim[shared], by_dim[split]) if not transposed else (by_dim[split], by_dim[shared])
    )
    ctx.record_role(weight, Role.READS, shared if not transposed else split)
    ctx.record_role(weight, Role.WRITES, split if not transposed else shared)
    columns = inputs.view(groups, -1) if transposed else inputs.expand(groups, -1)
    rows = outputs.expand(groups, -1) if transposed else outputs.view(groups, -1)
    for field in across:
        ctx.unite(field.view(groups, -1), columns)
    if not across:
        ctx.pin(inputs.numpy(), "fixed-size", FIXED_INPUT)
    for grid in (columns, rows):
        ctx.unite(grid, grid[:1].expand_as(grid).contiguous())
    ctx.record_use(ctx.reads, across)
    ctx.record_use(ctx.writes, [rows])
    ctx.set_fields(out, [spread_field(rows.reshape(-1), (1,), out.shape)])


def _channels(ctx: Context, x: Tensor) -> list[Tensor]:
    """The channel field of an image as a vector; fields that mix channels with something else are pinned."""
    for key, field in ctx.fields(x).items():
        if 1 in key and len(key) > 1:
            ctx.pin(
                field,
                "mixed-axis",
                "a convolution reads it together with a dimension that is not channels",
            )
    return [torch.from_numpy(line(field)) for key, field in ctx.fields(x).items() if key == (1,)]
