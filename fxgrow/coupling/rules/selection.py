"""Operators that choose elements by number or order.

What they choose along cannot grow, the rest is carried.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import lines_speak_for, squash
from fxgrow.coupling.rules.elementwise import combine, results_of
from fxgrow.coupling.rules.movement import embedding
from fxgrow.coupling.rules.normalization import space
from fxgrow.coupling.values import placed_fields

LOOKED_UP = "looked up by number"
CHOOSES = "its values choose the elements of another tensor"
DimMap = Sequence[int | None]


def _carry(ctx: Context, x: Tensor, mapping: DimMap, out: Any) -> None:
    """Dimension d of ``x`` goes to ``mapping[d]`` of every result."""
    for result in results_of(out):
        fields = placed_fields(ctx.fields(x), mapping, result.shape)
        ctx.set_fields(result, fields, ctx.value(x).axes)


def _pin_dropped(ctx: Context, x: Tensor, mapping: DimMap, code: str, reason: str) -> None:
    """Neurons along a dimension that goes nowhere cannot grow."""
    for support, field in ctx.fields(x).items():
        if any(mapping[dim] is None for dim in support):
            ctx.pin(field, code, reason)


def _carry_rest(ctx: Context, x: Tensor, mapping: DimMap, out: Any, code: str, reason: str) -> None:
    _pin_dropped(ctx, x, mapping, code, reason)
    _carry(ctx, x, mapping, out)


def _without(x: Tensor, *dims: int) -> list[int | None]:
    """Every dimension stays where it is but these, which are dropped."""
    dropped = {dim % x.dim() for dim in dims}
    return [None if dim in dropped else dim for dim in range(x.dim())]


def _pin_choosing(ctx: Context, tensors: Sequence[Any]) -> None:
    for tensor in tensors:
        ctx.pin_fields(ctx.fields(tensor).values(), "indexed", CHOOSES)


def lookup(rank: int, indices: Sequence[Any]) -> tuple[list[int | None], int]:
    """Find where the dimensions of ``x`` go in ``x[indices]``.

    A mask of rank r spans r dimensions. The looked-up dimensions stay where they were if they are
    neighbors, else they come first.

    Args:
        rank: the rank of ``x``.
        indices: per dimension a tensor of numbers, a mask, or None.

    Returns:
        The target of each dimension of ``x`` (None: looked up), and the rank of the result.
    """
    looked_up: list[int] = []
    num_new = 0  # dimensions that the indices make
    dim = 0
    for one_index in indices:
        if not isinstance(one_index, Tensor):
            dim += 1
            continue
        # A mask looks up all the dimensions that it spans, numbers look up one.
        is_mask = one_index.dtype in (torch.bool, torch.uint8)
        spans = one_index.dim() if is_mask else 1
        looked_up += range(dim, dim + spans)
        num_new = max(num_new, 1 if one_index.dtype is torch.bool else one_index.dim())
        dim += spans
    are_neighbors = bool(looked_up) and looked_up[-1] - looked_up[0] == len(looked_up) - 1
    front = looked_up[0] if are_neighbors else 0
    mapping: list[int | None] = []
    num_left = 0
    for dim in range(rank):
        if dim in looked_up:
            mapping.append(None)
            continue
        mapping.append(num_left if num_left < front else num_left + num_new)
        num_left += 1
    return mapping, num_left + num_new


def index(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index(x, [i, None, mask, ...])``: looked-up dimensions are fixed, the others carried."""
    x, indices = args[0], args[1]
    _pin_choosing(ctx, indices)
    mapping, _ = lookup(x.dim(), indices)
    numbers = [_constant_numbers(ctx, one_index) for one_index in indices]
    fields = ctx.fields(x)
    grids = []
    for support, field in fields.items():
        if all(mapping[dim] is not None for dim in support):
            continue
        is_known = all(number is not None for number in numbers)
        if is_known and lines_speak_for(fields, support):
            # Keys of ``(group, queries + keys, size)``: which line of the grid they are is known.
            looked_up = tuple(slice(None) if number is ALL else number for number in numbers)
            grids.append(squash(field[looked_up]))
        else:
            ctx.pin(field, "indexed", LOOKED_UP)
    rest = placed_fields(fields, mapping, out.shape)
    ctx.set_fields(out, [*rest, *grids], ctx.value(x).axes)


ALL = "all"
"""Stands for an index that takes all of a dimension."""


def _constant_numbers(ctx: Context, one_index: Any) -> Any:
    """The numbers of an index that is a constant of the code; ``ALL`` for none, None if unknown."""
    if not isinstance(one_index, Tensor):
        return ALL
    known = ctx.value(one_index).real if one_index.is_meta else one_index
    return None if ctx.fields(one_index) or ctx.numbers else known


