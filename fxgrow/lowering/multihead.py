"""``nn.MultiheadAttention`` with explicit projections.

Reference: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow.errors import ModelError
from fxgrow.lowering.heads import Pieces, linear, thirds


class Attention(nn.Module):
    """A replacement for ``nn.MultiheadAttention`` with as many heads as the projections write.

    ``head_dim`` is fixed, and with it the softmax's scale. Nested tensors are not taken. A
    three-dimensional ``attn_mask`` has one mask per head, so heads cannot grow on example inputs
    that hold one.

    Args:
        q: the projection that writes queries.
        k: the projection that writes keys.
        v: the projection that writes values.
        out: the projection that reads the attended values of all heads.
        head_dim: channels of a head.
    """

    # torch's own transformer layers look here whether they may run fused kernels.
    in_proj_weight = None
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self, q: nn.Linear, k: nn.Linear, v: nn.Linear, out: nn.Linear, head_dim: int
    ) -> None:
        super().__init__()
        self.q = q
        self.k = k
        self.v = v
        self.out = out
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
        """The attended values; all arguments are those of ``nn.MultiheadAttention.forward``.

        Returns:
            The values and, with ``need_weights``, the weights of attention.

        Raises:
            ModelError: ``no-mask`` for ``is_causal`` without the mask that it speaks of.
        """
        if is_causal and attn_mask is None:
            raise ModelError(
                "no-mask",
                "is_causal says that attn_mask is causal, but there is none; give attn_mask too",
            )
        q = self._heads(self.q(query))
        k = self._heads(self.k(key))
        v = self._heads(self.v(value))
        # The kernel makes a causal mask itself, if it needs no other one and returns no weights.
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = _joined_mask(q, k, None if causal else attn_mask, key_padding_mask)
        k, v, mask = self._extended(k, v, mask)
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            values = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
            return self._out(values), None
        weights = _attention_weights(q, k, mask, 1 / math.sqrt(self.head_dim))
        weights = F.dropout(weights, dropout, self.training)
        returned = weights.mean(-3) if average_attn_weights else weights  # over heads
        return self._out(weights @ v), returned

    @property
    def _tokens(self) -> int:
        """The dimension of the tokens in ``[..., heads, head_dim]``."""
        # Without batch_first it is [tokens, batch, channels].
        return -3 if self.batch_first else 0

    def _heads(self, x: Tensor) -> Tensor:
        """``[batch, heads, tokens, head_dim]``, without batch if there is none."""
        heads: Tensor = x.unflatten(-1, (-1, self.head_dim)).movedim(self._tokens, -2)
        return heads

    def _out(self, x: Tensor) -> Tensor:
        """The inverse of ``_heads``, and the projection."""
        out: Tensor = self.out(x.movedim(-2, self._tokens).flatten(-2))
        return out

    def _extended(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with the extra tokens that the model has.

        One is learned, one is zero; neither is ever masked.
        """
        if self.bias_k is not None and self.bias_v is not None:
            k, v = self._with_token(k, self.bias_k), self._with_token(v, self.bias_v)
            mask = None if mask is None else F.pad(mask, (0, 1))  # one more key, score + 0
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
            mask = None if mask is None else F.pad(mask, (0, 1))
        return k, v, mask

    def _with_token(self, x: Tensor, token: Tensor) -> Tensor:
        """Append a token ``[1, 1, channels]`` to ``[batch, heads, tokens, head_dim]``."""
        heads = token[0, 0].unflatten(0, (-1, self.head_dim)).unsqueeze(-2)  # [heads, 1, head_dim]
        return torch.cat([x, torch.zeros_like(x[..., :1, :]) + heads], -2)


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask to be added to the scores.

    Args:
        mask: such a mask, or one of truth values that are True where not to attend.
        dtype: the dtype of the scores.

    Returns:
        ``-inf`` where not to attend; None for None.
    """
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def _joined_mask(
    q: Tensor, k: Tensor, mask: Tensor | None, padding: Tensor | None
) -> Tensor | None:
    """Both masks in one that broadcasts to ``[batch, heads, queries, keys]``.

    There is no batch if the inputs have none.
    """
    mask = additive(mask, q.dtype)
    padding = additive(padding, q.dtype)
    if mask is not None and mask.dim() == 3:
        # One mask per head, which torch lists behind one another: batch * heads of them.
        mask = mask.reshape(q.shape[:-1] + k.shape[-2:-1])
    if padding is None:
        return mask
    padding = padding[..., None, None, :]  # [batch, 1, 1, keys]
    return padding if mask is None else mask + padding


def _attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = (q * scale) @ k.transpose(-2, -1)
    return (scores if mask is None else scores + mask).softmax(-1)


def lower_multihead(fused: nn.MultiheadAttention, pieces: Pieces) -> Attention:
    """The row of ``nn.MultiheadAttention``.

    Args:
        fused: the module.
        pieces: see ``thirds``.

    Returns:
        Its lowered form.
    """
    # With sizes of their own, keys and values have weights of their own from the start.
    if fused._qkv_same_embed_dim:
        weights = thirds(fused.in_proj_weight, pieces)
    else:
        weights = (fused.q_proj_weight, fused.k_proj_weight, fused.v_proj_weight)
    biases = thirds(fused.in_proj_bias, pieces)
    lowered = Attention(
        linear(weights[0], biases[0]),
        linear(weights[1], biases[1]),
        linear(weights[2], biases[2]),
        linear(fused.out_proj.weight, fused.out_proj.bias),
        fused.head_dim,
    )
    lowered.dropout = fused.dropout
    lowered.batch_first = fused.batch_first
    lowered.add_zero_attn = fused.add_zero_attn
    lowered.bias_k = fused.bias_k  # type: ignore[assignment]
    lowered.bias_v = fused.bias_v  # type: ignore[assignment]
    return lowered
