"""Products that sum over an axis.

The two contracted axes are one set of neurons, the free axes are carried on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import (
    Fields,
    field_support,
    lines_speak_for,
    place_field,
    spread_field,
)
from fxgrow.coupling.rules.elementwise import along_channels, combine
from fxgrow.coupling.rules.open_norms import record_readings
from fxgrow.coupling.values import Role, line

FIXED_INPUT = (
    "reads a dimension that is not made of neurons"
    " (a model input, a constant, positions in space or time)"
)
COMPUTED_KERNEL = "a grouped convolution reads it with kernels that the model computes"
GROUPED_PRODUCT = "a grouped product other than of tokens and experts sums over a part of it"
MIXED_SUM = "summed together with a dimension that is not part of the neuron"

OperandSides = tuple[Tensor, Tensor]
ContractedDims = tuple[Sequence[int], Sequence[int]]
DimMapping = Sequence[int | None]


def product(
    ctx: Context,
    sides: OperandSides,
    along: ContractedDims,
    maps: Sequence[DimMapping],
    out: Tensor,
) -> None:
    """Apply the rule of a product: ``out`` sums ``sides[0] * sides[1]`` over some dimensions.

    Args:
        ctx: the context of the run.
        sides: the two factors.
        along: the dimensions of each side that are summed over, in the same order.
        maps: where the dimensions of each side go in ``out`` (None for contracted ones).
            Dimensions that both sides send to one place are batch dimensions.
        out: the result.
    """
    is_weight = _are_weights(ctx, sides)
    is_open = ctx.open_norms is not None and any(is_weight) and not all(is_weight)
    contracted = _contracted(ctx, sides, along, maps, out, is_united=not is_open)
    if is_open:
        record_readings(ctx, ctx.value(sides[is_weight.index(True)]).axes, contracted)
    for i, side in enumerate(sides):
        if is_weight[i] and not is_weight[1 - i]:
            _record_weight(ctx, side, along[i], maps[i], maps[1 - i])
            ctx.record_use(ctx.reads, contracted)
            # What lies along batch dimensions is carried, not made.
            made = []
            for support, field in ctx.fields(side).items():
                targets = {maps[i][dim] for dim in support}
                if targets.isdisjoint({None, *maps[1 - i]}):
                    made.append(field)
            ctx.record_use(ctx.writes, made)
    if all(is_weight):
        ctx.record_weight_product(sides, contracted)
    if not any(is_weight):
        ctx.pin_fields(
            contracted,
            "bilinear",
            "two activations are multiplied and summed over it, which rescales the result",
        )
    _free(ctx, sides, maps, out)


def _are_weights(ctx: Context, sides: OperandSides) -> list[bool]:
    """Which sides are weights; a buffer that meets a learned weight is an input."""
    made_of_parameters, learned = [], []
    for side in sides:
        axes = ctx.value(side).axes
        made_of_parameters.append(bool(axes))
        learned.append(any(not axis.constant for axis in axes))
    # A table of positions is such a buffer.
    both = all(made_of_parameters)
    return learned if both and any(learned) else made_of_parameters


def _record_weight(
    ctx: Context, weight: Tensor, along: Sequence[int], mapping: DimMapping, other: DimMapping
) -> None:
    """A weight reads along contracted axes, writes along free and carries along batch axes."""
    for dim in along:
        ctx.record_role(weight, Role.READS, dim)
    for dim, to in enumerate(mapping):
        if to is not None:
            ctx.record_role(weight, Role.CARRIES if to in other else Role.WRITES, dim)


def _contracted(
    ctx: Context,
    sides: OperandSides,
    along: ContractedDims,
    maps: Sequence[DimMapping],
    out: Tensor,
    is_united: bool,
) -> list[Tensor]:
    """Unite the fields along contracted dimensions; gives back those that vary along one only."""
    # Both sides are seen in the shape [dimensions of out, contracted dimensions].
    shape = (*out.shape, *[sides[0].shape[dim] for dim in along[0]])
    summed = range(out.dim(), len(shape))
    left = _with_contracted(ctx, sides[0], along[0], maps[0], shape)
    right = _with_contracted(ctx, sides[1], along[1], maps[1], shape)
    for support in left.keys() & right.keys() if is_united else ():
        ctx.unite(left[support], right[support])
    _pin_fixed_inputs(ctx, sides, along, (left, right), out.dim())
    for fields, other in ((left, right), (right, left)):
        for support, field in fields.items():
            is_line = all((dim,) in fields for dim in summed if dim in support)
            if not is_line and support not in other:
                ctx.pin(field, "mixed-axis", MIXED_SUM)
    contracted = []
    for fields in (left, right):
        contracted += [fields[dim,] for dim in summed if (dim,) in fields]
    return contracted


def _pin_fixed_inputs(
    ctx: Context,
    sides: OperandSides,
    along: ContractedDims,
    fields: tuple[Fields, Fields],
    rank: int,
) -> None:
    """Refuse neurons of one side where the other one has a size but no neurons.

    ``fields`` have the contracted dimensions from ``rank`` on.
    """
    for number, other in ((0, 1), (1, 0)):
        for place, dim in enumerate(along[other]):
            field = fields[number].get((rank + place,))
            if field is None or (rank + place,) in fields[other]:
                continue
            if not _reads_one_number(ctx, sides[number], sides[other], dim):
                ctx.pin(field, "fixed-size", FIXED_INPUT)


def _reads_one_number(ctx: Context, weight: Tensor, constant: Tensor, dim: int) -> bool:
    """Whether a weight reads a constant of one number, as the state that a recurrence starts from.

    Columns that share the weight of one, or are zero, give the same for each such neuron.
    """
    return bool(ctx.value(weight).axes) and ctx.is_uniform(constant, [dim])


def _with_contracted(
    ctx: Context, side: Tensor, along: Sequence[int], mapping: DimMapping, shape: Sequence[int]
) -> Fields:
    """The fields of a side that vary along contracted dimensions, which come last here."""
    rank = len(shape) - len(along)
    to = list(mapping)
    for number, dim in enumerate(along):
        to[dim] = rank + number
    fields: Fields = {}
    for field in ctx.fields(side).values():
        moved = place_field(field, to, shape)
        if moved is not None and max(field_support(moved), default=-1) >= rank:
            fields[field_support(moved)] = moved
    return fields


def _free(ctx: Context, sides: OperandSides, maps: Sequence[DimMapping], out: Tensor) -> None:
    """The result carries what varies along free and batch dimensions; the latter are united."""
    united: Fields = {}
    _add_free(ctx, united, sides[0], sides[1], maps[0], maps[1], out)
    _add_free(ctx, united, sides[1], sides[0], maps[1], maps[0], out)
    axes = ctx.value(sides[0]).axes + ctx.value(sides[1]).axes
    ctx.set_fields(out, united.values(), axes if all(_are_weights(ctx, sides)) else ())


def _add_free(
    ctx: Context,
    united: Fields,
    side: Tensor,
    other_side: Tensor,
    mapping: DimMapping,
    other_mapping: DimMapping,
    out: Tensor,
) -> None:
    """Add one side's fields to those of the result."""
    batch = {dim for dim in mapping if dim is not None and dim in other_mapping}
    labeled_in_other: set[int | None] = set()
    for support in ctx.fields(other_side):
        labeled_in_other.update(other_mapping[dim] for dim in support)
    for field in ctx.fields(side).values():
        moved = place_field(field, mapping, out.shape)
        if moved is None:
            continue
        support = field_support(moved)
        if support in united:
            ctx.unite(united[support], moved)
        united.setdefault(support, moved)
        is_fixed = len(support) == 1 and support[0] in batch - labeled_in_other
        if is_fixed and out.shape[support[0]] > 1:
            ctx.pin(moved, "fixed-size", "multiplied with a value whose size there is fixed")


