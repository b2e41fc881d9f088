"""Attention in shifted windows over two or three dimensions of space.

It lowers the window attention of torchvision's Swin, Swin V2 and video Swin.

References: Liu et al., "Swin Transformer", 2021, section 3.2; "Swin Transformer V2", 2022, section
3.2; "Video Swin Transformer", 2022, section 3.1.

How we differ: which window a token is in depends on sizes alone and is written without branches on
them. torch.fx goes through, and the graph is good for images of every size.
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
    """Attention of the tokens of each window to one another.

    ``window`` and ``shift`` have one number per dimension of space; there is no shift where one
    window covers the image. If it ``adapts``, windows shrink to a smaller image (video Swin), which
    is padded otherwise. With a ``logit_scale`` ``[heads, 1, 1]`` attention is by cosine.

    Args:
        layers: the projections ``q``, ``k``, ``v`` and ``out``.
        position: the position bias of a number of tokens.
        head_dim: channels of a head.

    Shapes:
        ``[batch, *space, channels]`` to the same shape.
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
        dims = list(range(1, 1 + len(self.window)))
        sizes = [x.shape[dim] for dim in dims]
        window = self._window_sizes(sizes)
        shift = self._shifts(sizes)
        x = _pad_to_windows(x, sizes, window)
        padded = [x.shape[dim] for dim in dims]
        if any(self.shift):
            x = x.roll([-s for s in shift], dims)
        bias = self.position(math.prod(window))  # [heads, tokens, tokens]
        if any(self.shift):
            bias = bias + shift_mask(x, padded, window, shift).unsqueeze(1)
        x = self._attend(partition(x, window), bias)
        x = F.dropout(self.out(x), self.dropout_out, self.training)
        x = departition(x, padded, window)
        if any(self.shift):
            x = x.roll(shift, dims)
        # Cut the padding off.
        image = (slice(None), *(slice(0, size) for size in sizes))
        return x[image].contiguous()

    def _window_sizes(self, sizes: Sequence[int]) -> list[int]:
        if not self.adapts:
            return list(self.window)
        return [_smaller(w, size) for w, size in zip(self.window, sizes, strict=True)]

    def _shifts(self, sizes: Sequence[int]) -> list[int]:
        """How far the image is rolled along each dimension of space."""
        shifts = []
        for shift, size, window in zip(self.shift, sizes, self.window, strict=True):
            # Times a truth value: torch.fx cannot branch on a size.
            shifts.append(shift * (size > window))
        return shifts

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """``[batch, windows, tokens, channels]`` to ``[batch, windows, tokens, channels]``.

        The channels of the result are ``heads * head_dim``.
        """
        q = split_heads(self.q(x), self.head_dim)
        k = split_heads(self.k(x), self.head_dim)
        v = split_heads(self.v(x), self.head_dim)
        scale = None
        if self.logit_scale is not None:
            # Cosine attention: the scale is learned, at most 100 (Swin V2, section 3.2).
            q = F.normalize(q, dim=-1) * self.logit_scale.clamp(max=math.log(100.0)).exp()
            k, scale = F.normalize(k, dim=-1), 1.0
        dropout = self.dropout if self.training else 0.0
        return merge_heads(F.scaled_dot_product_attention(q, k, v, bias, dropout, scale=scale))


def _smaller(a: int, b: int) -> int:
    """The smaller of two numbers, without branching on which it is (torch.fx does not know)."""
    return a - (a - b) * (b < a)


def _pad_to_windows(x: Tensor, sizes: Sequence[int], window: Sequence[int]) -> Tensor:
    """Pad an image at its ends to whole windows."""
    # F.pad takes (before, after) of each dimension, the last one (channels) first.
    padding = [0, 0]
    for size, w in zip(reversed(sizes), reversed(window), strict=True):
        padding += [0, -size % w]
    return F.pad(x, padding)


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """Divide an image into windows.

    Args:
        x: the image; its sizes are multiples of the window's.
        window: the size of a window along each dimension of space.

    Shapes:
        ``[batch, *space, channels]`` to ``[batch, windows, tokens of a window, channels]``.

    Returns:
        The windows.
    """
    n = len(window)
    for i, w in enumerate(window):
        x = x.unflatten(1 + 2 * i, (-1, w))
    # Now [batch, windows 1, tokens 1, windows 2, tokens 2, ..., channels].
    window_dims, token_dims = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
    x = x.permute(0, *window_dims, *token_dims, 2 * n + 1)
    return x.flatten(n + 1, 2 * n).flatten(1, n)


