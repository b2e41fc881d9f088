"""Networks with a group norm, of which every spelling occurs in one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import randomised

GROUPS, SIZE = 4, 12


class ByFunction(nn.Module):
    """The number of groups is an attribute."""

    def __init__(self, groups: int = GROUPS) -> None:
        super().__init__()
        self.groups = groups
        self.weight, self.bias = nn.Parameter(torch.ones(SIZE)), nn.Parameter(torch.zeros(SIZE))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, self.weight, self.bias)


class Constant(ByFunction):
    """The number of groups stands in the code."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 4, weight=self.weight, bias=self.bias)


class Two(ByFunction):
    """As many groups as divide the channels of a trial growth, too: they would tear groups apart."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 2, self.weight, self.bias)


class ByHand(ByFunction):
    """Written out, with groups as a dimension of their own."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.view(n, self.groups, c // self.groups, h, w)
        y = y - y.mean((2, 3, 4), keepdim=True)
        y = y / (y.square().mean((2, 3, 4), keepdim=True) + 0.1).sqrt()
        return y.view(n, c, h, w) * self.weight[:, None, None] + self.bias[:, None, None]


class Merged(ByFunction):
    """Written out, with the channels of a group merged with space."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(len(x), self.groups, -1)
        y = y - y.mean(2, keepdim=True)
        y = y / (y.square().mean(2, keepdim=True) + 0.1).sqrt()
        return y.view(x.shape) * self.weight[:, None, None] + self.bias[:, None, None]


NORMS: dict[str, Any] = {
    "module": lambda: nn.GroupNorm(GROUPS, SIZE, eps=0.1),
    "bare": lambda: nn.GroupNorm(GROUPS, SIZE, eps=0.1, affine=False),
    "single channels": lambda: nn.GroupNorm(SIZE, SIZE, eps=0.1),
    "by function": ByFunction,
    "by hand": ByHand,
}


class Net(nn.Module):
    """A hidden layer whose channels are normalized by groups."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Conv2d(3, SIZE, 3), norm, nn.Conv2d(SIZE, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.norm(self.up(x)))).mean((2, 3))


def made(norm: str) -> Any:
    return randomised(Net(NORMS[norm]()))


def images(seed: int = 0, size: int = 6) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed)).double()


def error(wider: nn.Module, model: nn.Module) -> float:
    """On images of another size than those of the check."""
    x = images(seed=1, size=7)
    with torch.no_grad():
        return float((wider(x) - model(x)).abs().max())
