"""Small hand-made modules for the tests of coupling."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
VECTOR = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A forward function over named layers."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def linears(between: Callable[..., Tensor], hidden: int = 4, read: int | None = None) -> Net:
    """6 -> hidden -> 2 features with ``between(h)`` in between (and ``net.b`` reading ``read`` features)."""
    return Net(
        lambda net, x: net.b(between(net.a(x))),
        a=nn.Linear(6, hidden),
        b=nn.Linear(hidden if read is None else read, 2),
    )


def convolutions(between: Callable[..., Tensor], hidden: int = 4, read: int | None = None) -> Net:
    """3 -> hidden -> 2 channels with ``between(h)`` in between (and ``net.b`` reading ``read`` channels)."""
    return Net(
        lambda net, x: net.b(between(net.a(x))),
        a=nn.Conv2d(3, hidden, 1),
        b=nn.Conv2d(hidden if read is None else read, 2, 1),
    )


def shuffled(x: Tensor, groups: int) -> Tensor:
    """A channel shuffle as ShuffleNet writes it."""
    batch, channels, height, width = x.shape
    return (
        x.view(batch, groups, channels // groups, height, width)
        .transpose(1, 2)
        .reshape(batch, -1, height, width)
    )


def windows(x: Tensor) -> Tensor:
    """An image in windows of 4 x 4, channels last."""
    batch, channels, height, width = x.shape
    grid = x.view(batch, channels, height // 4, 4, width // 4, 4)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, channels)


def attention(heads: int, size: int) -> Net:
    """Hand-written self-attention whose view says ``heads`` or ``size`` (the other one is -1)."""

    def forward(net: Any, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            f(x).view(batch, time, heads, size).transpose(1, 2) for f in (net.q, net.k, net.v)
        )
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        out: Tensor = net.o(mixed.transpose(1, 2).reshape(batch, time, -1))
        return out

    return Net(forward, q=nn.Linear(6, 8), k=nn.Linear(6, 8), v=nn.Linear(6, 8), o=nn.Linear(8, 2))


def unpicklable_loop() -> nn.Module:
    """A module whose forward decides on values, so torch.fx cannot trace it."""
    return Net(
        lambda net, x: net.b(net.a(x) if x.sum() > 0 else -net.a(x)),
        a=nn.Linear(6, 4),
        b=nn.Linear(4, 2),
    )
