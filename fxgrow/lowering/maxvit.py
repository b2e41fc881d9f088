"""Attention of torchvision's MaxViT.

Reference: Tu et al., "MaxViT: Multi-Axis Vision Transformer", 2022, section 3.1.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.lowering.heads import Pieces, merge_heads, projections, split_heads
from fxgrow.lowering.positions import Table


class RelativeAttention(nn.Module):
    """Attention with a position bias and a scale of its own.

    Args:
        layers: the projections ``q``, ``k``, ``v`` and ``out``.
        position: the position bias of a number of tokens.
        head_dim: channels of a head.
        scale: what scores are multiplied by.

    Shapes:
        ``[..., tokens, channels]`` to the same shape.
    """

    def __init__(
        self, layers: Sequence[nn.Linear], position: nn.Module, head_dim: int, scale: float
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = layers
        self.position = position
        self.head_dim = head_dim
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q = split_heads(self.q(x), self.head_dim)
        k = split_heads(self.k(x), self.head_dim)
        v = split_heads(self.v(x), self.head_dim)
        bias = self.position(x.shape[-2])  # [heads, tokens, tokens]
        attended = F.scaled_dot_product_attention(q, k, v, bias, scale=self.scale)
        out: Tensor = self.out(merge_heads(attended))
        return out


def lower_relative(fused: Any, pieces: Pieces) -> RelativeAttention:
    """The row of ``RelativePositionalMultiHeadAttention``.

    Args:
        fused: the module.
        pieces: see ``thirds``.

    Returns:
        Its lowered form.
    """
    # The index is flat: one entry per pair of positions in a square window.
    index = fused.relative_position_index
    tokens = math.isqrt(index.numel())
    position = Table(fused.relative_position_bias_table, index.view(tokens, tokens))
    layers = [*projections(fused.to_qkv, pieces), fused.merge]
    return RelativeAttention(layers, position, fused.head_dim, fused.scale_factor)
