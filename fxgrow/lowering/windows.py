"""Attention in shifted windows over two or three dimensions of space: Swin, Swin V2 and video Swin of torchvision.

Liu et al., "Swin Transformer", 2021, section 3.2; "Swin Transformer V2", 2022, section 3.2; "Video Swin Transformer",
2022, section 3.1. Which window a token is in depends on sizes alone and is written without branches on them: torch.fx
goes through, and the graph is good for images of every size.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.lowering.heads import Pieces, merge_heads, projections, split_heads
from fxgrow.lowering.positions import Continuous, Table

ELSEWHERE = -100.0
"""Added to the score of two tokens that share a window only because the image was rolled."""


class WindowAttention(nn.Module):
    """``[batch, *space, channels]`` to the same shape; the tokens of each window attend to one another.

    ``window``, ``shift``: one number per dimension of space; no shift where one window covers the image. ``adapts``:
    windows shrink to a smaller image (video Swin), which is padded otherwise. With a ``logit_scale`` ``[heads, 1, 1]``
    attention is by cosine.
    """

    def __init__(self, layers: Sequence[nn.Linear], position: nn.Module, head_dim: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = layers
        self.position = position
        self.head_dim = head_dim
        self.logit_scale: nn.Parameter | None = None
        self.window: tuple[int, ...] = ()
        self.shift: tuple[int, ...] = ()
        self.adapts = False
        self.dropout = 0.0
        self.dropout_out = 0.0

    def forward(self, x: Tensor) -> Tensor:
        sizes = [x.shape[1 + i] for i in range(len(self.window))]
        window = [
            _smaller(w, size) if self.adapts else w
            for w, size in zip(self.window, sizes, strict=True)
        ]
        shift = [s * (size > w) for s, size, w in zip(self.shift, sizes, self.window, strict=True)]
        dims = list(range(1, 1 + len(sizes)))
        x = F.pad(
            x,
            [
                0,
                0,
                *(
                    n
                    for size, w in zip(sizes[::-1], window[::-1], strict=True)
                    for n in (0, -size % w)
                ),
            ],
        )
        padded = [x.shape[dim] for dim in dims]
        if any(self.shift):
            x = x.roll([-s for s in shift], dims)
        bias = self.position(math.prod(window))
        if any(self.shift):
            bias = bias + shift_mask(x, padded, window, shift).unsqueeze(1)
        x = self._attend(partition(x, window), bias)
        x = F.dropout(self.out(x), self.dropout_out, self.training)
        x = departition(x, padded, window)
        if any(self.shift):
            x = x.roll(shift, dims)
        return x[(slice(None), *(slice(0, size) for size in sizes))].contiguous()

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """``[batch, windows, tokens, channels]`` to ``[batch, windows, tokens, heads * head_dim]``."""
        q, k, v = (split_heads(layer(x), self.head_dim) for layer in (self.q, self.k, self.v))
        scale = None
        if self.logit_scale is not None:
            q = F.normalize(q, dim=-1) * self.logit_scale.clamp(max=math.log(100.0)).exp()
            k, scale = F.normalize(k, dim=-1), 1.0
        dropout = self.dropout if self.training else 0.0
        return merge_heads(F.scaled_dot_product_attention(q, k, v, bias, dropout, scale=scale))


def _smaller(a: int, b: int) -> int:
    """The smaller of two numbers, without asking which it is (torch.fx does not know)."""
    return a - (a - b) * (b < a)


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """``[batch, *space, channels]`` as ``[batch, windows, tokens of a window, channels]``."""
    n = len(window)
    for i, w in enumerate(window):
        x = x.unflatten(1 + 2 * i, (-1, w))
    outer, inner = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
    return x.permute(0, *outer, *inner, 2 * n + 1).flatten(n + 1, 2 * n).flatten(1, n)


def departition(x: Tensor, sizes: Sequence[int], window: Sequence[int]) -> Tensor:
    """The inverse of ``partition``; ``sizes`` are those of the (padded) image."""
    n = len(window)
    counts = [size // w for size, w in zip(sizes, window, strict=True)]
    x = x.unflatten(2, tuple(window)).unflatten(1, tuple(counts))
    x = x.permute(0, *(dim for i in range(n) for dim in (1 + i, 1 + n + i)), 2 * n + 1)
    for i in range(n):
        x = x.flatten(1 + i, 2 + i)
    return x


def shift_mask(
    x: Tensor, sizes: Sequence[int], window: Sequence[int], shift: Sequence[int]
) -> Tensor:
    """``[windows, tokens, tokens]``: ``ELSEWHERE`` for tokens that were no neighbours before the image was rolled.

    Along each dimension the last ``shift`` positions came from the other end, and the rest of the last window is cut
    off from the windows before it: three regions, numbered 0, 1, 2.
    """
    regions = x.new_zeros((1,) * len(sizes), dtype=torch.long)
    for i, (size, w, s) in enumerate(zip(sizes, window, shift, strict=True)):
        position = x.new_ones((size,), dtype=torch.long).cumsum(0)
        region = (position > size - w).long() + (position > size - s).long()
        regions = regions * 3 + region.reshape([-1 if dim == i else 1 for dim in range(len(sizes))])
    mine = partition(regions[None, ..., None], window)[0, :, :, 0]
    return (mine.unsqueeze(1) != mine.unsqueeze(2)).to(x.dtype) * ELSEWHERE


def lower_windows(fused: Any, pieces: Pieces) -> WindowAttention:
    """The row of torchvision's ``ShiftedWindowAttention`` (all of them)."""
    layers = [*projections(fused.qkv, pieces), fused.proj]
    made = WindowAttention(layers, _position(fused), layers[0].out_features // fused.num_heads)
    made.window, made.shift = tuple(fused.window_size), tuple(fused.shift_size)
    made.adapts = len(made.window) == 3
    made.dropout, made.dropout_out = fused.attention_dropout, fused.dropout
    if hasattr(fused, "logit_scale"):
        made.logit_scale = fused.logit_scale
        made.k.register_parameter("bias", None)  # the original sets it to zero whenever it runs
    return made


def _position(fused: Any) -> nn.Module:
    tokens = math.prod(fused.window_size)
    index = fused.relative_position_index.view(tokens, tokens)
    if hasattr(fused, "cpb_mlp"):
        return Continuous(fused.cpb_mlp, fused.relative_coords_table, index)
    return Table(fused.relative_position_bias_table, index)
