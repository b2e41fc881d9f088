"""Attention of timm's vision transformers (``timm.layers.Attention``), whose three projections are one layer."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.lowering.heads import Pieces, merge_heads, projections, split_heads

_OWN = ("q_norm", "k_norm", "norm", "gate", "proj_drop")


class SelfAttention(nn.Module):
    """``[batch, tokens, channels]`` to the same shape; norms of queries and keys run over the head size."""

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
        q, k, v = (split_heads(layer(x), self.head_dim) for layer in (self.q, self.k, self.v))
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
    """The row of ``timm.layers.Attention``; earlier versions have neither gate nor norm of the output."""
    made = SelfAttention([*projections(fused.qkv, pieces), fused.proj], fused.head_dim)
    made.scale = None if fused.fused_attn else fused.scale
    made.dropout = fused.attn_drop.p
    for name in _OWN:
        setattr(made, name, getattr(fused, name, getattr(made, name)))
    return made
