"""Random networks, of which hypothesis makes the tests of widening and the sweep many."""

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

IMAGE = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.inner(x))


class Dense(nn.Module):
    """Concatenates, as in DenseNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


class Gate(nn.Module):
    """Two halves, one of which gates the other."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return left * right.sigmoid()


BLOCKS: dict[str, Any] = {
    "convolution": lambda c: (nn.Conv2d(c, c + 2, 3, padding=1), c + 2),
    "grouped": lambda c: (
        (nn.Conv2d(c, c + 2, 1, groups=2), c + 2) if c % 2 == 0 else (nn.Identity(), c)
    ),
    "depthwise": lambda c: (nn.Conv2d(c, c, 3, padding=1, groups=c), c),
    "batch norm": lambda c: (nn.BatchNorm2d(c), c),
    "activation": lambda c: (nn.Hardswish(), c),
    "residual": lambda c: (Residual(c), c),
    "dense": lambda c: (Dense(c), c + 2),
    "gate": lambda c: (Gate(), c // 2) if c % 4 == 0 else (nn.Identity(), c),
    "pooling": lambda c: (nn.AvgPool2d(3, 1, padding=1), c),
}


def network(blocks: list[str], seed: int) -> nn.Sequential:
    """A stem, the blocks, a flattened map and two linear layers; statistics randomised."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, stride=2)]
    channels = 4
    for name in blocks:
        layer, channels = BLOCKS[name](channels)
        layers.append(layer)
    layers += [
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, 3),
        nn.ReLU(),
        nn.Linear(3, 2),
    ]
    model = nn.Sequential(*layers).double()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5) if "var" in name else tensor.data.normal_(0, 0.5)
    return model


PLANS = st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=5)
"""Names of blocks, to be given to ``network``."""
