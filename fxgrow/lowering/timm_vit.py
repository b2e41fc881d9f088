"""Attention of timm's vision transformers, whose three projections are one layer.

It lowers ``timm.layers.Attention``.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.lowering.heads import Pieces, merge_heads, projections, split_heads

_SHARED_PARTS = ("q_norm", "k_norm", "norm", "gate", "proj_drop")
"""The parts that are taken over as they are."""


class SelfAttention(nn.Module):
    """Attention whose norms of queries and keys run over the head size.

    Args:
        layers: the projections ``q``, ``k``, ``v`` and ``out``.
        head_dim: channels of a head.

    Shapes:
        ``[batch, tokens, channels]`` to the same shape.
    """

    def __init__(self, layers: Sequence[nn.Linear], head_dim: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = layers
        self.head_dim = head_dim
        self.scale: float | None = None
        self.dropout = 0.0
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        self.proj_drop: nn.Module = nn.Identity()
        self.gate: nn.Module | None = None

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        q = split_heads(self.q(x), self.head_dim)
        k = split_heads(self.k(x), self.head_dim)
        v = split_heads(self.v(x), self.head_dim)
        # The functional form does not know whether the module is being trained.
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            self.q_norm(q),
            self.k_norm(k),
            v,
            attn_mask,
            dropout,
            is_causal=is_causal,
            scale=self.scale,
        )
        y = self.norm(merge_heads(y))
        if self.gate is not None:
            y = y * self.gate(x).sigmoid()
        out: Tensor = self.proj_drop(self.out(y))
        return out


def lower_timm(fused: Any, pieces: Pieces) -> SelfAttention:
    """The row of ``timm.layers.Attention``.

    Args:
        fused: the module.
        pieces: see ``thirds``.

    Returns:
        Its lowered form.
    """
    layers = [*projections(fused.qkv, pieces), fused.proj]
    lowered = SelfAttention(layers, fused.head_dim)
    # timm's fused kernel uses torch's default, 1 / sqrt(head_dim), whatever ``scale`` is.
    lowered.scale = None if fused.fused_attn else fused.scale
    lowered.dropout = fused.attn_drop.p
    for name in _SHARED_PARTS:
        # Earlier versions of timm have neither a gate nor a norm of the output.
        setattr(lowered, name, getattr(fused, name, getattr(lowered, name)))
    return lowered
