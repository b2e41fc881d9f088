"""Neurons that are written into a part of a constant (``out[rows] = h`` with ``out`` of zeros)."""

from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import place_field

WRITTEN = "written into a part of another tensor"


def carry_to_base(ctx: Context, view: Tensor, base: Tensor) -> None:
    """Let a constant hold the neurons that were written into a view of it.

    They are refused where it cannot: along a dimension of the view that is not a whole one of the
    constant, or along which the constant differs.

    Args:
        ctx: the context of the run.
        view: the view, with the neurons that were written into it.
        base: the constant.
    """
    dims = [_dim_of_base(base, view, dim) for dim in range(view.dim())]
    placed = []
    for support, field in ctx.fields(view).items():
        in_base = [dims[dim] for dim in support]
        of_base = place_field(field, dims, base.shape)
        known = [dim for dim in in_base if dim is not None]
        if of_base is None or len(known) < len(in_base) or not ctx.is_uniform(base, known):
            ctx.pin(field, "written", WRITTEN)
        else:
            placed.append(of_base)
    if placed:
        ctx.set_fields(base, placed)


def _dim_of_base(base: Tensor, view: Tensor, dim: int) -> int | None:
    """The dimension of a tensor that is a dimension of a view of it, as a whole."""
    size, stride = view.shape[dim], view.stride(dim)
    offset = view.storage_offset() - base.storage_offset()
    for of_base in range(base.dim()):
        if base.shape[of_base] == size and base.stride(of_base) == stride:
            # Where the view begins along this dimension.
            return of_base if offset // stride % size == 0 else None
    return None