def mm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[m, k] @ [k, n]``."""
    product(ctx, (args[0], args[1]), ((1,), (0,)), ((0, None), (None, 1)), out)


def mv(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[m, k] @ [k]``; where both are parameters (a spectral norm) it measures the matrix."""
    if ctx.value(args[0]).axes and ctx.value(args[1]).axes:
        for operand in args[:2]:
            for field in ctx.fields(operand).values():
                reason = "a vector of the model's own measures a weight along it"
                ctx.pin_when_read([out], field, "reduced", reason)
    product(ctx, (args[0], args[1]), ((1,), (0,)), ((0, None), (None,)), out)


def bmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[b, m, k] @ [b, k, n]``."""
    product(ctx, (args[0], args[1]), ((2,), (1,)), ((0, 1, None), (0, None, 2)), out)


def addmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``bias + [m, k] @ [k, n]``; the bias writes what the weight writes."""
    mm(ctx, args[1:], out)
    _add_bias(ctx, args[0], out)


def baddbmm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``bias + [b, m, k] @ [b, k, n]``."""
    bmm(ctx, args[1:], out)
    _add_bias(ctx, args[0], out)


def _add_bias(ctx: Context, bias: Tensor, out: Tensor) -> None:
    # The product is in ``out`` already; the bias is broadcast over it.
    combine(ctx, [out, bias], out, Role.WRITES)


def grouped_mm(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``[m, k] @ [experts, k, n]``: runs of rows, each with the weight of its own expert."""
    x, weights = args[:2]
    if (x.dim(), weights.dim()) != (2, 3):
        for operand in (x, weights):
            ctx.pin_fields(ctx.fields(operand).values(), "mixed-axis", GROUPED_PRODUCT)
        return
    for support, field in ctx.fields(weights).items():
        if 0 in support:
            ctx.pin(field, "indexed", "looked up by number")
    product(ctx, (x, weights), ((1,), (1,)), ((0, None), (None, None, 1)), out)


