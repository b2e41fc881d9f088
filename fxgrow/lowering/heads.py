"""What every lowered attention is made of: heads of a fixed size, as many as the projections write."""

from typing import Any

import torch
from torch import Tensor, nn

Pieces = dict[int, tuple[nn.Parameter, ...]]
"""The parameters that a fused one (by ``id``) was cut into: what was tied stays tied."""


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """``[..., tokens, heads * head_dim]`` as ``[..., heads, tokens, head_dim]``, however many heads there are."""
    heads: Tensor = x.unflatten(-1, (-1, head_dim)).transpose(-3, -2)
    return heads


def merge_heads(x: Tensor) -> Tensor:
    """``[..., heads, tokens, head_dim]`` as ``[..., tokens, heads * head_dim]``."""
    return x.transpose(-3, -2).flatten(-2)


def thirds(fused: Tensor | None, pieces: Pieces) -> tuple[Any, ...]:
    """Query, key and value rows of a fused parameter, as parameters of their own; three times None for None."""
    if fused is None:
        return (None, None, None)
    if id(fused) not in pieces:
        parts = fused.detach().chunk(3)
        pieces[id(fused)] = tuple(nn.Parameter(part.clone(), fused.requires_grad) for part in parts)
    return pieces[id(fused)]


def linear(weight: Any, bias: Any) -> nn.Linear:
    """A linear layer that holds these very parameters (``bias`` may be None)."""
    with torch.device("meta"):  # nothing is allocated or drawn
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight = weight
    made.bias = bias
    return made


def projections(fused: nn.Linear, pieces: Pieces) -> list[nn.Linear]:
    """The query, key and value layers that one fused layer stands for."""
    return [
        linear(*pair)
        for pair in zip(thirds(fused.weight, pieces), thirds(fused.bias, pieces), strict=True)
    ]
