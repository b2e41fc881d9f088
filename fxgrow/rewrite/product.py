"""One product for several blocks of rows, of which the first is frozen."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Product = Callable[[Any, Tensor, Tensor, Tensor | None], Tensor]


def _convolve(base: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = base._conv_forward(x, weight, bias)
    return out


def _linear(_: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias)


PRODUCTS: dict[type[nn.Module], Product] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolve,
    nn.Conv2d: _convolve,
    nn.Conv3d: _convolve,
}
"""The layers that candidates can be inserted at: weight ``[out, in, ...]``, and how to apply another weight."""

Weights = tuple[Tensor, Tensor | None]


def block_product(base: nn.Module, x: Tensor, frozen: Weights, blocks: Sequence[Weights]) -> list[Tensor]:
    """The products of ``x`` with the frozen block and with each other block, computed as one.

    The rows of a grouped convolution are concatenated within each group.
    """
    groups = int(getattr(base, "groups", 1))
    weight = _stack([frozen[0].detach(), *(block[0] for block in blocks)], groups)
    bias = None
    if frozen[1] is not None:
        bias = _stack([frozen[1].detach(), *(b for _, b in blocks if b is not None)], groups)
    out = PRODUCTS[type(base)](base, x, weight, bias)
    return _unstack(out, [len(frozen[0]), *(len(block[0]) for block in blocks)], groups, isinstance(base, nn.Linear))


def _stack(rows: Sequence[Tensor], groups: int) -> Tensor:
    if groups == 1:
        return torch.cat(list(rows))
    return torch.cat([r.unflatten(0, (groups, -1)) for r in rows], 1).flatten(0, 1)


def _unstack(out: Tensor, sizes: Sequence[int], groups: int, last: bool) -> list[Tensor]:
    if groups == 1:
        return list(out.split(list(sizes), dim=-1 if last else 1))
    parts = out.unflatten(1, (groups, -1)).split([size // groups for size in sizes], dim=2)
    return [part.flatten(1, 2) for part in parts]
