"""Recurrent cells as people write them by hand: a state of zeros beside the input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.coupling.models import Net


class ConvLstmCell(nn.Module):
    """Four gates by one convolution of the input and the state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        gates = self.conv(torch.cat([x, h], dim=1))
        i, f, o, g = torch.split(gates, self.hidden, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def first_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, _, height, width = x.shape
        state = torch.zeros(batch, self.hidden, height, width, dtype=x.dtype)
        return state, state


def two_conv_lstms(net: Any, x: Tensor) -> Tensor:
    first, second = net.first.first_state(x), net.second.first_state(x)
    for step in range(x.shape[1]):
        first = net.first(x[:, step], first)
        second = net.second(first[0], second)
    return net.b(second[0].mean((2, 3)))


def conv_gru(net: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(x.shape[0], net.hidden, *x.shape[3:])
    for step in range(x.shape[1]):
        gates = torch.sigmoid(net.gates(torch.cat([x[:, step], h], 1)))
        reset, update = torch.split(gates, net.hidden, 1)
        new = torch.tanh(net.new(torch.cat([x[:, step], reset * h], 1)))
        h = (1 - update) * h + update * new
    return net.b(h.mean((2, 3)))


def elman(net: Any, x: Tensor) -> Tensor:
    h = torch.full((len(x), net.hidden), 0.5, dtype=x.dtype)
    for step in range(x.shape[1]):
        both = torch.cat((x[:, step], h), 1)
        h = torch.tanh(net.a(both))
    return net.b(both)


def elman_of_one(net: Any, x: Tensor) -> Tensor:
    """Its first state has no size of the input, so it is a constant of the graph."""
    h = torch.zeros(1, net.hidden, dtype=x.dtype)
    for step in range(x.shape[1]):
        h = torch.tanh(net.a(torch.cat((x[:1, step], h), 1)))
    return net.b(h)


def sliced_gates(net: Any, x: Tensor) -> Tensor:
    size = net.hidden
    h = c = torch.zeros(x.shape[0], size, dtype=x.dtype)
    for step in range(x.shape[1]):
        both = net.a(x[:, step]) + net.state(h)
        gates, new = both[:, : 3 * size].sigmoid(), both[:, 3 * size :].tanh()
        c = gates[:, :size] * c + gates[:, size : 2 * size] * new
        h = gates[:, -size:] * c.tanh()
    return net.b(h)


def _net(forward: Callable[..., Any], hidden: int, **layers: nn.Module) -> Net:
    torch.manual_seed(0)
    net: Any = Net(forward, **layers).double()
    net.hidden = hidden
    assert isinstance(net, Net)
    return net


def pictures(steps: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, steps, 2, 4, 4, generator=generator, dtype=torch.float64)


def rows(steps: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, steps, 3, generator=generator, dtype=torch.float64)


def _conv_lstms() -> Net:
    cells = {"first": ConvLstmCell(2, 4), "second": ConvLstmCell(4, 3)}
    return _net(two_conv_lstms, 0, **cells, b=nn.Linear(3, 2))


def _conv_gru() -> Net:
    gates, new = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
    return _net(conv_gru, 4, gates=gates, new=new, b=nn.Linear(4, 2))


HAND_WRITTEN: dict[str, tuple[Callable[[], Net], Callable[[], Tensor], tuple[str, ...]]] = {
    "conv lstm": (_conv_lstms, pictures, ("first.conv", "second.conv")),
    "conv gru": (_conv_gru, pictures, ("gates",)),
    "elman": (lambda: _net(elman, 4, a=nn.Linear(7, 4), b=nn.Linear(7, 2)), rows, ("a",)),
    "elman of one": (
        lambda: _net(elman_of_one, 4, a=nn.Linear(7, 4), b=nn.Linear(4, 2)),
        rows,
        ("a",),
    ),
    "sliced gates": (
        lambda: _net(
            sliced_gates, 5, a=nn.Linear(3, 20), state=nn.Linear(5, 20), b=nn.Linear(5, 2)
        ),
        rows,
        ("a",),
    ),
}
"""A model, its example input, and the widths that grow."""
