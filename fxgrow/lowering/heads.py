"""What every lowered attention is made of: heads of a fixed size, as many as projections write."""

from typing import Any

import torch
from torch import Tensor, nn

Pieces = dict[int, tuple[nn.Parameter, ...]]
"""The parameters that a fused one (by ``id``) was cut into: what was tied stays tied."""


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """Split channels into heads, however many there are.

    Args:
        x: the tokens.
        head_dim: channels of a head.

    Shapes:
        ``[..., tokens, heads * head_dim]`` to ``[..., heads, tokens, head_dim]``.

    Returns:
        A view.
    """
    # -1 and not a number of heads: the graph is good for a model with more of them.
    heads: Tensor = x.unflatten(-1, (-1, head_dim)).transpose(-3, -2)
    return heads


def merge_heads(x: Tensor) -> Tensor:
    """``[..., heads, tokens, head_dim]`` as ``[..., tokens, heads * head_dim]``."""
    return x.transpose(-3, -2).flatten(-2)


def thirds(fused: Tensor | None, pieces: Pieces) -> tuple[Any, ...]:
    """Query, key and value rows of a fused parameter, as parameters of their own.

    Args:
        fused: ``[3 * channels, ...]``, or None.
        pieces: what has been cut so far; the parameter is entered.

    Returns:
        Three parameters; three times None for None.
    """
    if fused is None:
        return (None, None, None)
    if id(fused) not in pieces:
        parameters = []
        for part in fused.detach().chunk(3):
            # A clone: as a view it would keep all three parts in memory.
            parameters.append(nn.Parameter(part.clone(), fused.requires_grad))
        pieces[id(fused)] = tuple(parameters)
    return pieces[id(fused)]


def linear(weight: Any, bias: Any) -> nn.Linear:
    """A linear layer that holds these very parameters.

    Args:
        weight: ``[out, in]``.
        bias: ``[out]``, or None.

    Returns:
        The layer.
    """
    with torch.device("meta"):  # nothing is allocated or drawn
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = weight
    layer.bias = bias
    return layer


def projections(fused: nn.Linear, pieces: Pieces) -> list[nn.Linear]:
    """The query, key and value layers that one fused layer stands for.

    Args:
        fused: a layer that writes queries, keys and values.
        pieces: see ``thirds``.

    Returns:
        Three layers.
    """
    weights = thirds(fused.weight, pieces)
    biases = thirds(fused.bias, pieces)
    return [linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
