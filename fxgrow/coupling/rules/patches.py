"""Patches and pixels that become channels, and channels that become pixels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import field_core, field_support, spread_field
from fxgrow.coupling.rules.movement import view
from fxgrow.coupling.rules.reshaping import reshape
from fxgrow.coupling.values import placed_fields

SPACE = "patches are cut out of it as out of space"


def unfold(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``x.unfold(dim, size, step)``: windows along ``dim``, their content in a new last one."""
    x, unfolded = args[0], args[1] % args[0].dim()
    for support, field in ctx.fields(x).items():
        if unfolded in support:
            ctx.pin(field, "space", SPACE)
    mapping = [None if dim == unfolded else dim for dim in range(x.dim())]
    ctx.set_fields(out, placed_fields(ctx.fields(x), mapping, out.shape), ctx.value(x).axes)


def _channels(ctx: Context, x: Tensor, dim: int) -> list[Tensor]:
    """The fields along ``dim`` alone as vectors; neurons along later dimensions are refused."""
    channels = []
    for field in ctx.fields(x).values():
        support = field_support(field)
        if max(support) > dim:
            ctx.pin(field, "space", SPACE)
        if support == (dim,):
            channels.append(field_core(field))
    return channels


def _spread_out(ctx: Context, x: Tensor, dim: int, out: Tensor, to: int) -> None:
    """Every channel of ``x`` becomes several in a row."""
    times = out.shape[to] // x.shape[dim]
    fields = []
    for channels in _channels(ctx, x, dim):
        fields.append(spread_field(channels.repeat_interleave(times), (to,), out.shape))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def _gather_in(ctx: Context, x: Tensor, dim: int, out: Tensor, to: int) -> None:
    """Several channels of ``x`` in a row become one."""
    fields = []
    for channels in _channels(ctx, x, dim):
        rows = channels.view(out.shape[to], -1)  # [new channels, old channels of each]
        first = rows[:, :1]
        ctx.unite(rows, first.expand_as(rows).contiguous())
        fields.append(spread_field(rows[:, 0], (to,), out.shape))
    ctx.set_fields(out, fields, ctx.value(x).axes)


def im2col(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``im2col(x [N, C, H, W], kernel)``: ``[N, C |kernel|, windows]``."""
    _spread_out(ctx, args[0], args[0].dim() - 3, out, out.dim() - 2)


def col2im(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``col2im(x [N, C |kernel|, windows], size, kernel)``: ``[N, C, H, W]``."""
    _gather_in(ctx, args[0], args[0].dim() - 2, out, out.dim() - 3)


def pixel_shuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``pixel_shuffle(x [..., C r^2, H, W], r)``: r^2 channels in a row make one."""
    _gather_in(ctx, args[0], args[0].dim() - 3, out, out.dim() - 3)


def pixel_unshuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``pixel_unshuffle(x [..., C, H r, W r], r)``: a channel makes r^2 in a row."""
    _spread_out(ctx, args[0], args[0].dim() - 3, out, out.dim() - 3)


def channel_shuffle(ctx: Context, args: Sequence[Any], out: Tensor) -> None:
    """``channel_shuffle(x [N, C, ...], groups)``: a grid of groups and channels, transposed."""
    x, groups = args[0], args[1]
    # [N, groups, channels of each, space]
    grid = x.view(x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))
    reshape(ctx, (x,), grid)
    transposed = grid.transpose(1, 2)
    view(torch.ops.aten.transpose.int)(ctx, (grid, 1, 2), transposed)
    reshape(ctx, (transposed,), out)
