"""Attention of torchvision's MaxViT (Tu et al., "MaxViT: Multi-Axis Vision Transformer", 2022, section 3.1)."""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.lowering.heads import Pieces, merge_heads, projections, split_heads
from fxgrow.lowering.positions import Table


class RelativeAttention(nn.Module):
    """``[..., tokens, channels]`` to the same shape, with a position bias and a scale of its own."""

    def __init__(
        self, layers: Sequence[nn.Linear], position: nn.Module, head_dim: int, scale: float
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = layers
        self.position = position
        self.head_dim = head_dim
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(layer(x), self.head_dim) for layer in (self.q, self.k, self.v))
        bias = self.position(x.shape[-2])
        out: Tensor = self.out(
            merge_heads(F.scaled_dot_product_attention(q, k, v, bias, scale=self.scale))
        )
        return out


def lower_relative(fused: Any, pieces: Pieces) -> RelativeAttention:
    """The row of ``RelativePositionalMultiHeadAttention``; its table is for all positions of a square window."""
    index = fused.relative_position_index
    side = math.isqrt(index.numel())
    position = Table(fused.relative_position_bias_table, index.view(side, side))
    return RelativeAttention(
        [*projections(fused.to_qkv, pieces), fused.merge],
        position,
        fused.head_dim,
        fused.scale_factor,
    )