def index_select(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index_select(x, dim, numbers)``."""
    _pin_choosing(ctx, args[2:3])
    _carry_rest(ctx, args[0], _without(args[0], args[1]), out, "indexed", LOOKED_UP)


def gather(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``gather(x, dim, numbers)``: element by element beside the numbers, looked up along dim."""
    x, dim, numbers = args[0], args[1], args[2]
    # First what is gathered, then its meeting with the numbers.
    carried = torch.empty(out.shape, device="meta")
    _carry_rest(ctx, x, _without(x, dim), carried, "indexed", LOOKED_UP)
    combine(ctx, [carried, numbers], out)


def index_put(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x[indices] = values``: along the dimensions that are not looked up.

    With one mask of the size of ``x`` and one number it is element by element.
    """
    x, indices, values = args[0], args[1], args[2]
    if values.numel() == 1 and len(indices) == 1:
        mask = indices[0]
        if mask.dtype is torch.bool and mask.shape == x.shape:
            combine(ctx, [x, mask], out)
            return
    _pin_choosing(ctx, indices)
    mapping, rank = lookup(x.dim(), indices)
    # The values are broadcast to the shape of x[indices]; each dimension goes back where it was.
    back = {to: dim for dim, to in enumerate(mapping) if to is not None}
    offset = rank - values.dim()
    dims = [back.get(dim + offset) for dim in range(values.dim())]
    _write(ctx, x, mapping, values, dims, out)


def index_add(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``index_add(x, dim, numbers, source)`` and ``index_copy``."""
    x, dim, numbers, source = args[:4]
    _pin_choosing(ctx, [numbers])
    mapping = _without(x, dim)
    _write(ctx, x, mapping, source, mapping, out)


def scatter(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``scatter(x, dim, numbers, source or number)`` and sums: element by element, by numbers."""
    x, dim, numbers = args[:3]
    mapping = _without(x, dim)
    # A number that is scattered goes where the index tensor says: that one has the shape.
    source = args[3] if len(args) > 3 and isinstance(args[3], Tensor) else numbers
    beside = torch.empty(source.shape, device="meta")
    combine(ctx, [source, numbers] if source.shape == numbers.shape else [source], beside)
    _write(ctx, x, mapping, beside, mapping, out)


def _write(
    ctx: Context, x: Tensor, mapping: DimMap, source: Tensor, dims: DimMap, out: Tensor
) -> None:
    """``source`` is written into ``x``, its dimension d at ``dims[d]``.

    Neurons of ``x`` along a dimension that ``mapping`` drops cannot grow.
    """
    _pin_dropped(ctx, x, mapping, "indexed", LOOKED_UP)
    shape = [1] * out.dim()
    for size, dim in zip(source.shape, dims, strict=True):
        if dim is not None and size > 1:
            shape[dim] = out.shape[dim]
    seen = torch.empty(shape, device="meta")  # the source, as it is broadcast over x
    _carry_rest(ctx, source, dims, seen, "written", "written into a part of another tensor")
    combine(ctx, [x, seen], out)


def ordered(position: int) -> Callable[[Context, Sequence[Any], Any], None]:
    """Make a rule for sorting and scanning along a dimension.

    Args:
        position: the place of the dimension among the arguments (left out: the last one).

    Returns:
        The rule.
    """

    def rule(ctx: Context, args: Sequence[Any], out: Any) -> None:
        x = args[0]
        if "stable" in ctx.operator:  # its dimension is a keyword, which rules do not see
            reason = "sorted, along a dimension that rules do not see"
            ctx.pin_fields(ctx.fields(x).values(), "reduced", reason)
            return
        mapping = _without(x, args[position] if len(args) > position else -1)
        for support, field in ctx.fields(x).items():
            if all(mapping[dim] is None for dim in support):
                reason = "sorted or accumulated over, so adding a neuron changes the result"
                ctx.pin(field, "reduced", reason)
        _carry(ctx, x, mapping, out)

    return rule


def choosing(ctx: Context, args: Sequence[Any], _: Any) -> None:
    """``nonzero``, ``masked_select``, ``nms`` ...: values decide how many elements there are."""
    _pin_choosing(ctx, [arg for arg in args if isinstance(arg, Tensor)])


def triangle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``tril(x)`` and ``triu(x)`` clear elements by their place in the last two dimensions."""
    x = args[0]
    for support, field in ctx.fields(x).items():
        if max(support) >= x.dim() - 2:
            ctx.pin(field, "sliced", "cut into a triangle by number")
    ctx.set_fields(out, ctx.fields(x).values(), ctx.value(x).axes)


def diagonal(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``diagonal(x, offset, dim1, dim2)``: the two dimensions become one, the last."""
    x = args[0]
    dims = args[2:4] if len(args) > 3 else (0, 1)
    mapping: list[int | None] = []
    num_left = 0
    for dim in _without(x, *dims):
        mapping.append(None if dim is None else num_left)
        num_left += dim is not None
    _carry_rest(ctx, x, mapping, out, "sliced", "a diagonal of it is taken by number")


def grid_sample(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``grid_sampler_2d(x, grid)``: channels are carried, the grid says where to read."""
    _pin_choosing(ctx, args[1:2])
    space(ctx, args, out)


def roi_align(ctx: Context, args: Sequence[Any], out: Any) -> None:
    """``torchvision::roi_align(x [N, C, H, W], boxes)``: one image of C channels per box."""
    _pin_choosing(ctx, args[1:2])
    mapping = [None, 1, None, None]  # the images of the batch and their space become boxes
    _carry_rest(ctx, args[0], mapping, out, "space", "cut into boxes as out of space")


def embedding_bag(ctx: Context, args: Sequence[Any], out: Sequence[Tensor]) -> None:
    """``_embedding_bag(weight, numbers, offsets, ...)``: means or sums of rows."""
    embedding(ctx, args, out[0])


def spectrum(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``_fft_r2c(x, dims, ...)`` and its relatives."""
    x, dims = args[0], args[1]
    reason = "a Fourier transform runs over it as over time"
    _carry_rest(ctx, x, _without(x, *dims), out, "space", reason)


def complex_pairs(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``view_as_complex`` drops a last dimension of two, ``view_as_real`` adds it."""
    x = args[0]
    if out.dim() > x.dim():
        _carry(ctx, x, range(x.dim()), out)
        return
    last = x.dim() - 1
    for support, field in ctx.fields(x).items():
        # In a grid of numbers and parts, the lines of the numbers may grow.
        has_lines = all((dim,) in ctx.fields(x) for dim in support)
        if last in support and (support == (last,) or not has_lines):
            ctx.pin(field, "sliced", "its two parts make complex numbers")
    _carry(ctx, x, _without(x, -1), out)