def departition(x: Tensor, sizes: Sequence[int], window: Sequence[int]) -> Tensor:
    """The inverse of ``partition``.

    Args:
        x: the windows.
        sizes: the size of the (padded) image along each dimension of space.
        window: the size of a window.

    Returns:
        The image.
    """
    n = len(window)
    counts = [size // w for size, w in zip(sizes, window, strict=True)]
    x = x.unflatten(2, tuple(window)).unflatten(1, tuple(counts))
    # Now [batch, windows 1, windows 2, ..., tokens 1, tokens 2, ..., channels].
    order = [0]
    for i in range(n):
        order += [1 + i, 1 + n + i]
    x = x.permute(*order, 2 * n + 1)
    for i in range(n):
        x = x.flatten(1 + i, 2 + i)
    return x


def shift_mask(
    x: Tensor, sizes: Sequence[int], window: Sequence[int], shift: Sequence[int]
) -> Tensor:
    """``ELSEWHERE`` for tokens that were no neighbors before the image was rolled, else 0.

    Along each dimension the last ``shift`` positions came from the other end, and the rest of the
    last window is cut off from the windows before it: three regions, numbered 0, 1, 2.

    Args:
        x: any tensor of the device and dtype of the scores.
        sizes: the size of the image along each dimension of space.
        window: the size of a window.
        shift: how far the image was rolled.

    Returns:
        ``[windows, tokens, tokens]``.
    """
    n = len(sizes)
    regions = x.new_zeros((1,) * n, dtype=torch.long)
    for i, (size, w, s) in enumerate(zip(sizes, window, shift, strict=True)):
        # 1, 2, ..., size, by a method of x: torch.fx records it, and the device is that of x.
        position = x.new_ones((size,), dtype=torch.long).cumsum(0)
        region = (position > size - w).long() + (position > size - s).long()
        along_i = [1] * n
        along_i[i] = -1
        # One digit per dimension in base 3.
        regions = regions * 3 + region.reshape(along_i)
    region_of_token = partition(regions[None, ..., None], window)[0, :, :, 0]  # [windows, tokens]
    differs = region_of_token.unsqueeze(1) != region_of_token.unsqueeze(2)
    return differs.to(x.dtype) * ELSEWHERE


def lower_windows(fused: Any, pieces: Pieces) -> WindowAttention:
    """The row of all of torchvision's ``ShiftedWindowAttention`` classes.

    Args:
        fused: the module.
        pieces: see ``thirds``.

    Returns:
        Its lowered form.
    """
    layers = [*projections(fused.qkv, pieces), fused.proj]
    head_dim = layers[0].out_features // fused.num_heads
    lowered = WindowAttention(layers, _position_bias(fused), head_dim)
    lowered.window = tuple(fused.window_size)
    lowered.shift = tuple(fused.shift_size)
    lowered.adapts = len(lowered.window) == 3
    lowered.dropout = fused.attention_dropout
    lowered.dropout_out = fused.dropout
    if hasattr(fused, "logit_scale"):
        lowered.logit_scale = fused.logit_scale
        # The original sets the bias of keys to zero whenever it runs.
        lowered.k.register_parameter("bias", None)
    return lowered


def _position_bias(fused: Any) -> nn.Module:
    tokens = math.prod(fused.window_size)
    index = fused.relative_position_index.view(tokens, tokens)
    if hasattr(fused, "cpb_mlp"):
        return Continuous(fused.cpb_mlp, fused.relative_coords_table, index)
    return Table(fused.relative_position_bias_table, index)
