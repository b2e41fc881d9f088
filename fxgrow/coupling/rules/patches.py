"""Patches and pixels that become channels, and channels that become pixels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.fields import field_core, field_support, spread_field
from fxgrow.coupling.rules.movement import reshape, view
from fxgrow.coupling.values import Context, placed_fields

SPACE = "patches are cut out of it as out of space"


def unfold(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x.unfold(dim, size, step)``: windows along ``dim``, their content in a new last dimension."""
    x, dim = args[0], args[1] % args[0].dim()
    for key, field in ctx.fields(x).items():
        if dim in key:
            ctx.pin(field, "space", SPACE)
    mapping = [None if one == dim else one for one in range(x.dim())]
    ctx.set_fields(out, placed_fields(ctx.fields(x), mapping, out.shape), ctx.value(x).axes)


def _channels(ctx: Context, x: Tensor, dim: int) -> list[Tensor]:
    """The fields along ``dim`` alone as vectors; neurons along the dimensions after it are refused."""
    for field in ctx.fields(x).values():
        if max(field_support(field)) > dim:
            ctx.pin(field, "space", SPACE)
    return [field_core(field) for key, field in ctx.fields(x).items() if key == (dim,)]


def _spread_out(ctx: Context, x: Tensor, dim: int, out: Tensor, to: int) -> None:
    """Every channel becomes several in a row."""
    times = out.shape[to] // x.shape[dim]
    found = _channels(ctx, x, dim)
    ctx.set_fields(
        out,
        [spread_field(one.repeat_interleave(times), (to,), out.shape) for one in found],
        ctx.value(x).axes,
    )


def _gathered(ctx: Context, x: Tensor, dim: int, out: Tensor, to: int) -> None:
    """Several channels in a row become one."""
    rows = [one.view(out.shape[to], -1) for one in _channels(ctx, x, dim)]
    for one in rows:
        ctx.unite(one, one[:, :1].expand_as(one).contiguous())
    ctx.set_fields(
        out, [spread_field(one[:, 0], (to,), out.shape) for one in rows], ctx.value(x).axes
    )


def im2col(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``im2col(x [N, C, H, W], kernel)``: ``[N, C |kernel|, windows]``."""
    _spread_out(ctx, args[0], args[0].dim() - 3, out, out.dim() - 2)


def col2im(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``col2im(x [N, C |kernel|, windows], size, kernel)``: ``[N, C, H, W]``."""
    _gathered(ctx, args[0], args[0].dim() - 2, out, out.dim() - 3)


def pixel_shuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``pixel_shuffle(x [..., C r^2, H, W], r)``: r^2 channels in a row make one."""
    _gathered(ctx, args[0], args[0].dim() - 3, out, out.dim() - 3)


def pixel_unshuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``pixel_unshuffle(x [..., C, H r, W r], r)``: a channel makes r^2 in a row."""
    _spread_out(ctx, args[0], args[0].dim() - 3, out, out.dim() - 3)


def channel_shuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``channel_shuffle(x [N, C, ...], groups)``: a grid of groups and channels, transposed."""
    x, groups = args[0], args[1]
    grid = x.view(x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))
    reshape(ctx, (x,), grid)
    turned = grid.transpose(1, 2)
    view(torch.ops.aten.transpose.int)(ctx, (grid, 1, 2), turned)
    reshape(ctx, (turned,), out)