def convolution(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """A convolution in the form of ATen, for 1 to 3 dimensions of space.

    ``convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``.
    """
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    if groups > 1 and groups == x.shape[1]:
        _depthwise(ctx, x, weight, out, transposed)
    elif groups > 1:
        _grouped(ctx, x, weight, out, transposed, groups)
    else:
        # A kernel is [out, in, ...], that of a transposed convolution [in, out, ...].
        contracted, free = (0, 1) if transposed else (1, 0)
        product(ctx, (x, weight), ((1,), (contracted,)), _maps(x, free), out)
    _pin_space(ctx, x)
    for support, field in ctx.fields(weight).items():
        if min(support) > 1:
            ctx.pin(field, "space", "it is the size of a kernel")
    if isinstance(bias, Tensor):
        combine(ctx, [out, along_channels(ctx, bias, out)], out, Role.WRITES)


def deformable(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``torchvision::deform_conv2d(x, weight, offset, mask, bias, ..., groups, offset groups)``.

    Two strides, paddings and dilations come before ``groups``. Equal runs of channels are read at
    positions of their own, so a neuron has a channel in every one of these offset groups.
    """
    x, weight, offset, mask, bias, groups = args[0], args[1], args[2], args[3], args[4], args[11]
    for positions in (offset, mask):
        ctx.pin_fields(ctx.fields(positions).values(), "indexed", "its values say where to read")
    if args[12] > 1:
        for channels in _channels(ctx, x):
            by_offset = channels.view(args[12], -1)
            ctx.unite(by_offset, by_offset[:1].expand_as(by_offset).contiguous())
        ctx.steady = False  # copies move apart, as in a grouped convolution
    convolution(ctx, (x, weight, bias, None, None, None, False, None, groups), out)


def _maps(x: Tensor, free: int) -> tuple[DimMapping, DimMapping]:
    """Where the dimensions of input and kernel go: batch to 0, output channels to 1, no space."""
    space: list[int | None] = [None] * (x.dim() - 2)
    of_input = [0, None, *space]
    of_kernel = [1, None, *space] if free == 0 else [None, 1, *space]
    return of_input, of_kernel


def _pin_space(ctx: Context, x: Tensor) -> None:
    fields = ctx.fields(x)
    for support, field in fields.items():
        if max(support) > 1 and not lines_speak_for(fields, support):
            ctx.pin(field, "space", "a convolution runs over it as over space")


def _depthwise(ctx: Context, x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> None:
    """Every channel has its own r kernels: channel c goes to outputs c r .. c r + r - 1."""
    rate = out.shape[1] // x.shape[1]
    fields = []
    for channels in _channels(ctx, x):
        fields.append(spread_field(channels.repeat_interleave(rate), (1,), out.shape))
    # A transposed kernel is [channels, rate, ...], a plain one [channels rate, 1, ...].
    repeats = rate if transposed else 1
    kernel_fields = []
    for support, field in ctx.fields(weight).items():
        if support == (0,):
            rows = torch.from_numpy(line(field)).repeat_interleave(repeats)
            kernel_fields.append((field, spread_field(rows, (1,), out.shape)))
    ctx.record_role(weight, Role.CARRIES, 0)
    for field, spread in kernel_fields:
        if fields:
            ctx.unite(spread, fields[0])
        else:
            ctx.pin(field, "fixed-size", FIXED_INPUT)
    fields += [spread for _, spread in kernel_fields]
    ctx.set_fields(out, fields[:1])


def _grouped(
    ctx: Context, x: Tensor, weight: Tensor, out: Tensor, transposed: bool, groups: int
) -> None:
    """A column is shared by all groups, so its neuron has an input channel per group.

    So it is for the rows of the output.
    """
    # A kernel is [out, in / groups, ...], that of a transposed convolution [in, out / groups, ...].
    read, written = (0, 1) if transposed else (1, 0)
    by_dim = {}
    for support, field in ctx.fields(weight).items():
        if len(support) == 1:
            by_dim[support[0]] = torch.from_numpy(line(field))
    if not {read, written} <= by_dim.keys():
        # A kernel that was computed (one per sample, say) has neurons along other axes or none.
        for operand in (x, weight):
            ctx.pin_fields(ctx.fields(operand).values(), "mixed-axis", COMPUTED_KERNEL)
        return
    inputs, outputs = by_dim[read], by_dim[written]
    channels = _channels(ctx, x)
    ctx.steady = False  # neuron j has channels in every group: copies move apart
    ctx.record_role(weight, Role.READS, read)
    ctx.record_role(weight, Role.WRITES, written)
    # [groups, channels of each]
    columns = inputs.view(groups, -1) if transposed else inputs.expand(groups, -1)
    rows = outputs.expand(groups, -1) if transposed else outputs.view(groups, -1)
    for field in channels:
        ctx.unite(field.view(groups, -1), columns)
    if not channels:
        ctx.pin(inputs.numpy(), "fixed-size", FIXED_INPUT)
    # All groups share one set of columns, and one of rows.
    for grid in (columns, rows):
        ctx.unite(grid, grid[:1].expand_as(grid).contiguous())
    ctx.record_use(ctx.reads, channels)
    ctx.record_use(ctx.writes, [rows])
    ctx.set_fields(out, [spread_field(rows.reshape(-1), (1,), out.shape)])


def _channels(ctx: Context, x: Tensor) -> list[Tensor]:
    """The channel field of an image as a vector; those that mix it with other dims are pinned."""
    channels = []
    fields = ctx.fields(x)
    for support, field in fields.items():
        if 1 in support and len(support) > 1 and not lines_speak_for(fields, support):
            reason = "a convolution reads it together with a dimension that is not channels"
            ctx.pin(field, "mixed-axis", reason)
        if support == (1,):
            channels.append(torch.from_numpy(line(field)))
    return channels
