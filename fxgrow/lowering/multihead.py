"""``nn.MultiheadAttention`` with explicit projections (Vaswani et al., "Attention Is All You Need", 2017, 3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.errors import ModelError
from fxgrow.lowering.heads import Pieces, linear, thirds


class Attention(nn.Module):
    """Takes and gives what ``nn.MultiheadAttention`` does; the number of heads is what the projections write.

    ``head_dim`` is fixed, and with it the softmax's scale. Nested tensors are not taken. A three-dimensional
    ``attn_mask`` has one mask per head, so heads cannot grow on example inputs that hold one.
    """

    # where torch's own transformer layers look whether they may run fused kernels on the fused projections
    in_proj_weight = None
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self, q: nn.Linear, k: nn.Linear, v: nn.Linear, out: nn.Linear, head_dim: int
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = q, k, v, out
        self.head_dim = head_dim
        self.dropout = 0.0
        self.batch_first = False
        self.add_zero_attn = False
        self.bias_k: nn.Parameter | None = None
        self.bias_v: nn.Parameter | None = None

    @property
    def num_heads(self) -> int:
        """How many heads there are now."""
        return self.q.out_features // self.head_dim

    @property
    def embed_dim(self) -> int:
        """Size of a query."""
        return self.q.in_features

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values and, with ``need_weights``, the weights; see ``nn.MultiheadAttention.forward``.

        Raises ``ModelError`` (``no-mask``) for ``is_causal`` without the mask that it speaks of.
        """
        if is_causal and attn_mask is None:
            raise ModelError(
                "no-mask",
                "is_causal says that attn_mask is causal, but there is none; give attn_mask too",
            )
        q, k, v = self._heads(self.q(query)), self._heads(self.k(key)), self._heads(self.v(value))
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = _joined_mask(q, k, None if causal else attn_mask, key_padding_mask)
        k, v, mask = self._extended(k, v, mask)
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return self._out(
                F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
            ), None
        weights = F.dropout(
            _weights(q, k, mask, 1 / math.sqrt(self.head_dim)), dropout, self.training
        )
        shown = weights.mean(-3) if average_attn_weights else weights
        return self._out(weights @ v), shown

    @property
    def _tokens(self) -> int:
        """The dimension of the tokens in ``[..., heads, head_dim]``: the first, or that before the heads."""
        return -3 if self.batch_first else 0

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (-1, self.head_dim)).movedim(self._tokens, -2)
        return heads

    def _out(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(x.movedim(-2, self._tokens).flatten(-2))
        return out

    def _extended(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One more token that is learnt, and one more that is zero, if the model has them; neither is ever masked."""
        if self.bias_k is not None and self.bias_v is not None:
            k, v = self._with_token(k, self.bias_k), self._with_token(v, self.bias_v)
            mask = None if mask is None else F.pad(mask, (0, 1))
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
            mask = None if mask is None else F.pad(mask, (0, 1))
        return k, v, mask

    def _with_token(self, x: Tensor, token: Tensor) -> Tensor:
        heads = token[0, 0].unflatten(0, (-1, self.head_dim)).unsqueeze(-2)
        return torch.cat([x, torch.zeros_like(x[..., :1, :]) + heads], -2)


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to the scores: a truth value says where not to look."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def _joined_mask(
    q: Tensor, k: Tensor, mask: Tensor | None, padding: Tensor | None
) -> Tensor | None:
    """Both masks in one that broadcasts to ``[batch, heads, queries, keys]`` (without batch if there is none)."""
    mask, padding = additive(mask, q.dtype), additive(padding, q.dtype)
    if mask is not None and mask.dim() == 3:
        mask = mask.reshape(q.shape[:-1] + k.shape[-2:-1])
    if padding is None:
        return mask
    padding = padding[..., None, None, :]
    return padding if mask is None else mask + padding


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = (q * scale) @ k.transpose(-2, -1)
    return (scores if mask is None else scores + mask).softmax(-1)


def lower_multihead(fused: nn.MultiheadAttention, pieces: Pieces) -> Attention:
    """The row of ``nn.MultiheadAttention``."""
    separate = (fused.q_proj_weight, fused.k_proj_weight, fused.v_proj_weight)
    weights = thirds(fused.in_proj_weight, pieces) if fused._qkv_same_embed_dim else separate
    q, k, v = (
        linear(*pair) for pair in zip(weights, thirds(fused.in_proj_bias, pieces), strict=True)
    )
    made = Attention(q, k, v, linear(fused.out_proj.weight, fused.out_proj.bias), fused.head_dim)
    made.dropout, made.batch_first, made.add_zero_attn = (
        fused.dropout,
        fused.batch_first,
        fused.add_zero_attn,
    )
    made.bias_k, made.bias_v = fused.bias_k, fused.bias_v  # type: ignore[assignment]
    return made
